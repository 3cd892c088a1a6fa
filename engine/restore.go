package engine

import (
	"time"

	"hearth/hardware"
	"hearth/kvcache/disk"
)

// reading is a record on its way from the disk; or, without a restore, the keys of what will be read soon.
type reading struct {
	restore *restore
	block   int
	kind    disk.Kind
	data    []byte
	err     error

	tenant string
	keys   []disk.Key
}

// read is a reader's goroutine.
func (t *tier) read() {
	for job := range t.jobs {
		r := job.restore
		if r == nil {
			t.store.Prefetch(job.tenant, job.keys)
			continue
		}
		n, err := t.store.Read(r.seq.origin.Tenant, r.keys[job.block], job.kind, job.data)
		if job.err = err; err == nil && n != len(job.data) {
			job.err = disk.ErrMissing // it is of another model, whose fingerprint is the same by accident
		}
		t.results <- job // has room for all
		t.wake()
	}
}

// onDisk returns what is worth restoring for a sequence that starts to run.
func (l *loop) onDisk(seq *sequence) *restore {
	s, t := l.scheduler, l.tier
	usable, cached := s.cache.Lookup(seq.salt, seq.tokens)
	full := min(len(seq.keys), (len(seq.tokens)-1)/hardware.BlockLen)
	r := &restore{seq: seq, keys: seq.keys, first: usable, end: usable, stateful: s.stateful, usable: usable, blockBytes: t.blockBytes, last: l.now()}
	tenant := seq.origin.Tenant
	if s.stateful {
		depth := cached
		for depth < full && t.has(tenant, seq.keys[depth], disk.Block) {
			depth++
		}
		for depth > usable && !t.has(tenant, seq.keys[depth-1], disk.State) {
			depth--
		}
		r.first, r.end = min(cached, depth), depth
	} else {
		for i := usable; i < full; i++ {
			if t.has(tenant, seq.keys[i], disk.Block) {
				r.end = i + 1
			}
		}
	}
	if r.end <= usable {
		return nil
	}
	r.wanted, r.here = make([]bool, r.end-r.first), make([]bool, r.end-r.first)
	for i := range r.wanted {
		if r.wanted[i] = r.stateful || t.has(tenant, seq.keys[r.first+i], disk.Block); r.wanted[i] {
			r.unread++
			r.unreadSize += int64(t.blockBytes)
		}
	}
	if r.next = r.end - 1; r.stateful {
		r.next = r.first
		r.unread++
		r.unreadSize += int64(t.stateBytes)
	}
	if !l.paysToRestore(r) {
		return nil
	}
	return r
}

// paysToRestore reports whether reading takes less time than computing, as far as both are known. Where blocks are computed
// meanwhile, it may take longer and still shorten the work.
func (l *loop) paysToRestore(r *restore) bool {
	speed := l.tier.store.Stats().ReadSpeed
	compute := l.pace.cost.span(r.usable*hardware.BlockLen, r.end*hardware.BlockLen)
	if !r.stateful {
		compute *= 2
	}
	return l.tier.always || l.pace.cost.weight == 0 || speed == 0 || duration(r.unreadSize, speed) <= compute
}

// request gives the readers what restores want next, those that came first before others, as far as there are buffers.
func (l *loop) request() {
	t := l.tier
	for _, r := range l.scheduler.restores {
		if r.stateful && !r.stateAsked {
			if data := t.saved.take(); data != nil {
				r.stateAsked = true
				l.send(reading{restore: r, block: r.end - 1, kind: disk.State, data: data})
			}
		}
		for r.nextWanted() {
			data := t.blocks.take()
			if data == nil {
				return
			}
			l.send(reading{restore: r, block: r.next, kind: disk.Block, data: data})
			r.step()
		}
	}
}

// prefetchAhead is how many waiting sequences the disk is told of.
const prefetchAhead = 4

// prefetch has the system read what the sequences that wait first will ask for, while the readers have little to do.
func (l *loop) prefetch() {
	for _, seq := range l.scheduler.waiting[:min(len(l.scheduler.waiting), prefetchAhead)] {
		if seq.keys != nil && !seq.announced && len(l.tier.jobs) < prefetchAhead {
			seq.announced = true
			l.tier.jobs <- reading{tenant: seq.origin.Tenant, keys: seq.keys}
		}
	}
}

// nextWanted moves next to the next block that is wanted, and reports whether there is one.
func (r *restore) nextWanted() bool {
	for r.at(r.next) >= 0 && !r.wanted[r.at(r.next)] {
		r.step()
	}
	return r.at(r.next) >= 0
}

// step moves next by one: to the end where a state is waited for, else to the beginning.
func (r *restore) step() {
	if r.stateful {
		r.next++
	} else {
		r.next--
	}
}

func (l *loop) send(job reading) {
	if r := job.restore; r.began.IsZero() {
		r.began = l.now()
	}
	l.tier.jobs <- job // has room for all
}

