package cpu

import (
	"context"
	"fmt"
	"time"

	"hearth/hardware"
)

// operation is one phase of a section: work items that may be done in any order and by any worker, each with the same
// result. All items are done before the next phase begins.
type operation interface {
	// items is the number of work items for a step.
	items(s *step) int
	// run does one of them.
	run(w *worker, item int)
}

// step is what a batch comes to. The goroutine of the queue fills it before the workers start.
type step struct {
	number    uint64
	workers   int
	batch     *hardware.Batch
	rows      [2]int  // tokens, outputs
	positions []int32 // [tokens] position of each row
	blocks    []int32 // [tokens] block of each row's position
	spans     []int32 // [tokens] span of each row
	fresh     []int32 // blocks whose first position is written
}

// queue is one loaded program.
type queue struct {
	device     *device
	program    *hardware.Program
	limits     hardware.Limits
	weights    []*weight
	tensors    []*tensor
	streams    []*stream
	rings      []*ring
	deltas     []*delta
	histories  []*history // of all rings and deltas
	ropes      []*rotation
	routes     []*routes
	plans      []*attentionPlan
	selections []*selection
	sections   [][]operation
	vocab      []int        // of each section's tokens
	moved      [][]*history // by each section
	needInputs []bool       // of each section: it gathers rows by Batch.Inputs
	outputs    []view
	blockBytes int
	slotBytes  int // of a slot
	arenaBytes int

	snapshotBytes int             // of a snapshot
	memory        hardware.Memory // what it allocates

	tiles        []byte // prepared rows, shared by all workers
	tileBytes    int
	ones         []float32 // as many as are asked for
	onesCount    int
	partials     []float32
	partialCount int
	scores       []float32 // of index streams
	scoreCount   int
	experts      expertSpace
	expertSizes  expertSizes
	sizes        workerSizes
	workers      []*worker
	cursors      [2][]flag // of alternating phases
	crew         crew
	copying      copying

	weightMem, blockMem, stateMem, scratchMem region

	step      step
	current   []operation // the section that is running
	counters  hardware.Counters
	fault     error
	trace     func(op int, rows []float32)
	opEnds    [][]int   // per section and recorded operation, the end of its phases; without fusion
	traceRows []float32 // contiguous rows of one tensor; without fusion
	closed    bool
}

// block returns the bytes of a block.
func (q *queue) block(id int) []byte {
	return q.blockMem.mem[id*q.blockBytes:][:q.blockBytes]
}

// Run implements hardware.Queue.
func (q *queue) Run(section hardware.Section, b *hardware.Batch) {
	if section < 0 || int(section) >= len(q.sections) {
		panic(fmt.Sprintf("cpu: Run: section %d of %d", section, len(q.sections)))
	}
	if err := b.Validate(&q.limits, q.vocab[section]); err != nil {
		panic("cpu: Run: " + err.Error())
	}
	for i := range b.Spans {
		for _, h := range q.moved[section] {
			h.check(i, &b.Spans[i])
		}
	}
	if q.needInputs[section] && len(b.Inputs) != len(b.Tokens) {
		panic(fmt.Sprintf("cpu: Run: section %d gathers by inputs, of which %d tokens have %d", section, len(b.Tokens), len(b.Inputs)))
	}
	q.begin(b)
	q.counters.Steps++
	q.counters.Rows += uint64(len(b.Tokens))
	if q.trace != nil {
		q.runTraced(int(section))
	} else {
		q.runPhases(q.sections[section])
	}
	for i := range b.Spans {
		for _, h := range q.moved[section] {
			h.slots[b.Spans[i].Slot] = after(&b.Spans[i])
		}
	}
}

// runPhases has the workers go through phases.
func (q *queue) runPhases(phases []operation) {
	for _, set := range q.cursors {
		for i := range set {
			set[i].v.Store(0)
		}
	}
	q.current = phases
	start := time.Now()
	lost, err := q.device.pool.run(q, q.crew.active)
	q.crew.observe(q.step.rows[hardware.Tokens], lost, time.Since(start))
	if err != nil {
		q.fault = err
	}
}

