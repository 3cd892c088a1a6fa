package sessions

import (
	"context"
	"errors"
	"time"

	"hearth/sessions/database"
	"hearth/sessions/items"
)

// ErrNoDatabase says that this store keeps nothing, and so knows no responses and conversations.
var ErrNoDatabase = errors.New("sessions: nothing is stored here")

// Stored returns the rows of items that are stored now.
func Stored(list []items.Item, now time.Time) []database.Item {
	rows := make([]database.Item, len(list))
	for i, item := range list {
		rows[i] = database.Item{ID: item.ID, Type: item.Type, Role: item.Role, Status: item.Status, Created: now, JSON: item.JSON, Text: item.Text}
	}
	return rows
}

// loaded returns the items of rows.
func loaded(rows []database.Item) ([]items.Item, error) {
	list := make([]items.Item, len(rows))
	for i := range rows {
		item, err := items.Read(rows[i].JSON)
		if err != nil {
			return nil, err
		}
		list[i] = item
	}
	return list, nil
}

// ItemParser returns a reader of the items that a tenant sends. What its references name is what the tenant has stored, in
// whatever conversation or response.
func (s *Store) ItemParser(ctx context.Context, tenant string, newID func(prefix string) string) *items.Parser {
	p := &items.Parser{NewID: newID}
	if s.database == nil {
		return p
	}
	p.Resolve = func(id string) (items.Item, bool, error) {
		row, err := s.database.StoredItem(ctx, tenant, id)
		switch {
		case errors.Is(err, database.ErrNotFound):
			return items.Item{}, false, nil
		case err != nil:
			return items.Item{}, false, err
		}
		item, err := items.Read(row.JSON)
		return item, err == nil, err
	}
	return p
}
