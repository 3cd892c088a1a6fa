// Package api holds what travels between an engine and its callers: requests, events, sampling parameters and the
// errors a caller can decide on. It is a leaf, so that every kind of engine, a local one or another server, speaks it.
package api

import (
	"errors"
	"fmt"
	"time"
)

// Errors of Submit that a caller maps to its own protocol; test with errors.Is.
var (
	// ErrTooLong says that prompt and output cannot fit the context; the error is a *TooLongError.
	ErrTooLong = errors.New("engine: request is longer than the context")
	// ErrBusy says that the waiting queue is full; trying again later may succeed.
	ErrBusy = errors.New("engine: queue is full")
	// ErrClosed says that the engine is shutting down.
	ErrClosed = errors.New("engine: closed")
	// ErrInvalid says that a request field is out of range; the error is a *FieldError.
	ErrInvalid = errors.New("engine: invalid request")
	// ErrSlowReader says that the events of a request were read too slowly: more of them wait than the engine keeps.
	ErrSlowReader = errors.New("engine: the reader of this request fell too far behind")
	// ErrInternal says that the engine failed while it ran the request.
	ErrInternal = errors.New("engine: internal error")
)

// ErrEnough is the cause with which callers cancel the context of a sequence whose answer is complete, such as by a stop
// string, which engines do not look for.
var ErrEnough = errors.New("engine: the answer is complete")

// TooLongError carries both lengths of a request that can never fit.
type TooLongError struct {
	Prompt  int // tokens of the prompt
	Output  int // tokens asked for, at least 1
	Context int // tokens the engine can hold for one sequence
}

// Error names both lengths.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("engine: prompt of %d tokens and %d tokens of output exceed the context of %d tokens", e.Prompt, e.Output, e.Context)
}

// Is makes errors.Is(err, ErrTooLong) true.
func (e *TooLongError) Is(target error) bool { return target == ErrTooLong }

// FieldError names the request field that is out of range.
type FieldError struct {
	Field  string // snake case, as on the wire: "top_p"
	Reason string // "must be between 0 and 1, got 3"
}

// Error names the field and the reason.
func (e *FieldError) Error() string { return fmt.Sprintf("engine: %s %s", e.Field, e.Reason) }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// Sampling says how the next token is drawn. The zero value is greedy: the most probable token, lowest id on a tie.
type Sampling struct {
	Temperature      float32           // 0: greedy
	TopK             int               // keep the k most probable; 0: all
	TopP             float32           // keep the smallest set of this probability; 0 or 1: all
	MinP             float32           // keep p >= MinP * p_max; 0: all
	TypicalP         float32           // locally typical sampling (arXiv 2202.00666); 0 or 1: all
	RepeatPenalty    float32           // divides positive, multiplies negative logits of seen tokens; 0 or 1: none
	RepeatLastN      int               // how many of the last tokens the penalties see; 0: 64, -1: all
	FrequencyPenalty float32           // subtracted once per occurrence
	PresencePenalty  float32           // subtracted once if seen
	LogitBias        map[int32]float32 // added to raw logits; -100 and below bans the token
	Seed             uint64            // the draw of position i depends on Seed and i alone
}

// Request asks for a continuation of a prompt. The engine does not modify it.
type Request struct {
	ID        string // for logs; unique by convention only
	Prompt    []int32
	MaxTokens int // most tokens to generate; 0: until the context is full; or NoTokens
	MinTokens int // stop tokens are banned before this many tokens
	IgnoreEOS bool
	Sampling  Sampling
	// Logprobs is the number of most probable alternatives to report with each token's own log-probability; -1: none at
	// all; 0: the token's own only. Probabilities are those of the model, before any sampling parameter.
	Logprobs int
	// PromptLogprobs asks for the same of every prompt token but the first.
	PromptLogprobs bool
	Priority       int    // higher runs first; equals run first come first served
	Tenant         string // whose request it is: prefixes are shared only within a tenant
	Salt           string // prefixes are shared only between requests of equal tenant and salt; with a salt they stay off the disk
	// Anchor is how many of the prompt's first tokens later prompts are likely to begin with, whatever they leave out of the
	// rest; 0: unknown. It changes nothing but what is kept for them, where sequences have state.
	Anchor    int
	Expected  []int32 // text that the answer is likely to repeat; speculation looks in it as it does in the prompt
	Unguessed bool    // without speculation: slower, and with the same answer
	// Pooled asks, with NoTokens, for what a model for embeddings or ranking makes of the prompt; LogitsOf for the logits of
	// these tokens after it. Either is Done.Values.
	Pooled   bool
	LogitsOf []int32
}

// NoTokens as MaxTokens asks for no token at all: the prompt is computed, and scored with PromptLogprobs, Pooled or LogitsOf.
const NoTokens = -1

// FinishReason says why a sequence ended.
type FinishReason uint8

// The reasons an engine ends a sequence for.
const (
	FinishStop      FinishReason = iota // an end-of-generation token was drawn, or the caller had ErrEnough
	FinishLength                        // MaxTokens or the end of the context
	FinishCancelled                     // the caller's context ended
	FinishError                         // the engine failed; Done.Err says how
)

// String returns the reason in lower case.
func (r FinishReason) String() string {
	return [...]string{"stop", "length", "cancelled", "error"}[r]
}

// TopToken is one alternative at a position.
type TopToken struct {
	Token   int32
	Logprob float32
}

// Logprob is the log-probability of one token and of the most probable tokens at its position, best first.
type Logprob struct {
	Token   int32
	Logprob float32
	Top     []TopToken
}

// Event is one message of a running sequence. Exactly one field set is meaningful: Prompt once, when a prompt that is
// to be scored has been computed, Token for each generated token, Done at the end. Every channel ends with exactly one
// Done event.
type Event struct {
	Token   int32    // the generated token, when Done and Prompt are nil
	Logprob *Logprob // of Token, when asked for
	Prompt  []Logprob
	Done    *Done
}

// Done is the last event of a sequence.
type Done struct {
	Reason FinishReason
	Err    error     // set when Reason is FinishError
	Values []float32 // what Pooled or LogitsOf of the request asked for; nil otherwise, and when the prompt was not computed
	Usage  Usage
	Timing Timing
}

// Usage counts the tokens of one request exactly.
type Usage struct {
	PromptTokens    int
	CachedTokens    int // of PromptTokens, those found computed when the request was first admitted
	RestoredTokens  int // of CachedTokens, those that came from disk
	WrittenTokens   int // of PromptTokens, those that this request computed and left in the cache for others
	GeneratedTokens int // including the end-of-generation token, when one was drawn
	DraftedTokens   int // guessed and checked by speculation
	AcceptedTokens  int // of the guessed ones, those that were right; GeneratedTokens has them
}

// Timing says where the time of a request went.
type Timing struct {
	Queued  time.Duration // from Submit to the first step that held the sequence
	Prefill time.Duration // from then to the first generated token
	Decode  time.Duration // from then to the last one
}
