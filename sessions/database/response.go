package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// Statuses of a response that has not ended.
const (
	Queued     = "queued"
	InProgress = "in_progress"
)

// CreateResponse stores a response and the items of its own input. It returns ErrExists where the tenant has one of that
// id, ErrNotFound where the tenant lacks its Session or its Previous, and ErrQuota. Where the response belongs to a
// session, which gains the input when the turn ends, ErrExists says also that the session has an item of one of these ids.
func (d *DB) CreateResponse(ctx context.Context, r *Response, input []Item) error {
	return d.write(ctx, "response "+r.ID, func(tx *sql.Tx) error {
		if err := d.admit(ctx, tx, r.Tenant, admitBytes); err != nil {
			return err
		}
		var session sql.NullInt64
		if r.Session != "" {
			_, number, err := findSession(ctx, tx, r.Tenant, r.Session)
			if err != nil {
				return fmt.Errorf("session %s: %w", r.Session, notFound(err))
			}
			if err := checkNew(ctx, tx, number, input); err != nil {
				return err
			}
			session = sql.NullInt64{Int64: number, Valid: true}
		}
		if r.Previous != "" {
			if _, _, err := findResponse(ctx, tx, r.Tenant, r.Previous); err != nil {
				return fmt.Errorf("previous response %s: %w", r.Previous, notFound(err))
			}
		}
		created := r.Created
		if created.IsZero() {
			created = d.now()
		}
		var number int64
		err := tx.QueryRowContext(ctx, `INSERT INTO response
			(tenant, id, session, previous, model, status, background, created, completed, expires, object)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number`,
			r.Tenant, r.ID, session, r.Previous, r.Model, r.Status, r.Background, created.UnixMicro(), stamp(r.Completed),
			stamp(r.Expires), object(r.Object)).Scan(&number)
		if err != nil {
			return err
		}
		return d.addParts(ctx, tx, number, r.Tenant, 0, input)
	})
}

// addParts stores the items of a response's input (output 0) or output (1).
func (d *DB) addParts(ctx context.Context, tx *sql.Tx, response int64, tenant string, output int, items []Item) error {
	for i := range items {
		number, err := d.storeItem(ctx, tx, tenant, &items[i])
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO part (response, output, position, item) VALUES (?, ?, ?, ?)`, response, output, i, number); err != nil {
			return err
		}
	}
	return nil
}

// UpdateResponse stores Status and Object of a response that has not ended; ErrFinished says that it has.
func (d *DB) UpdateResponse(ctx context.Context, r *Response) error {
	return d.write(ctx, "response "+r.ID, func(tx *sql.Tx) error {
		number, err := unfinished(ctx, tx, r.Tenant, r.ID)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE response SET status = ?, object = ? WHERE number = ?`, r.Status, object(r.Object), number)
		return err
	})
}

// unfinished finds a response that has not ended.
func unfinished(ctx context.Context, tx *sql.Tx, tenant, id string) (int64, error) {
	r, number, err := findResponse(ctx, tx, tenant, id)
	if err == nil && r.Status != Queued && r.Status != InProgress {
		err = ErrFinished
	}
	return number, err
}

