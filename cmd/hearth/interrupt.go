package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// interruption is the signal for which a command ended before it was done.
type interruption struct{ signal os.Signal }

// Error says it as people do.
func (i interruption) Error() string {
	if i.signal == os.Interrupt {
		return "interrupted"
	}
	return fmt.Sprintf("ended by signal: %v", i.signal)
}

// status is what a process exits with that such a signal ends, as shells count: 130 after Ctrl-C, 143 after SIGTERM.
func (i interruption) status() int {
	if number, ok := i.signal.(syscall.Signal); ok {
		return 128 + int(number)
	}
	return 1
}

// untilInterrupted returns a context that ends when the user or the system asks the process to end, with the interruption as
// its cause. Who asks again ends the process at once: what it has stored is whole at any instant. The goroutine that waits for
// it lives as long as the process.
func untilInterrupted() context.Context {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		cancel(interruption{<-signals})
		os.Exit(interruption{<-signals}.status())
	}()
	return ctx
}

// interrupted is why a command's context has ended.
func interrupted(ctx context.Context) error {
	if i, ok := errors.AsType[interruption](context.Cause(ctx)); ok {
		return i
	}
	return interruption{os.Interrupt}
}

// exitStatus is that of a command that ended with an error.
func exitStatus(err error) int {
	if i, ok := errors.AsType[interruption](err); ok {
		return i.status()
	}
	return 1
}
