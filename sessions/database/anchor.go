package database

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// version2 keeps answers that clients send back as text, so that their exact tokens are found again. They are sealed: this
// package reads neither the answers nor the texts before them. What is dropped of them costs time and loses nothing, so
// they count for no quota.
const version2 = `
CREATE TABLE anchor (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant  TEXT NOT NULL,
  key     BLOB NOT NULL,       -- names the text before
  start   INTEGER NOT NULL,    -- tokens before
  created INTEGER NOT NULL,
  sealed  BLOB NOT NULL
) STRICT;
CREATE INDEX anchor_key ON anchor (tenant, key);
CREATE INDEX anchor_created ON anchor (created);
`

// Bounds of the answers that are kept.
const (
	maxAnchors = 100_000
	anchorLife = 30 * 24 * time.Hour
)

// Anchor is an answer with the place where it stands.
type Anchor struct {
	ID     int64 // set by storing
	Key    []byte
	Start  int // how many tokens there are before
	Sealed []byte
}

// PutAnchor keeps an answer of a tenant and forgets those that are old, or more than a database holds.
func (d *DB) PutAnchor(ctx context.Context, tenant string, a *Anchor) error {
	return d.write(ctx, "anchor", func(tx *sql.Tx) error {
		now := d.now()
		err := tx.QueryRowContext(ctx, `INSERT INTO anchor (tenant, key, start, created, sealed) VALUES (?, ?, ?, ?, ?) RETURNING number`,
			tenant, a.Key, a.Start, now.UnixMicro(), a.Sealed).Scan(&a.ID)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM anchor WHERE number <= ? OR created < ?`, a.ID-maxAnchors, now.Add(-anchorLife).UnixMicro())
		return err
	})
}

// Anchors returns a tenant's answers behind any of the keys, newest first.
func (d *DB) Anchors(ctx context.Context, tenant string, keys [][]byte) (list []Anchor, err error) {
	const most = 500 // parameters of one statement
	err = d.read(ctx, "anchors", func(tx *sql.Tx) error {
		for rest := keys; len(rest) > 0; rest = rest[min(most, len(rest)):] {
			some := rest[:min(most, len(rest))]
			args := []any{tenant}
			for _, key := range some {
				args = append(args, key)
			}
			found, err := anchors(tx.QueryContext(ctx, `SELECT number, key, start, sealed FROM anchor WHERE tenant = ? AND key IN (?`+
				strings.Repeat(", ?", len(some)-1)+`) ORDER BY number DESC`, args...))
			if err != nil {
				return err
			}
			list = append(list, found...)
		}
		return nil
	})
	return list, err
}

// AnchorsBetween returns a tenant's answers that have as many tokens before them as from, or more, and fewer than to.
func (d *DB) AnchorsBetween(ctx context.Context, tenant string, from, to int) (list []Anchor, err error) {
	err = d.read(ctx, "anchors", func(tx *sql.Tx) error {
		list, err = anchors(tx.QueryContext(ctx, `SELECT number, key, start, sealed FROM anchor WHERE tenant = ? AND start >= ? AND start < ?`, tenant, from, to))
		return err
	})
	return list, err
}

// DeleteAnchors forgets answers of a tenant.
func (d *DB) DeleteAnchors(ctx context.Context, tenant string, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	return d.erase(ctx, "anchors", func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(ctx, `DELETE FROM anchor WHERE tenant = ? AND number = ?`, tenant, id); err != nil {
				return err
			}
		}
		return nil
	})
}

func anchors(rows *sql.Rows, err error) ([]Anchor, error) {
	return collect(rows, err, func(row scanner) (a Anchor, err error) { return a, row.Scan(&a.ID, &a.Key, &a.Start, &a.Sealed) })
}