// FinishTurn stores all that a turn leaves behind, or nothing of it. Of the response it stores Status, Completed, Expires
// and Object; ErrFinished says that it ended before, and ErrNotFound that it, or the session, was deleted meanwhile.
func (d *DB) FinishTurn(ctx context.Context, tenant string, end *TurnEnd) error {
	subject := "turn"
	if end.Response != nil {
		subject = "response " + end.Response.ID
	}
	return d.write(ctx, subject, func(tx *sql.Tx) error {
		var log sql.NullInt64
		if end.Log != nil {
			end.Log.Tenant = tenant
			if err := d.putLog(ctx, tx, end.Log); err != nil {
				return fmt.Errorf("log: %w", err)
			}
			log = sql.NullInt64{Int64: end.Log.ID, Valid: true}
		}
		if end.Response != nil {
			if err := d.finishResponse(ctx, tx, tenant, end, log); err != nil {
				return err
			}
		}
		if end.Session != "" {
			_, number, err := findSession(ctx, tx, tenant, end.Session)
			if err != nil {
				return fmt.Errorf("session %s: %w", end.Session, notFound(err))
			}
			if err := d.appendItems(ctx, tx, number, tenant, end.Append, log.Int64); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE session SET model = ? WHERE number = ? AND ?1 <> ''`, end.Model, number); err != nil {
				return err
			}
			if err := d.touch(ctx, tx, number); err != nil {
				return err
			}
		}
		if end.Usage == nil {
			return nil
		}
		end.Usage.Tenant = tenant
		return d.addUsage(ctx, tx, end.Usage)
	})
}

func (d *DB) finishResponse(ctx context.Context, tx *sql.Tx, tenant string, end *TurnEnd, log sql.NullInt64) error {
	r := end.Response
	number, err := unfinished(ctx, tx, tenant, r.ID)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE response SET status = ?, completed = ?, expires = ?, object = ?, log = ? WHERE number = ?`,
		r.Status, stamp(r.Completed), stamp(r.Expires), object(r.Object), log, number)
	if err != nil {
		return err
	}
	if err := d.addParts(ctx, tx, number, tenant, 1, end.Output); err != nil {
		return err
	}
	return addEvents(ctx, tx, number, end.Events)
}

const responseColumns = `r.number, r.tenant, r.id, COALESCE((SELECT id FROM session WHERE number = r.session), ''), r.previous, r.model, r.status,
	r.background, r.created, r.completed, r.expires, r.object, r.log`

func scanResponse(row scanner) (r Response, number int64, err error) {
	var created, completed, expires, log sql.NullInt64
	var object string
	err = row.Scan(&number, &r.Tenant, &r.ID, &r.Session, &r.Previous, &r.Model, &r.Status, &r.Background, &created, &completed, &expires, &object, &log)
	r.Created, r.Completed, r.Expires = timeOf(created), timeOf(completed), timeOf(expires)
	r.Object, r.Log = json.RawMessage(object), log.Int64
	return r, number, err
}

func findResponse(ctx context.Context, tx *sql.Tx, tenant, id string) (*Response, int64, error) {
	r, number, err := scanResponse(tx.QueryRowContext(ctx, `SELECT `+responseColumns+` FROM response r WHERE r.tenant = ? AND r.id = ?`, tenant, id))
	return &r, number, err
}

// Response returns a response, or ErrNotFound.
func (d *DB) Response(ctx context.Context, tenant, id string) (r *Response, err error) {
	err = d.read(ctx, "response "+id, func(tx *sql.Tx) error {
		r, _, err = findResponse(ctx, tx, tenant, id)
		return err
	})
	return r, err
}

// RenewResponse lets a response that has an end live until expires, unless it is later already.
func (d *DB) RenewResponse(ctx context.Context, tenant, id string, expires time.Time) error {
	return d.write(ctx, "response "+id, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE response SET expires = MAX(expires, ?) WHERE tenant = ? AND id = ? AND expires IS NOT NULL`, expires.UnixMicro(), tenant, id)
		return err
	})
}

// DeleteResponse deletes a response with the items and logs that nothing else has; what its session gained stays. It
// returns whose computed state nothing needs any more.
func (d *DB) DeleteResponse(ctx context.Context, tenant, id string) (freed []Freed, err error) {
	err = d.erase(ctx, "response "+id, func(tx *sql.Tx) error {
		_, number, err := findResponse(ctx, tx, tenant, id)
		if err != nil {
			return err
		}
		freed, err = deleteResponse(ctx, tx, number)
		return err
	})
	return freed, err
}

func deleteResponse(ctx context.Context, tx *sql.Tx, number int64) ([]Freed, error) {
	logs, err := numbers(tx.QueryContext(ctx, `SELECT log FROM response WHERE number = ? AND log IS NOT NULL`, number))
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM response WHERE number = ?`, number); err != nil {
		return nil, err
	}
	return freeLogs(ctx, tx, logs)
}

// InputItems lists the items of a response's own input in their order, without those that it goes on from; more says that
// others follow.
func (d *DB) InputItems(ctx context.Context, tenant, response string, page Page) (list []Item, more bool, err error) {
	err = d.read(ctx, "response "+response, func(tx *sql.Tx) error {
		list, more, err = parts(ctx, tx, tenant, response, 0, page)
		return err
	})
	return list, more, err
}

// OutputItems returns the items of a response's output in their order.
func (d *DB) OutputItems(ctx context.Context, tenant, response string) (list []Item, err error) {
	err = d.read(ctx, "response "+response, func(tx *sql.Tx) error {
		list, _, err = parts(ctx, tx, tenant, response, 1, Page{Limit: All})
		return err
	})
	return list, err
}

func parts(ctx context.Context, tx *sql.Tx, tenant, response string, output int, page Page) ([]Item, bool, error) {
	_, number, err := findResponse(ctx, tx, tenant, response)
	if err != nil {
		return nil, false, err
	}
	after, err := page.after(ctx, tx, `SELECT p.position FROM part p JOIN item i ON i.number = p.item WHERE p.response = ? AND p.output = ? AND i.id = ?`, number, output)
	if err != nil {
		return nil, false, err
	}
	rows, err := tx.QueryContext(ctx, `SELECT `+itemColumns+` FROM part p JOIN item i ON i.number = p.item
		WHERE p.response = ? AND p.output = ? AND p.position `+page.beyond()+` ? ORDER BY p.position `+page.order()+` LIMIT ?`,
		number, output, after, page.limit())
	items, err := collect(rows, err, scanItem)
	items, more := cut(page, items)
	return items, more, err
}

// Lineage returns a response and all items of the responses that it goes on from and of itself, in order: each one's input
// and then its output. A response of the chain that was deleted is ErrNotFound: what it said is not left out in silence.
func (d *DB) Lineage(ctx context.Context, tenant, response string) (r *Response, items []Item, err error) {
	err = d.read(ctx, "response "+response, func(tx *sql.Tx) error {
		if r, _, err = findResponse(ctx, tx, tenant, response); err != nil {
			return err
		}
		// A response is younger than the one it goes on from; an older one's id may have been given again.
		const chain = `WITH RECURSIVE chain (number, previous) AS (
			SELECT number, previous FROM response WHERE tenant = ?1 AND id = ?2 UNION ALL
			SELECT r.number, r.previous FROM chain c JOIN response r ON r.tenant = ?1 AND r.id = c.previous AND r.number < c.number WHERE c.previous <> '') `
		var missing string
		err := tx.QueryRowContext(ctx, chain+`SELECT previous FROM chain ORDER BY number LIMIT 1`, tenant, response).Scan(&missing)
		if err == nil && missing != "" {
			err = fmt.Errorf("goes on from response %s: %w", missing, ErrNotFound)
		}
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, chain+`SELECT `+itemColumns+` FROM chain c JOIN part p ON p.response = c.number JOIN item i ON i.number = p.item
			ORDER BY c.number, p.output, p.position`, tenant, response)
		items, err = collect(rows, err, scanItem)
		return err
	})
	return r, items, err
}

// AppendEvents stores further events of a response that has not ended.
func (d *DB) AppendEvents(ctx context.Context, tenant, response string, events []Event) error {
	return d.write(ctx, "response "+response, func(tx *sql.Tx) error {
		number, err := unfinished(ctx, tx, tenant, response)
		if err != nil {
			return err
		}
		return addEvents(ctx, tx, number, events)
	})
}

func addEvents(ctx context.Context, tx *sql.Tx, response int64, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO event (response, sequence, json) VALUES (?, ?, ?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	bytes := 0
	for _, e := range events {
		if _, err := insert.ExecContext(ctx, response, e.Sequence, string(e.JSON)); err != nil {
			return fmt.Errorf("event %d: %w", e.Sequence, err)
		}
		bytes += len(e.JSON)
	}
	_, err = tx.ExecContext(ctx, `UPDATE response SET events = events + ? WHERE number = ?`, bytes, response)
	return err
}

// Events returns the events of a response with sequence numbers above after, in order and at most limit; -1 is before the
// first.
func (d *DB) Events(ctx context.Context, tenant, response string, after, limit int) (list []Event, err error) {
	err = d.read(ctx, "response "+response, func(tx *sql.Tx) error {
		_, number, err := findResponse(ctx, tx, tenant, response)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT sequence, json FROM event WHERE response = ? AND sequence > ? ORDER BY sequence LIMIT ?`, number, after, limit)
		list, err = collect(rows, err, func(row scanner) (e Event, err error) {
			var json string
			err = row.Scan(&e.Sequence, &json)
			e.JSON = []byte(json)
			return e, err
		})
		return err
	})
	return list, err
}

// Unfinished returns the responses of all tenants that have not ended, oldest first: after a start, those that the end of the
// process cut off.
func (d *DB) Unfinished(ctx context.Context) (list []Response, err error) {
	err = d.read(ctx, "unfinished responses", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+responseColumns+` FROM response r WHERE r.status IN ('queued', 'in_progress') ORDER BY r.number`)
		list, err = collect(rows, err, func(row scanner) (Response, error) {
			r, _, err := scanResponse(row)
			return r, err
		})
		return err
	})
	return list, err
}
