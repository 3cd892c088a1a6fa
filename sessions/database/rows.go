package database

import (
	"encoding/json"
	"time"
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
	TTL      time.Duration   // how long it is kept after Updated; 0: for ever
	Expires  time.Time       // Updated + TTL, zero: never; set by reading
	Pinned   bool            // kept whatever Expires says
	Metadata json.RawMessage // a JSON object of strings
	Parent   string          // the session it was forked from, or empty
	ForkedAt int             // how many items it shares with its parent
	Items    int             // number of items; set by reading
	Log      int64           // token log of the last turn that its items still hold; 0: none
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
	Text    string          // what full-text search finds; not set by reading
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
	Expires    time.Time       // zero: never; it stays longer where another one goes on from it
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
	Expires  time.Time         // zero: never
	Metadata json.RawMessage   // a JSON object of strings
	Object   json.RawMessage   // the completion as clients see it, without its metadata
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

// All as the limit of a page is no limit.
const All = -1

// Quota bounds what a tenant may store; 0 means no limit. A turn that was begun is stored whole: the bound holds of what
// begins.
type Quota struct {
	Sessions int
	Bytes    int64
}

// Stored is what a tenant has.
type Stored struct {
	Sessions int
	Bytes    int64 // of items, responses, completions and tokens
}

// TurnEnd is what the end of a turn leaves behind.
type TurnEnd struct {
	Response *Response // the stored response as it ended; nil where none is stored
	Output   []Item    // of the response
	Events   []Event   // the last ones of a response whose events are kept
	Session  string    // the conversation that the turn belonged to, or empty
	Model    string    // of the turn, which becomes the conversation's
	Append   []Item    // what the conversation gains: the turn's input and output
	Log      *Log      // exact tokens of prompt and answer, or nil; becomes the log of response and conversation
	Usage    *Usage    // added to the ledger, or nil; an empty day is today
}

// Log is the exact tokens that a model saw and drew. A log that begins like another one names it as its parent and is
// stored from where they part.
type Log struct {
	ID      int64 // set by storing
	Tenant  string
	Model   string
	Created time.Time // set by storing
	Parent  int64     // 0: none
	Shared  int       // how many tokens it shares with its parent
	// Fingerprint is the engine's that computed the tokens; empty: not known. It is not set by reading.
	Fingerprint string
	Prompt      int     // how many tokens come before the answer; 0: not known
	Tokens      []int32 // all of them, the shared ones included
}

// Freed names tokens that nothing stored needs any more, so that what was computed of them can be deleted too. It is kept
// until Forgotten says that this is done.
type Freed struct {
	ID            int64
	Tenant, Model string
	Fingerprints  []string // of the engines that computed the tokens; none: not known
	Tokens        []int32
	Keep          int // how many of the first tokens another stored log begins with
}
