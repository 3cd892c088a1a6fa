package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"hearth/hardware"
	"hearth/kvcache"
	"hearth/kvcache/disk"
)

// tier moves blocks and states between the cache and the disk. The loop owns it, and copies between the device and buffers;
// readers and the store's writer work on the buffers alone, so that the loop waits for no disk.
//
//	device → ReadBlock → buffer → Put → the store's writer → Release → buffer is free → …
//	reader: Read → buffer → results → the loop: WriteBlock → device, buffer is free → …
//
// Invariants:
//  1. A buffer is free, at the store's writer, at a reader, in results, or held by a restore: a state waits for its blocks.
//  2. jobs and results have room for all buffers that read, so that neither loop nor readers wait to send. Jobs without a
//     buffer are sent only while fewer than prefetchAhead are in jobs, which has room for so many more.
//  3. What comes for a restore that has ended is dropped.
type tier struct {
	store      records // nil: there is no disk
	blockBytes int
	stateBytes int // 0: sequences have no state
	log        *slog.Logger

	writes  *writeBuffers // for blocks
	states  *writeBuffers // for states
	refused int           // rounds in a row in which the store took nothing while it had none of our buffers
	pause   int           // rounds to leave it alone

	jobs    chan reading
	results chan reading
	readers sync.WaitGroup
	blocks  readBuffers
	saved   readBuffers // of states
	wake    func()
	last    time.Time     // when a record came from the disk
	flush   time.Duration // most time that Close waits for the disk
	always  bool          // restore whatever is on disk, and wait for it: for tests
}

// A tier has memory for so many bytes on their way to the disk, and for as many on the way back, and for a few blocks at
// least. The loop copies at most roundBytes between two steps, which takes some milliseconds.
const (
	bufferBytes  = 64 << 20
	roundBytes   = 32 << 20
	minBuffers   = 4
	maxBuffers   = 64
	stateBuffers = 2
	numReaders   = 2
)

// longestPause is the most rounds that a failing store is left alone.
const longestPause = 32

// tryAgain is how often the loop offers what is unsaved while it has nothing else to do.
const tryAgain = time.Second

// flushTime bounds how long Close waits for the disk, unless a test has more patience.
const flushTime = 15 * time.Second

// newTier returns a tier whose readers do not run yet.
func newTier(store records, memory hardware.Memory, e *Engine, log *slog.Logger) *tier {
	t := &tier{store: store, blockBytes: int(memory.Block), stateBytes: int(memory.Snapshot), log: log, wake: e.nudge, flush: flushTime}
	if store == nil {
		return t
	}
	n := min(max(bufferBytes/max(t.blockBytes, 1), minBuffers), maxBuffers)
	t.writes = newWriteBuffers(n, t.blockBytes, e.nudge)
	t.states = newWriteBuffers(stateBuffers, t.stateBytes, e.nudge)
	t.blocks = readBuffers{most: n, bytes: t.blockBytes}
	t.saved = readBuffers{most: stateBuffers, bytes: t.stateBytes}
	t.jobs = make(chan reading, n+stateBuffers+prefetchAhead)
	t.results = make(chan reading, n+stateBuffers)
	return t
}

// start starts the readers.
func (t *tier) start() {
	if t.store == nil {
		return
	}
	for range numReaders {
		t.readers.Go(t.read)
	}
}

// close stops the readers and waits for them.
func (t *tier) close() {
	if t.store != nil {
		close(t.jobs)
		t.readers.Wait()
	}
}

// has reports whether a record is on disk, or on the way there.
func (t *tier) has(tenant string, key disk.Key, kind disk.Kind) bool {
	_, ok := t.store.Has(tenant, key, kind)
	return ok
}

// writeBuffers are the buffers of what is being written. They come back from any goroutine.
type writeBuffers struct {
	bytes int
	left  int // that may still be made
	free  chan *writeBuffer
	wake  func()
}

// writeBuffer is a buffer with the function that gives it back.
type writeBuffer struct {
	data    []byte
	release func()
}

func newWriteBuffers(n, bytes int, wake func()) *writeBuffers {
	return &writeBuffers{bytes: bytes, left: n, free: make(chan *writeBuffer, n), wake: wake}
}

// take returns a free buffer, nil when there is none.
func (w *writeBuffers) take() *writeBuffer {
	select {
	case b := <-w.free:
		return b
	default:
	}
	if w.left == 0 {
		return nil
	}
	w.left--
	b := &writeBuffer{data: make([]byte, w.bytes)}
	b.release = func() {
		w.free <- b // has room for all
		w.wake()
	}
	return b
}

// all reports whether no buffer is at the store.
func (w *writeBuffers) all() bool { return w.left+len(w.free) == cap(w.free) }