// receive takes what the readers have brought.
func (l *loop) receive() {
	for received := true; received; {
		select {
		case job := <-l.tier.results:
			l.take(job)
		default:
			received = false
		}
	}
	l.scheduler.skip()
	l.dropEnded()
}

// dropEnded takes back the buffers that ended restores still have.
func (l *loop) dropEnded() {
	for _, r := range l.scheduler.ended {
		if r.state != nil {
			l.tier.saved.put(r.state)
			r.state = nil
		}
	}
	clear(l.scheduler.ended)
	l.scheduler.ended = l.scheduler.ended[:0]
}

// take brings a record that was read into the cache.
func (l *loop) take(job reading) {
	t, r := l.tier, job.restore
	t.last = l.now()
	if job.kind == disk.State {
		l.takeState(job)
		return
	}
	defer t.blocks.put(job.data)
	seq := r.seq
	if r.over || !r.wanted[r.at(job.block)] {
		return
	}
	r.last = t.last
	switch {
	case job.err != nil:
		r.settle(job.block, false)
		if r.stateful {
			l.scheduler.restart(seq)
		}
		return
	case job.block*hardware.BlockLen < seq.computed: // it is just being computed
		r.settle(job.block, false)
		return
	}
	id := int(seq.table.Blocks()[job.block])
	l.queue.WriteBlock(id, job.data)
	l.speculation.forget(id)
	l.stats.restoredBlocks.Add(1)
	r.settle(job.block, true)
	if r.stateful && l.scheduler.arrived(seq) {
		l.install(r)
	}
}

// takeState keeps the state of a sequence until its blocks are there.
func (l *loop) takeState(job reading) {
	t, r := l.tier, job.restore
	if r.over || job.err != nil {
		t.saved.put(job.data)
		if !r.over {
			l.scheduler.restart(r.seq)
		}
		return
	}
	r.state, r.last = job.data, t.last
	r.unread--
	r.unreadSize -= int64(t.stateBytes)
	r.gotSize += int64(t.stateBytes)
	l.stats.restoredStates.Add(1)
	if l.scheduler.arrived(r.seq) {
		l.install(r)
	}
}

// install lets a sequence go on from its state, when both the state and the blocks are there.
func (l *loop) install(r *restore) {
	if r.state == nil {
		return
	}
	state, seq := r.state, r.seq
	r.state = nil
	snapshot, write, ok := l.scheduler.install(seq)
	if write {
		l.queue.WriteState(int(snapshot), state)
	}
	l.tier.saved.put(state)
	if !ok {
		seq.keys = nil // there is no memory for it
		l.scheduler.restart(seq)
	}
}

// A sequence computes while it is restored when that saves a fifth of the time at least: else it only gets into the way of
// what it waits for.
const worthComputing = 4

// hold decides which of the sequences that are restored wait for the disk in the next step.
func (l *loop) hold(now time.Time) {
	ahead := int64(0) // bytes that others wait for
	for i := 0; i < len(l.scheduler.restores); i++ {
		r := l.scheduler.restores[i]
		rest := r.estimate(now, l.tier.last, ahead, l.tier.store.Stats().ReadSpeed)
		compute := l.pace.cost.span(r.seq.computed, r.end*hardware.BlockLen)
		switch {
		case l.tier.always:
			r.seq.held = r.stateful || r.unread > 0
		case r.stateful && rest > compute:
			r.seq.keys = nil
			l.stats.abandoned.Add(1)
			l.scheduler.restart(r.seq)
			i--
			continue
		default:
			r.seq.held = r.stateful || r.unread > 0 && worthComputing*rest <= compute
		}
		ahead += r.unreadSize
	}
}

// estimate is about how long it takes until all that is wanted is here, behind what others wait for: by the speed so far,
// or that of earlier reads; and never faster than one record in the time since anything came from the disk, once that is
// noticeable.
func (r *restore) estimate(now, came time.Time, ahead int64, speed float64) time.Duration {
	if elapsed := r.last.Sub(r.began); r.gotSize > 0 && elapsed > 0 {
		speed = float64(r.gotSize) / elapsed.Seconds()
	}
	if came.Before(r.last) {
		came = r.last
	}
	return max(duration(ahead+r.unreadSize, speed), (now.Sub(came)-noticeable)*time.Duration(r.unread))
}

// noticeable is a delay of a read that means more than a busy machine.
const noticeable = 20 * time.Millisecond

// patience is how long the loop sleeps at most: shortly while all that runs waits for the disk, which may not answer, and
// until what the disk did not take is offered again; 0: until there is work.
func (l *loop) patience() time.Duration {
	switch {
	case !l.scheduler.idle():
		return min(max(l.pace.cost.block(hardware.BlockLen)/worthComputing, time.Millisecond), 50*time.Millisecond)
	case l.scheduler.cache.NumUnsaved() > 0:
		return tryAgain
	}
	return 0
}
