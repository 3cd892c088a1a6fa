package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	maxQueryBytes = 1024
	maxQueryWords = 64
	// minPrefix is the shortest beginning that is looked for: all words that begin with it are put together first.
	minPrefix = 3
)

// Found is a session that a search found.
type Found struct {
	Session Session
	Title   string // that matches; empty: it does not
	Item    *Item  // the newest one that matches; nil where the title does
}

// SearchSessions lists the sessions whose title has all words of a query, the newest one first, and then those with an item
// that has them, those with the newest such item first. A title is what Session.Title says, or "title" in its metadata.
// "Words in quotes" are found in this order only, and word* finds what begins so. No other sign has a meaning. Case and
// accents do not matter.
//
// Every word is stored with the number of its tenant before it: neither what a search finds nor how long it takes depends
// on what others have.
func (d *DB) SearchSessions(ctx context.Context, tenant, query string, page Page) (list []Found, more bool, err error) {
	terms, err := parseQuery(query)
	if err != nil {
		return nil, false, fmt.Errorf("database: search: %w", err)
	}
	err = d.read(ctx, "search", func(tx *sql.Tx) error {
		var number int64
		err := tx.QueryRowContext(ctx, `SELECT number FROM tenant WHERE name = ?`, tenant).Scan(&number)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		hits, err := findHits(ctx, tx, matchExpression(terms, number), page)
		if err != nil {
			return err
		}
		hits, more = cut(page, hits)
		for _, h := range hits {
			f, err := h.load(ctx, tx, tenant)
			if err != nil {
				return err
			}
			list = append(list, f)
		}
		return nil
	})
	return list, more, err
}

// hit is a session and its newest item that matches, 0 where the title does.
type hit struct{ session, item int64 }

// hits are the matches of a page.
type hits struct {
	list  []hit
	limit int // most of them; negative: all
	seen  map[int64]bool
	after string // the session behind which the page begins; empty: it was seen
}

const (
	titleMatches = `SELECT s.number, s.id, 0 FROM session_title t CROSS JOIN session s ON s.number = t.rowid WHERE t.text MATCH ? ORDER BY t.rowid DESC`
	itemMatches  = `SELECT s.number, s.id, t.rowid FROM item_text t CROSS JOIN entry e ON e.item = t.rowid CROSS JOIN session s ON s.number = e.session
		WHERE t.text MATCH ? ORDER BY t.rowid DESC`
)

// findHits reads matches, those of titles first and the newest of a kind first, until the page is full and one more is known.
func findHits(ctx context.Context, tx *sql.Tx, match string, page Page) ([]hit, error) {
	found := hits{limit: page.limit(), seen: map[int64]bool{}, after: page.After}
	for _, query := range []string{titleMatches, itemMatches} {
		if err := found.read(tx.QueryContext(ctx, query, match)); err != nil {
			return nil, err
		}
	}
	if found.after != "" {
		return nil, fmt.Errorf("after: %s: %w", page.After, ErrNotFound)
	}
	return found.list, nil
}

func (f *hits) read(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for (f.limit < 0 || len(f.list) < f.limit) && rows.Next() {
		var h hit
		var id string
		if err := rows.Scan(&h.session, &id, &h.item); err != nil {
			return err
		}
		switch {
		case f.seen[h.session]:
		case f.after == "":
			f.list = append(f.list, h)
		case f.after == id:
			f.after = ""
		}
		f.seen[h.session] = true
	}
	return rows.Err()
}

func (h hit) load(ctx context.Context, tx *sql.Tx, tenant string) (f Found, err error) {
	f.Session, _, err = scanSession(tx.QueryRowContext(ctx, `SELECT `+sessionColumns+` FROM session s WHERE s.number = ? AND s.tenant = ?`, h.session, tenant))
	if err != nil {
		return f, err
	}
	if h.item == 0 {
		f.Title = titleOf(&f.Session)
		return f, nil
	}
	item, err := scanItem(tx.QueryRowContext(ctx, `SELECT `+itemColumns+` FROM item i WHERE i.number = ? AND i.tenant = ?`, h.item, tenant))
	f.Item = &item
	return f, err
}

// term is one word, or a phrase, that a search is for.
type term struct {
	words  []string // folded
	prefix bool     // the last one may go on
}

// parseQuery takes a query apart into the words of it, so that nothing of it is FTS5's syntax.
func parseQuery(query string) ([]term, error) {
	if len(query) > maxQueryBytes {
		return nil, fmt.Errorf("%w has %d bytes, the most is %d", ErrQuery, len(query), maxQueryBytes)
	}
	var terms []term
	count := 0
	add := func(text string, prefix bool) error {
		t := term{prefix: prefix}
		words(text, func(w word) bool { t.words = append(t.words, w.folded); return true })
		if len(t.words) == 0 {
			return nil // signs alone, which no text is searched for
		}
		if last := t.words[len(t.words)-1]; prefix && len([]rune(last)) < minPrefix {
			return fmt.Errorf("%w has %s*, of less than %d characters", ErrQuery, last, minPrefix)
		}
		count += len(t.words)
		terms = append(terms, t)
		return nil
	}
	for i, part := range strings.Split(query, `"`) {
		if i%2 == 1 {
			if err := add(part, false); err != nil {
				return nil, err
			}
			continue
		}
		for _, text := range strings.Fields(part) {
			stem, prefix := strings.CutSuffix(text, "*")
			if err := add(stem, prefix); err != nil {
				return nil, err
			}
		}
	}
	if count == 0 || count > maxQueryWords {
		return nil, fmt.Errorf("%w has %d words, and may have 1 to %d", ErrQuery, count, maxQueryWords)
	}
	return terms, nil
}

// matchExpression makes an FTS5 expression of the terms, which holds quoted strings of letters and digits.
func matchExpression(terms []term, tenant int64) string {
	phrases := make([]string, len(terms))
	for i, t := range terms {
		marked := make([]string, len(t.words))
		for j, w := range t.words {
			marked[j] = mark(tenant) + w
		}
		phrases[i] = `"` + strings.Join(marked, " ") + `"`
		if t.prefix {
			phrases[i] += "*"
		}
	}
	return strings.Join(phrases, " AND ")
}

// mark is what stands before every word of a tenant. It ends with a character of private use, which the tokenizer takes for
// part of a word and which no word of a text has.
func mark(tenant int64) string { return strconv.FormatInt(tenant, 36) + "\ue000" }

// indexed is the form in which a tenant's text is stored to be found: its words, each with the tenant's mark.
func indexed(text string, tenant int64) string {
	var b strings.Builder
	prefix := mark(tenant)
	words(text, func(w word) bool {
		if w.end > maxIndexedBytes {
			return false
		}
		b.WriteString(prefix)
		b.WriteString(w.folded)
		b.WriteByte(' ')
		return true
	})
	return b.String()
}
