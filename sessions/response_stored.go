package sessions

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"hearth/engine/api"
	"hearth/sessions/database"
)

// responseRuns are the responses in progress of a store. The zero value is ready.
type responseRuns struct {
	mu     sync.Mutex // guards open and closed
	open   map[string]*ResponseRun
	closed bool
	wait   sync.WaitGroup // of all of them
}

func runKey(tenant, id string) string { return tenant + "\x00" + id }

// add counts a response as running; a store that closes takes none.
func (s *responseRuns) add(r *ResponseRun) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return api.ErrClosed
	}
	if s.open == nil {
		s.open = map[string]*ResponseRun{}
	}
	s.open[runKey(r.request.Turn.Tenant, r.ID)] = r
	s.wait.Add(1)
	return nil
}

// forget takes a response out of those that get finds: what is stored says all of it.
func (s *responseRuns) forget(r *ResponseRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, runKey(r.request.Turn.Tenant, r.ID))
}

// remove says that a response does not run any more.
func (s *responseRuns) remove(r *ResponseRun) {
	s.forget(r)
	s.wait.Done()
}

// get returns a response that is running and stored, nil if there is none: one that is not stored is its caller's alone.
func (s *responseRuns) get(tenant, id string) *ResponseRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.open[runKey(tenant, id)]; r != nil && r.stored {
		return r
	}
	return nil
}

// Close waits for the responses in progress, and ends them when ctx ends. Further ones are refused. Catalog and database
// are closed after it.
func (s *Store) Close(ctx context.Context) {
	runs := &s.responses
	runs.mu.Lock()
	runs.closed = true
	runs.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		runs.mu.Lock()
		defer runs.mu.Unlock()
		for _, r := range runs.open {
			r.cancel(errStopped)
		}
	})
	runs.wait.Wait()
	stop()
}

// Recover ends the responses that the end of an earlier process cut off: they failed. It is called before the first
// response is asked for.
func (s *Store) Recover(ctx context.Context) error {
	if s.database == nil {
		return nil
	}
	list, err := s.database.Unfinished(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		row := &list[i]
		var object ResponseObject
		if err := json.Unmarshal(row.Object, &object); err != nil {
			return fmt.Errorf("sessions: response %s: %w", row.ID, err)
		}
		object.Status = StatusFailed
		object.Error = &ResponseError{Code: "server_error", Message: "the server stopped before the response was complete"}
		row.Status, row.Object = StatusFailed, marshal(object)
		if err := s.database.FinishTurn(ctx, row.Tenant, &database.TurnEnd{Response: row}); err != nil {
			return err
		}
	}
	return nil
}

// StoredResponse returns a response in the API's form, as it is now; database.ErrNotFound where the tenant has none of that
// id.
func (s *Store) StoredResponse(ctx context.Context, tenant, id string) (json.RawMessage, error) {
	object, _, err := s.storedResponse(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	return marshal(object), nil
}

func (s *Store) storedResponse(ctx context.Context, tenant, id string) (*ResponseObject, *database.Response, error) {
	if r := s.responses.get(tenant, id); r != nil {
		object := r.current()
		return &object, nil, nil
	}
	if s.database == nil {
		return nil, nil, database.ErrNotFound
	}
	row, output, err := s.storedRow(ctx, tenant, id)
	if err != nil {
		return nil, nil, err
	}
	var object ResponseObject
	if err := json.Unmarshal(row.Object, &object); err != nil {
		return nil, nil, fmt.Errorf("sessions: response %s: %w", id, err)
	}
	object.Output = output
	return &object, row, nil
}

// CancelResponse ends a response that runs in the background, and returns it as it ended. One that has ended stays as it
// is. ErrNotBackground says that it runs for a client who can hang up.
func (s *Store) CancelResponse(ctx context.Context, tenant, id string) (json.RawMessage, error) {
	if r := s.responses.get(tenant, id); r != nil {
		if !r.request.Object.Background {
			return nil, ErrNotBackground
		}
		r.cancel(errCancelled)
		if err := r.Wait(ctx); err != nil {
			return nil, err
		}
	}
	object, _, err := s.storedResponse(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	if !object.Background {
		return nil, ErrNotBackground
	}
	return marshal(object), nil
}

// DeleteResponse deletes a response, its exact tokens, and what was computed of them, as far as nothing else that is stored
// needs it; one that is running is ended first. What its conversation gained stays.
func (s *Store) DeleteResponse(ctx context.Context, tenant, id string) error {
	if s.database == nil {
		return database.ErrNotFound
	}
	if r := s.responses.get(tenant, id); r != nil {
		r.cancel(errCancelled)
		if err := r.Wait(ctx); err != nil {
			return err
		}
	}
	// What is deleted is what is stored: of a response whose end is not, what was computed would stay.
	if err := s.storeEnds(ctx, func(e tenantEnd) bool { return e.tenant == tenant && e.end.Response.ID == id }); err != nil {
		return err
	}
	freed, err := s.database.DeleteResponse(ctx, tenant, id)
	if err != nil {
		return err
	}
	return s.Shred(ctx, freed)
}

// EventReader reads the events of a response by their sequence numbers.
type EventReader interface {
	// Events returns the events from a sequence number on, and waits until there is one. There are none left when it
	// returns none without an error.
	Events(ctx context.Context, from int) ([]database.Event, error)
}

// storedEvents are the events of a response that has ended, in order and without gaps.
type storedEvents []database.Event

// Events is part of EventReader.
func (e storedEvents) Events(_ context.Context, from int) ([]database.Event, error) {
	return e[min(max(from, 0), len(e)):], nil
}

// ResponseEvents returns the events of a response in the background, those to come included. ErrNotBackground and
// ErrNoEvents say that none are kept.
func (s *Store) ResponseEvents(ctx context.Context, tenant, id string) (EventReader, error) {
	if r := s.responses.get(tenant, id); r != nil {
		switch {
		case !r.request.Object.Background:
			return nil, ErrNotBackground
		case r.record == nil:
			return nil, ErrNoEvents
		}
		return r, nil
	}
	object, _, err := s.storedResponse(ctx, tenant, id)
	switch {
	case err != nil:
		return nil, err
	case !object.Background:
		return nil, ErrNotBackground
	}
	list, err := s.storedEventsOf(ctx, tenant, id)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, ErrNoEvents
	}
	// A response that the end of a process cut off has no last event; it is made here of what became of the response.
	var last struct{ Type string }
	if err := json.Unmarshal(list[len(list)-1].JSON, &last); err != nil {
		return nil, fmt.Errorf("sessions: response %s: event %d: %w", id, len(list)-1, err)
	}
	if kind := lastEvent(object.Status); last.Type != kind {
		w := responseWriter{object: *object, sequence: len(list)}
		w.emitResponse(kind)
		list = append(list, w.take()...)
	}
	return storedEvents(list), nil
}

// EndsResponse reports whether an event of a type is the last one of a response.
func EndsResponse(kind string) bool {
	return kind == lastEvent(StatusCompleted) || kind == lastEvent(StatusIncomplete) || kind == lastEvent(StatusFailed)
}

// lastEvent is the type of the event that a response of this status ends with.
func lastEvent(status string) string {
	switch status {
	case StatusCompleted, StatusIncomplete:
		return "response." + status
	}
	return "response.failed"
}
