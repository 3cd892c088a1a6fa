package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
)

// titleOf is what a session is found by as its title: Title, and what clients whose API has none put into the metadata. The
// empty string says that it has neither.
func titleOf(s *Session) string {
	var metadata map[string]any
	_ = json.Unmarshal(s.Metadata, &metadata) // may be missing, and be anything in a damaged file
	title, _ := metadata["title"].(string)
	if title == s.Title {
		return s.Title
	}
	return strings.TrimSpace(s.Title + "\n" + title)
}

// indexTitle makes the index of titles what a session's title is now.
func indexTitle(ctx context.Context, tx *sql.Tx, session int64, s *Session) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM session_title WHERE rowid = ?`, session); err != nil {
		return err
	}
	title := titleOf(s)
	if title == "" {
		return nil
	}
	var owner int64
	if err := tx.QueryRowContext(ctx, `SELECT number FROM tenant WHERE name = ?`, s.Tenant).Scan(&owner); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO session_title (rowid, text) VALUES (?, ?)`, session, indexed(title, owner))
	return err
}

// indexTitles indexes the titles of a file from before there was an index of them. It reads the columns that such a file has.
func indexTitles(ctx context.Context, tx *sql.Tx) error {
	type titled struct {
		number  int64
		session Session
	}
	rows, err := tx.QueryContext(ctx, `SELECT number, tenant, title, metadata FROM session WHERE title <> '' OR metadata <> '{}'`)
	list, err := collect(rows, err, func(row scanner) (t titled, err error) {
		var metadata string
		err = row.Scan(&t.number, &t.session.Tenant, &t.session.Title, &metadata)
		t.session.Metadata = json.RawMessage(metadata)
		return t, err
	})
	if err != nil {
		return err
	}
	for i := range list {
		if err := indexTitle(ctx, tx, list[i].number, &list[i].session); err != nil {
			return err
		}
	}
	return nil
}
