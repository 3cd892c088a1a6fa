package database

import (
	"context"
	"database/sql"
	"errors"
)

// AddUsage adds to the ledger: to the sums of u's tenant, model and day, which is today where it is empty.
func (d *DB) AddUsage(ctx context.Context, u *Usage) error {
	return d.write(ctx, "usage", func(tx *sql.Tx) error { return d.addUsage(ctx, tx, u) })
}

func (d *DB) addUsage(ctx context.Context, tx *sql.Tx, u *Usage) error {
	day := u.Day
	if day == "" {
		day = d.now().UTC().Format("2006-01-02")
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO usage (day, tenant, model, requests, prompt, cached, written, generated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, prompt = prompt + excluded.prompt, cached = cached + excluded.cached,
			written = written + excluded.written, generated = generated + excluded.generated`,
		day, u.Tenant, u.Model, u.Requests, u.PromptTokens, u.CachedTokens, u.WrittenTokens, u.GeneratedTokens)
	return err
}

// UsageOf returns a tenant's sums by day and model, from one day to another, both included ("2006-01-02").
func (d *DB) UsageOf(ctx context.Context, tenant, from, to string) (list []Usage, err error) {
	err = d.read(ctx, "usage", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT day, tenant, model, requests, prompt, cached, written, generated FROM usage
			WHERE tenant = ? AND day BETWEEN ? AND ? ORDER BY day, model`, tenant, from, to)
		list, err = collect(rows, err, func(row scanner) (u Usage, err error) {
			return u, row.Scan(&u.Day, &u.Tenant, &u.Model, &u.Requests, &u.PromptTokens, &u.CachedTokens, &u.WrittenTokens, &u.GeneratedTokens)
		})
		return err
	})
	return list, err
}

// Stored returns how much a tenant has.
func (d *DB) Stored(ctx context.Context, tenant string) (s Stored, err error) {
	err = d.read(ctx, "tenant "+tenant, func(tx *sql.Tx) error {
		s, err = stored(ctx, tx, tenant)
		return err
	})
	return s, err
}

func stored(ctx context.Context, tx *sql.Tx, tenant string) (s Stored, err error) {
	err = tx.QueryRowContext(ctx, `SELECT sessions, bytes FROM tenant WHERE name = ?`, tenant).Scan(&s.Sessions, &s.Bytes)
	if errors.Is(err, sql.ErrNoRows) {
		return Stored{}, nil
	}
	return s, err
}

// What is to be admitted.
const (
	admitBytes = iota
	admitSession
)

// Admit returns ErrQuota where a tenant has as many bytes as it may. What is stored only after it was computed asks before.
func (d *DB) Admit(ctx context.Context, tenant string) error {
	return d.read(ctx, "tenant "+tenant, func(tx *sql.Tx) error { return d.admit(ctx, tx, tenant, admitBytes) })
}

// admit returns ErrQuota where a tenant has as much as it may.
func (d *DB) admit(ctx context.Context, tx *sql.Tx, tenant string, what int) error {
	quota := d.opts.Quota
	if quota == (Quota{}) {
		return nil
	}
	s, err := stored(ctx, tx, tenant)
	switch {
	case err != nil:
		return err
	case quota.Bytes > 0 && s.Bytes >= quota.Bytes:
		return &QuotaError{"bytes", s.Bytes, quota.Bytes}
	case what == admitSession && quota.Sessions > 0 && s.Sessions >= quota.Sessions:
		return &QuotaError{"sessions", int64(s.Sessions), int64(quota.Sessions)}
	}
	return nil
}