// begin fills the step.
func (q *queue) begin(b *hardware.Batch) {
	s := &q.step
	s.number++
	s.batch = b
	q.fault = nil
	s.rows = [2]int{hardware.Tokens: len(b.Tokens), hardware.Outputs: len(b.Outputs)}
	s.fresh = s.fresh[:0]
	for i := range b.Spans {
		span := &b.Spans[i]
		for j := range span.Len {
			position := span.Start + j
			block := b.Tables[span.Table+position/blockLen]
			s.positions[span.Row+j], s.blocks[span.Row+j], s.spans[span.Row+j] = position, block, int32(i)
			if position%blockLen == 0 {
				s.fresh = append(s.fresh, block)
			}
		}
	}
	for _, p := range q.plans {
		p.fill(b, s.workers)
	}
}

// work implements job: one worker's way through a section. Workers agree on which phases have items, and skip the
// others together.
func (q *queue) work(id int) {
	w := q.workers[id]
	w.round, w.phase = 0, 0
	for _, op := range q.current {
		items := op.items(&q.step)
		if items == 0 {
			continue
		}
		// Nobody is in the phase before this one any more, nor in the next one yet: its cursors can be set back.
		q.cursors[(w.phase+1)%2][id].v.Store(0)
		w.share(op, items, q.cursors[w.phase%2][:q.crew.active])
		w.phase++
		if !q.device.pool.barrier(id, &w.round) {
			return
		}
	}
}

// Sync implements hardware.Queue.
func (q *queue) Sync() error { return q.fault }

// Output implements hardware.Queue.
func (q *queue) Output(o hardware.Output, row int) []float32 {
	if row < 0 || row >= q.step.rows[hardware.Outputs] {
		panic(fmt.Sprintf("cpu: Output: row %d of %d", row, q.step.rows[hardware.Outputs]))
	}
	x := q.outputs[o].row(row)
	return x[:len(x):len(x)]
}

// CopyBlock implements hardware.Queue.
func (q *queue) CopyBlock(dst, src int) {
	copy(q.checkedBlock("CopyBlock", dst), q.checkedBlock("CopyBlock", src))
}

// ReadBlock implements hardware.Queue.
func (q *queue) ReadBlock(id int, dst []byte) {
	q.checkBytes("ReadBlock", "dst", len(dst))
	copy(dst, q.checkedBlock("ReadBlock", id))
}

// WriteBlock implements hardware.Queue.
func (q *queue) WriteBlock(id int, src []byte) {
	q.checkBytes("WriteBlock", "src", len(src))
	q.copyTogether(q.checkedBlock("WriteBlock", id), src[:q.blockBytes])
}

func (q *queue) checkedBlock(op string, id int) []byte {
	if id < 0 || id >= q.limits.Blocks {
		panic(fmt.Sprintf("cpu: %s: block %d of %d", op, id, q.limits.Blocks))
	}
	return q.block(id)
}

func (q *queue) checkBytes(op, name string, n int) {
	if n < q.blockBytes {
		panic(fmt.Sprintf("cpu: %s: %s has %d bytes, a block %d", op, name, n, q.blockBytes))
	}
}

// Counters implements hardware.Queue.
func (q *queue) Counters() hardware.Counters {
	c := q.counters
	for _, w := range q.workers {
		c.WeightBytes += w.weightBytes
	}
	return c
}

// Idle implements hardware.Queue.
func (q *queue) Idle() { q.device.pool.rest() }

// Close implements hardware.Queue. A step is over when Run returns, so no worker holds anything of the queue.
func (q *queue) Close() error {
	if q.closed {
		return nil
	}
	q.closed = true
	q.device.returnBytes(q.memory.Total())
	q.weightMem.release()
	q.blockMem.release()
	q.stateMem.release()
	q.scratchMem.release()
	return nil
}

