package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// AppendItems adds items to the end of a session. It returns ErrExists where the session has one of these ids, and
// ErrQuota.
func (d *DB) AppendItems(ctx context.Context, tenant, session string, items []Item) error {
	return d.write(ctx, "session "+session, func(tx *sql.Tx) error {
		_, number, err := findSession(ctx, tx, tenant, session)
		if err != nil {
			return err
		}
		if err := d.admit(ctx, tx, tenant, admitBytes); err != nil {
			return err
		}
		if err := d.appendItems(ctx, tx, number, tenant, items, 0); err != nil {
			return err
		}
		return d.touch(ctx, tx, number)
	})
}

// appendItems adds items to a session, the last one with a log if that is not 0.
func (d *DB) appendItems(ctx context.Context, tx *sql.Tx, session int64, tenant string, items []Item, log int64) error {
	if len(items) == 0 {
		return nil
	}
	if err := checkNew(ctx, tx, session, items); err != nil {
		return err
	}
	var position int64
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(position) + 1, 0) FROM entry WHERE session = ?`, session).Scan(&position); err != nil {
		return err
	}
	for i := range items {
		number, err := d.storeItem(ctx, tx, tenant, &items[i])
		if err != nil {
			return err
		}
		var entryLog any
		bytes := int64(len(items[i].JSON))
		if log != 0 && i == len(items)-1 {
			var own int64
			err := tx.QueryRowContext(ctx, `SELECT length(tokens) FROM log WHERE number = ? AND tenant = ?`, log, tenant).Scan(&own)
			if err != nil {
				return fmt.Errorf("log %d: %w", log, notFound(err))
			}
			entryLog, bytes = log, bytes+own
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO entry (session, position, item, log, bytes) VALUES (?, ?, ?, ?, ?)`,
			session, position+int64(i), number, entryLog, bytes)
		if err != nil {
			return err
		}
	}
	return nil
}

// checkNew returns ErrExists where two of the items have the same id, or the session has one of them.
func checkNew(ctx context.Context, tx *sql.Tx, session int64, items []Item) error {
	seen := make(map[string]bool, len(items))
	for i := range items {
		id := items[i].ID
		var one int
		err := tx.QueryRowContext(ctx, `SELECT 1 FROM entry e JOIN item i ON i.number = e.item
			WHERE e.session = ?1 AND i.id = ?2 AND i.tenant = (SELECT tenant FROM session WHERE number = ?1)`, session, id).Scan(&one)
		switch {
		case err == nil || seen[id]:
			return fmt.Errorf("item %s: %w", id, ErrExists)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		seen[id] = true
	}
	return nil
}

// storeItem returns the number of an item: of the one that the tenant has, where they are the same.
func (d *DB) storeItem(ctx context.Context, tx *sql.Tx, tenant string, item *Item) (number int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT number FROM item WHERE tenant = ? AND id = ? AND json = ?`, tenant, item.ID, string(item.JSON)).Scan(&number)
	if !errors.Is(err, sql.ErrNoRows) {
		return number, err
	}
	created := item.Created
	if created.IsZero() {
		created = d.now()
	}
	err = tx.QueryRowContext(ctx, `INSERT INTO item (tenant, id, type, role, status, created, json) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING number`,
		tenant, item.ID, item.Type, item.Role, item.Status, created.UnixMicro(), string(item.JSON)).Scan(&number)
	if err != nil || item.Text == "" {
		return number, err
	}
	var owner int64
	if err := tx.QueryRowContext(ctx, `SELECT number FROM tenant WHERE name = ?`, tenant).Scan(&owner); err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO item_text (rowid, text) VALUES (?, ?)`, number, indexed(item.Text, owner))
	return number, err
}

const itemColumns = `i.id, i.type, i.role, i.status, i.created, i.json`

func scanItem(row scanner) (i Item, err error) {
	var created sql.NullInt64
	var json string
	err = row.Scan(&i.ID, &i.Type, &i.Role, &i.Status, &created, &json)
	i.Created, i.JSON = timeOf(created), []byte(json)
	return i, err
}

// Items lists the items of a session in their order; more says that others follow.
func (d *DB) Items(ctx context.Context, tenant, session string, page Page) (list []Item, more bool, err error) {
	err = d.read(ctx, "session "+session, func(tx *sql.Tx) error {
		_, number, err := findSession(ctx, tx, tenant, session)
		if err != nil {
			return err
		}
		after, err := page.after(ctx, tx, `SELECT e.position FROM entry e JOIN item i ON i.number = e.item WHERE e.session = ? AND i.id = ?`, number)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT `+itemColumns+` FROM entry e JOIN item i ON i.number = e.item
			WHERE e.session = ? AND e.position `+page.beyond()+` ? ORDER BY e.position `+page.order()+` LIMIT ?`, number, after, page.limit())
		list, err = collect(rows, err, scanItem)
		list, more = cut(page, list)
		return err
	})
	return list, more, err
}

// Item returns an item of a session, or ErrNotFound.
func (d *DB) Item(ctx context.Context, tenant, session, id string) (*Item, error) {
	return d.item(ctx, id, `SELECT `+itemColumns+` FROM session s JOIN entry e ON e.session = s.number JOIN item i ON i.number = e.item
		WHERE s.tenant = ? AND s.id = ? AND i.id = ?`, tenant, session, id)
}

// StoredItem returns the item that the tenant stored last under an id, in whatever session or response, or ErrNotFound.
func (d *DB) StoredItem(ctx context.Context, tenant, id string) (*Item, error) {
	return d.item(ctx, id, `SELECT `+itemColumns+` FROM item i WHERE i.tenant = ? AND i.id = ? ORDER BY i.number DESC LIMIT 1`, tenant, id)
}

func (d *DB) item(ctx context.Context, id, query string, args ...any) (item *Item, err error) {
	err = d.read(ctx, "item "+id, func(tx *sql.Tx) error {
		i, err := scanItem(tx.QueryRowContext(ctx, query, args...))
		item = &i
		return err
	})
	return item, err
}

// DeleteItem takes an item out of a session. It returns whose computed state nothing needs any more.
func (d *DB) DeleteItem(ctx context.Context, tenant, session, id string) (freed []Freed, err error) {
	err = d.erase(ctx, "item "+id, func(tx *sql.Tx) error {
		_, number, err := findSession(ctx, tx, tenant, session)
		if err != nil {
			return err
		}
		var position int64
		var log sql.NullInt64
		err = tx.QueryRowContext(ctx, `SELECT e.position, e.log FROM entry e JOIN item i ON i.number = e.item WHERE e.session = ? AND i.id = ?`, number, id).Scan(&position, &log)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM entry WHERE session = ? AND position = ?`, number, position); err != nil {
			return err
		}
		if err := d.touch(ctx, tx, number); err != nil || !log.Valid {
			return err
		}
		freed, err = freeLogs(ctx, tx, []int64{log.Int64})
		return err
	})
	return freed, err
}
