package engine

import (
	"math"
	"slices"
)

// prediction is what one row of logits says about the token that follows.
type prediction struct {
	nll float64 // -log of the token's probability
	top bool    // it was the most likely one
	// Beside a reference:
	reference    float64 // nll by the reference
	referenceTop bool    // the token was the most likely one to the reference
	divergence   float64 // KL(reference || model)
	sameTop      bool    // both think the same token the most likely
}

// predict scores a row of logits and the token that followed, beside the row of a reference, which may be nil. All sums
// are of float64: rows of equal bits have a divergence of exactly 0.
func predict(row, reference []float32, token int32) prediction {
	top, norm := logNorm(row)
	p := prediction{nll: norm - float64(row[token]), top: top == int(token)}
	if reference == nil {
		return p
	}
	referenceTop, referenceNorm := logNorm(reference)
	p.reference, p.referenceTop, p.sameTop = referenceNorm-float64(reference[token]), referenceTop == int(token), referenceTop == top
	for i, v := range reference {
		logP := float64(v) - referenceNorm
		if probability := math.Exp(logP); probability > 0 {
			p.divergence += probability * (logP - (float64(row[i]) - norm))
		}
	}
	p.divergence = max(p.divergence, 0) // rounding may leave less
	return p
}

// logNorm returns the index of the largest logit, the lowest on a tie, and log(sum(exp(logits))).
func logNorm(logits []float32) (top int, norm float64) {
	for i, v := range logits {
		if v > logits[top] {
			top = i
		}
	}
	largest, sum := float64(logits[top]), 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - largest)
	}
	return top, largest + math.Log(sum)
}

// Estimate is a mean with its standard error, as far as the values are independent.
type Estimate struct {
	Mean  float64 `json:"value"`
	Error float64 `json:"error"`
}

// estimate returns the mean of n values.
func estimate(n int, value func(i int) float64) Estimate {
	var sum, squares float64
	for i := range n {
		sum += value(i)
	}
	mean := sum / float64(n)
	for i := range n {
		d := value(i) - mean
		squares += d * d
	}
	if n < 2 {
		return Estimate{Mean: mean}
	}
	return Estimate{mean, math.Sqrt(squares / float64(n) / float64(n-1))}
}

// exp is the exponential of an estimate, its error to first order.
func (e Estimate) exp() Estimate {
	value := math.Exp(e.Mean)
	return Estimate{value, value * e.Error}
}

// Scores say how well a model predicts a text.
type Scores struct {
	Perplexity Estimate `json:"perplexity"` // exp of NLL
	NLL        Estimate `json:"nll"`        // negative log-likelihood of a token, in nats
	Top        Estimate `json:"top"`        // share of tokens that were thought the most likely
}

// Divergence says how far a model's predictions are from a reference's: the Kullback-Leibler divergence
// KL(reference || model) of every predicted token, in nats.
type Divergence struct {
	Mean    Estimate `json:"mean"`
	Median  float64  `json:"median"`
	P90     float64  `json:"p90"`
	P99     float64  `json:"p99"`
	P999    float64  `json:"p999"`
	Max     float64  `json:"max"`
	SameTop Estimate `json:"same_top"` // share of tokens where both think the same the most likely
	// NLLDifference is how much less likely the text's tokens are to the model than to the reference, in nats. Of the same
	// tokens it is known far better than either likelihood.
	NLLDifference Estimate `json:"nll_difference"`
	// RMSProbability is the root mean square of the difference of the text's tokens' probabilities.
	RMSProbability float64 `json:"rms_probability"`
}

func newScores(n int, nll func(i int) float64, top func(i int) bool) Scores {
	s := Scores{NLL: estimate(n, nll), Top: estimate(n, func(i int) float64 { return indicator(top(i)) })}
	s.Perplexity = s.NLL.exp()
	return s
}

func newDivergence(list []prediction) *Divergence {
	d := &Divergence{
		Mean:          estimate(len(list), func(i int) float64 { return list[i].divergence }),
		SameTop:       estimate(len(list), func(i int) float64 { return indicator(list[i].sameTop) }),
		NLLDifference: estimate(len(list), func(i int) float64 { return list[i].nll - list[i].reference }),
	}
	moved := estimate(len(list), func(i int) float64 {
		x := math.Exp(-list[i].nll) - math.Exp(-list[i].reference)
		return x * x
	})
	d.RMSProbability = math.Sqrt(moved.Mean)
	sorted := make([]float64, len(list))
	for i, p := range list {
		sorted[i] = p.divergence
	}
	slices.Sort(sorted)
	d.Median, d.P90, d.P99, d.P999, d.Max = quantile(sorted, 0.5), quantile(sorted, 0.9), quantile(sorted, 0.99), quantile(sorted, 0.999), sorted[len(sorted)-1]
	return d
}

// quantile interpolates between the two values nearest to a part of a sorted list.
func quantile(sorted []float64, part float64) float64 {
	at := part * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func indicator(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
