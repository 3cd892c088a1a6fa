package database

import (
	"context"
	"database/sql"
	"time"
)

// logGrace is how long a log is kept that nothing names.
const logGrace = 24 * time.Hour

// Expired is what Expire deleted.
type Expired struct {
	Sessions, Responses, Completions int
	Freed                            []Freed // whose computed state nothing needs any more
	More                             bool    // there is more to delete
}

// Expire deletes what its time has passed by now, of all tenants and at most limit rows of a kind: sessions that are
// neither pinned nor in use by a response, responses that no other one goes on from, completions, and logs that nothing
// names. A session for which claim returns false is left for the next time. claim does not call methods of d; what it claims
// is Expire's until that returns.
func (d *DB) Expire(ctx context.Context, now time.Time, limit int, claim func(tenant, id string) bool) (e Expired, err error) {
	err = d.write(ctx, "expire", func(tx *sql.Tx) error {
		e = Expired{}
		sessions, err := claimSessions(ctx, tx, now, limit, claim)
		if err != nil {
			return err
		}
		for _, number := range sessions {
			if err := e.add(deleteSession(ctx, tx, number)); err != nil {
				return err
			}
		}
		if err := e.expireResponses(ctx, tx, now, limit); err != nil {
			return err
		}
		completions, err := numbers(tx.QueryContext(ctx, `DELETE FROM completion WHERE number IN
			(SELECT number FROM completion WHERE expires <= ? ORDER BY expires LIMIT ?) RETURNING number`, now.UnixMicro(), limit))
		if err != nil {
			return err
		}
		logs, err := numbers(tx.QueryContext(ctx, `SELECT number FROM log WHERE created <= ? AND NOT EXISTS (SELECT 1 FROM entry WHERE log = number)
			AND NOT EXISTS (SELECT 1 FROM response WHERE log = number) AND length(tokens) = 4 * (length - shared)
			ORDER BY number LIMIT ?`, now.Add(-logGrace).UnixMicro(), limit))
		if err != nil {
			return err
		}
		if err := e.add(freeLogs(ctx, tx, logs)); err != nil {
			return err
		}
		e.Sessions, e.Completions = len(sessions), len(completions)
		e.More = e.Sessions == limit || e.Responses == limit || e.Completions == limit || len(logs) == limit
		return nil
	})
	if err == nil && (e.Sessions+e.Responses+e.Completions > 0 || len(e.Freed) > 0 || d.dirty.Load()) {
		d.scrub(ctx)
	}
	return e, err
}

// claimSessions returns the sessions whose time has passed and that claim gives, at most limit.
func claimSessions(ctx context.Context, tx *sql.Tx, now time.Time, limit int, claim func(tenant, id string) bool) (sessions []int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT number, tenant, id FROM session s WHERE expires <= ? AND NOT pinned
		AND NOT EXISTS (SELECT 1 FROM response WHERE session = s.number AND status IN ('queued', 'in_progress')) ORDER BY expires`, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for len(sessions) < limit && rows.Next() {
		var number int64
		var tenant, id string
		if err := rows.Scan(&number, &tenant, &id); err != nil {
			return nil, err
		}
		if claim(tenant, id) {
			sessions = append(sessions, number)
		}
	}
	return sessions, rows.Err()
}

// expireResponses deletes the responses whose time has passed, those first that were begun last: what goes on from a response
// needs it, and with the one the other may go.
func (e *Expired) expireResponses(ctx context.Context, tx *sql.Tx, now time.Time, limit int) error {
	for e.Responses < limit {
		ends, err := numbers(tx.QueryContext(ctx, `SELECT number FROM response r WHERE expires <= ? AND status NOT IN ('queued', 'in_progress')
			AND NOT EXISTS (SELECT 1 FROM response WHERE tenant = r.tenant AND previous = r.id AND previous <> '' AND number > r.number)
			ORDER BY expires DESC, number DESC LIMIT ?`, now.UnixMicro(), limit-e.Responses))
		if err != nil || len(ends) == 0 {
			return err
		}
		for _, number := range ends {
			if err := e.add(deleteResponse(ctx, tx, number)); err != nil {
				return err
			}
		}
		e.Responses += len(ends)
	}
	return nil
}

func (e *Expired) add(freed []Freed, err error) error {
	e.Freed = append(e.Freed, freed...)
	return err
}
