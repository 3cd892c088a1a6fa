package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// streamFormat is how events are framed.
type streamFormat uint8

const (
	formatSSE    streamFormat = iota // "data: {…}\n\n", as browsers and OpenAI's clients read it
	formatNDJSON                     // "{…}\n", as Ollama's clients read it
)

// eventStream writes events to a client, each flushed as it is written. A stream begins with its first event or
// comment; until then the answer may still be an error with a status of its own.
//
// It belongs to the request's goroutine.
type eventStream struct {
	x       *exchange
	format  streamFormat
	timeout time.Duration // for one event to be taken by the client's connection
	control *http.ResponseController
	buf     bytes.Buffer
	err     error // of the connection, after which nothing is written
}

func (s *Server) newStream(x *exchange, format streamFormat) *eventStream {
	return &eventStream{x: x, format: format, timeout: s.opts.WriteTimeout, control: http.NewResponseController(x.c.Writer)}
}

// event writes one JSON event.
func (e *eventStream) event(body any) error {
	e.buf.Reset()
	if e.format == formatSSE {
		e.buf.WriteString("data: ")
	}
	if err := encodeJSON(&e.buf, body); err != nil {
		return err
	}
	if e.format == formatSSE {
		e.buf.WriteByte('\n')
	}
	return e.flush()
}

// last writes the event that ends a stream.
func (e *eventStream) last(body any) error {
	e.x.ended(http.StatusOK)
	return e.event(body)
}

// named writes a JSON event with its type as its name, which some clients go by. The text is one line.
func (e *eventStream) named(kind string, text []byte) error {
	e.buf.Reset()
	e.buf.WriteString("event: ")
	e.buf.WriteString(kind)
	e.buf.WriteString("\ndata: ")
	e.buf.Write(text)
	e.buf.WriteString("\n\n")
	return e.flush()
}

// end ends a stream, also one without any event.
func (e *eventStream) end() error {
	if e.x.c.Writer.Written() {
		return e.err
	}
	e.buf.Reset()
	return e.flush()
}

// done writes the mark that ends OpenAI's streams.
func (e *eventStream) done() error {
	e.x.ended(http.StatusOK)
	e.buf.Reset()
	e.buf.WriteString("data: [DONE]\n\n")
	return e.flush()
}

// keepAlive writes a comment, which clients skip and proxies take for life. NDJSON has no comments.
func (e *eventStream) keepAlive() error {
	if e.format != formatSSE {
		return nil
	}
	e.buf.Reset()
	e.buf.WriteString(": keep-alive\n\n")
	return e.flush()
}

// flush sends the buffer within the time limit, so that a client that stopped reading cannot hold its sequence.
func (e *eventStream) flush() error {
	if e.err != nil {
		return e.err
	}
	if !e.x.c.Writer.Written() {
		e.begin()
	}
	// Writers that cannot have deadlines, such as recorders, do without.
	_ = e.control.SetWriteDeadline(time.Now().Add(e.timeout))
	_, e.err = e.x.c.Writer.Write(e.buf.Bytes())
	if e.err == nil {
		e.err = e.control.Flush()
	}
	if e.err != nil {
		e.err = fmt.Errorf("server: write to the client: %w: %w", context.Canceled, e.err)
	}
	return e.err
}

func (e *eventStream) begin() {
	h := e.x.header()
	if e.format == formatSSE {
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
	} else {
		h.Set("Content-Type", "application/x-ndjson")
	}
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // proxies pass events on as they come
	e.x.stamp()
	e.x.c.Writer.WriteHeader(http.StatusOK)
}

// encodeJSON appends a value and a line feed, with text as it is: escaping <, > and & is for JSON inside HTML.
func encodeJSON(buf *bytes.Buffer, body any) error {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	return enc.Encode(body)
}

// follow reads a run to its end, calling write for every piece, and keeps the connection alive in between. It stops
// the run at the first error, of a choice or of the connection, and returns it.
func (e *eventStream) follow(r *run, every time.Duration, write func(piece) error) error {
	defer r.end()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case p, ok := <-r.pieces:
			if !ok {
				return nil
			}
			r.observe(p)
			if p.Finish != nil {
				if err := r.failure(p.Finish); err != nil {
					return err
				}
			}
			if err := write(p); err != nil {
				return err
			}
		case <-ticker.C:
			if err := e.keepAlive(); err != nil {
				return err
			}
		}
	}
}
