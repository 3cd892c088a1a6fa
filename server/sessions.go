package server

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"hearth/sessions"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// A session is what OpenAI's API calls a conversation, with what that API does not tell of it: where its computed state is,
// what it was forked from, when its time has passed. Both APIs have the same sessions, by the same ids.

// sessionObject is a session on the wire. Times are seconds since 1970, as in OpenAI's objects.
type sessionObject struct {
	ID        string          `json:"id"`
	Object    string          `json:"object"`
	CreatedAt int64           `json:"created_at"`
	UpdatedAt int64           `json:"updated_at"`
	ExpiresAt *int64          `json:"expires_at"` // null: never
	TTL       int64           `json:"ttl"`        // seconds after its last change; 0: for ever
	Pinned    bool            `json:"pinned"`
	Title     string          `json:"title"`
	Model     *string         `json:"model"` // of its last turn; null before the first
	Parent    *sessionParent  `json:"parent"`
	Items     int             `json:"items"`
	Bytes     int64           `json:"bytes"`
	Metadata  json.RawMessage `json:"metadata"`
}

// sessionParent is what a session was forked from.
type sessionParent struct {
	ID    string `json:"id"`
	Items int    `json:"items"` // how many they have in common
}

// sessionState is a session with the place of its computed state.
type sessionState struct {
	sessionObject
	Computed *computedObject `json:"computed"` // null where no turn has ended, or its model is not loaded
}

// computedObject says where computed state is. Tokens are counted from the beginning: the next turn goes on behind those in
// memory at once, and behind those on disk when they are read.
type computedObject struct {
	Tokens    int     `json:"tokens"`
	Memory    place   `json:"memory"`
	Disk      place   `json:"disk"`
	RestoreMS float64 `json:"restore_ms"` // about how long reading what is not in memory takes
}

type place struct {
	Tokens int   `json:"tokens"`
	Bytes  int64 `json:"bytes"` // shared with other sessions
}

func newSessionObject(s *database.Session) sessionObject {
	o := sessionObject{
		ID: s.ID, Object: "session", CreatedAt: s.Created.Unix(), UpdatedAt: s.Updated.Unix(), TTL: int64(s.TTL / time.Second), Pinned: s.Pinned,
		Title: s.Title, Model: orNull(s.Model), Items: s.Items, Bytes: s.Bytes, Metadata: s.Metadata,
	}
	if !s.Expires.IsZero() {
		expires := s.Expires.Unix()
		o.ExpiresAt = &expires
	}
	if s.Parent != "" {
		o.Parent = &sessionParent{s.Parent, s.ForkedAt}
	}
	return o
}

// answerSession answers with a session as it is now.
func (s *Server) answerSession(x *exchange, id string) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	session, err := db.Session(x.ctx, x.tenant, id)
	if err != nil {
		return x.aboutSession(err)
	}
	state := sessionState{sessionObject: newSessionObject(session)}
	computed, err := s.store.Computed(x.ctx, session)
	if err != nil {
		return err
	}
	if computed != nil {
		state.Computed = &computedObject{
			Tokens: computed.Tokens, Memory: place{computed.MemoryTokens, computed.MemoryBytes}, Disk: place{computed.DiskTokens, computed.DiskBytes},
			RestoreMS: float64(computed.Restore.Microseconds()) / 1000,
		}
	}
	return x.answer(state)
}

// aboutSession says of an error that a row is not there that it is the session of the path.
func (x *exchange) aboutSession(err error) error {
	return aboutRow(err, "session", x.c.Param("id"))
}

// sessionRequest is what the bodies of this API have.
type sessionRequest struct {
	title    *string
	ttl      *time.Duration
	pinned   *bool
	metadata json.RawMessage
	items    *value
	place    sessions.Place
	named    []string // the fields that name the place
	tier     sessions.Tier
}

const (
	maxTitle = 512
	maxTTL   = 100 * 365 * 24 * 60 * 60 // seconds
)

// newSessionFields are what a session may be given when it is made.
var newSessionFields = []field[sessionRequest]{
	{name: "title", use: honoured, read: func(r *sessionRequest, v value) error {
		title, err := v.text()
		if n := len([]rune(title)); err == nil && n > maxTitle {
			err = v.invalid("may have %d characters, has %d", maxTitle, n)
		}
		r.title = &title
		return err
	}},
	{name: "ttl", use: honoured, read: integer(0, maxTTL, func(r *sessionRequest, seconds int64) {
		ttl := time.Duration(seconds) * time.Second
		r.ttl = &ttl
	})},
	{name: "metadata", use: honoured, read: func(r *sessionRequest, v value) error {
		r.metadata = v.raw
		return checkMetadata(v)
	}},
}

var createSessionFields = append([]field[sessionRequest]{
	{name: "items", use: honoured, read: func(r *sessionRequest, v value) error {
		r.items = &v
		return nil
	}},
}, newSessionFields...)

