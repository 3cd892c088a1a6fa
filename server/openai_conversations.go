package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"hearth/sessions"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// conversationObject is a conversation in OpenAI's shape.
type conversationObject struct {
	ID        string          `json:"id"`
	Object    string          `json:"object"`
	CreatedAt int64           `json:"created_at"`
	Metadata  json.RawMessage `json:"metadata"`
}

func newConversationObject(s *database.Session) conversationObject {
	return conversationObject{ID: s.ID, Object: "conversation", CreatedAt: s.Created.Unix(), Metadata: s.Metadata}
}

// deletedObject says that something is gone.
type deletedObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

// conversationRequest is what the bodies of the Conversations API have.
type conversationRequest struct {
	metadata json.RawMessage
	items    *value // an array of items
}

// maxNewItems is the most items that one request adds (OpenAI's API reference).
const maxNewItems = 20

var createConversationFields = []field[conversationRequest]{
	{name: "metadata", use: honoured, read: readConversationMetadata},
	{name: "items", use: honoured, read: readNewItems},
}

var addItemsFields = []field[conversationRequest]{
	{name: "items", use: honoured, read: readNewItems},
}

func readConversationMetadata(r *conversationRequest, v value) error {
	r.metadata = v.raw
	return checkMetadata(v)
}

func readNewItems(r *conversationRequest, v value) error {
	list, err := v.elements()
	if err == nil && len(list) > maxNewItems {
		err = v.invalid("may have %d items at a time, has %d", maxNewItems, len(list))
	}
	r.items = &v
	return err
}

// database returns where conversations are kept.
func (s *Server) database() (*database.DB, error) {
	if db := s.store.Database(); db != nil {
		return db, nil
	}
	return nil, sessions.ErrNoDatabase
}

// newItems reads the items of a request that are to be kept.
func (s *Server) newItems(x *exchange, v *value) ([]items.Item, error) {
	if v == nil {
		return nil, nil
	}
	list, err := s.store.ItemParser(x.ctx, x.tenant, s.opts.NewID).Parse(v.path, v.raw)
	if n := len(list); err == nil && n > 0 && list[n-1].ID == "" {
		return nil, unsupported(fmt.Sprintf("%s[%d].type", v.path, n-1), "a "+list[n-1].Type+" is for the input of a response")
	}
	return list, err
}

// createConversation answers POST /v1/conversations.
func (s *Server) createConversation(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	r := conversationRequest{metadata: json.RawMessage("{}")}
	if x.c.Request.ContentLength != 0 { // without a body it is an empty conversation
		if err := readTable(x, createConversationFields, &r); err != nil {
			return err
		}
	}
	list, err := s.newItems(x, r.items)
	if err != nil {
		return err
	}
	now := s.opts.Now()
	session := &database.Session{ID: s.opts.NewID("conv_"), Tenant: x.tenant, Created: now, TTL: s.store.SessionTTL(), Metadata: r.metadata}
	if err := db.CreateSession(x.ctx, session, sessions.Stored(list, now)); err != nil {
		return err
	}
	return x.answer(newConversationObject(session))
}

// getConversation answers GET /v1/conversations/{id}.
func (s *Server) getConversation(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	session, err := db.Session(x.ctx, x.tenant, x.c.Param("id"))
	if err != nil {
		return x.aboutConversation(err)
	}
	return x.answer(newConversationObject(session))
}

// aboutConversation says of an error that a row is not there which row that is: the conversation of the path.
func (x *exchange) aboutConversation(err error) error {
	return aboutRow(err, "conversation", x.c.Param("id"))
}

// aboutRow says of an error that a row is not there which row that is.
func aboutRow(err error, kind, id string) error {
	if errors.Is(err, database.ErrNotFound) {
		return notFound(kind, id)
	}
	return err
}

func notFound(kind, id string) error {
	return &wireError{
		Status: http.StatusNotFound, Type: typeInvalidRequest, Code: "not_found",
		Message: fmt.Sprintf("there is no %s with the id %q", kind, shorten(id)),
	}
}

// updateConversation answers POST /v1/conversations/{id}: the metadata is replaced.
func (s *Server) updateConversation(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	metadata, err := readNewMetadata(x)
	if err != nil {
		return err
	}
	session, err := db.UpdateSession(x.ctx, x.tenant, x.c.Param("id"), func(session *database.Session) error {
		session.Metadata = metadata
		return nil
	})
	if err != nil {
		return x.aboutConversation(err)
	}
	return x.answer(newConversationObject(session))
}

// newMetadataFields is the body of requests that replace the metadata of something.
var newMetadataFields = []field[json.RawMessage]{
	{name: "metadata", use: honoured, read: func(m *json.RawMessage, v value) error {
		*m = v.raw
		return checkMetadata(v)
	}},
}

