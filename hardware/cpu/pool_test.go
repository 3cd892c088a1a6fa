package cpu

import (
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// countJob has every worker count, with a barrier after each round, and checks that nobody is a round behind.
type countJob struct {
	pool   *pool
	rounds int
	counts []flag
	behind atomic.Int32
}

func (j *countJob) work(id int) {
	round := uint32(0)
	for i := range j.rounds {
		j.counts[id].v.Store(uint32(i + 1))
		if !j.pool.barrier(id, &round) {
			return
		}
		for other := range j.counts {
			if j.counts[other].v.Load() < uint32(i+1) {
				j.behind.Add(1)
			}
		}
	}
}

func TestPoolBarrier(t *testing.T) {
	for _, size := range []int{1, 2, 3, 4, 5, 8} {
		p := newPool(size)
		j := &countJob{pool: p, rounds: 50, counts: make([]flag, size)}
		for range 5 {
			if _, err := p.run(j, size); err != nil {
				t.Fatal(err)
			}
		}
		if n := j.behind.Load(); n != 0 {
			t.Errorf("%d workers: %d times a worker was behind after a barrier", size, n)
		}
		p.close()
	}
}

// TestPoolRunsFewer has steps of different numbers of workers follow each other.
func TestPoolRunsFewer(t *testing.T) {
	p := newPool(5)
	defer p.close()
	for i := range 40 {
		active := 1 + i*3%5
		j := &countJob{pool: p, rounds: 10, counts: make([]flag, active)}
		if _, err := p.run(j, active); err != nil {
			t.Fatal(err)
		}
		if n := j.behind.Load(); n != 0 {
			t.Errorf("step %d, %d of 5 workers: %d times a worker was behind after a barrier", i, active, n)
		}
		for id := range j.counts {
			if n := j.counts[id].v.Load(); n != 10 {
				t.Errorf("step %d: worker %d of %d did %d rounds, want 10", i, id, active, n)
			}
		}
	}
}

// lateJob has worker 1 come late to the barrier, where worker 0 waits.
type lateJob struct {
	pool *pool
	late time.Duration
}

func (j *lateJob) work(id int) {
	if id == 1 {
		for start := time.Now(); time.Since(start) < j.late; {
			runtime.Gosched()
		}
	}
	round := uint32(0)
	j.pool.barrier(id, &round)
}

// TestPoolCountsLostTime checks that a worker's long wait in a barrier is reported. Worker 0 may be held up itself and not wait
// at all: then worker 1 comes later still.
func TestPoolCountsLostTime(t *testing.T) {
	p := newPool(2)
	defer p.close()
	for late := 3 * heldUp; ; late *= 2 {
		lost, err := p.run(&lateJob{p, late}, 2)
		if err != nil {
			t.Fatal(err)
		}
		if lost > heldUp {
			return
		}
		if late > 10*time.Second {
			t.Fatalf("lost %v after a worker came %v late", lost, late)
		}
	}
}

// TestBarrierWraps checks that rounds may pass from the largest number to 0.
func TestBarrierWraps(t *testing.T) {
	p := &pool{size: 2, active: 2, rounds: make([]flag, 2)}
	var group sync.WaitGroup
	for id := range 2 {
		p.rounds[id].v.Store(math.MaxUint32 - 3)
	}
	for id := range 2 {
		group.Add(1)
		go func() {
			defer group.Done()
			round := uint32(math.MaxUint32 - 3)
			for range 8 {
				if !p.barrier(id, &round) {
					t.Error("the barrier gave up")
				}
			}
		}()
	}
	group.Wait()
}

// panicJob has one worker panic while the others wait for it.
type panicJob struct {
	pool *pool
	who  int
}

func (j *panicJob) work(id int) {
	if id == j.who {
		panic("broken kernel")
	}
	round := uint32(0)
	for range 3 {
		if !j.pool.barrier(id, &round) {
			return
		}
	}
}

func TestPoolSurvivesPanic(t *testing.T) {
	p := newPool(3)
	defer p.close()
	for who := range 3 {
		_, err := p.run(&panicJob{p, who}, 3)
		if err == nil || !strings.Contains(err.Error(), "broken kernel") {
			t.Errorf("worker %d panicked: error %v", who, err)
		}
		j := &countJob{pool: p, rounds: 3, counts: make([]flag, 3)}
		if _, err := p.run(j, 3); err != nil || j.behind.Load() != 0 {
			t.Errorf("after a panic: %v, %d behind", err, j.behind.Load())
		}
	}
}

// TestPoolRests checks that workers sleep when there is nothing to do, and wake for the next step.
func TestPoolRests(t *testing.T) {
	p := newPool(3)
	defer p.close()
	for range 3 {
		j := &countJob{pool: p, rounds: 2, counts: make([]flag, 3)}
		if _, err := p.run(j, 3); err != nil {
			t.Fatal(err)
		}
		p.rest()
		for p.wakers[1].asleep.Load()+p.wakers[2].asleep.Load() < 2 { // for ever, if they stay awake although nothing is coming
			runtime.Gosched()
		}
	}
}

// TestPoolShared has several goroutines run jobs on the same workers.
func TestPoolShared(t *testing.T) {
	p := newPool(2)
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for range 20 {
				j := &countJob{pool: p, rounds: 3, counts: make([]flag, 2)}
				if _, err := p.run(j, 2); err != nil || j.behind.Load() != 0 {
					t.Errorf("%v, %d behind", err, j.behind.Load())
				}
			}
		}()
	}
	group.Wait()
	p.close()
	p.close()
	if _, err := p.run(&countJob{pool: p}, 2); err == nil {
		t.Error("a closed pool ran a job")
	}
}

// itemJob shares items between workers and counts how often each is done.
type itemJob struct {
	pool    *pool
	workers []*worker
	cursors []flag
	done    []atomic.Int32
	slow    int // worker that does nothing of its own share before the others are through
}

func (j *itemJob) items(*step) int { return len(j.done) }

func (j *itemJob) run(_ *worker, item int) { j.done[item].Add(1) }

func (j *itemJob) work(id int) {
	round := uint32(0)
	if id == j.slow {
		j.pool.barrier(id, &round)
		return
	}
	j.workers[id].share(j, len(j.done), j.cursors)
	j.pool.barrier(id, &round)
}

// TestShareSteals checks that items are done once each, also those of a worker that never comes to them.
func TestShareSteals(t *testing.T) {
	const size = 3
	p := newPool(size)
	defer p.close()
	for _, items := range []int{0, 1, 2, 7, 100} {
		for slow := -1; slow < size; slow++ {
			j := &itemJob{pool: p, cursors: make([]flag, size), done: make([]atomic.Int32, items), slow: slow}
			for id := range size {
				j.workers = append(j.workers, &worker{id: id})
			}
			if _, err := p.run(j, size); err != nil {
				t.Fatal(err)
			}
			for i := range j.done {
				if n := j.done[i].Load(); n != 1 {
					t.Fatalf("%d items, worker %d slow: item %d was done %d times", items, slow, i, n)
				}
			}
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	for _, o := range []Options{{Threads: -1}, {Threads: maxThreads + 1}} {
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "Threads") {
			t.Errorf("Open(%+v): %v, want an error naming Threads", o, err)
		}
	}
	if _, err := Open(Options{ISA: "z80"}); err == nil || !strings.Contains(err.Error(), "z80") {
		t.Errorf("Open with an unknown level: %v", err)
	}
}
