package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// PutLog stores a log and sets its ID. Where it names a parent, the Shared first tokens are the parent's, and only the
// others are stored. A log is kept until what names it is deleted; one that nothing has named yet, until Expire finds it
// old.
func (d *DB) PutLog(ctx context.Context, log *Log) error {
	return d.write(ctx, "log", func(tx *sql.Tx) error { return d.putLog(ctx, tx, log) })
}

func (d *DB) putLog(ctx context.Context, tx *sql.Tx, log *Log) error {
	parent, shared := log.Parent, log.Shared
	for parent != 0 {
		// A log that shares no more than its parent shares with its own goes on from that one, which keeps chains short.
		var grand sql.NullInt64
		var of, length int
		err := tx.QueryRowContext(ctx, `SELECT parent, shared, length FROM log WHERE number = ? AND tenant = ? AND model = ?`,
			parent, log.Tenant, log.Model).Scan(&grand, &of, &length)
		if err != nil {
			return fmt.Errorf("parent %d: %w", parent, notFound(err))
		}
		if shared < 0 || shared > length || shared > len(log.Tokens) {
			return fmt.Errorf("shares %d of its %d tokens with parent %d, which has %d", shared, len(log.Tokens), parent, length)
		}
		if shared > of {
			break
		}
		parent = grand.Int64
	}
	if parent == 0 {
		shared = 0
	}
	if log.Prompt < 0 || log.Prompt > len(log.Tokens) {
		return fmt.Errorf("prompt of %d tokens in a log of %d", log.Prompt, len(log.Tokens))
	}
	log.Created = d.now()
	if err := computedWith(ctx, tx, parent, log.Fingerprint); err != nil {
		return err
	}
	return tx.QueryRowContext(ctx, `INSERT INTO log (tenant, model, head, computed, parent, shared, length, prompt, created, tokens)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number`,
		log.Tenant, log.Model, headOf(log.Tokens), log.Fingerprint, sql.NullInt64{Int64: parent, Valid: parent != 0}, shared, len(log.Tokens), log.Prompt, log.Created.UnixMicro(),
		tokenBytes(log.Tokens[shared:])).Scan(&log.ID)
}

// computedWith notes of a log and of those that it goes on from that their tokens were computed by the engine of a
// fingerprint, because those of a log that goes on from them were.
func computedWith(ctx context.Context, tx *sql.Tx, number int64, fingerprint string) error {
	for number != 0 && fingerprint != "" {
		var parent sql.NullInt64
		err := tx.QueryRowContext(ctx, `UPDATE log SET computed = trim(computed || ' ' || ?1) WHERE number = ?2
			AND instr(' ' || computed || ' ', ' ' || ?1 || ' ') = 0 RETURNING parent`, fingerprint, number).Scan(&parent)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // so it is noted there, and of its parents
		}
		if err != nil {
			return err
		}
		number = parent.Int64
	}
	return nil
}

// Log returns a log with all its tokens, or ErrNotFound.
func (d *DB) Log(ctx context.Context, tenant string, id int64) (log *Log, err error) {
	err = d.read(ctx, fmt.Sprintf("log %d", id), func(tx *sql.Tx) error {
		var whole bool
		log, whole, err = readLog(ctx, tx, tenant, id)
		if err == nil && !whole {
			err = ErrNotFound
		}
		return err
	})
	return log, err
}

// Logs returns the ids of a model's logs, newest first and at most limit.
func (d *DB) Logs(ctx context.Context, tenant, model string, limit int) (ids []int64, err error) {
	err = d.read(ctx, "logs", func(tx *sql.Tx) error {
		ids, err = numbers(tx.QueryContext(ctx, `SELECT number FROM log WHERE tenant = ? AND model = ? ORDER BY number DESC LIMIT ?`, tenant, model, limit))
		return err
	})
	return ids, err
}

