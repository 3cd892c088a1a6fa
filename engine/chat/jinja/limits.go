package jinja

import (
	"errors"
	"fmt"
)

// ErrLimit says that a rendering exceeded one of its limits; errors.Is finds it.
var ErrLimit = errors.New("limit exceeded")

// Options limit what one rendering may use. A zero field takes its default.
type Options struct {
	MaxSteps  int // nodes evaluated, elements visited, and bytes moved / 64; default 20 million, a second or two
	MaxDepth  int // nested evaluations: expressions, blocks, macro calls, elements of values; default 4000
	MaxText   int // bytes of the longest string, the output included; default 64 MiB
	MaxMemory int // bytes that strings and containers take, all ever made summed up; default 256 MiB
}

const (
	defaultMaxSteps  = 20_000_000
	defaultMaxDepth  = 4000
	defaultMaxText   = 64 << 20
	defaultMaxMemory = 256 << 20

	// elementBytes is what an element of a container costs: an interface and what it points to, such as a text.
	elementBytes = 64
	// bytesPerStep weighs copied text against evaluated nodes: both then take a few nanoseconds a step.
	bytesPerStep = 64
	// namesPerStep weighs names compared in a scope, which are mostly told apart by their lengths.
	namesPerStep = 8
)

// Validate names the first field that is not usable.
func (o Options) Validate() error {
	for _, f := range []struct {
		name  string
		value int
	}{{"MaxSteps", o.MaxSteps}, {"MaxDepth", o.MaxDepth}, {"MaxText", o.MaxText}, {"MaxMemory", o.MaxMemory}} {
		if f.value < 0 {
			return fmt.Errorf("jinja: Options.%s is %d, want 0 or more", f.name, f.value)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	for _, f := range []struct {
		field *int
		value int
	}{{&o.MaxSteps, defaultMaxSteps}, {&o.MaxDepth, defaultMaxDepth}, {&o.MaxText, defaultMaxText}, {&o.MaxMemory, defaultMaxMemory}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return o
}

// meter counts what a rendering uses against its limits.
type meter struct {
	limits Options
	steps  int
	depth  int
	memory int
}

// step counts n units of work.
func (m *meter) step(n int) error {
	if n > m.limits.MaxSteps-m.steps {
		return fmt.Errorf("%w: more than %d steps", ErrLimit, m.limits.MaxSteps)
	}
	m.steps += n
	return nil
}

// note counts n units of work where no error can be returned: the next step notices.
func (m *meter) note(n int) { m.steps += n }

// enter counts one step and one level; the caller leaves it again with m.depth--.
func (m *meter) enter() error {
	if m.depth++; m.depth > m.limits.MaxDepth {
		m.depth--
		return fmt.Errorf("%w: nested more than %d deep", ErrLimit, m.limits.MaxDepth)
	}
	if err := m.step(1); err != nil {
		m.depth--
		return err
	}
	return nil
}

// fits checks that a text of size bytes may grow by n.
func (m *meter) fits(size, n int) error {
	if n > m.limits.MaxText-size {
		return fmt.Errorf("%w: a text longer than %d bytes", ErrLimit, m.limits.MaxText)
	}
	return nil
}

// text counts the growth of a text from size bytes by n.
func (m *meter) text(size, n int) error {
	if err := m.fits(size, n); err != nil {
		return err
	}
	if err := m.allocate(n); err != nil {
		return err
	}
	return m.scan(n)
}

// scan counts the work of looking at n bytes.
func (m *meter) scan(n int) error { return m.step(n / bytesPerStep) }

// elements counts n new elements of containers.
func (m *meter) elements(n int) error {
	if err := m.allocate(mulSaturate(n, elementBytes)); err != nil {
		return err
	}
	return m.step(n)
}

func (m *meter) allocate(n int) error {
	if n > m.limits.MaxMemory-m.memory {
		return fmt.Errorf("%w: more than %d bytes of memory", ErrLimit, m.limits.MaxMemory)
	}
	m.memory += n
	return nil
}