// placeFields name a place in a session.
var placeFields = []field[sessionRequest]{
	{name: "item", use: honoured, read: func(r *sessionRequest, v value) (err error) {
		r.named = append(r.named, v.path)
		if r.place.Item, err = v.text(); err == nil && r.place.Item == "" {
			err = v.invalid("is empty")
		}
		return err
	}},
	{name: "items", use: honoured, read: integer(0, math.MaxInt32, func(r *sessionRequest, n int64) {
		items := int(n)
		r.place.Items, r.named = &items, append(r.named, "items")
	})},
}

var forkFields = append(append([]field[sessionRequest]{
	{name: "token", use: honoured, read: integer(0, math.MaxInt32, func(r *sessionRequest, n int64) {
		token := int(n)
		r.place.Token, r.named = &token, append(r.named, "token")
	})},
}, placeFields...), newSessionFields...)

var pinFields = []field[sessionRequest]{
	{name: "pinned", use: honoured, read: boolean(func(r *sessionRequest, b bool) { r.pinned = &b })},
}

var evictFields = []field[sessionRequest]{
	{name: "tier", use: honoured, read: func(r *sessionRequest, v value) error {
		name, err := v.oneOf(sessions.TierDisk.String(), sessions.TierNone.String())
		if err == nil {
			r.tier, err = sessions.ParseTier(name)
		}
		return err
	}},
}

// readOptional reads a body that may be left out.
func readOptional[T any](x *exchange, fields []field[T], t *T) error {
	if x.c.Request.ContentLength == 0 {
		return nil
	}
	return readTable(x, fields, t)
}

// apply gives a session what the request has for it.
func (r *sessionRequest) apply(session *database.Session) {
	if r.title != nil {
		session.Title = *r.title
	}
	if r.ttl != nil {
		session.TTL = *r.ttl
	}
	if r.metadata != nil {
		session.Metadata = r.metadata
	}
}

// onePlace checks that at most one field names the place.
func (r *sessionRequest) onePlace() error {
	if len(r.named) > 1 {
		return invalidRequest(r.named[1], "%s names the place, and so does %s; send one of them", r.named[1], r.named[0])
	}
	return nil
}

// createSession answers POST /v1/sessions.
func (s *Server) createSession(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	var r sessionRequest
	if err := readOptional(x, createSessionFields, &r); err != nil {
		return err
	}
	list, err := s.newItems(x, r.items)
	if err != nil {
		return err
	}
	now := s.opts.Now()
	session := &database.Session{ID: s.opts.NewID("conv_"), Tenant: x.tenant, Created: now, TTL: s.store.SessionTTL()}
	r.apply(session)
	if err := db.CreateSession(x.ctx, session, sessions.Stored(list, now)); err != nil {
		return err
	}
	return s.answerSession(x, session.ID)
}

var sessionPage = pageParameters(func(p *database.Page) *database.Page { return p })

// listSessions answers GET /v1/sessions, newest first unless asked otherwise.
func (s *Server) listSessions(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	page := database.Page{Descending: true}
	if err := decodeQuery(x, sessionPage, &page); err != nil {
		return err
	}
	rows, more, err := db.Sessions(x.ctx, x.tenant, page)
	if err != nil {
		return aboutAfter(err, page.After)
	}
	entries := make([]sessionObject, len(rows))
	for i := range rows {
		entries[i] = newSessionObject(&rows[i])
	}
	return x.answer(newListObject(entries, more, func(o *sessionObject) string { return o.ID }))
}

// foundSession is a session that a search found.
type foundSession struct {
	sessionObject
	Match matchObject `json:"match"`
}

// matchObject is what matches, the title or else the newest item, and the text of it around the first word that was looked
// for.
type matchObject struct {
	Type    string  `json:"type"`    // "title" or "item"
	ItemID  *string `json:"item_id"` // null: the title
	Excerpt string  `json:"excerpt"`
}

func newMatchObject(f *database.Found, words string) (matchObject, error) {
	if f.Item == nil {
		return matchObject{Type: "title", Excerpt: database.Excerpt(f.Title, words, excerptBytes)}, nil
	}
	item, err := items.Read(f.Item.JSON)
	return matchObject{Type: "item", ItemID: &f.Item.ID, Excerpt: database.Excerpt(item.Text, words, excerptBytes)}, err
}

// excerptBytes is about how long excerpts are.
const excerptBytes = 200

// searchQuery are the parameters of a search.
type searchQuery struct {
	words string
	page  database.Page
}

// searchParameters lack an order: titles come before items, and the newest match of each first.
var searchParameters = append([]parameter[searchQuery]{
	{"q", once, func(q *searchQuery, a argument) error {
		q.words = a.text
		return nil
	}},
}, slices.DeleteFunc(pageParameters(func(q *searchQuery) *database.Page { return &q.page }), func(p parameter[searchQuery]) bool {
	return p.name == "order"
})...)

