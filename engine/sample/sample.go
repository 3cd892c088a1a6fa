package sample

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"hearth/engine/api"
)

// ErrNoToken says that the logits leave nothing to choose from: one of them is not a number, or all are minus infinity.
var ErrNoToken = errors.New("sample: no token can be drawn")

// Sampler holds the parameters of one request, checked and ready for use. It is read-only and safe for concurrent use.
type Sampler struct {
	params api.Sampling
	bias   []biasedToken // ascending ids
	window int           // how many of the last tokens the penalties see
	vocab  int
}

// New checks the parameters for a vocabulary of that size. The error is an *api.FieldError.
func New(params api.Sampling, vocab int) (*Sampler, error) {
	for _, f := range []struct {
		name          string
		value, lo, hi float32
	}{
		{"temperature", params.Temperature, 0, math.MaxFloat32},
		{"top_p", params.TopP, 0, 1},
		{"min_p", params.MinP, 0, 1},
		{"typical_p", params.TypicalP, 0, 1},
		{"repeat_penalty", params.RepeatPenalty, 0, maxPenalty},
		{"frequency_penalty", params.FrequencyPenalty, -maxPenalty, maxPenalty},
		{"presence_penalty", params.PresencePenalty, -maxPenalty, maxPenalty},
	} {
		if !(f.value >= f.lo && f.value <= f.hi) {
			if f.hi == math.MaxFloat32 {
				return nil, fieldError(f.name, "must be a finite number of at least %v, got %v", f.lo, f.value)
			}
			return nil, fieldError(f.name, "must be between %v and %v, got %v", f.lo, f.hi, f.value)
		}
	}
	switch {
	case params.TopK < 0:
		return nil, fieldError("top_k", "must be at least 0, got %d", params.TopK)
	case params.RepeatLastN < -1:
		return nil, fieldError("repeat_last_n", "must be at least -1, got %d", params.RepeatLastN)
	case params.RepeatPenalty != 0 && params.RepeatPenalty < 1/float32(maxPenalty):
		return nil, fieldError("repeat_penalty", "must be 0 or at least %v, got %v", 1/float32(maxPenalty), params.RepeatPenalty)
	}
	s := &Sampler{params: params, window: params.RepeatLastN, vocab: vocab}
	if s.window == 0 {
		s.window = defaultWindow
	}
	if params.RepeatPenalty == 0 {
		s.params.RepeatPenalty = 1
	}
	for id, bias := range params.LogitBias {
		switch {
		case id < 0 || int(id) >= vocab:
			return nil, fieldError("logit_bias", "names token %d, the vocabulary has %d", id, vocab)
		case !(bias <= maxBias):
			return nil, fieldError("logit_bias", "must be at most %d, got %v for token %d", maxBias, bias, id)
		}
		s.bias = append(s.bias, biasedToken{id, bias})
	}
	slices.SortFunc(s.bias, func(a, b biasedToken) int { return int(a.id - b.id) })
	return s, nil
}

func fieldError(field, format string, args ...any) error {
	return &api.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Next returns the token that follows tokens, the prompt and what was drawn so far. It overwrites logits, of which
// there is one for each token of the vocabulary, and uses the scratch memory during the call. It allocates nothing.
// The error is an ErrNoToken.
func (s *Sampler) Next(logits []float32, tokens []int32, scratch *Scratch) (int32, error) {
	if len(logits) != s.vocab || len(scratch.counts) != s.vocab {
		panic(fmt.Sprintf("sample: Next: %d logits, scratch for %d, the vocabulary has %d", len(logits), len(scratch.counts), s.vocab))
	}
	s.addBias(logits)
	s.penalize(logits, tokens, scratch)
	best, err := argMax(logits)
	if err != nil || s.params.Temperature == 0 {
		return best, err
	}
	c := s.filter(logits, logits[best], scratch)
	return c.draw(s.params.Temperature, uniform(s.params.Seed, len(tokens)), scratch), nil
}

// Ban makes tokens impossible.
func Ban(logits []float32, ids []int32) {
	for _, id := range ids {
		logits[id] = negInf
	}
}

// argMax returns the lowest id of the largest logit.
func argMax(logits []float32) (int32, error) {
	best, at := negInf, -1
	for i, x := range logits {
		if !(x <= best) { // larger, or not a number: one comparison for both
			if x != x || x > math.MaxFloat32 {
				return 0, fmt.Errorf("%w: the logit of token %d is %v", ErrNoToken, i, x)
			}
			best, at = x, i
		}
	}
	if at < 0 {
		return 0, fmt.Errorf("%w: all logits are minus infinity", ErrNoToken)
	}
	return int32(at), nil
}

// sumLen is how many weights are added up before the draw looks at them one by one.
const sumLen = 64

// draw returns the candidate at which the cumulative distribution passes u, which is in [0, 1).
func (c candidates) draw(temperature float32, u float64, scratch *Scratch) int32 {
	weights := c.softmax(temperature, scratch)
	sums, total := scratch.sums[:0], 0.0
	for lo := 0; lo < len(weights); lo += sumLen {
		s := sum(weights[lo:min(lo+sumLen, len(weights))])
		sums = append(sums, s)
		total += s
	}
	rest, lo := u*total, 0
	for _, s := range sums {
		if rest < s {
			break
		}
		rest -= s
		lo += sumLen
	}
	// Sums of parts round differently from the sum of all, so the walk may reach the end: then it was the last one.
	chosen := len(weights) - 1
	for i := lo; i < len(weights); i++ {
		if rest -= float64(weights[i]); rest < 0 {
			chosen = i
			break
		}
	}
	for chosen > 0 && weights[chosen] == 0 { // nor may rounding choose the impossible; the best one's weight is 1
		chosen--
	}
	return c.ids[chosen]
}

// uniform returns the number in [0, 1) of a position: the output at that counter of SplitMix64 (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", 2014). The seed is mixed first, so that neighbouring seeds, which
// the choices of one request have, begin in unrelated places.
func uniform(seed uint64, position int) float64 {
	const golden = 0x9e3779b97f4a7c15
	x := mix(mix(seed+golden) + golden*uint64(position+1))
	return float64(x>>11) / (1 << 53)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Scratch is memory that samplers use during a call. One goroutine uses it at a time.
type Scratch struct {
	kept    []float32 // [vocab] see Keep
	counts  []int32   // [vocab] all zero between calls
	ids     []int32   // [vocab] candidates
	logits  []float32 // [vocab] of the candidates
	weights []float32 // [vocab] of the candidates
	ranked  []ranked  // [vocab]
	sums    []float64 // [vocab/sumLen]
}

// NewScratch returns memory for a vocabulary of that size.
func NewScratch(vocab int) *Scratch {
	return &Scratch{
		kept: make([]float32, vocab), counts: make([]int32, vocab), ids: make([]int32, vocab),
		logits: make([]float32, vocab), weights: make([]float32, vocab), ranked: make([]ranked, vocab),
		sums: make([]float64, 0, (vocab+sumLen-1)/sumLen),
	}
}

// Keep copies logits that Next is about to overwrite.
func (s *Scratch) Keep(logits []float32) { copy(s.kept, logits) }

// Kept returns the copy, valid until the next Keep.
func (s *Scratch) Kept() []float32 { return s.kept }
