package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/sessions"
	"hearth/sessions/archive"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// The error types of OpenAI's API.
const (
	typeInvalidRequest = "invalid_request_error"
	typeConflict       = "conflict_error"
	typePermission     = "permission_error"
	typeRateLimit      = "rate_limit_error"
	typeServer         = "server_error"
	typeUnavailable    = "service_unavailable_error"
)

// statusClientGone is what the log and the metrics call a request whose client went away; nobody receives it.
const statusClientGone = 499

// Causes for which a request's context ends; the client's going away is the one that has no name here.
var (
	errDeadline = errors.New("server: the request took longer than its deadline")
	errDraining = errors.New("server: shutting down")
)

// wireError is an error as a client sees it.
type wireError struct {
	Status  int
	Message string
	Type    string
	Param   string // request field, empty if it is not about one
	Code    string

	RetryAfter time.Duration // 0: not said
	Final      bool          // trying again is useless, although the status suggests it
}

// Error returns the message.
func (e *wireError) Error() string { return e.Message }

// invalidRequest is a 400 about a field.
func invalidRequest(param, format string, args ...any) *wireError {
	return &wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_value", Param: param, Message: fmt.Sprintf(format, args...)}
}

func missing(param string) *wireError {
	return &wireError{Status: 400, Type: typeInvalidRequest, Code: "missing_required_parameter", Param: param, Message: param + " is required"}
}

func unsupported(param, reason string) *wireError {
	message := param + " is not supported"
	if reason != "" {
		message += ": " + reason
	}
	return &wireError{Status: 400, Type: typeInvalidRequest, Code: "unsupported_parameter", Param: param, Message: message}
}

func unknown(param string) *wireError {
	return &wireError{Status: 400, Type: typeInvalidRequest, Code: "unknown_parameter", Param: param, Message: "there is no request field " + param}
}

