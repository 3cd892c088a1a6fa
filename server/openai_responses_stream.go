package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"hearth/sessions"
	"hearth/sessions/database"
)

// eventOptions say how the events of a response are written.
type eventOptions struct {
	from      int    // sequence number of the first one
	obfuscate bool   // hide how long the text of an event is
	lane      string // of a WebSocket; added to every event
	ending    func() // is called before the last event is written; nil: nothing is to be done
}

// streamResponse writes the events of a response as server-sent events, each with its type as its name. The stream ends
// with the response's last event. It reads them until ctx ends, and keeps the connection alive in between.
func (s *Server) streamResponse(x *exchange, ctx context.Context, events sessions.EventReader, opts eventOptions) error {
	out := s.newStream(x, formatSSE)
	read := func(from int) ([]database.Event, error) {
		for {
			list, err := s.nextEvents(ctx, events, from)
			if !errors.Is(err, errQuiet) {
				return list, err
			}
			if err := out.keepAlive(); err != nil {
				return nil, err
			}
		}
	}
	if err := x.relay(opts, read, out.named); err != nil {
		return err
	}
	return out.end()
}

// relay writes the events of a response as the options say, each with its type, until none is left to read. read waits for
// the events from a sequence number on.
func (x *exchange) relay(opts eventOptions, read func(from int) ([]database.Event, error), write func(kind string, event []byte) error) error {
	for next := opts.from; ; next = x.sequence {
		list, err := read(next)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, e := range list {
			kind, raw, err := opts.dress(e)
			if err != nil {
				return err
			}
			if sessions.EndsResponse(kind) {
				if opts.ending != nil {
					opts.ending()
				}
				x.ended(http.StatusOK)
			}
			if err := write(kind, raw); err != nil {
				return err
			}
			x.sequence = e.Sequence + 1
		}
	}
}

// errQuiet says that there was no event for as long as a connection may be silent.
var errQuiet = errors.New("server: no event yet")

// nextEvents waits for further events of a response.
func (s *Server) nextEvents(ctx context.Context, events sessions.EventReader, from int) ([]database.Event, error) {
	patient, cancel := context.WithTimeoutCause(ctx, s.opts.KeepAlive, errQuiet)
	defer cancel()
	return events.Events(patient, from)
}

// dress returns the type of an event and its JSON with what the options add.
func (o *eventOptions) dress(e database.Event) (kind string, raw json.RawMessage, err error) {
	var event struct {
		Type  string
		Delta *string
	}
	if err := json.Unmarshal(e.JSON, &event); err != nil {
		return "", nil, err
	}
	raw = e.JSON
	if o.obfuscate && event.Delta != nil {
		raw = withMember(raw, "obfuscation", padding(len(*event.Delta)))
	}
	if o.lane != "" {
		raw = withMember(raw, "stream_id", o.lane)
	}
	return event.Type, raw, nil
}

// withMember adds a member to a JSON object that has others. Name and text have no characters that JSON escapes.
func withMember(object json.RawMessage, name, text string) json.RawMessage {
	end := bytes.LastIndexByte(object, '}')
	return append(object[:end:end], `,"`+name+`":"`+text+`"}`...)
}

// errorEvent is an error within a stream of events. It is flat: clients take a member named error for the end of the
// stream.
type errorEvent struct {
	Type     string  `json:"type"` // "error"
	Code     *string `json:"code"`
	Message  string  `json:"message"`
	Param    *string `json:"param"`
	Sequence int     `json:"sequence_number"`
}

// failed writes an error as the last event of a response's stream.
func (e *eventStream) failed(wire *wireError, sequence int) error {
	raw, err := json.Marshal(errorEvent{"error", orNull(wire.Code), wire.Message, orNull(wire.Param), sequence})
	if err != nil {
		return err
	}
	e.x.ended(http.StatusOK)
	return e.named("error", raw)
}
