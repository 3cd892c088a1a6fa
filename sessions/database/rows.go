package database

import (
	"encoding/json"
	"errors"
	"time"
)

// Errors that callers decide on; test with errors.Is.
var (
	// ErrNotFound says that the tenant has no such row.
	ErrNotFound = errors.New("database: not found")
	// ErrExists says that the id is taken.
	ErrExists = errors.New("database: exists already")
	// ErrQuota says that the tenant has as much as it may.
	ErrQuota = errors.New("database: quota exceeded")
	// ErrPinned says that a pinned session is not deleted by time or quota.
	ErrPinned = errors.New("database: pinned")
)

// Session is a conversation: a list of items that grows. It is what OpenAI's API calls a conversation and what
// /v1/sessions lists.
type Session struct {
	ID       string // "conv_…"
	Tenant   string
	Model    string // of its last turn; empty before the first
	Title    string // may be empty
	Created  time.Time
	Updated  time.Time
	Expires  time.Time // zero: never
	Pinned   bool
	Metadata json.RawMessage // a JSON object of strings
	Parent   string          // the session it was forked from, or empty
	ForkedAt int             // how many items it shares with its parent
	Items    int             // number of items; set by reading
	Log      int64           // token log of its last turn; 0: none
	Bytes    int64           // of its items and own tokens; set by reading
}

// Item is one element of a conversation, in the form of OpenAI's Responses API.
type Item struct {
	ID      string // "msg_…", "fc_…", "rs_…"
	Type    string // "message", "function_call", …
	Role    string // of messages
	Status  string // "completed", "incomplete", "in_progress"
	Created time.Time
	JSON    json.RawMessage // the whole item, its id and status included
	Text    string          // what full-text search finds
}

// Response is one turn that was asked for by the Responses API and stored.
type Response struct {
	ID         string // "resp_…"
	Tenant     string
	Session    string // of the conversation, or empty
	Previous   string // the response it goes on from, or empty
	Model      string
	Status     string // "queued", "in_progress", "completed", "incomplete", "failed", "cancelled"
	Background bool
	Created    time.Time
	Completed  time.Time       // zero: not yet
	Expires    time.Time       // zero: never
	Object     json.RawMessage // the response as clients see it, without its output
	Log        int64           // exact tokens of prompt and answer; 0: none
}

// Event is one event of a background response, for replay.
type Event struct {
	Sequence int
	JSON     json.RawMessage
}

// Completion is a stored chat completion.
type Completion struct {
	ID       string // "chatcmpl-…"
	Tenant   string
	Model    string
	Created  time.Time
	Metadata json.RawMessage   // a JSON object of strings
	Object   json.RawMessage   // the completion as clients see it
	Messages []json.RawMessage // of the request, in order
}

// Usage sums up what a tenant used of a model on one day.
type Usage struct {
	Day                                                        string // "2006-01-02", UTC
	Tenant, Model                                              string
	Requests                                                   int64
	PromptTokens, CachedTokens, WrittenTokens, GeneratedTokens int64
}

// Page selects a part of a list.
type Page struct {
	After      string // id after which the list goes on, in its order; empty: from the start
	Limit      int    // most rows; 0: 20
	Descending bool   // newest first
}

// Quota bounds what a tenant may store; 0 means no limit.
type Quota struct {
	Sessions int
	Bytes    int64
}
