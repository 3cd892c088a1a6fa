package inproc

import (
	"context"
	"errors"
	"testing"

	"hearth/engine/api"
)

// TestWaitReadsAllStreams runs two requests whose events come in turns, the second with room for two of them: to read one
// request to its end before the other would never end.
func TestWaitReadsAllStreams(t *testing.T) {
	first, second := make(chan api.Event), make(chan api.Event, 2)
	broken := errors.New("broken")
	go func() {
		for range 100 {
			second <- api.Event{}
			first <- api.Event{}
		}
		second <- api.Event{Done: &api.Done{Reason: api.FinishError, Err: broken}}
		close(second)
		first <- api.Event{Done: &api.Done{Reason: api.FinishLength}}
		close(first)
	}()
	if err := wait(context.Background(), []<-chan api.Event{first, second}); !errors.Is(err, broken) {
		t.Errorf("two requests of which one fails return %v, want %v", err, broken)
	}
}

func TestWaitReturnsTheCause(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	events := make(chan api.Event, 1)
	events <- api.Event{Done: &api.Done{Reason: api.FinishCancelled}}
	close(events)
	if err := wait(ctx, []<-chan api.Event{events}); !errors.Is(err, cause) {
		t.Errorf("a cancelled request returns %v, want %v", err, cause)
	}
}