// errorTable maps the errors of the packages below to what clients see, the first match counting. An empty message is
// the error's own text, which then must not tell anything about the machine.
var errorTable = []struct {
	is   error
	wire wireError
}{
	{sessions.ErrUnknownModel, wireError{Status: 404, Type: typeInvalidRequest, Code: "model_not_found", Param: "model"}},
	{sessions.ErrLoading, wireError{Status: 503, Type: typeUnavailable, Code: "model_loading", RetryAfter: 2 * time.Second}},
	{api.ErrTooLong, wireError{Status: 400, Type: typeInvalidRequest, Code: "context_length_exceeded"}},
	{api.ErrInvalid, wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_value"}},
	{api.ErrBusy, wireError{Status: 429, Type: typeRateLimit, Code: "rate_limit_exceeded", RetryAfter: time.Second,
		Message: "too many requests are waiting; try again later"}},
	{api.ErrClosed, wireError{Status: 503, Type: typeUnavailable, Code: "server_is_overloaded", RetryAfter: 5 * time.Second,
		Message: "the server is shutting down"}},
	{engine.ErrOutOfMemory, wireError{Status: 503, Type: typeUnavailable, Code: "server_is_overloaded", RetryAfter: 5 * time.Second,
		Message: "the server is out of memory for this request"}},
	{engine.ErrFull, wireError{Status: 503, Type: typeUnavailable, Code: "server_is_overloaded", RetryAfter: 5 * time.Second,
		Message: "the server is out of cache for this request"}},
	{api.ErrSlowReader, wireError{Status: 408, Type: typeInvalidRequest, Code: "client_too_slow", Final: true,
		Message: "the answer was read too slowly"}},
	{sessions.ErrLocked, wireError{Status: 409, Type: typeConflict, Code: "conversation_locked", RetryAfter: time.Second,
		Message: "another turn of this conversation is running; try again when it has ended"}},
	{sessions.ErrNoPrevious, wireError{Status: 400, Type: typeInvalidRequest, Code: "previous_response_not_found", Param: "previous_response_id"}},
	{sessions.ErrNoConversation, wireError{Status: 404, Type: typeInvalidRequest, Code: "not_found", Param: "conversation"}},
	{sessions.ErrNotBackground, wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_value",
		Message: "only responses that were created with background true can be cancelled and replayed"}},
	{sessions.ErrNoEvents, wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_value", Param: "stream",
		Message: "only responses that were created with background true and stream true can be replayed"}},
	{database.ErrNotFound, wireError{Status: 404, Type: typeInvalidRequest, Code: "not_found",
		Message: "there is nothing stored under this id"}},
	{database.ErrExists, wireError{Status: 409, Type: typeConflict, Code: "already_exists", Final: true,
		Message: "something is stored under this id already"}},
	{database.ErrQuota, wireError{Status: 429, Type: typeRateLimit, Code: "insufficient_quota", Final: true}},
	{database.ErrFull, wireError{Status: 503, Type: typeUnavailable, Code: "storage_full", RetryAfter: 30 * time.Second,
		Message: "the disk is full, nothing can be stored; requests with store false are answered"}},
	{database.ErrRemoved, wireError{Status: 503, Type: typeUnavailable, Code: "storage_removed", RetryAfter: 30 * time.Second,
		Message: "the file of what is stored was removed or replaced, nothing can be stored; requests with store false are answered"}},
	{database.ErrRange, wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_value", Param: "items",
		Message: "items is beyond the end of the session"}},
	{database.ErrQuery, wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_value", Param: "q"}},
	{sessions.ErrNoLog, wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_value", Param: "token"}},
	{sessions.ErrNoDisk, wireError{Status: 409, Type: typeConflict, Code: "no_disk_cache", Final: true,
		Message: "this server keeps nothing that it computes on disk"}},
	{sessions.ErrNoDatabase, wireError{Status: 404, Type: typeInvalidRequest, Code: "not_found", Final: true,
		Message: "this server stores nothing: whoever runs it has switched storing off"}},
	{archive.ErrTooLarge, wireError{Status: 413, Type: typeInvalidRequest, Code: "archive_too_large"}},
	{archive.ErrFormat, wireError{Status: 400, Type: typeInvalidRequest, Code: "invalid_archive"}},
	{errDraining, wireError{Status: 503, Type: typeUnavailable, Code: "server_is_overloaded", RetryAfter: 5 * time.Second,
		Message: "the server is shutting down"}},
	{errDeadline, wireError{Status: 504, Type: typeServer, Code: "request_timeout", Final: true,
		Message: "the request took longer than the server allows"}},
	{context.DeadlineExceeded, wireError{Status: 504, Type: typeServer, Code: "request_timeout", Final: true,
		Message: "the response took longer than the server allows"}},
	{context.Canceled, wireError{Status: statusClientGone, Type: typeInvalidRequest, Code: "client_gone", Message: "the client went away"}},
}

// toWire says how an error is told to the client. What is in no table is told by request id only: its text may hold
// paths or addresses, and is for the log.
func toWire(err error, requestID string) *wireError {
	if wire, ok := errors.AsType[*wireError](err); ok {
		return wire
	}
	for i := range errorTable {
		if !errors.Is(err, errorTable[i].is) {
			continue
		}
		wire := errorTable[i].wire
		if wire.Message == "" {
			wire.Message = plainMessage(err)
		}
		if field, ok := errors.AsType[*api.FieldError](err); ok {
			wire.Param = field.Field
			wire.Message = field.Field + " " + field.Reason
		}
		return &wire
	}
	if item, ok := errors.AsType[*items.Error](err); ok {
		return &wireError{Status: 400, Type: typeInvalidRequest, Code: itemCodes[item.Reason], Param: item.Field, Message: item.Error()}
	}
	if beyond, ok := errors.AsType[*sessions.RangeError](err); ok {
		return invalidRequest(beyond.Field, "%s", beyond.Error())
	}
	if input, ok := errors.AsType[*sessions.InputError](err); ok {
		return invalidRequest(input.Field, "%s", input.Error())
	}
	return &wireError{
		Status: 500, Type: typeServer, Code: "internal_error", Final: true,
		Message: "the server failed to answer; its log says why under request " + requestID,
	}
}

// itemCodes are the codes of what may be wrong with an item of a conversation.
var itemCodes = map[items.Reason]string{
	items.Invalid: "invalid_value", items.WrongType: "invalid_type", items.Missing: "missing_required_parameter",
	items.Unknown: "unknown_parameter", items.Unsupported: "unsupported_parameter",
}

// plainMessage words the errors whose text says more than the table.
func plainMessage(err error) string {
	if long, ok := errors.AsType[*api.TooLongError](err); ok {
		return fmt.Sprintf("the prompt has %d tokens and %d more were asked for, which is %d together; this model's context holds %d",
			long.Prompt, long.Output, long.Prompt+long.Output, long.Context)
	}
	if quota, ok := errors.AsType[*database.QuotaError](err); ok {
		return quotaMessage(quota)
	}
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "engine: "), "sessions: ")
	return strings.TrimPrefix(text, "database: search: ")
}

func quotaMessage(e *database.QuotaError) string {
	advice := "delete something, or send store false"
	if e.Of == "sessions" {
		advice = "delete one, or go on from responses without a conversation"
	}
	return fmt.Sprintf("the quota of stored %s is used up: %d are stored under this key, and the limit is %d; %s", e.Of, e.Used, e.Limit, advice)
}

// errorBody is OpenAI's shape; param and code are always there.
type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// ollamaError is Ollama's shape.
type ollamaError struct {
	Error string `json:"error"`
}

// body returns the error in the wire format of a route.
func (e *wireError) body(w wireFormat) any {
	if w == wireOllama {
		return ollamaError{e.Message}
	}
	return errorBody{errorDetail{e.Message, e.Type, orNull(e.Param), orNull(e.Code)}}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// setHeaders writes what clients act on: OpenAI's SDKs let x-should-retry overrule the status, and read either form of
// the delay.
func (e *wireError) setHeaders(h http.Header) {
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(e.RetryAfter/time.Second)))
		h.Set("Retry-After-Ms", strconv.Itoa(int(e.RetryAfter/time.Millisecond)))
	}
	if e.Final {
		h.Set("X-Should-Retry", "false")
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="hearth"`)
	}
}
