package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CreateCompletion stores a chat completion. It returns ErrExists where the tenant has one of that id, and ErrQuota.
func (d *DB) CreateCompletion(ctx context.Context, c *Completion) error {
	return d.write(ctx, "completion "+c.ID, func(tx *sql.Tx) error {
		if err := d.admit(ctx, tx, c.Tenant, admitBytes); err != nil {
			return err
		}
		created := c.Created
		if created.IsZero() {
			created = d.now()
		}
		messages, err := json.Marshal(append([]json.RawMessage{}, c.Messages...))
		if err != nil {
			return fmt.Errorf("messages: %w", err)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO completion (tenant, id, model, created, expires, metadata, object, messages) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			c.Tenant, c.ID, c.Model, created.UnixMicro(), stamp(c.Expires), object(c.Metadata), object(c.Object), string(messages))
		return err
	})
}

const completionColumns = `c.tenant, c.id, c.model, c.created, c.expires, c.metadata, c.object, c.messages`

func scanCompletion(row scanner) (c Completion, err error) {
	var created, expires sql.NullInt64
	var metadata, object, messages string
	if err := row.Scan(&c.Tenant, &c.ID, &c.Model, &created, &expires, &metadata, &object, &messages); err != nil {
		return c, err
	}
	c.Created, c.Expires, c.Metadata, c.Object = timeOf(created), timeOf(expires), []byte(metadata), []byte(object)
	if err := json.Unmarshal([]byte(messages), &c.Messages); err != nil {
		return c, damagef("messages of completion %s: %w", c.ID, err)
	}
	return c, nil
}

// Completion returns a chat completion, or ErrNotFound.
func (d *DB) Completion(ctx context.Context, tenant, id string) (c *Completion, err error) {
	err = d.read(ctx, "completion "+id, func(tx *sql.Tx) error {
		one, err := scanCompletion(tx.QueryRowContext(ctx, `SELECT `+completionColumns+` FROM completion c WHERE c.tenant = ? AND c.id = ?`, tenant, id))
		c = &one
		return err
	})
	return c, err
}

// CompletionFilter selects chat completions.
type CompletionFilter struct {
	Model    string            // empty: of any model
	Metadata map[string]string // pairs that the metadata has
}

// Completions lists a tenant's chat completions in the order they were created; more says that others follow.
func (d *DB) Completions(ctx context.Context, tenant string, filter CompletionFilter, page Page) (list []Completion, more bool, err error) {
	err = d.read(ctx, "completions", func(tx *sql.Tx) error {
		after, err := page.after(ctx, tx, `SELECT number FROM completion WHERE tenant = ? AND id = ?`, tenant)
		if err != nil {
			return err
		}
		where, args := "", []any{tenant, after}
		if filter.Model != "" {
			where, args = " AND c.model = ?", append(args, filter.Model)
		}
		for _, key := range slices.Sorted(maps.Keys(filter.Metadata)) {
			where += " AND EXISTS (SELECT 1 FROM json_each(c.metadata) m WHERE m.key = ? AND m.value = ?)"
			args = append(args, key, filter.Metadata[key])
		}
		rows, err := tx.QueryContext(ctx, `SELECT `+completionColumns+` FROM completion c WHERE c.tenant = ? AND c.number `+page.beyond()+` ?`+where+
			` ORDER BY c.number `+page.order()+` LIMIT ?`, append(args, page.limit())...)
		list, err = collect(rows, err, scanCompletion)
		list, more = cut(page, list)
		return err
	})
	return list, more, err
}

// UpdateCompletion stores a chat completion's metadata and returns it, or ErrNotFound.
func (d *DB) UpdateCompletion(ctx context.Context, tenant, id string, metadata json.RawMessage) (c *Completion, err error) {
	err = d.write(ctx, "completion "+id, func(tx *sql.Tx) error {
		one, err := scanCompletion(tx.QueryRowContext(ctx, `UPDATE completion AS c SET metadata = ? WHERE c.tenant = ? AND c.id = ?
			RETURNING `+strings.ReplaceAll(completionColumns, "c.", ""), object(metadata), tenant, id))
		c = &one
		return err
	})
	return c, err
}

// DeleteCompletion deletes a chat completion, or returns ErrNotFound.
func (d *DB) DeleteCompletion(ctx context.Context, tenant, id string) error {
	return d.erase(ctx, "completion "+id, func(tx *sql.Tx) error {
		var number int64
		return tx.QueryRowContext(ctx, `DELETE FROM completion WHERE tenant = ? AND id = ? RETURNING number`, tenant, id).Scan(&number)
	})
}
