package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// dialoguesPerClient is how many different dialogues a client has, one after the other, again and again.
	dialoguesPerClient = 3
	// mostStart bounds the time from the start of the process to its readiness.
	mostStart = 2 * time.Second
)

// showCrashes kills the server at random moments while clients talk to it.
func showCrashes(ctx context.Context, r *run) error {
	c := r.opts.counts
	m, err := r.synth(ctx, "qwen3", "tiny", 4096)
	if err != nil {
		return err
	}
	loop := &crashLoop{run: r, expected: map[uint64][]*answer{}, changed: sync.NewCond(&sync.Mutex{})}
	if err := loop.reference(ctx, m); err != nil {
		return err
	}
	data, err := r.folder("crashes")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, loop.wake)()
	var clients sync.WaitGroup
	for i := range c.clients {
		clients.Go(func() { loop.client(ctx, i) })
	}
	random := rand.New(rand.NewPCG(3, 4))
	var starts []time.Duration
	for range c.kills {
		s, err := r.start(ctx, m, data)
		if err != nil {
			return err
		}
		starts = append(starts, s.ready)
		loop.publish(s)
		if err := pause(ctx, time.Duration(50+random.IntN(1000))*time.Millisecond); err != nil {
			return err
		}
		s.kill()
		r.servers = r.servers[:0]
	}
	s, err := r.start(ctx, m, data)
	if err != nil {
		return err
	}
	starts = append(starts, s.ready)
	loop.finish(s)
	clients.Wait()
	loop.mu().Lock()
	defer loop.mu().Unlock()
	r.figure(float64(c.kills), "", "crashes under %d clients", c.clients)
	r.figure(float64(loop.answered), "", "turns acknowledged")
	r.figure(float64(loop.interrupted), "", "turns interrupted")
	r.figure(float64(loop.kept), "", "of the interrupted turns, found kept as a whole")
	r.figure(float64(loop.recovered), "", "conversations read again after a crash, nothing missing")
	r.milliseconds(percentile(starts, .5), "start of the server: p50")
	r.milliseconds(percentile(starts, 1), "start of the server: longest")
	r.requireTime(percentile(starts, 1) < mostStart, "a start took %v, want less than %v", percentile(starts, 1), mostStart)
	r.require(loop.answered > c.kills, "only %d turns were answered", loop.answered)
	return s.stop()
}

// crashLoop is what clients and the loop that kills their servers share.
type crashLoop struct {
	run      *run
	expected map[uint64][]*answer // by seed, the answers of a server that nothing happened to

	changed                                *sync.Cond // whose lock guards the fields below
	server                                 *server
	generation                             int // of the server
	finished                               bool
	answered, interrupted, kept, recovered int
}

func (l *crashLoop) mu() sync.Locker { return l.changed.L }

// dialogue returns a new dialogue: of every two clients one resends its history and one has the server keep it.
func newDialogue(client int, seed uint64) dialogue {
	if client%2 == 0 {
		return &resending{seed: seed}
	}
	return &conversing{seed: seed}
}

func dialogueSeed(client, round int) uint64 {
	return uint64(client*dialoguesPerClient + round%dialoguesPerClient + 1)
}

// reference runs every dialogue on a server that is left in peace.
func (l *crashLoop) reference(ctx context.Context, m model) error {
	s, err := l.run.startNew(ctx, m, "undisturbed")
	if err != nil {
		return err
	}
	for client := range l.run.opts.counts.clients {
		for round := range dialoguesPerClient {
			seed := dialogueSeed(client, round)
			d := newDialogue(client, seed)
			for range dialogueTurns {
				a, err := d.ask(ctx, s)
				if err != nil {
					return err
				}
				l.expected[seed] = append(l.expected[seed], a)
			}
		}
	}
	return s.stop()
}

// publish makes a server known to the clients.
func (l *crashLoop) publish(s *server) {
	l.mu().Lock()
	defer l.mu().Unlock()
	l.server = s
	l.generation++
	l.changed.Broadcast()
}

// finish publishes the last server, on which clients end their dialogues.
func (l *crashLoop) finish(s *server) {
	l.publish(s)
	l.mu().Lock()
	defer l.mu().Unlock()
	l.finished = true
}

func (l *crashLoop) wake() {
	l.mu().Lock()
	defer l.mu().Unlock()
	l.changed.Broadcast()
}

// after waits for a server that is newer than the given generation, and returns nil when ctx ends before.
func (l *crashLoop) after(ctx context.Context, generation int) (*server, int) {
	l.mu().Lock()
	defer l.mu().Unlock()
	for l.generation <= generation && ctx.Err() == nil {
		l.changed.Wait()
	}
	if ctx.Err() != nil {
		return nil, 0
	}
	return l.server, l.generation
}

// client has dialogues until the last server is there, and ends the one that it is in.
func (l *crashLoop) client(ctx context.Context, number int) {
	s, generation := l.after(ctx, 0)
	for round := 0; s != nil; round++ {
		seed := dialogueSeed(number, round)
		d := newDialogue(number, seed)
		for turn := 0; turn < dialogueTurns && s != nil; {
			a, err := d.ask(ctx, s)
			for err != nil && s != nil {
				if !l.excused(ctx, s, err) {
					return
				}
				if s, generation = l.after(ctx, generation); s != nil {
					if a, err = d.recover(ctx, s); err == nil {
						l.note(&l.recovered)
					}
					if a != nil {
						l.note(&l.kept)
					}
				}
			}
			if a == nil {
				continue // the turn was not kept, or there is no server any more
			}
			l.note(&l.answered)
			if err := sameAnswer(a, l.expected[seed][turn]); err != nil {
				l.fail(fmt.Sprintf("client %d, seed %d, turn %d: after a crash and without one, %v", number, seed, turn, err))
				return
			}
			turn++
		}
		l.mu().Lock()
		finished := l.finished
		l.mu().Unlock()
		if finished {
			return
		}
	}
}

// excused reports whether an error came of the crash; any other one is a failure.
func (l *crashLoop) excused(ctx context.Context, s *server, err error) bool {
	var status *statusError
	var gone *lostError
	if errors.As(err, &status) || errors.As(err, &gone) {
		l.fail(err.Error())
		return false
	}
	select {
	case <-s.exited:
	case <-ctx.Done():
		return false
	case <-time.After(patience):
		l.fail(fmt.Sprintf("a request ended with %v, and the server was not killed", err))
		return false
	}
	l.note(&l.interrupted)
	return true
}

func (l *crashLoop) note(counter *int) {
	l.mu().Lock()
	defer l.mu().Unlock()
	*counter++
}

func (l *crashLoop) fail(failure string) {
	l.mu().Lock()
	defer l.mu().Unlock()
	l.run.require(false, "%s", failure)
}

// sameAnswer compares two whole answers, by their tokens where both have them.
func sameAnswer(a, b *answer) error {
	if a.text != b.text || len(a.tokens) > 0 && len(a.tokens) != len(b.tokens) {
		return fmt.Errorf("the answers are %q and %q", a.text, b.text)
	}
	if len(a.tokens) == 0 {
		return nil
	}
	return sameTokens(a, b)
}
