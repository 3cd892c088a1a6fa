package sessions

import (
	"context"
	"sync"

	"hearth/sessions/database"
)

// eventLog is the events of one response, of which every sequence number is the index. It is written by one goroutine and
// read by any number.
type eventLog struct {
	mu      sync.Mutex // guards all fields
	events  []database.Event
	closed  bool
	changed chan struct{} // closed at the next change; nil: nobody waits
}

func (l *eventLog) append(events []database.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, events...)
	l.wake()
}

func (l *eventLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wake()
}

func (l *eventLog) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// from returns the events from an index on, and waits until there is one. After the last one it returns none.
func (l *eventLog) from(ctx context.Context, index int) ([]database.Event, error) {
	for {
		l.mu.Lock()
		if index < len(l.events) {
			events := l.events[index:]
			l.mu.Unlock()
			return events, nil
		}
		if l.closed {
			l.mu.Unlock()
			return nil, nil
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// recorder stores events and then publishes them, so that a reader has seen nothing that a restart would lose. While one
// transaction is written further events gather for the next one: the model never waits for the disk. Events that cannot be
// stored are published all the same: they lead up to the one that says so, with which they may be stored yet.
type recorder struct {
	save    func([]database.Event) error
	publish func([]database.Event)
	failed  func() // is called once, when events can no longer be stored

	mu      sync.Mutex // guards pending, closed
	pending []database.Event
	closed  bool

	wake chan struct{}    // has room for one; sent to when there is something to do
	done chan struct{}    // closed when the goroutine has ended
	err  error            // of save, the first; to be read after done, as left is
	left []database.Event // that are not stored
}

// newRecorder starts the goroutine that flush ends.
func newRecorder(save func([]database.Event) error, publish func([]database.Event), failed func()) *recorder {
	r := &recorder{save: save, publish: publish, failed: failed, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go r.run()
	return r
}

func (r *recorder) add(events []database.Event) {
	r.mu.Lock()
	r.pending = append(r.pending, events...)
	r.mu.Unlock()
	r.signal()
}

func (r *recorder) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// flush returns when all events are published, and the error for which they are not all stored. Nothing is added
// afterwards. A nil recorder has nothing to do.
func (r *recorder) flush() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.signal()
	<-r.done
	return r.err
}

func (r *recorder) run() {
	defer close(r.done)
	for range r.wake {
		r.mu.Lock()
		events, closed := r.pending, r.closed
		r.pending = nil
		r.mu.Unlock()
		if len(events) > 0 && r.err == nil {
			if r.err = r.save(events); r.err != nil {
				r.failed()
			}
		}
		if r.err != nil {
			r.left = append(r.left, events...)
		}
		r.publish(events)
		if closed {
			return
		}
	}
}