// readLog puts a log together of its own tokens and of those that its ancestors have before them. One that was freed is not
// whole: what is left of it is its children's.
func readLog(ctx context.Context, tx *sql.Tx, tenant string, id int64) (log *Log, whole bool, err error) {
	type link struct {
		log    Log
		length int
		tokens []byte
	}
	rows, err := tx.QueryContext(ctx, `WITH RECURSIVE chain (number, model, parent, shared, length, prompt, created, tokens) AS (
		SELECT number, model, parent, shared, length, prompt, created, tokens FROM log WHERE tenant = ?1 AND number = ?2 UNION ALL
		SELECT l.number, l.model, l.parent, l.shared, l.length, l.prompt, l.created, l.tokens FROM chain c JOIN log l ON l.number = c.parent AND l.number < c.number WHERE l.tenant = ?1)
		SELECT model, COALESCE(parent, 0), shared, length, prompt, created, tokens FROM chain ORDER BY number`, tenant, id)
	chain, err := collect(rows, err, func(row scanner) (l link, err error) {
		var created sql.NullInt64
		err = row.Scan(&l.log.Model, &l.log.Parent, &l.log.Shared, &l.length, &l.log.Prompt, &created, &l.tokens)
		l.log.Created = timeOf(created)
		return l, err
	})
	if err != nil {
		return nil, false, err
	}
	if len(chain) == 0 {
		return nil, false, ErrNotFound
	}
	var tokens []byte
	for i, l := range chain {
		at := 4 * l.log.Shared
		if at < 0 || at > len(tokens) || i == 0 && l.log.Parent != 0 {
			return nil, false, damagef("log %d lacks tokens of what it goes on from", id)
		}
		tokens = append(tokens[:at], l.tokens...)
	}
	last := chain[len(chain)-1]
	log = &last.log
	log.ID, log.Tenant, log.Tokens = id, tenant, tokensOf(tokens)
	return log, len(log.Tokens) == last.length, nil
}

