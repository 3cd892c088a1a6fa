package sample

import (
	"math"
	"slices"

	"hearth/engine/api"
)

// Logprobs sets p to the log-probability of a token under raw logits, and to those of the n most probable tokens, best
// first. It does not modify logits, and allocates p.Top for n > 0. The error is an ErrNoToken.
func Logprobs(logits []float32, token int32, n int, p *api.Logprob) error {
	best, err := argMax(logits)
	if err != nil {
		return err
	}
	logTotal := logSumExp(logits, logits[best])
	logprob := func(id int32) float32 { return float32(float64(logits[id]) - logTotal) }
	*p = api.Logprob{Token: token, Logprob: logprob(token)}
	if n = min(n, len(logits)); n <= 0 {
		return nil
	}
	top := largest(logits, make([]ranked, n))
	slices.SortFunc(top, func(a, b ranked) int {
		if a.before(b) {
			return -1
		}
		return 1 // no two have the same id
	})
	p.Top = make([]api.TopToken, n)
	for i, t := range top {
		p.Top[i] = api.TopToken{Token: t.id, Logprob: logprob(t.id)}
	}
	return nil
}

// logSumExp is ln(sum of e^l), best being the largest l. Lanes as in sum.
func logSumExp(logits []float32, best float32) float64 {
	var lanes [4]float64
	for i, l := range logits {
		lanes[i&3] += float64(exp(l - best))
	}
	return float64(best) + math.Log(lanes[0]+lanes[1]+(lanes[2]+lanes[3]))
}
