package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hearth/engine/api"
	"hearth/hardware"
	"hearth/kvcache"
	"hearth/kvcache/disk"
)

// Block is a part of the computed state of a prefix: the rows of its last BlockLen tokens, or what a sequence remembers
// beside rows after them.
type Block struct {
	Tokens int  // length of the prefix that it ends
	State  bool // the state after the last token, rather than rows
	Data   []byte
}

// ErrBlock says that a block does not belong to the prefix, or to this model.
var ErrBlock = errors.New("engine: block does not fit")

// Export gives yield the blocks of a tenant's prefix in order, from memory or disk, up to the first that is in neither; a
// state comes after the block at whose end it stands. Data may be used until yield returns. An error of yield ends it.
func (e *Engine) Export(ctx context.Context, tenant string, tokens []int32, yield func(Block) error) error {
	p := e.prefixOf(tenant, tokens)
	rows, state := make([]byte, e.memory.Block), make([]byte, e.memory.Snapshot)
	for i := range p.keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		length := (i + 1) * hardware.BlockLen
		hasRows, hasState := false, false
		if err := e.ask(ctx, func(l *loop) {
			l.scheduler.cache.Walk(p.salt, tokens[:length], func(c kvcache.Cached) bool {
				if c.Length < length {
					return true
				}
				l.queue.ReadBlock(int(c.ID), rows)
				if hasRows, hasState = true, c.Snapshot >= 0; hasState {
					l.queue.ReadState(int(c.Snapshot), state)
				}
				return false
			})
		}); err != nil {
			return err
		}
		if !hasRows && !e.readRecord(p, tenant, i, disk.Block, rows) {
			return nil
		}
		if err := yield(Block{Tokens: length, Data: rows}); err != nil {
			return err
		}
		if !hasState && (len(state) == 0 || !e.readRecord(p, tenant, i, disk.State, state)) {
			continue
		}
		if err := yield(Block{Tokens: length, State: true, Data: state}); err != nil {
			return err
		}
	}
	return nil
}

// readRecord reads a record that fills dst.
func (e *Engine) readRecord(p prefix, tenant string, block int, kind disk.Kind, dst []byte) bool {
	if e.disk == nil {
		return false
	}
	n, err := e.disk.Read(tenant, p.keys[block], kind, dst)
	return err == nil && n == len(dst)
}

// Import takes the blocks of a prefix that Export gave in another process, or here, in the same order, until next returns
// io.EOF. They are kept on disk, or in memory where there is no disk, as long as there is room, and only where nothing is
// yet. What they hold is believed: whoever brings blocks decides what their tenant's next requests read. The caller makes
// sure that the fingerprints are equal. It returns how many tokens of the prefix have their blocks now: without an error,
// those on disk are durable.
func (e *Engine) Import(ctx context.Context, tenant string, tokens []int32, next func() (Block, error)) (int, error) {
	p := e.prefixOf(tenant, tokens)
	done, err := e.importBlocks(ctx, tenant, p, next)
	if e.disk != nil && done > 0 {
		if failed := e.disk.Sync(ctx); failed != nil {
			err = errors.Join(err, fmt.Errorf("engine: importing: %w", failed))
		}
		kept := 0
		for kept < done && e.loop.tier.has(tenant, p.keys[kept], disk.Block) {
			kept++
		}
		if kept < done {
			err = errors.Join(err, fmt.Errorf("engine: importing: the disk store did not keep %d of %d blocks", done-kept, done))
		}
		done = kept
	}
	return done * hardware.BlockLen, err
}

// importBlocks takes blocks until there are no more, or no room, and returns how many of the prefix it took.
func (e *Engine) importBlocks(ctx context.Context, tenant string, p prefix, next func() (Block, error)) (done int, err error) {
	put := e.importToMemory
	if e.disk != nil {
		put = e.importToDisk
	}
	full := min(len(p.keys), e.limits.MaxLen/hardware.BlockLen)
	for {
		b, err := next()
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
		if err := e.checkBlock(b, done, full); err != nil {
			return done, err
		}
		kept, err := put(ctx, tenant, p, b)
		if err != nil || !kept {
			return done, err
		}
		if !b.State {
			done++
		}
	}
}

// checkBlock reports a block that is not the next one of a prefix of so many full blocks.
func (e *Engine) checkBlock(b Block, done, full int) error {
	want, size := (done+1)*hardware.BlockLen, e.memory.Block
	if b.State {
		want, size = done*hardware.BlockLen, e.memory.Snapshot
	}
	switch {
	case b.Tokens != want || want == 0 || b.Tokens > full*hardware.BlockLen:
		return fmt.Errorf("%w: it ends at token %d, want %d of %d", ErrBlock, b.Tokens, want, full*hardware.BlockLen)
	case size == 0 || int64(len(b.Data)) != size:
		return fmt.Errorf("%w: it has %d bytes, want %d", ErrBlock, len(b.Data), size)
	}
	return nil
}

func (e *Engine) importToDisk(ctx context.Context, tenant string, p prefix, b Block) (bool, error) {
	last := b.Tokens/hardware.BlockLen - 1
	record := disk.Record{Tenant: tenant, Key: p.keys[last], Kind: disk.Block, Tokens: b.Tokens}
	if b.State {
		record.Kind = disk.State
	}
	if last > 0 {
		record.Parent = p.keys[last-1]
	}
	if _, ok := e.disk.Has(tenant, record.Key, record.Kind); ok {
		return true, nil
	}
	if err := e.ask(ctx, func(l *loop) { record.Recompute = l.pace.cost.block(b.Tokens) }); err != nil {
		return false, err
	}
	record.Data = append([]byte(nil), b.Data...)
	for range maxRefusals {
		if e.disk.Put(record) {
			return true, nil
		}
		if err := e.disk.Sync(ctx); err != nil {
			return false, fmt.Errorf("engine: importing: %w", err)
		}
		if failing := e.disk.Stats().Failing; failing != nil {
			return false, fmt.Errorf("engine: importing: %w", failing)
		}
	}
	return false, nil
}

// maxRefusals is how often a store may refuse a record for a full queue, which requests fill as well. One that refuses it
// more often has no room for anything of that size.
const maxRefusals = 100

// importToMemory adds a block to the cache; kept is false when there is no room for it.
func (e *Engine) importToMemory(ctx context.Context, _ string, p prefix, b Block) (kept bool, err error) {
	asked := e.ask(ctx, func(l *loop) {
		s := l.scheduler
		if len(s.running) == s.maxSequences {
			err = api.ErrBusy
			return
		}
		table := s.tables[len(s.tables)-1]
		defer s.cache.Release(table)
		before := s.cache.Hold(table, p.salt, p.tokens, b.Tokens/hardware.BlockLen) * hardware.BlockLen
		switch {
		case b.State && before == b.Tokens:
			var snapshot int32
			if snapshot, kept = s.cache.Attach(table, b.Tokens, kvcache.Lasting); kept {
				l.queue.WriteState(int(snapshot), b.Data)
			}
			kept = true // or there is one
		case b.State || before < b.Tokens-hardware.BlockLen: // what came before was evicted
		case before == b.Tokens:
			kept = true
		case s.cache.Grow(table, b.Tokens) == nil:
			l.queue.WriteBlock(int(table.Blocks()[b.Tokens/hardware.BlockLen-1]), b.Data)
			s.cache.Publish(table, p.salt, p.tokens[:b.Tokens])
			kept = true
		}
	})
	return kept, errors.Join(asked, err)
}
