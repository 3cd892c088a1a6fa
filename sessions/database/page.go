package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
)

// DefaultLimit is the most rows of a page whose Limit is 0, OpenAI's number.
const DefaultLimit = 20

// limit is one more row than the page has, which tells whether there are more.
func (p Page) limit() int {
	switch {
	case p.Limit < 0:
		return -1
	case p.Limit == 0:
		return DefaultLimit + 1
	}
	return p.Limit + 1
}

// order and beyond complete a statement that lists rows by a number; neither holds anything from outside.
func (p Page) order() string {
	if p.Descending {
		return "DESC"
	}
	return "ASC"
}

func (p Page) beyond() string {
	if p.Descending {
		return "<"
	}
	return ">"
}

// after is the number that the page's rows are beyond: that of the row that p.After names, which query finds by further
// arguments and the id.
func (p Page) after(ctx context.Context, tx *sql.Tx, query string, args ...any) (int64, error) {
	if p.After == "" {
		if p.Descending {
			return math.MaxInt64, nil
		}
		return -1, nil
	}
	var number int64
	err := tx.QueryRowContext(ctx, query, append(args, p.After)...).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("after: %s: %w", p.After, ErrNotFound)
	}
	return number, err
}

// cut takes the row away that only tells that there are more.
func cut[T any](p Page, list []T) ([]T, bool) {
	if n := p.limit() - 1; n >= 0 && len(list) > n {
		return list[:n], true
	}
	return list, false
}

// collect reads all rows of a query.
func collect[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// numbers reads the numbers that a query selects.
func numbers(rows *sql.Rows, err error) ([]int64, error) {
	return collect(rows, err, func(row scanner) (n int64, err error) { return n, row.Scan(&n) })
}
