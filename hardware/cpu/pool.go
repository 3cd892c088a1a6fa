package cpu

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// pool is the device's workers, which all run the same list of phases (single program, multiple data). Worker 0 is the
// goroutine that calls run; the others are goroutines locked to threads of their own, started with the device.
//
// Invariants:
//
//  1. Only the goroutine that holds mu publishes steps, and it holds it until every worker has finished the step.
//  2. A worker's round number only grows during a step, and it grows by the same amount for all workers: a peer may be
//     one round ahead, never two. Rounds are compared by the sign of their difference, so that they may wrap.
//  3. A worker that is asleep has been so since it stored 1 to asleep; whoever swaps that for 0 must wake it.
type pool struct {
	size      int
	rounds    []flag // of each worker in the barriers of this step
	published []flag // number of the step published last to each worker
	done      []flag // last step that each worker has finished
	wakers    []waker
	resting   flag // 1: workers sleep without spinning
	broken    flag // 1 when a worker panicked in this step: the others leave it
	closing   atomic.Bool
	workers   sync.WaitGroup
	crowded   atomic.Bool  // there are more workers than processors to spin on
	lost      atomic.Int64 // nanoseconds that workers of this step waited for one that was held up

	mu     sync.Mutex // held during a step; guards what follows
	work   job
	active int // workers of this step: those of the lowest ids
	fault  atomic.Pointer[error]
}

// job is what the workers of a step run. Workers call it at the same time.
type job interface {
	work(id int) // returns early when a barrier says so
}

// flag is an atomic number alone on its cache lines: two, since processors fetch lines in pairs.
type flag struct {
	v atomic.Uint32
	_ [124]byte
}

// waker lets one worker sleep.
type waker struct {
	asleep atomic.Uint32
	wake   chan struct{} // of capacity 1; never closed
	_      [112]byte
}

const (
	spinTime     = time.Millisecond       // after a step: the next one usually follows a sampling
	spinsToYield = 1000                   // some 25 µs in a barrier: some other process is on a worker's processor
	heldUp       = 300 * time.Microsecond // no item of few rows takes so long: a wait that does is for the system's scheduler
)

var errClosed = errors.New("cpu: the device is closed")

// newPool starts size-1 workers.
func newPool(size int) *pool {
	p := &pool{
		size: size, rounds: make([]flag, size), published: make([]flag, size), done: make([]flag, size), wakers: make([]waker, size),
	}
	for id := 1; id < size; id++ {
		p.wakers[id].wake = make(chan struct{}, 1)
		p.workers.Add(1)
		go p.worker(id)
	}
	return p
}

// run has the first active workers run a job and returns when they have finished, with the time that they lost together
// to waiting for one that was held up, and the first panic as an error. It must not be called from two goroutines with
// one job, but may be with different ones: jobs take turns.
func (p *pool) run(j job, active int) (lost time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Load() {
		return 0, errClosed
	}
	p.work, p.active = j, active
	p.lost.Store(0)
	p.resting.v.Store(0)
	for i := range p.rounds {
		p.rounds[i].v.Store(0)
	}
	p.broken.v.Store(0)
	p.fault.Store(nil)
	p.crowded.Store(active > min(runtime.GOMAXPROCS(0), runtime.NumCPU())) // the program may change it at any time
	for id := 1; id < active; id++ {
		p.published[id].v.Add(1)
		p.rouse(id)
	}
	p.step(0)
	for id := 1; id < active; id++ {
		step, w := p.published[id].v.Load(), wait{}
		for p.done[id].v.Load() != step {
			p.spin(&w)
		}
		p.waited(&w)
	}
	p.work = nil
	if fault := p.fault.Load(); fault != nil {
		err = *fault
	}
	return time.Duration(p.lost.Load()), err
}

// rest lets the workers sleep at once instead of waiting for another step.
func (p *pool) rest() { p.resting.v.Store(1) }

// close stops the workers and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Swap(true) {
		return
	}
	for id := 1; id < p.size; id++ {
		p.published[id].v.Add(1)
		p.rouse(id)
	}
	p.workers.Wait()
}

// rouse wakes a worker if it sleeps.
func (p *pool) rouse(id int) {
	if p.wakers[id].asleep.Swap(0) == 1 {
		p.wakers[id].wake <- struct{}{}
	}
}

func (p *pool) worker(id int) {
	runtime.LockOSThread()
	defer p.workers.Done()
	for last := uint32(0); ; {
		p.await(id, last)
		if p.closing.Load() {
			return
		}
		last = p.published[id].v.Load()
		p.step(id)
		p.done[id].v.Store(last)
	}
}

// await returns when a step after last is published to the worker: spinning first, then sleeping.
func (p *pool) await(id int, last uint32) {
	var since time.Time
	for w := (wait{}); p.published[id].v.Load() == last; {
		p.spin(&w)
		if w.spins&31 != 0 {
			continue
		}
		if now := time.Now(); w.spins == 32 {
			since = now
		} else if now.Sub(since) > spinTime || p.resting.v.Load() == 1 {
			p.sleep(id, last)
		}
	}
}

// sleep parks the worker until it is roused, unless a step came meanwhile.
func (p *pool) sleep(id int, last uint32) {
	w := &p.wakers[id]
	w.asleep.Store(1)
	if p.published[id].v.Load() != last && w.asleep.CompareAndSwap(1, 0) {
		return
	}
	<-w.wake
}

// step runs the job as one worker. A panic is kept as the step's fault, and the other workers leave the step at their
// next barrier.
func (p *pool) step(id int) {
	defer p.keepPanic()
	p.work.work(id)
}

func (p *pool) keepPanic() {
	if r := recover(); r != nil {
		err := fmt.Errorf("cpu: worker panicked: %v\n%s", r, debug.Stack())
		p.fault.CompareAndSwap(nil, &err)
		p.broken.v.Store(1)
	}
}

// barrier returns true when all workers of the step have called it as often as this one; false when the step is given
// up. It is a dissemination barrier (Hensgen, Finkel, Manber 1988): after round i a worker knows of 2^i others.
func (p *pool) barrier(id int, round *uint32) bool {
	for distance := 1; distance < p.active; distance *= 2 {
		*round++
		p.rounds[id].v.Store(*round)
		peer, w := &p.rounds[(id+p.active-distance)%p.active].v, wait{}
		for int32(peer.Load()-*round) < 0 {
			if p.broken.v.Load() != 0 {
				return false
			}
			p.spin(&w)
		}
		p.waited(&w)
	}
	return p.broken.v.Load() == 0
}

// wait is a waiting loop in progress.
type wait struct {
	spins int
	since time.Time // when it became long enough to yield
}

// spin is one turn of a waiting loop.
func (p *pool) spin(w *wait) {
	pause()
	if w.spins++; w.spins&31 != 0 {
		return
	}
	preempt(w.spins)
	if w.spins > spinsToYield && w.since.IsZero() {
		w.since = time.Now()
	}
	switch {
	case p.crowded.Load():
		runtime.Gosched()
	case w.spins > spinsToYield:
		yieldProcessor()
	}
}

// waited counts a wait within a step that is over.
func (p *pool) waited(w *wait) {
	if w.since.IsZero() {
		return
	}
	if took := time.Since(w.since); took > heldUp {
		p.lost.Add(int64(took))
	}
}

// preempt is a point where the garbage collector can stop a worker: assembly and spinning have none. It works because
// a function with a frame of some size begins by asking whether its goroutine should stop.
//
//go:noinline
func preempt(i int) int {
	var frame [24]int
	frame[i&15] = i
	return frame[(i+1)&15]
}
