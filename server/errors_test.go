package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hearth/engine/api"
	"hearth/sessions"
	"hearth/sessions/archive"
	"hearth/sessions/database"
	"hearth/sessions/items"
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
		{sessions.ErrLocked, 409, "conversation_locked", "another turn"},
		{database.ErrNotFound, 404, "not_found", "nothing stored"},
		{database.ErrExists, 409, "already_exists", "stored under this id already"},
		{&database.QuotaError{Of: "bytes", Used: 2100, Limit: 2000}, 429, "insufficient_quota", "bytes is used up: 2100 are stored under this key, and the limit is 2000; delete something"},
		{&database.QuotaError{Of: "sessions", Used: 5, Limit: 5}, 429, "insufficient_quota", "sessions is used up: 5 are stored under this key, and the limit is 5; delete one"},
		{database.ErrFull, 503, "storage_full", "disk is full"},
		{fmt.Errorf("/secret/state.db %w", database.ErrRemoved), 503, "storage_removed", "removed or replaced"},
		{sessions.ErrNoDatabase, 404, "not_found", "stores nothing"},
		{&items.Error{Field: "input[1].role", Reason: items.Missing, Text: "is required"}, 400, "missing_required_parameter", "input[1].role is required"},
		{archive.ErrTooLarge, 413, "archive_too_large", "too large"},
		{archive.ErrFormat, 400, "invalid_archive", "not a whole session archive"},
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

// TestUnknownModel checks that the answer lists what is served, on each API.
func TestUnknownModel(t *testing.T) {
	s := sharedServer(t)
	for _, c := range []struct{ path, body, want string }{
		{"/v1/chat/completions", `{"model":"gpt-4","messages":[{"role":"user","content":"x"}]}`, `the model \"gpt-4\" is not served here; served are stories260k`},
		{"/v1/completions", `{"model":"gpt-4:latest","prompt":"x"}`, `the model \"gpt-4:latest\" is not served here; served are stories260k`},
		{"/api/generate", `{"model":"llama3:latest","prompt":"x"}`, `the model \"llama3\" is not served here; served are stories260k`},
		{"/tokenize", `{"model":"none","content":"x"}`, `the model \"none\" is not served here; served are stories260k`},
	} {
		if a := s.post(c.path, c.body); a.status != 404 || !strings.Contains(string(a.body), c.want) {
			t.Errorf("%s %s = %d %s, want 404 and %s", c.path, c.body, a.status, a.body, c.want)
		}
	}
}

// TestForeignEndpoints checks that an endpoint which is not there yet is told from one that nobody has.
func TestForeignEndpoints(t *testing.T) {
	s := sharedServer(t)
	for _, c := range []struct {
		method, path string
		yet          bool
	}{
		{"POST", "/v1/files", true}, {"GET", "/v1/files/file_1", true}, {"POST", "/v1/embeddings", true},
		{"POST", "/v1/images/generations", true}, {"POST", "/api/pull", true},
		{"POST", "/v1/response", false}, {"POST", "/v1/responsesx", false}, {"GET", "/embeddings", false},
	} {
		a := s.do(c.method, c.path, "")
		if a.status != 404 || strings.Contains(string(a.body), "does not have this endpoint yet") != c.yet {
			t.Errorf("%s %s = %d %s, want 404, saying yet: %v", c.method, c.path, a.status, a.body, c.yet)
		}
	}
}

// requestLog is a log handler that keeps the request lines.
type requestLog struct {
	slog.Handler
	mu   sync.Mutex // guards seen
	seen []slog.Record
}

func newRequestLog() *requestLog { return &requestLog{Handler: slog.DiscardHandler} }

// Enabled is part of slog.Handler.
func (l *requestLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle is part of slog.Handler.
func (l *requestLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Message == "request" {
		l.seen = append(l.seen, r)
	}
	return nil
}

// lines returns the request lines so far.
func (l *requestLog) lines() []slog.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.seen)
}

// attribute returns a value of a line.
func attribute(r slog.Record, key string) slog.Value {
	var found slog.Value
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == key {
			found = a.Value
		}
		return true
	})
	return found
}

// TestLogLevels checks that only failures that nobody provided for are logged as errors, also those that come after the
// first byte.
func TestLogLevels(t *testing.T) {
	for _, c := range []struct {
		name  string
		begun bool
		err   error
		want  slog.Level
	}{
		{"answered", true, nil, slog.LevelInfo},
		{"bad request", false, missing("model"), slog.LevelInfo},
		{"busy", false, api.ErrBusy, slog.LevelInfo},
		{"loading", false, sessions.ErrLoading, slog.LevelWarn},
		{"shutting down", false, errDraining, slog.LevelWarn},
		{"shutting down in a stream", true, errDraining, slog.LevelWarn},
		{"deadline", false, errDeadline, slog.LevelWarn},
		{"client gone", true, context.Canceled, slog.LevelInfo},
		{"internal", false, api.ErrInternal, slog.LevelError},
		{"internal in a stream", true, api.ErrInternal, slog.LevelError},
	} {
		log := newRequestLog()
		s, err := New(sharedServer(t).store, Options{Logger: slog.New(log)})
		if err != nil {
			t.Fatal(err)
		}
		r := &route{method: "GET", path: "/levels", scope: scopeInference, deadline: time.Minute, handle: func(s *Server, x *exchange) error {
			if c.begun {
				if err := s.newStream(x, formatSSE).event("x"); err != nil {
					return err
				}
			}
			return c.err
		}}
		s.engine.Handle(r.method, r.path, s.handler(r))
		req, err := http.NewRequest("GET", "http://localhost/levels", nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Handler().ServeHTTP(newRecorder(), req)
		if lines := log.lines(); len(lines) != 1 || lines[0].Level != c.want {
			t.Errorf("%s: logged %v, want one line at %v", c.name, lines, c.want)
		}
	}
}
