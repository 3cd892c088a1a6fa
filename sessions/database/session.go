package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// CreateSession stores a session and its first items. It returns ErrExists where the tenant has one of that id, and
// ErrQuota. A zero Created is now; Log, if set, is a log that ends with the last item.
func (d *DB) CreateSession(ctx context.Context, s *Session, items []Item) error {
	return d.write(ctx, "session "+s.ID, func(tx *sql.Tx) error {
		if err := d.admit(ctx, tx, s.Tenant, admitSession); err != nil {
			return err
		}
		number, err := d.insertSession(ctx, tx, s)
		if err != nil {
			return err
		}
		return d.appendItems(ctx, tx, number, s.Tenant, items, s.Log)
	})
}

func (d *DB) insertSession(ctx context.Context, tx *sql.Tx, s *Session) (number int64, err error) {
	created := s.Created
	if created.IsZero() {
		created = d.now()
	}
	updated := s.Updated
	if updated.IsZero() {
		updated = created
	}
	err = tx.QueryRowContext(ctx, `INSERT INTO session
		(tenant, id, model, title, created, updated, ttl, expires, pinned, metadata, parent, forked)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number`,
		s.Tenant, s.ID, s.Model, s.Title, created.UnixMicro(), updated.UnixMicro(), s.TTL.Microseconds(),
		expiry(updated, s.TTL), s.Pinned, object(s.Metadata), s.Parent, s.ForkedAt).Scan(&number)
	if err != nil {
		return 0, err
	}
	return number, indexTitle(ctx, tx, number, s)
}

// expiry is the expires column: NULL where a row is kept for ever.
func expiry(updated time.Time, ttl time.Duration) any {
	if ttl <= 0 {
		return nil
	}
	return updated.Add(ttl).UnixMicro()
}

// object is how a JSON object is stored that may be missing.
func object(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "{}"
	}
	return string(raw)
}

// sessionColumns are what scanSession reads, of a table session named s.
const sessionColumns = `s.number, s.tenant, s.id, s.model, s.title, s.created, s.updated, s.ttl, s.expires, s.pinned, s.metadata,
	s.parent, s.forked, s.items, s.bytes, (SELECT log FROM entry WHERE session = s.number AND log IS NOT NULL ORDER BY position DESC LIMIT 1)`

type scanner interface{ Scan(...any) error }

func scanSession(row scanner) (s Session, number int64, err error) {
	var created, updated, expires, log sql.NullInt64
	var ttl int64
	var metadata string
	err = row.Scan(&number, &s.Tenant, &s.ID, &s.Model, &s.Title, &created, &updated, &ttl, &expires, &s.Pinned, &metadata,
		&s.Parent, &s.ForkedAt, &s.Items, &s.Bytes, &log)
	s.Created, s.Updated, s.Expires = timeOf(created), timeOf(updated), timeOf(expires)
	s.TTL, s.Metadata, s.Log = time.Duration(ttl)*time.Microsecond, json.RawMessage(metadata), log.Int64
	return s, number, err
}

// Session returns a session, or ErrNotFound.
func (d *DB) Session(ctx context.Context, tenant, id string) (s *Session, err error) {
	err = d.read(ctx, "session "+id, func(tx *sql.Tx) error {
		s, _, err = findSession(ctx, tx, tenant, id)
		return err
	})
	return s, err
}

func findSession(ctx context.Context, tx *sql.Tx, tenant, id string) (*Session, int64, error) {
	s, number, err := scanSession(tx.QueryRowContext(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.tenant = ? AND s.id = ?`, tenant, id))
	return &s, number, err
}

// Sessions lists a tenant's sessions in the order they were created; more says that others follow.
func (d *DB) Sessions(ctx context.Context, tenant string, page Page) (list []Session, more bool, err error) {
	err = d.read(ctx, "sessions", func(tx *sql.Tx) error {
		after, err := page.after(ctx, tx, `SELECT number FROM session WHERE tenant = ? AND id = ?`, tenant)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.tenant = ? AND s.number `+page.beyond()+` ? ORDER BY s.number `+page.order()+` LIMIT ?`,
			tenant, after, page.limit())
		list, err = collect(rows, err, func(row scanner) (Session, error) {
			s, _, err := scanSession(row)
			return s, err
		})
		list, more = cut(page, list)
		return err
	})
	return list, more, err
}