// readNewMetadata reads the body of a request that replaces metadata; null takes it all away.
func readNewMetadata(x *exchange) (metadata json.RawMessage, err error) {
	body, err := readValue(x)
	if err != nil {
		return nil, err
	}
	if err := decode(newMetadataFields, body, &metadata); err != nil {
		return nil, err
	}
	if metadata == nil && !body.has("metadata") {
		return nil, missing("metadata")
	}
	if metadata == nil {
		metadata = json.RawMessage("{}")
	}
	return metadata, nil
}

// deleteConversation answers DELETE /v1/conversations/{id}. Unlike OpenAI's, it leaves nothing behind: the conversation's
// items go with it, and its responses, its tokens and what was computed of them.
func (s *Server) deleteConversation(x *exchange) error {
	id := x.c.Param("id")
	if err := s.store.DeleteSession(x.ctx, x.tenant, id); err != nil {
		return x.aboutConversation(err)
	}
	return x.answer(deletedObject{ID: id, Object: "conversation.deleted", Deleted: true})
}

// addConversationItems answers POST /v1/conversations/{id}/items.
func (s *Server) addConversationItems(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	if err := decodeQuery(x, []parameter[struct{}]{includeParameter[struct{}]()}, &struct{}{}); err != nil {
		return err
	}
	var r conversationRequest
	if err := readTable(x, addItemsFields, &r); err != nil {
		return err
	}
	if r.items == nil {
		return missing("items")
	}
	added, err := s.newItems(x, r.items)
	if err != nil {
		return err
	}
	if len(added) == 0 {
		return r.items.invalid("must have at least one item")
	}
	unlock, err := s.store.Lock(x.tenant, x.c.Param("id"))
	if err != nil {
		return err
	}
	defer unlock()
	rows := sessions.Stored(added, s.opts.Now())
	err = db.AppendItems(x.ctx, x.tenant, x.c.Param("id"), rows)
	unlock() // before the client knows, and begins a turn
	if err != nil {
		return x.aboutConversation(err)
	}
	return x.answer(newItemList(rows, false))
}

// itemObject is an item, which is kept in OpenAI's shape.
type itemObject database.Item

// MarshalJSON writes the item as it is kept.
func (i itemObject) MarshalJSON() ([]byte, error) { return i.JSON, nil }

func newItemList(rows []database.Item, more bool) listObject[itemObject] {
	entries := make([]itemObject, len(rows))
	for i := range rows {
		entries[i] = itemObject(rows[i])
	}
	return newListObject(entries, more, func(i *itemObject) string { return i.ID })
}

// itemPage are the parameters of a list of items.
var itemPage = append(pageParameters(func(p *database.Page) *database.Page { return p }), includeParameter[database.Page]())

// listConversationItems answers GET /v1/conversations/{id}/items, newest first unless asked otherwise.
func (s *Server) listConversationItems(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	page := database.Page{Descending: true}
	if err := decodeQuery(x, itemPage, &page); err != nil {
		return err
	}
	if _, err := db.Session(x.ctx, x.tenant, x.c.Param("id")); err != nil {
		return x.aboutConversation(err)
	}
	rows, more, err := db.Items(x.ctx, x.tenant, x.c.Param("id"), page)
	if err != nil {
		return aboutAfter(err, page.After)
	}
	return x.answer(newItemList(rows, more))
}

// aboutAfter says of an error that a row is not there that it is the one after which a list was to go on.
func aboutAfter(err error, after string) error {
	if errors.Is(err, database.ErrNotFound) {
		return invalidRequest("after", "after names %q, which is not in this list", shorten(after))
	}
	return err
}

// getConversationItem answers GET /v1/conversations/{id}/items/{item}.
func (s *Server) getConversationItem(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	if err := decodeQuery(x, []parameter[struct{}]{includeParameter[struct{}]()}, &struct{}{}); err != nil {
		return err
	}
	item, err := db.Item(x.ctx, x.tenant, x.c.Param("id"), x.c.Param("item"))
	if err != nil {
		return x.aboutItem(err)
	}
	return x.answer(itemObject(*item))
}

// aboutItem says of an error that a row is not there which row that is: the item of the path.
func (x *exchange) aboutItem(err error) error {
	return aboutRow(err, "item of this conversation", x.c.Param("item"))
}

// deleteConversationItem answers DELETE /v1/conversations/{id}/items/{item} with the conversation.
func (s *Server) deleteConversationItem(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	session, err := db.Session(x.ctx, x.tenant, x.c.Param("id"))
	if err != nil {
		return x.aboutConversation(err)
	}
	if err := s.store.DeleteItem(x.ctx, x.tenant, session.ID, x.c.Param("item")); err != nil {
		return x.aboutItem(err)
	}
	return x.answer(newConversationObject(session))
}
