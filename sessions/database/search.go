package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// ErrQuery says that a search has nothing to look for, or too much.
var ErrQuery = errors.New("query")

const (
	maxQueryBytes = 1024
	maxQueryTerms = 32
)

// Found is a session that a search found.
type Found struct {
	Session Session
	Item    string // id of the newest item that matches
	Excerpt string // of that item's text, around what matches
}

// SearchSessions lists the sessions with an item that has all words of a query, newest session first; "words in quotes" are
// found in this order only, and word* finds what begins so. No other sign has a meaning. Case and accents do not matter.
func (d *DB) SearchSessions(ctx context.Context, tenant, query string, page Page) (list []Found, more bool, err error) {
	match, err := matchExpression(query)
	if err != nil {
		return nil, false, fmt.Errorf("database: search: %w", err)
	}
	page.Descending = true
	err = d.read(ctx, "search", func(tx *sql.Tx) error {
		after, err := page.after(ctx, tx, `SELECT number FROM session WHERE tenant = ? AND id = ?`, tenant)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `WITH hit AS (
				SELECT e.session AS session, MAX(i.number) AS item FROM item_text t JOIN item i ON i.number = t.rowid JOIN entry e ON e.item = i.number
				WHERE t.text MATCH ?1 AND i.tenant = ?2 AND e.session < ?3 GROUP BY e.session ORDER BY e.session DESC LIMIT ?4)
			SELECT `+sessionColumns+`, i.id, (SELECT snippet(item_text, 0, '', '', '…', 24) FROM item_text WHERE text MATCH ?1 AND rowid = hit.item)
			FROM hit JOIN session s ON s.number = hit.session JOIN item i ON i.number = hit.item WHERE s.tenant = ?2 ORDER BY s.number DESC`,
			match, tenant, after, page.limit())
		list, err = collect(rows, err, func(row scanner) (f Found, err error) {
			f.Session, _, err = scanSession(extended{row, []any{&f.Item, &f.Excerpt}})
			f.Excerpt = strings.ReplaceAll(f.Excerpt, joiner, "")
			return f, err
		})
		list, more = cut(page, list)
		return err
	})
	return list, more, err
}

// extended scans further columns after those of another row.
type extended struct {
	scanner
	more []any
}

func (e extended) Scan(to ...any) error { return e.scanner.Scan(append(to, e.more...)...) }

// matchExpression makes an FTS5 expression of a query, in which every word is a quoted string: nothing of the query is
// FTS5's syntax.
func matchExpression(query string) (string, error) {
	if len(query) > maxQueryBytes {
		return "", fmt.Errorf("%w has %d bytes, the most is %d", ErrQuery, len(query), maxQueryBytes)
	}
	var terms []string
	add := func(term string, prefix bool) {
		if !strings.ContainsFunc(term, isWord) {
			return // no word of it would be looked for
		}
		term = `"` + indexed(strings.ReplaceAll(term, `"`, " ")) + `"`
		if prefix {
			term += "*"
		}
		terms = append(terms, term)
	}
	for i, part := range strings.Split(strings.ReplaceAll(query, "\x00", " "), `"`) {
		if i%2 == 1 {
			add(part, false)
			continue
		}
		for _, word := range strings.Fields(part) {
			stem, prefix := strings.CutSuffix(word, "*")
			add(stem, prefix)
		}
	}
	if len(terms) == 0 || len(terms) > maxQueryTerms {
		return "", fmt.Errorf("%w has %d words, which must be 1 to %d", ErrQuery, len(terms), maxQueryTerms)
	}
	return strings.Join(terms, " AND "), nil
}

// joiner separates the characters of scripts that are written without spaces, of which the tokenizer makes one word
// otherwise. It is a format character, which the tokenizer takes for a separator and which excerpts lose again.
const joiner = "\u2060"

// indexed is the form of a text in which each ideograph or kana is a word.
func indexed(text string) string {
	if !strings.ContainsFunc(text, spaceless) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if spaceless(r) {
			b.WriteString(joiner)
			b.WriteRune(r)
			b.WriteString(joiner)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func spaceless(r rune) bool {
	return r >= 0x0e00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// isWord reports whether the tokenizer makes words of a character (unicode61: letters, numbers and private use).
func isWord(r rune) bool { return unicode.In(r, unicode.L, unicode.N, unicode.Co) }