// searchSessions answers GET /v1/sessions/search?q=….
func (s *Server) searchSessions(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	var q searchQuery
	if err := decodeQuery(x, searchParameters, &q); err != nil {
		return err
	}
	if strings.TrimSpace(q.words) == "" {
		return missing("q")
	}
	found, more, err := db.SearchSessions(x.ctx, x.tenant, q.words, q.page)
	if err != nil {
		return aboutAfter(err, q.page.After)
	}
	entries := make([]foundSession, len(found))
	for i := range found {
		match, err := newMatchObject(&found[i], q.words)
		if err != nil {
			return err
		}
		entries[i] = foundSession{newSessionObject(&found[i].Session), match}
	}
	return x.answer(newListObject(entries, more, func(o *foundSession) string { return o.ID }))
}

// getSession answers GET /v1/sessions/{id}.
func (s *Server) getSession(x *exchange) error { return s.answerSession(x, x.c.Param("id")) }

// updateSession answers POST /v1/sessions/{id}: what is sent is replaced, and the rest stays.
func (s *Server) updateSession(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	var r sessionRequest
	if err := readTable(x, newSessionFields, &r); err != nil {
		return err
	}
	session, err := db.UpdateSession(x.ctx, x.tenant, x.c.Param("id"), func(session *database.Session) error {
		r.apply(session)
		return nil
	})
	if err != nil {
		return x.aboutSession(err)
	}
	return s.answerSession(x, session.ID)
}

// deleteSession answers DELETE /v1/sessions/{id}. Nothing is left of it: neither items and tokens nor what was computed.
func (s *Server) deleteSession(x *exchange) error {
	id := x.c.Param("id")
	if err := s.store.DeleteSession(x.ctx, x.tenant, id); err != nil {
		return x.aboutSession(err)
	}
	return x.answer(deletedObject{ID: id, Object: "session.deleted", Deleted: true})
}

// forkSession answers POST /v1/sessions/{id}/fork: a new session that goes on behind an item, a number of items or a token of
// this one, or behind all of it.
func (s *Server) forkSession(x *exchange) error {
	var r sessionRequest
	if err := readOptional(x, forkFields, &r); err != nil {
		return err
	}
	if err := r.onePlace(); err != nil {
		return err
	}
	fork := &database.Session{ID: s.opts.NewID("conv_"), Tenant: x.tenant, Created: s.opts.Now(), TTL: sessions.Inherited}
	r.apply(fork)
	if err := s.store.Fork(x.ctx, x.c.Param("id"), r.place, fork, s.opts.NewID); err != nil {
		return s.aboutPlace(x, &r, err)
	}
	return s.answerSession(x, fork.ID)
}

// rewindSession answers POST /v1/sessions/{id}/rewind: what comes behind an item, or a number of items, is taken out.
func (s *Server) rewindSession(x *exchange) error {
	var r sessionRequest
	if err := readTable(x, placeFields, &r); err != nil {
		return err
	}
	if len(r.named) == 0 {
		return missing("items")
	}
	if err := r.onePlace(); err != nil {
		return err
	}
	if err := s.store.Rewind(x.ctx, x.tenant, x.c.Param("id"), r.place); err != nil {
		return s.aboutPlace(x, &r, err)
	}
	return s.answerSession(x, x.c.Param("id"))
}

// aboutPlace says of an error that a row is not there whether it is the session of the path or the item of the body.
func (s *Server) aboutPlace(x *exchange, r *sessionRequest, err error) error {
	if !errors.Is(err, database.ErrNotFound) || r.place.Item == "" {
		return x.aboutSession(err)
	}
	if _, missing := s.store.Database().Session(x.ctx, x.tenant, x.c.Param("id")); missing != nil {
		return x.aboutSession(missing)
	}
	return invalidRequest("item", "item names %q, which this session does not have", shorten(r.place.Item))
}

// pinSession answers POST /v1/sessions/{id}/pin: the session is not deleted when its time has passed, and its computed state
// on disk does not give way to others; with pinned false that ends.
func (s *Server) pinSession(x *exchange) error {
	var r sessionRequest
	if err := readOptional(x, pinFields, &r); err != nil {
		return err
	}
	if _, err := s.store.Pin(x.ctx, x.tenant, x.c.Param("id"), r.pinned == nil || *r.pinned); err != nil {
		return x.aboutSession(err)
	}
	return s.answerSession(x, x.c.Param("id"))
}

// evictSession answers POST /v1/sessions/{id}/evict: the session's computed state leaves the memory, and with tier none the
// disk as well.
func (s *Server) evictSession(x *exchange) error {
	r := sessionRequest{tier: sessions.TierDisk}
	if err := readOptional(x, evictFields, &r); err != nil {
		return err
	}
	if err := s.store.Evict(x.ctx, x.tenant, x.c.Param("id"), r.tier); err != nil {
		return x.aboutSession(err)
	}
	return s.answerSession(x, x.c.Param("id"))
}
