package sample

import (
	"fmt"
	"math"
)

// Row is the logits of one position while a token is drawn from them, with what their softmax needs in parts of
// consecutive tokens: the largest logit m of each, and the sum of e^(l-m). Most of a large vocabulary is never looked at:
// where a part's largest logit is out, so are the others.
//
// Invariants:
//
//  1. After refresh, the largest logit of every part is right. A part's sum is right, or unknown.
//  2. ids is nil where a logit's place is its token, and ascending, so that the lower place is the lower id.
type Row struct {
	scratch  *Scratch
	logits   []float32 // [vocab]
	parts    []float32 // [ceil(vocab/partLen), 2] largest, sum
	partLen  int
	ids      []int32  // of the logits
	changes  []change // since Scratch.Row, oldest first
	fresh    int      // changes that the parts know
	logTotal float64  // ln(sum of e^l) of the logits as they came, where Top was asked for
}

// change is a logit before it was overwritten.
type change struct {
	id  int32
	was float32
}

// What stands for the sum of a part that was changed.
const (
	unknown = -1
	stale   = -2 // the largest logit is unknown as well
)

// Scratch is memory that draws use. One goroutine uses it at a time, for one row at a time.
type Scratch struct {
	row, rest  Row       // rest is what typical-p leaves of row
	counts     []int32   // [vocab] all zero between calls
	ranked     []ranked  // [vocab]
	masses     []float64 // [parts] see Row.total
	cumulative []float64 // [parts] see Row.draw
	histogram  histogram
}

// NewScratch returns memory for rows of a vocabulary of that size, whose parts have so many tokens.
func NewScratch(vocab, partLen int) *Scratch {
	numParts := (vocab + partLen - 1) / partLen
	s := &Scratch{
		counts: make([]int32, vocab), ranked: make([]ranked, vocab),
		masses: make([]float64, numParts), cumulative: make([]float64, numParts),
	}
	s.row = Row{scratch: s, partLen: partLen, changes: make([]change, 0, vocab)}
	s.rest = Row{
		scratch: s, partLen: partLen,
		logits: make([]float32, vocab), ids: make([]int32, vocab), parts: make([]float32, 2*numParts),
	}
	return s
}

// Row returns a row of logits with their parts, [parts, 2], ready to draw from. It is valid, and the slices are its own
// to overwrite, until the next call.
func (s *Scratch) Row(logits, parts []float32) *Row {
	if len(logits) != len(s.counts) || len(parts) != 2*len(s.cumulative) {
		panic(fmt.Sprintf("sample: Row: %d logits in %d parts, scratch for %d in %d", len(logits), len(parts)/2, len(s.counts), len(s.cumulative)))
	}
	s.row.logits, s.row.parts, s.row.changes, s.row.fresh = logits, parts, s.row.changes[:0], 0
	return &s.row
}

// Ban makes tokens impossible.
func (r *Row) Ban(ids []int32) {
	for _, id := range ids {
		r.set(id, negInf)
	}
}

// set overwrites a logit.
func (r *Row) set(id int32, l float32) {
	r.changes = append(r.changes, change{id, r.logits[id]})
	r.logits[id] = l
}

// raw returns the logit of a token as it came.
func (r *Row) raw(id int32) float32 {
	for _, c := range r.changes {
		if c.id == id {
			return c.was
		}
	}
	return r.logits[id]
}

// token returns the token of a place.
func (r *Row) token(place int32) int32 {
	if r.ids == nil {
		return place
	}
	return r.ids[place]
}

// refresh brings the parts of overwritten logits up to date.
func (r *Row) refresh() {
	for _, c := range r.changes[r.fresh:] { // first all are marked, so that none is computed twice
		r.parts[2*(int(c.id)/r.partLen)+1] = stale
	}
	for _, c := range r.changes[r.fresh:] {
		if part := int(c.id) / r.partLen; r.parts[2*part+1] == stale {
			r.findLargest(part)
		}
	}
	r.fresh = len(r.changes)
}

// findLargest computes the largest logit of a part and leaves its sum unknown, or what tells that a logit is no number.
func (r *Row) findLargest(part int) {
	most, sum := negInf, float32(unknown)
	for _, l := range r.part(part) {
		if !(l <= most) { // larger, or not a number: one comparison for both
			if most = l; l != l || l > math.MaxFloat32 {
				sum = float32(math.NaN())
				break
			}
		}
	}
	r.parts[2*part], r.parts[2*part+1] = most, sum
}

// numParts is the number of parts.
func (r *Row) numParts() int { return len(r.parts) / 2 }

// part returns the logits of a part.
func (r *Row) part(i int) []float32 {
	return r.logits[i*r.partLen : min((i+1)*r.partLen, len(r.logits))]
}

// largest returns the largest logit of a part.
func (r *Row) largest(part int) float32 { return r.parts[2*part] }

// best returns the largest logit and its place, the lowest on a tie.
func (r *Row) best() (ranked, error) {
	most, at := negInf, -1
	for i := 0; i < len(r.parts); i += 2 {
		if sum := r.parts[i+1]; sum != sum {
			return ranked{}, r.notANumber(i / 2)
		}
		if l := r.parts[i]; l > most {
			most, at = l, i/2
		}
	}
	if at < 0 {
		return ranked{}, fmt.Errorf("%w: all logits are minus infinity", ErrNoToken)
	}
	for i, l := range r.part(at) {
		if l == most {
			return ranked{key: l, id: int32(at*r.partLen + i)}, nil
		}
	}
	panic(fmt.Sprintf("sample: part %d has no logit %v, the largest of its %d", at, most, len(r.part(at))))
}

// notANumber is the error for a part with a logit that is none.
func (r *Row) notANumber(part int) error {
	for i, l := range r.part(part) {
		if l != l || l > math.MaxFloat32 {
			return fmt.Errorf("%w: the logit of token %d is %v", ErrNoToken, part*r.partLen+i, l)
		}
	}
	return fmt.Errorf("%w: the sum of part %d is not a number", ErrNoToken, part)
}

// total returns the sum of e^(l-best), and leaves that of each part in masses.
func (r *Row) total(best float32) float64 {
	total := 0.0
	for i := range r.numParts() {
		m, sum := r.parts[2*i], r.parts[2*i+1]
		if sum == unknown {
			sum = expSum(r.part(i), m)
			r.parts[2*i+1] = sum
		}
		r.scratch.masses[i] = float64(sum) * float64(exp(m-best))
		total += r.scratch.masses[i]
	}
	return total
}

// expSum is the sum of e^(l-m), m being the largest of the logits; 0 where all are minus infinity.
func expSum(logits []float32, m float32) float32 {
	if m == negInf {
		return 0
	}
	var lanes [4]float32
	for i, l := range logits {
		lanes[i&3] += exp(l - m)
	}
	return lanes[0] + lanes[1] + (lanes[2] + lanes[3])
}