// UpdateSession lets change have a session and stores what it made of Model, Title, TTL, Pinned and Metadata; the time of
// its last change is now. change does not call methods of d. It returns the session as stored, and change's error as it is.
func (d *DB) UpdateSession(ctx context.Context, tenant, id string, change func(*Session) error) (s *Session, err error) {
	err = d.write(ctx, "session "+id, func(tx *sql.Tx) error {
		var number int64
		if s, number, err = findSession(ctx, tx, tenant, id); err != nil {
			return err
		}
		before := titleOf(s)
		if err := change(s); err != nil {
			return err
		}
		s.Updated = d.now()
		_, err = tx.ExecContext(ctx, `UPDATE session SET model = ?, title = ?, updated = ?, ttl = ?, expires = ?, pinned = ?, metadata = ? WHERE number = ?`,
			s.Model, s.Title, s.Updated.UnixMicro(), s.TTL.Microseconds(), expiry(s.Updated, s.TTL), s.Pinned, object(s.Metadata), number)
		if err == nil && titleOf(s) != before {
			err = indexTitle(ctx, tx, number, s)
		}
		if err != nil {
			return err
		}
		s, _, err = findSession(ctx, tx, tenant, id)
		return err
	})
	return s, err
}

// touch is what every change of a session's items does to it.
func (d *DB) touch(ctx context.Context, tx *sql.Tx, session int64) error {
	now := d.now().UnixMicro()
	_, err := tx.ExecContext(ctx, `UPDATE session SET updated = ?1, expires = CASE WHEN ttl > 0 THEN ?1 + ttl END WHERE number = ?2`, now, session)
	return err
}

// DeleteSession deletes a session, the items and logs that nothing else has, and the responses that ran in it. It returns
// whose computed state nothing needs any more.
func (d *DB) DeleteSession(ctx context.Context, tenant, id string) (freed []Freed, err error) {
	err = d.erase(ctx, "session "+id, func(tx *sql.Tx) error {
		_, number, err := findSession(ctx, tx, tenant, id)
		if err != nil {
			return err
		}
		freed, err = deleteSession(ctx, tx, number)
		return err
	})
	return freed, err
}

func deleteSession(ctx context.Context, tx *sql.Tx, number int64) ([]Freed, error) {
	logs, err := numbers(tx.QueryContext(ctx, `SELECT log FROM entry WHERE session = ?1 AND log IS NOT NULL
		UNION SELECT log FROM response WHERE session = ?1 AND log IS NOT NULL`, number))
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM session WHERE number = ?`, number); err != nil {
		return nil, err
	}
	return freeLogs(ctx, tx, logs)
}

// ForkEnd is what a fork has behind the items that it shares.
type ForkEnd struct {
	Append []Item
	Log    *Log // ends with the last of them, or nil
}

// ForkSession stores a new session that has the first n items of another one, with the logs that end with them, and then
// what end has, which may be nil. The items are shared. It sets fork's Parent and ForkedAt. ErrRange says that the other
// session has fewer items.
func (d *DB) ForkSession(ctx context.Context, id string, fork *Session, n int, end *ForkEnd) error {
	return d.write(ctx, "session "+id, func(tx *sql.Tx) error {
		parent, number, err := findSession(ctx, tx, fork.Tenant, id)
		if err != nil {
			return err
		}
		if n < 0 || n > parent.Items {
			return fmt.Errorf("%w: has %d items, not %d", ErrRange, parent.Items, n)
		}
		if err := d.admit(ctx, tx, fork.Tenant, admitSession); err != nil {
			return err
		}
		fork.Parent, fork.ForkedAt = id, n
		child, err := d.insertSession(ctx, tx, fork)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO entry (session, position, item, log, bytes)
			SELECT ?, ROW_NUMBER() OVER (ORDER BY position) - 1, item, log, bytes FROM entry WHERE session = ? ORDER BY position LIMIT ?`,
			child, number, n)
		if err != nil || end == nil {
			return err
		}
		log := int64(0)
		if end.Log != nil {
			end.Log.Tenant = fork.Tenant
			if err := d.putLog(ctx, tx, end.Log); err != nil {
				return fmt.Errorf("log: %w", err)
			}
			log = end.Log.ID
		}
		return d.appendItems(ctx, tx, child, fork.Tenant, end.Append, log)
	})
}

