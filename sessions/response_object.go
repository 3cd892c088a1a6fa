package sessions

import (
	"encoding/json"

	"hearth/engine/api"
)

// The states of a response.
const (
	StatusQueued     = "queued"
	StatusInProgress = "in_progress"
	StatusCompleted  = "completed"
	StatusIncomplete = "incomplete"
	StatusFailed     = "failed"
	StatusCancelled  = "cancelled"
)

// ResponseObject is a response as clients of OpenAI's Responses API see it.
type ResponseObject struct {
	ID                 string             `json:"id"`
	Object             string             `json:"object"` // "response"
	CreatedAt          int64              `json:"created_at"`
	Status             string             `json:"status"`
	Background         bool               `json:"background"`
	CompletedAt        *int64             `json:"completed_at"`
	Error              *ResponseError     `json:"error"`
	IncompleteDetails  *IncompleteDetails `json:"incomplete_details"`
	Instructions       *string            `json:"instructions"`
	MaxOutputTokens    *int               `json:"max_output_tokens"`
	MaxToolCalls       *int               `json:"max_tool_calls"`
	Model              string             `json:"model"`
	Output             []json.RawMessage  `json:"output"`
	ParallelToolCalls  bool               `json:"parallel_tool_calls"`
	PreviousResponseID *string            `json:"previous_response_id"`
	Conversation       *ConversationRef   `json:"conversation"`
	PromptCacheKey     *string            `json:"prompt_cache_key"`
	Reasoning          ReasoningOptions   `json:"reasoning"`
	SafetyIdentifier   *string            `json:"safety_identifier"`
	ServiceTier        string             `json:"service_tier"`
	Store              bool               `json:"store"`
	Temperature        float64            `json:"temperature"`
	Text               TextOptions        `json:"text"`
	ToolChoice         json.RawMessage    `json:"tool_choice"`
	Tools              []json.RawMessage  `json:"tools"`
	TopLogprobs        int                `json:"top_logprobs"`
	TopP               float64            `json:"top_p"`
	Truncation         string             `json:"truncation"`
	Usage              *ResponseUsage     `json:"usage,omitempty"` // absent until the response has ended: its schema has no null
	User               string             `json:"user,omitempty"`
	Metadata           json.RawMessage    `json:"metadata"`
}

// ResponseError says why a response failed.
type ResponseError struct {
	Code    string `json:"code"` // of OpenAI's list: "server_error", "rate_limit_exceeded", "invalid_prompt"
	Message string `json:"message"`
}

// IncompleteDetails says why a response ended early.
type IncompleteDetails struct {
	Reason string `json:"reason"` // "max_output_tokens"
}

// ConversationRef names the conversation that a response belongs to.
type ConversationRef struct {
	ID string `json:"id"`
}

// ReasoningOptions are the reasoning settings that a response was made with.
type ReasoningOptions struct {
	Effort  *string `json:"effort"`
	Summary *string `json:"summary"`
}

// TextOptions say what kind of text a response was to be.
type TextOptions struct {
	Format    json.RawMessage `json:"format"`
	Verbosity *string         `json:"verbosity,omitempty"`
}

// ResponseUsage counts the tokens of a response.
type ResponseUsage struct {
	InputTokens   int           `json:"input_tokens"`
	InputDetails  inputDetails  `json:"input_tokens_details"`
	OutputTokens  int           `json:"output_tokens"`
	OutputDetails outputDetails `json:"output_tokens_details"`
	TotalTokens   int           `json:"total_tokens"`
}

type inputDetails struct {
	CachedTokens     int `json:"cached_tokens"`
	CacheWriteTokens int `json:"cache_write_tokens"`
}

type outputDetails struct {
	ReasoningTokens int `json:"reasoning_tokens"`
}

// NewResponseUsage returns the counts of one turn in the API's form.
func NewResponseUsage(u *api.Usage, reasoningTokens int) *ResponseUsage {
	return &ResponseUsage{
		InputTokens: u.PromptTokens, OutputTokens: u.GeneratedTokens, TotalTokens: u.PromptTokens + u.GeneratedTokens,
		InputDetails:  inputDetails{CachedTokens: u.CachedTokens, CacheWriteTokens: u.WrittenTokens},
		OutputDetails: outputDetails{ReasoningTokens: reasoningTokens},
	}
}
