package inproc

import (
	"context"

	"hearth/engine/api"
)

// wait reads the streams of requests that run together until all have ended, and returns the first error of a request.
// The engine ends a request whose events nobody reads for long, so whenever one stream has an event, those of the others
// are taken too.
func wait(ctx context.Context, streams []<-chan api.Event) error {
	var failure error
	note := func(e api.Event) {
		switch {
		case e.Done == nil || failure != nil:
		case e.Done.Err != nil:
			failure = e.Done.Err
		case e.Done.Reason == api.FinishCancelled:
			failure = context.Cause(ctx)
		}
	}
	for i, events := range streams {
		for e := range events {
			note(e)
			for _, other := range streams[i+1:] {
				takeWaiting(other, note)
			}
		}
	}
	return failure
}

// takeWaiting hands on the events that wait in a stream.
func takeWaiting(events <-chan api.Event, note func(api.Event)) {
	for {
		select {
		case e, open := <-events:
			if !open {
				return
			}
			note(e)
		default:
			return
		}
	}
}
