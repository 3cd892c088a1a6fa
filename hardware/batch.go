package hardware

import "fmt"

// BlockLen is the number of positions in a cache block, and the length of an attention tile.
const BlockLen = 64

// Batch is one step. The caller owns it, allocates it once for its limits and rewrites it every step; a queue has read
// all of it when Run returns.
type Batch struct {
	Tokens  []int32 // [n], one per row
	Spans   []Span  // cover rows 0..n in order, one per sequence
	Outputs []int32 // rows whose outputs are wanted, ascending
	Inputs  []int32 // [n] rows of the carried tensors, for sections that gather them; nil elsewhere
	Tables  []int32 // block ids of all spans
}

// Span is the part of a step that belongs to one sequence: rows [Row, Row+Len) are positions [Start, Start+Len).
// Decode and prefill are only different lengths.
//
//	Tables: ...|b0|b1|b2|...      block i of the sequence holds positions [i*BlockLen, (i+1)*BlockLen)
//	            ^Table
type Span struct {
	Row, Len, Start int32
	Table           int32 // offset into Tables of block 0
	Slot            int32 // the sequence's slot; ignored by programs without state
	// Draft is how many of the last rows may be taken back: the next span of the sequence may start at any of them. With
	// state, positions below a multiple of BlockLen stay when one at or above it is computed, so draft rows lie in one block.
	Draft int32
}

// Blocks returns how many blocks the span's positions need.
func (s Span) Blocks() int { return (int(s.Start+s.Len) + BlockLen - 1) / BlockLen }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Tokens, b.Spans, b.Outputs, b.Inputs, b.Tables = b.Tokens[:0], b.Spans[:0], b.Outputs[:0], b.Inputs[:0], b.Tables[:0]
}

// NewBatch returns an empty batch with room for the limits.
func NewBatch(l Limits) *Batch {
	return &Batch{
		Tokens:  make([]int32, 0, l.Tokens),
		Spans:   make([]Span, 0, l.Spans),
		Outputs: make([]int32, 0, l.Outputs),
		Inputs:  make([]int32, 0, l.Tokens),
		Tables:  make([]int32, 0, l.Spans*((l.MaxLen+BlockLen-1)/BlockLen)),
	}
}

// Validate returns an error naming the first thing about the batch that breaks the contract. It costs a few operations
// per span, token and block; devices call it and panic, since a bad batch is a bug of the caller.
func (b *Batch) Validate(l *Limits, vocab int) error {
	if len(b.Tokens) > l.Tokens || len(b.Spans) > l.Spans || len(b.Outputs) > l.Outputs {
		return fmt.Errorf("hardware: batch of %d tokens, %d spans, %d outputs exceeds the limits %d, %d, %d",
			len(b.Tokens), len(b.Spans), len(b.Outputs), l.Tokens, l.Spans, l.Outputs)
	}
	for i, token := range b.Tokens {
		if token < 0 || int(token) >= vocab {
			return fmt.Errorf("hardware: batch token %d is %d, the vocabulary has %d", i, token, vocab)
		}
	}
	next := int32(0)
	for i, s := range b.Spans {
		switch {
		case s.Row != next || s.Len <= 0:
			return fmt.Errorf("hardware: span %d covers rows %d+%d, want them to start at %d", i, s.Row, s.Len, next)
		case s.Start < 0 || int(s.Start)+int(s.Len) > l.MaxLen:
			return fmt.Errorf("hardware: span %d covers positions %d+%d, the longest sequence is %d", i, s.Start, s.Len, l.MaxLen)
		case s.Table < 0 || int(s.Table)+s.Blocks() > len(b.Tables):
			return fmt.Errorf("hardware: span %d needs block table entries %d+%d of %d", i, s.Table, s.Blocks(), len(b.Tables))
		case s.Draft < 0 || s.Draft >= s.Len || int(s.Draft) > l.MaxDraft:
			return fmt.Errorf("hardware: span %d of %d rows has %d of drafts, the most is %d", i, s.Len, s.Draft, l.MaxDraft)
		case l.Slots > 0:
			if err := b.validateSlot(i, l); err != nil {
				return err
			}
		}
		for j, id := range b.Tables[s.Table:][:s.Blocks()] {
			if id < 0 || int(id) >= l.Blocks {
				return fmt.Errorf("hardware: span %d: block %d has id %d of %d", i, j, id, l.Blocks)
			}
		}
		next += s.Len
	}
	if int(next) != len(b.Tokens) {
		return fmt.Errorf("hardware: spans cover %d rows of %d tokens", next, len(b.Tokens))
	}
	if len(b.Inputs) > 0 && len(b.Inputs) != len(b.Tokens) {
		return fmt.Errorf("hardware: batch of %d tokens has %d inputs", len(b.Tokens), len(b.Inputs))
	}
	for i, row := range b.Inputs {
		if row < 0 || int(row) >= l.Tokens {
			return fmt.Errorf("hardware: input %d is row %d, steps have up to %d", i, row, l.Tokens)
		}
	}
	last := int32(-1)
	for i, row := range b.Outputs {
		if row <= last || int(row) >= len(b.Tokens) {
			return fmt.Errorf("hardware: output %d is row %d, after %d, of %d rows", i, row, last, len(b.Tokens))
		}
		last = row
	}
	return nil
}

// validateSlot checks what spans of programs with state must keep.
func (b *Batch) validateSlot(i int, l *Limits) error {
	s := b.Spans[i]
	if s.Slot < 0 || int(s.Slot) >= l.Slots {
		return fmt.Errorf("hardware: span %d has slot %d of %d", i, s.Slot, l.Slots)
	}
	for j, other := range b.Spans[:i] {
		if other.Slot == s.Slot {
			return fmt.Errorf("hardware: spans %d and %d both have slot %d", j, i, s.Slot)
		}
	}
	if end := s.Start + s.Len; s.Draft > 0 && (end-s.Draft)/BlockLen != (end-1)/BlockLen {
		return fmt.Errorf("hardware: span %d: the last %d of %d positions are drafts and lie in two blocks", i, s.Draft, end)
	}
	return nil
}
