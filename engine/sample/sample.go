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

// Next returns the token that follows tokens, the prompt and what was drawn so far. It changes the row, and allocates
// nothing. The error is an ErrNoToken.
func (s *Sampler) Next(r *Row, tokens []int32) (int32, error) {
	if len(r.logits) != s.vocab {
		panic(fmt.Sprintf("sample: Next: %d logits, the vocabulary has %d", len(r.logits), s.vocab))
	}
	s.addBias(r)
	s.penalize(r, tokens)
	r.refresh()
	best, err := r.best()
	if err != nil || s.params.Temperature == 0 {
		return best.id, err
	}
	from, most, last := s.filter(r, best.key)
	random := newStream(s.params.Seed, len(tokens))
	return from.token(from.draw(s.params.Temperature, most, last, &random)), nil
}

// filter applies the filters in order. It returns the row to draw from, which is another one after typical-p, its largest
// logit, and the last token that may be drawn: those after it are out.
func (s *Sampler) filter(r *Row, best float32) (from *Row, most float32, last ranked) {
	last = r.topK(s.params.TopK)
	if p := s.params.TypicalP; p > 0 && p < 1 {
		r, best = r.typicalP(p, best, last)
		last = everything
	}
	if p := s.params.TopP; p > 0 && p < 1 {
		last = r.topP(p, best, last)
	}
	if p := s.params.MinP; p > 0 {
		if least := minP(p, best); least.before(last) {
			last = least
		}
	}
	return r, best, last
}