func tokenBytes(tokens []int32) []byte {
	b := make([]byte, 0, 4*len(tokens)) // not nil, which would be NULL
	for _, t := range tokens {
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	return b
}

func tokensOf(b []byte) []int32 {
	tokens := make([]int32, len(b)/4)
	for i := range tokens {
		tokens[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return tokens
}

// freeLogs deletes those of the logs that nothing names, and then their parents likewise. Of a log that others begin like
// it keeps the tokens that they share. It returns what went.
func freeLogs(ctx context.Context, tx *sql.Tx, logs []int64) (freed []Freed, err error) {
	for len(logs) > 0 {
		id := logs[len(logs)-1]
		logs = logs[:len(logs)-1]
		parent, gone, err := freeLog(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		if gone != nil {
			err := tx.QueryRowContext(ctx, `INSERT INTO freed (tenant, model, computed, keep, tokens) VALUES (?, ?, ?, ?, ?) RETURNING number`,
				gone.Tenant, gone.Model, strings.Join(gone.Fingerprints, " "), gone.Keep, tokenBytes(gone.Tokens)).Scan(&gone.ID)
			if err != nil {
				return nil, err
			}
			freed = append(freed, *gone)
		}
		if parent != 0 {
			logs = append(logs, parent)
		}
	}
	return freed, nil
}

func freeLog(ctx context.Context, tx *sql.Tx, id int64) (parent int64, freed *Freed, err error) {
	var tenant, computed string
	var named bool
	var needed sql.NullInt64 // the most tokens that another log shares with this one
	err = tx.QueryRowContext(ctx, `SELECT tenant, computed, EXISTS (SELECT 1 FROM entry WHERE log = ?1) OR EXISTS (SELECT 1 FROM response WHERE log = ?1),
		(SELECT MAX(shared) FROM log WHERE parent = ?1) FROM log WHERE number = ?1`, id).Scan(&tenant, &computed, &named, &needed)
	if errors.Is(err, sql.ErrNoRows) || named {
		return 0, nil, nil // it went already, or stays
	}
	if err != nil {
		return 0, nil, err
	}
	log, _, err := readLog(ctx, tx, tenant, id)
	if err != nil {
		return 0, nil, err
	}
	freed = &Freed{Tenant: tenant, Model: log.Model, Fingerprints: strings.Fields(computed), Tokens: log.Tokens, Keep: log.Shared}
	if !needed.Valid {
		_, err = tx.ExecContext(ctx, `DELETE FROM log WHERE number = ?`, id)
		return log.Parent, freed, err
	}
	if freed.Keep = int(needed.Int64); freed.Keep >= len(log.Tokens) {
		return 0, nil, nil
	}
	_, err = tx.ExecContext(ctx, `UPDATE log SET tokens = substr(tokens, 1, ?) WHERE number = ?`, 4*(freed.Keep-log.Shared), id)
	return 0, freed, err
}

// headTokens is how many first tokens logs have to have in common to be compared: no block of computed state is shorter.
const headTokens = 16

// headOf names the first tokens of a log, nil where it has too few.
func headOf(tokens []int32) any {
	if len(tokens) < headTokens {
		return nil
	}
	sum := sha256.Sum256(tokenBytes(tokens[:headTokens]))
	return sum[:16]
}

// Shared returns how many of the first tokens of a freed log any stored log of its tenant and model begins with, related to
// it or not: what was computed of these is still needed. It reads the logs that begin alike, and counts less than headTokens
// as nothing.
func (d *DB) Shared(ctx context.Context, f *Freed) (most int, err error) {
	head := headOf(f.Tokens)
	if head == nil {
		return 0, nil
	}
	err = d.read(ctx, "logs", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT number, COALESCE(parent, 0), shared, tokens FROM log WHERE tenant = ? AND model = ? AND head = ? ORDER BY number`,
			f.Tenant, f.Model, head)
		if err != nil {
			return err
		}
		defer rows.Close()
		common := map[int64]int{} // of the logs so far; a parent comes before its children
		for rows.Next() {
			var number, parent int64
			var shared int
			var tokens sql.RawBytes
			if err := rows.Scan(&number, &parent, &shared, &tokens); err != nil {
				return err
			}
			n := 0
			switch before, known := common[parent]; {
			case parent == 0:
				n = commonTokens(tokens, f.Tokens)
			case !known: // its parent begins with fewer tokens than are compared
				one, _, err := readLog(ctx, tx, f.Tenant, number)
				if err != nil {
					return err
				}
				n = commonTokens(tokenBytes(one.Tokens), f.Tokens)
			case before < shared:
				n = before
			default:
				n = shared + commonTokens(tokens, f.Tokens[min(shared, len(f.Tokens)):])
			}
			common[number], most = n, max(most, n)
		}
		return rows.Err()
	})
	return most, err
}

// commonTokens returns how many first tokens are the same.
func commonTokens(b []byte, tokens []int32) int {
	n := 0
	for ; n < len(tokens) && len(b) >= 4*(n+1) && int32(binary.LittleEndian.Uint32(b[4*n:])) == tokens[n]; n++ {
	}
	return n
}

// Freed returns what deletions freed, of all tenants, and Forgotten has not been told of: oldest first and at most limit. It is
// what was computed by a model, or for the empty name what was computed by whatever engines whose fingerprints are known.
func (d *DB) Freed(ctx context.Context, model string, limit int) (list []Freed, err error) {
	err = d.read(ctx, "freed logs", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT number, tenant, model, computed, keep, tokens FROM freed
			WHERE CASE WHEN ?1 = '' THEN computed <> '' ELSE model = ?1 END ORDER BY number LIMIT ?2`, model, limit)
		list, err = collect(rows, err, func(row scanner) (f Freed, err error) {
			var computed string
			var tokens []byte
			err = row.Scan(&f.ID, &f.Tenant, &f.Model, &computed, &f.Keep, &tokens)
			f.Fingerprints, f.Tokens = strings.Fields(computed), tokensOf(tokens)
			return f, err
		})
		return err
	})
	return list, err
}

// Forgotten says that what was computed of freed tokens is deleted.
func (d *DB) Forgotten(ctx context.Context, list []Freed) error {
	if len(list) == 0 {
		return nil
	}
	return d.erase(ctx, "freed logs", func(tx *sql.Tx) error {
		for i := range list {
			if _, err := tx.ExecContext(ctx, `DELETE FROM freed WHERE number = ?`, list[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
}
