package engine

import (
	"context"
	"fmt"
	"runtime/debug"

	"hearth/engine/api"
)

// command is something that the loop does between two steps, for a caller that waits for it.
type command struct {
	do   func(l *loop)
	err  error // written before done is closed
	done chan struct{}
}

// ask has the loop call do between two steps, and waits until it has. When it fails, do was not called, or panicked.
func (e *Engine) ask(ctx context.Context, do func(l *loop)) error {
	c := &command{do: do, done: make(chan struct{})}
	select {
	case e.commands <- c: // the loop has it now, and will do it
	case <-ctx.Done():
		return ctx.Err()
	case <-e.done:
		return api.ErrClosed
	}
	<-c.done
	return c.err
}

// obey does a command. A panic fails the running requests, as in a step.
func (l *loop) obey(c *command) {
	defer close(c.done)
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("engine command panicked", "panic", r, "stack", string(debug.Stack()))
			c.err = fmt.Errorf("%w: %v", api.ErrInternal, r)
			l.failAll(c.err)
		}
	}()
	l.dropCancelled() // whose blocks nobody holds then
	c.do(l)
	l.publish()
}
