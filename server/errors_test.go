package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"hearth/engine/api"
	"hearth/sessions"
)

// TestErrorsOfTheEngine checks what clients see of the errors that packages below wrap, and that what is in no table
// tells nothing but the request's id.
func TestErrorsOfTheEngine(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   string
		says   string
	}{
		{sessions.ErrUnknownModel, 404, "model_not_found", "unknown model"},
		{sessions.ErrLoading, 503, "model_loading", "loading"},
		{&api.TooLongError{Prompt: 70, Output: 30, Context: 64}, 400, "context_length_exceeded", "70 tokens and 30 more were asked for, which is 100 together; this model's context holds 64"},
		{&api.FieldError{Field: "top_p", Reason: "must be between 0 and 1, got 2"}, 400, "invalid_value", "top_p must be between 0 and 1, got 2"},
		{&sessions.InputError{Field: "messages", Err: errors.New("has no user")}, 400, "invalid_value", "has no user"},
		{api.ErrBusy, 429, "rate_limit_exceeded", "try again later"},
		{api.ErrClosed, 503, "server_is_overloaded", "shutting down"},
		{api.ErrSlowReader, 408, "client_too_slow", "too slowly"},
		{errDraining, 503, "server_is_overloaded", "shutting down"},
		{errDeadline, 504, "request_timeout", "longer than the server allows"},
		{context.Canceled, statusClientGone, "client_gone", "went away"},
		{api.ErrInternal, 500, "internal_error", "under request req_7"},
		{errors.New("open /secret/path: refused"), 500, "internal_error", "under request req_7"},
	} {
		wire := toWire(fmt.Errorf("sessions: %w", test.err), "req_7")
		if wire.Status != test.status || wire.Code != test.code || !strings.Contains(wire.Message, test.says) {
			t.Errorf("%v: %d %s %q, want %d %s and %q", test.err, wire.Status, wire.Code, wire.Message, test.status, test.code, test.says)
		}
		if strings.Contains(wire.Message, "secret") {
			t.Errorf("the client is told %q", wire.Message)
		}
	}
}
