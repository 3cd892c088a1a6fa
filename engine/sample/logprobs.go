package sample

import (
	"math"
	"slices"

	"hearth/engine/api"
)

// Top sets p to the n most probable tokens, best first, as the model's logits have them, and remembers what Logprob
// needs. It comes before any change, does not modify the logits, and allocates p.Top for n > 0. The error is an
// ErrNoToken.
func (r *Row) Top(n int, p *api.Logprob) error {
	best, err := r.best()
	if err != nil {
		return err
	}
	r.logTotal = float64(best.key) + math.Log(r.total(best.key))
	*p = api.Logprob{}
	if n = min(n, len(r.logits)); n <= 0 {
		return nil
	}
	top := r.upTo(r.topK(n))
	slices.SortFunc(top, func(a, b ranked) int {
		if a.before(b) {
			return -1
		}
		return 1 // no two have the same id
	})
	p.Top = make([]api.TopToken, len(top))
	for i, t := range top {
		p.Top[i] = api.TopToken{Token: t.id, Logprob: float32(float64(t.key) - r.logTotal)}
	}
	return nil
}

// Logprob returns the log-probability that the model gave a token, after Top.
func (r *Row) Logprob(token int32) float32 { return float32(float64(r.raw(token)) - r.logTotal) }