// Mark is where a turn ended in a session.
type Mark struct {
	Items  int   // that the session had then
	Log    int64 // its exact tokens
	Model  string
	Tokens int // of the log
	Prompt int // tokens before the answer; 0: not known
}

// Marks returns where a session's turns ended, in their order.
func (d *DB) Marks(ctx context.Context, tenant, session string) (list []Mark, err error) {
	err = d.read(ctx, "session "+session, func(tx *sql.Tx) error {
		_, number, err := findSession(ctx, tx, tenant, session)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT e.rank, l.number, l.model, l.length, l.prompt FROM
			(SELECT log, ROW_NUMBER() OVER (ORDER BY position) AS rank FROM entry WHERE session = ?) e JOIN log l ON l.number = e.log ORDER BY e.rank`, number)
		list, err = collect(rows, err, func(row scanner) (m Mark, err error) {
			return m, row.Scan(&m.Items, &m.Log, &m.Model, &m.Tokens, &m.Prompt)
		})
		return err
	})
	return list, err
}

// PinnedSessions returns the pinned sessions of all tenants.
func (d *DB) PinnedSessions(ctx context.Context) (list []Session, err error) {
	err = d.read(ctx, "pinned sessions", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.pinned ORDER BY s.number`)
		list, err = collect(rows, err, func(row scanner) (Session, error) {
			s, _, err := scanSession(row)
			return s, err
		})
		return err
	})
	return list, err
}

// Position returns how many items of a session come up to one of them, that one included.
func (d *DB) Position(ctx context.Context, tenant, session, item string) (n int, err error) {
	err = d.read(ctx, "item "+item, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM entry b WHERE b.session = e.session AND b.position <= e.position)
			FROM session s JOIN entry e ON e.session = s.number JOIN item i ON i.number = e.item WHERE s.tenant = ? AND s.id = ? AND i.id = ?`,
			tenant, session, item).Scan(&n)
	})
	return n, err
}

// RewindSession keeps the first n items of a session and takes the others out of it. It returns whose computed state
// nothing needs any more.
func (d *DB) RewindSession(ctx context.Context, tenant, id string, n int) (freed []Freed, err error) {
	err = d.erase(ctx, "session "+id, func(tx *sql.Tx) error {
		s, number, err := findSession(ctx, tx, tenant, id)
		if err != nil {
			return err
		}
		if n < 0 || n > s.Items {
			return fmt.Errorf("%w: has %d items, not %d", ErrRange, s.Items, n)
		}
		const beyond = `FROM entry WHERE session = ?1 AND position IN (SELECT position FROM entry WHERE session = ?1 ORDER BY position LIMIT -1 OFFSET ?2)`
		logs, err := numbers(tx.QueryContext(ctx, `SELECT log `+beyond+` AND log IS NOT NULL`, number, n))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE `+beyond, number, n); err != nil {
			return err
		}
		if err := d.touch(ctx, tx, number); err != nil {
			return err
		}
		freed, err = freeLogs(ctx, tx, logs)
		return err
	})
	return freed, err
}
