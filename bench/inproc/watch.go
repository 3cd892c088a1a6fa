package inproc

import (
	"context"
	"sync"
	"time"

	"hearth/hardware"
)

// watcher is a device whose one queue reports its steps. While it fills, steps compute nothing: they copy a block that
// was computed before into every block that they would have written, and what is kept of the sequences' state is a copy of
// one that was computed. So a long prefix costs the copying of its cache.
//
// Invariants:
//
//  1. The goroutine that runs the queue writes steps; the bench changes and reads the rest only while no request runs. The
//     channels of requests order the two.
//  2. donor is one block of a sequence that was computed, and state what was kept of one's state; nil before that.
type watcher struct {
	hardware.Device
	gate    sync.Mutex // held while requests are submitted that are to run together: no step begins
	filling bool
	steps   []step
	donor   []byte
	state   []byte

	blockBytes, snapshotBytes int
	outputs                   [][]float32 // a row of each output: the answer of steps that compute nothing
}

// step is one run of the queue.
type step struct {
	start, end  time.Time
	rows        int   // tokens
	spans       int   // sequences
	positions   int64 // of the cache that attention reads
	weightBytes uint64
}

// decodes says that every sequence of the step got one token.
func (s *step) decodes() bool { return s.rows == s.spans }

// Load implements hardware.Device.
func (w *watcher) Load(ctx context.Context, p *hardware.Program, l hardware.Limits) (hardware.Queue, error) {
	memory, err := w.Measure(p, l)
	if err != nil {
		return nil, err
	}
	w.blockBytes, w.snapshotBytes = int(memory.Block), int(memory.Snapshot)
	w.outputs = make([][]float32, p.NumOutputs())
	for o := range w.outputs {
		_, tensor := p.OutputTensor(hardware.Output(o))
		w.outputs[o] = make([]float32, tensor.Size())
	}
	queue, err := w.Device.Load(ctx, p, l)
	if err != nil {
		return nil, err
	}
	return &watchedQueue{Queue: queue, watcher: w, filled: make([]bool, l.Slots)}, nil
}

// reset forgets the steps.
func (w *watcher) reset() { w.steps = w.steps[:0] }

// watchedQueue is the queue of a watcher.
type watchedQueue struct {
	hardware.Queue
	watcher *watcher
	weights uint64 // bytes multiplied before this step
	filled  []bool // by slot: its sequence's last step computed nothing, so that the slot holds nothing of it
}

// Run implements hardware.Queue.
func (q *watchedQueue) Run(s hardware.Section, b *hardware.Batch) {
	w := q.watcher
	w.gate.Lock() // pass it, no more
	w.gate.Unlock()
	if w.filling {
		q.fill(b)
		return
	}
	started := step{start: time.Now(), rows: len(b.Tokens), spans: len(b.Spans)}
	q.Queue.Run(s, b)
	q.mark(b, false)
	started.end = time.Now()
	weights := q.Queue.Counters().WeightBytes
	started.weightBytes, q.weights = weights-q.weights, weights
	for _, span := range b.Spans {
		started.positions += int64(span.Start + span.Len)
		if w.donor == nil && span.Start+span.Len >= hardware.BlockLen {
			w.donor = make([]byte, w.blockBytes)
			q.Queue.ReadBlock(int(b.Tables[span.Table]), w.donor)
		}
	}
	w.steps = append(w.steps, started)
}

// fill writes the blocks that begin in this step.
func (q *watchedQueue) fill(b *hardware.Batch) {
	q.mark(b, true)
	for _, span := range b.Spans {
		first := (int(span.Start) + hardware.BlockLen - 1) / hardware.BlockLen
		for _, id := range b.Tables[span.Table:][first:span.Blocks()] {
			q.Queue.WriteBlock(int(id), q.watcher.donor)
		}
	}
}

// mark notes of the slots of a step whether they were filled.
func (q *watchedQueue) mark(b *hardware.Batch, filled bool) {
	if len(q.filled) == 0 { // no sequence has state
		return
	}
	for _, span := range b.Spans {
		q.filled[span.Slot] = filled
	}
}

// SaveState implements hardware.Queue. The state of a sequence is kept after its reader was told that it ended, so the slot
// says what is to be kept, and not whether the watcher fills by now.
func (q *watchedQueue) SaveState(slot, position, snapshot int) {
	w := q.watcher
	if q.filled[slot] {
		q.Queue.WriteState(snapshot, w.state)
		return
	}
	q.Queue.SaveState(slot, position, snapshot)
	if w.state == nil {
		w.state = make([]byte, w.snapshotBytes)
		q.Queue.ReadState(snapshot, w.state)
	}
}

// Output implements hardware.Queue.
func (q *watchedQueue) Output(o hardware.Output, row int) []float32 {
	if q.watcher.filling {
		return q.watcher.outputs[o]
	}
	return q.Queue.Output(o, row)
}
