package sample

import "math"

const (
	// defaultWindow is how many tokens the penalties see when the request does not say.
	defaultWindow = 64
	// maxPenalty keeps penalised logits finite; useful values are below 3.
	maxPenalty = 100
	// maxBias is the range of OpenAI's API; its lower end bans a token.
	maxBias = 100
)

var negInf = float32(math.Inf(-1))

// biasedToken is one entry of a request's logit bias.
type biasedToken struct {
	id   int32
	bias float32
}

// addBias adds the request's bias.
func (s *Sampler) addBias(r *Row) {
	for _, b := range s.bias {
		if b.bias <= -maxBias {
			r.set(b.id, negInf)
		} else {
			r.set(b.id, r.logits[b.id]+b.bias)
		}
	}
}

// penalize makes the last tokens less likely. A token that occurs c > 0 times in the window gets, once,
//
//	l = l / repeat      if l > 0, else l * repeat    (arXiv 1909.05858 §4.1)
//	l = l - c*frequency - presence                   (OpenAI's API)
func (s *Sampler) penalize(r *Row, tokens []int32) {
	p := &s.params
	if p.RepeatPenalty == 1 && p.FrequencyPenalty == 0 && p.PresencePenalty == 0 {
		return
	}
	if s.window > 0 && len(tokens) > s.window {
		tokens = tokens[len(tokens)-s.window:]
	}
	counts := r.scratch.counts
	for _, id := range tokens {
		counts[id]++
	}
	for _, id := range tokens {
		count := counts[id]
		if count == 0 { // seen before in this loop
			continue
		}
		counts[id] = 0
		l := r.logits[id]
		if l > 0 {
			l /= p.RepeatPenalty
		} else {
			l *= p.RepeatPenalty
		}
		r.set(id, l-(float32(count)*p.FrequencyPenalty+p.PresencePenalty))
	}
}
