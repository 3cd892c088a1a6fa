package sessions

import (
	"crypto/rand"
	"encoding/json"
	"time"

	"hearth/engine/api"
	"hearth/engine/chat"
)

// DefaultTenant is whose the turns are that nobody sent with a key of his own.
const DefaultTenant = "default"

// Turn asks a model for one or more continuations of a conversation or of a text. Exactly one of Messages, Text and
// Tokens is set.
type Turn struct {
	ID    string // request id, for logs
	Model string // id of a served model

	Messages []json.RawMessage // chat messages in OpenAI's form, rendered by the model's template
	// Tools are the functions that the model may call, a JSON array in OpenAI's form of chat completions, or nil.
	Tools json.RawMessage
	// OneCall ends the generation after the first tool call.
	OneCall bool
	// NewID returns a new id with a prefix, for tool calls ("call_"); nil: a random one.
	NewID func(prefix string) string
	// TemplateVars are further variables of the template, a JSON object or nil (chat_template_kwargs).
	TemplateVars json.RawMessage
	Effort       string  // how much the model is to think, one of Efforts; empty: as it does by itself
	Text         *string // a plain prompt; the model's usual begin-of-sequence token is added
	Suffix       string  // with Text: text after the gap to fill; needs a model with fill-in-the-middle tokens
	Tokens       []int32 // a prompt of token ids, taken as it is

	// Log is the exact token log of the turn that this one goes on from, or nil. Where the rendered prompt begins with the
	// log's text, the prompt begins with its tokens, whatever encoding the text again would give.
	Log []int32

	// Expected is a text that the answer is likely to repeat in part, such as a file that is to be edited. It may make
	// the answer faster and does not change it.
	Expected string

	Choices   int      // continuations wanted; 0 means 1
	Stop      []string // generation ends before the first of these strings in Delta.Text
	Echo      bool     // with Text or Tokens: the prompt's text comes first
	MaxTokens int      // most tokens to generate per choice; 0: until the context is full
	NoOutput  bool     // generate nothing: with Echo and logprobs, the prompt alone is scored
	MinTokens int
	IgnoreEOS bool
	Sampling  api.Sampling // choice i draws with Seed+i
	Logprobs  int          // as in api.Request: -1 none, 0 the token's own, n also the n most probable
	Priority  int
	Tenant    string // whose turn it is: nothing that was computed is shared between tenants
	Salt      string // prefixes are shared only between turns of equal tenant and salt; with a salt they are not kept on disk

	Now time.Time // what the template's clock says; zero: the time of the call
}

func (t *Turn) newID(prefix string) string {
	if t.NewID != nil {
		return t.NewID(prefix)
	}
	return prefix + rand.Text()
}

// Efforts are how much a model may be asked to think: not at all, and OpenAI's levels from the least to the most.
var Efforts = chat.Efforts

// TokenLogprob is one token of a delta with its log-probability under the model, before sampling parameters.
type TokenLogprob struct {
	Token   int32
	Text    string // the token's own text; U+FFFD where its bytes are no character by themselves
	Bytes   []byte // the token's own bytes
	Logprob float32
	Known   bool // false for the first token of a prompt, which nothing precedes
	Top     []TokenLogprob
}

// Delta is the next piece of one choice.
type Delta struct {
	Choice int
	// Reasoning and Text are whole characters, possibly none, in this order: what the model thought, and what it says. Both are
	// set in one delta only where it holds the end of the one and the beginning of the other.
	Reasoning string
	Text      string
	Calls     []CallDelta    // pieces of tool calls, in order
	Tokens    []TokenLogprob // the tokens that Text completes, when log-probabilities were asked for
	Finish    *Finish        // set on the last delta of the choice
}

// CallDelta is the next piece of a tool call. The first piece of a call has its id and name.
type CallDelta struct {
	Index     int    // of the call within the choice, from 0
	ID        string // "call_…", in the first piece
	Name      string // in the first piece
	Arguments string // further text of the arguments, a JSON object in the end
}

// Finish says how a choice ended.
type Finish struct {
	Reason     api.FinishReason
	StopString string // the string that ended it, if one did; Reason is then FinishStop
	Err        error  // when Reason is FinishError
	// Tokens are the ids that were generated for this choice, as the model drew them: with Stream.Prompt before them they are
	// the log of the next turn. A token that ends answers is not among them: the model never saw it.
	Tokens []int32
	// ReasoningTokens is how many of the generated tokens are reasoning.
	ReasoningTokens int
	Calls           int // complete tool calls
	Usage           api.Usage
	Timing          api.Timing
}

// Model describes a served model.
type Model struct {
	ID            string
	Created       time.Time
	Architecture  string
	Name          string // general.name of the file, may be empty
	Parameters    int64
	Quantization  string // format of most of its weights: "Q4_K"
	Bytes         int64  // of the weights
	ContextLength int
	TrainedLength int    // positions the model was trained for
	Template      string // source of the chat template, empty if the model has none
	Reasons       bool   // it may think before it answers
	CallsTools    bool   // it may call the tools of a turn
	Digest        string // SHA-256 of the file's header, hex: names the model across restarts
}