// readBuffers are the buffers of what is being read. The loop owns those that are free.
type readBuffers struct {
	most, made int
	bytes      int
	free       [][]byte
}

// take returns a free buffer, nil when there is none.
func (r *readBuffers) take() []byte {
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	if r.made == r.most {
		return nil
	}
	r.made++
	return make([]byte, r.bytes)
}

func (r *readBuffers) put(b []byte) { r.free = append(r.free, b) }

// save gives the store what the cache has unsaved, as much as a round may copy and the store takes. It returns how many
// records that were.
func (l *loop) save() (taken int) {
	t, cache := l.tier, l.scheduler.cache
	if t.store == nil || cache.NumUnsaved() == 0 {
		return 0
	}
	if t.pause > 0 {
		t.pause--
		return 0
	}
	for copied := 0; copied < roundBytes; {
		u, ok := cache.NextUnsaved()
		if !ok {
			break
		}
		if t.has(u.Tenant, u.Key, u.Kind) {
			cache.Saved(u)
			continue
		}
		n, ok := l.put(u)
		if !ok {
			break
		}
		cache.Saved(u)
		taken++
		copied += n
	}
	l.stats.unsaved.Store(int64(cache.NumUnsaved()))
	return taken
}

// put copies a block or a state into a buffer and gives it to the store.
func (l *loop) put(u kvcache.Unsaved) (bytes int, ok bool) {
	t, buffers := l.tier, l.tier.writes
	if u.Kind == disk.State {
		buffers = t.states
	}
	b := buffers.take()
	if b == nil {
		return 0, false // one comes back, and wakes the loop
	}
	if u.Kind == disk.State {
		l.queue.ReadState(int(u.ID), b.data)
	} else {
		l.queue.ReadBlock(int(u.ID), b.data)
	}
	recompute := l.pace.cost.block(u.Length)
	if u.Kind == disk.State { // without it, more than a block is computed
		recompute = l.pace.cost.span(max(u.Length-keepEvery, 0), u.Length)
	}
	if !t.store.Put(disk.Record{
		Tenant: u.Tenant, Key: u.Key, Parent: u.Parent, Kind: u.Kind, Tokens: u.Length,
		Recompute: recompute, Data: b.data, Release: b.release,
	}) {
		buffers.free <- b
		if t.writes.all() && t.states.all() { // else its queue is full of ours
			t.refused++
			t.pause = min(1<<min(t.refused, 16), longestPause)
		}
		return 0, false
	}
	t.refused = 0
	if u.Kind == disk.State {
		l.stats.savedStates.Add(1)
	} else {
		l.stats.savedBlocks.Add(1)
	}
	return len(b.data), true
}

// listPrefix lists as unsaved what is in memory of a prefix and not on disk.
func (l *loop) listPrefix(p prefix) {
	cache := l.scheduler.cache
	cache.Walk(p.salt, p.tokens, func(c kvcache.Cached) bool {
		cache.Save(c.ID, l.tier.has)
		return true
	})
}

// savePrefix saves what is unsaved, and reports whether some of it is left of a prefix; what others have computed
// meanwhile does not count.
func (l *loop) savePrefix(p prefix) (taken int, more bool) {
	l.tier.pause = 0
	taken = l.save()
	cache := l.scheduler.cache
	cache.Walk(p.salt, p.tokens, func(c kvcache.Cached) bool {
		more = cache.Unsaved(c)
		return !more
	})
	return taken, more
}

// missingOnDisk returns how many blocks of a prefix are in memory alone.
func (l *loop) missingOnDisk(tenant string, p prefix) (missing int) {
	l.scheduler.cache.Walk(p.salt, p.tokens, func(c kvcache.Cached) bool {
		if !l.tier.has(tenant, p.keys[c.Length/hardware.BlockLen-1], disk.Block) {
			missing++
		}
		return true
	})
	return missing
}

// finishDisk saves what is unsaved, when the loop ends: of the sequences that run as well.
func (l *loop) finishDisk() {
	if l.tier.store == nil {
		return
	}
	for _, seq := range l.scheduler.running {
		if seq.saved && seq.restore == nil {
			l.scheduler.keepLast(seq)
		}
	}
	l.moveStates()
	ctx, cancel := context.WithTimeout(context.Background(), l.tier.flush)
	defer cancel()
	for refused := 0; l.scheduler.cache.NumUnsaved() > 0 && refused < 2; {
		l.tier.pause = 0
		if l.save() > 0 {
			refused = 0
			continue
		}
		refused++
		if err := l.tier.store.Sync(ctx); err != nil {
			break
		}
	}
	if n := l.scheduler.cache.NumUnsaved(); n > 0 {
		l.log.Warn("computed blocks are lost at the end, for the disk did not take them", "records", n, "error", l.tier.store.Stats().Failing)
	}
}