// measure adds up what the queue will allocate.
func (q *queue) measure() hardware.Memory {
	m := hardware.Memory{Block: int64(q.blockBytes), Slot: int64(q.slotBytes), Snapshot: int64(q.snapshotBytes)}
	for _, w := range q.weights {
		m.Weights = min(memoryLimit, m.Weights+w.bytes())
	}
	m.Blocks = product(q.limits.Blocks, q.blockBytes)
	m.States = min(memoryLimit, product(q.limits.Slots, q.slotBytes)+product(q.limits.Snapshots, q.snapshotBytes))
	var c carver
	q.reserveScratch(&c)
	m.Scratch = int64(c.used)
	return m
}

// reserveScratch takes everything but weights and blocks from one region.
func (q *queue) reserveScratch(c *carver) {
	arena := c.bytes(q.arenaBytes)
	for _, t := range q.tensors {
		switch {
		case t.carried:
			t.mem = carve[float32](c, t.bytes(&q.limits)/4)
		case c.mem != nil && t.section >= 0:
			t.mem = floatsOf(arena[t.offset:][:t.bytes(&q.limits)])
		}
	}
	for _, r := range q.ropes {
		r.reserve(c, &q.limits)
	}
	for _, r := range q.routes {
		n := maxRows(r.rows, &q.limits) * r.topK
		r.chosen, r.weights = carve[int32](c, n), carve[float32](c, n)
	}
	for _, p := range q.plans {
		p.reserve(c)
	}
	for _, s := range q.selections {
		s.reserve(c, &q.limits)
	}
	q.tiles, q.partials = c.bytes(q.tileBytes), carve[float32](c, q.partialCount)
	q.scores = carve[float32](c, q.scoreCount)
	q.experts.reserve(c, &q.expertSizes)
	q.step.positions, q.step.blocks = carve[int32](c, q.limits.Tokens), carve[int32](c, q.limits.Tokens)
	q.step.spans = carve[int32](c, q.limits.Tokens)
	for _, h := range q.histories {
		h.slots = carve[progress](c, q.limits.Slots)
	}
	q.step.fresh = carve[int32](c, q.limits.Tokens/blockLen+q.limits.Spans)
	q.ones = carve[float32](c, q.onesCount)
	for i := range q.ones {
		q.ones[i] = 1
	}
	for _, w := range q.workers {
		w.reserve(c, &q.sizes)
	}
	if q.device.options.NoFuse {
		q.traceRows = carve[float32](c, q.maxWritten())
	}
}

// maxWritten is the most elements that an operation writes.
func (q *queue) maxWritten() int {
	most := 0
	for s := range q.program.NumSections() {
		for _, op := range q.program.Ops(hardware.Section(s)) {
			n := 0
			for _, t := range op.Args.Writes(nil) {
				n += t.Size() * maxRows(t.Rows(), &q.limits)
			}
			most = max(most, n)
		}
	}
	return most
}

// allocate takes the memory and fills the tables.
func (q *queue) allocate(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			q.weightMem.release()
			q.blockMem.release()
			q.stateMem.release()
			q.scratchMem.release()
		}
	}()
	none := region{release: func() {}}
	q.weightMem, q.blockMem, q.stateMem, q.scratchMem = none, none, none, none
	if q.weightMem, err = newRegion(int(q.memory.Weights)); err != nil {
		return err
	}
	if q.blockMem, err = newRegion(int(q.memory.Blocks)); err != nil {
		return err
	}
	if q.stateMem, err = newRegion(int(q.memory.States)); err != nil {
		return err
	}
	if q.scratchMem, err = newRegion(int(q.memory.Scratch)); err != nil {
		return err
	}
	weights := carver{mem: q.weightMem.mem}
	for _, w := range q.weights {
		w.reserve(&weights)
	}
	q.reserveScratch(&carver{mem: q.scratchMem.mem})
	for _, r := range q.ropes {
		r.fill()
	}
	return packWeights(ctx, q.weights, q.device.options.Threads, q.limits.Progress)
}
