package sample

import (
	"math"
	"slices"
)

// candidates are the tokens that may still be drawn, in ascending order of id. The slices are a Scratch's memory; a
// filter moves what it keeps to their front.
type candidates struct {
	ids    []int32
	logits []float32
	best   float32 // largest of logits
}

// filter returns the tokens that may be drawn; best is the largest logit.
func (s *Sampler) filter(logits []float32, best float32, scratch *Scratch) candidates {
	c := s.candidates(logits, best, scratch)
	if p := s.params.TypicalP; p > 0 && p < 1 {
		c = c.typicalP(p, scratch)
	}
	if p := s.params.TopP; p > 0 && p < 1 {
		c = c.topP(p, scratch)
	}
	if p := s.params.MinP; p > 0 {
		c = c.minP(p)
	}
	return c
}

// negligible is the logarithm of 2^-40: tokens that much less probable than the best are not candidates. Drawing one
// would take years, and most of a large vocabulary is among them.
const negligible = -40 * math.Ln2

// candidates returns the top-k tokens, or all that are not negligible at the request's temperature.
func (s *Sampler) candidates(logits []float32, best float32, scratch *Scratch) candidates {
	last := ranked{key: best + negligible*max(s.params.Temperature, 1), id: math.MaxInt32}
	if k := s.params.TopK; k > 0 && k < len(logits) {
		if worst := largest(logits, scratch.ranked[:k])[0]; worst.before(last) {
			last = worst
		}
	}
	n := 0
	for i, l := range logits {
		// -Inf is refused even where best + negligible overflows to it.
		if l < last.key || l == last.key && int32(i) > last.id || l == negInf {
			continue
		}
		scratch.ids[n], scratch.logits[n] = int32(i), l
		n++
	}
	return candidates{scratch.ids[:n], scratch.logits[:n], best}
}

// minP keeps the tokens at least p times as probable as the best.
func (c candidates) minP(p float32) candidates {
	least := c.best + float32(math.Log(float64(p)))
	n := 0
	for i, l := range c.logits {
		if l >= least {
			c.ids[n], c.logits[n] = c.ids[i], l
			n++
		}
	}
	return candidates{c.ids[:n], c.logits[:n], c.best}
}

// topP keeps the smallest set of the most probable tokens whose probabilities add up to at least p.
func (c candidates) topP(p float32, scratch *Scratch) candidates {
	weights := c.softmax(1, scratch)
	total := sum(weights)
	// Tokens below the threshold have less than 1-p together, so those above have more than p and hold the whole set.
	threshold := float32(float64(1-p) * total / float64(len(weights)) * (1 - 1e-6)) // room for rounding
	list := scratch.ranked[:0]
	for i, w := range weights {
		if w >= threshold {
			list = append(list, ranked{c.logits[i], c.ids[i], w})
		}
	}
	last := crossing(list, float64(p)*total)
	n := 0
	for i, l := range c.logits {
		if !last.before(ranked{key: l, id: c.ids[i]}) {
			c.ids[n], c.logits[n] = c.ids[i], l
			n++
		}
	}
	return candidates{c.ids[:n], c.logits[:n], c.best}
}

// typicalP keeps the smallest set of tokens, those first whose surprise -ln(p) is nearest its mean, the entropy, whose
// probabilities add up to at least p (arXiv 2202.00666 §4).
func (c candidates) typicalP(p float32, scratch *Scratch) candidates {
	weights := c.softmax(1, scratch)
	total := sum(weights)
	logTotal := float32(math.Log(total))
	mean := 0.0
	for i, w := range weights {
		mean += float64(w) * float64(logTotal-(c.logits[i]-c.best))
	}
	entropy := float32(mean / total)
	atypical := func(l float32) float32 {
		return float32(math.Abs(float64(logTotal - (l - c.best) - entropy)))
	}
	list := scratch.ranked[:len(weights)]
	for i, w := range weights {
		list[i] = ranked{-atypical(c.logits[i]), c.ids[i], w}
	}
	last := crossing(list, float64(p)*total)
	n := 0
	for i, l := range c.logits {
		if !last.before(ranked{key: -atypical(l), id: c.ids[i]}) {
			c.ids[n], c.logits[n] = c.ids[i], l
			n++
		}
	}
	return candidates{c.ids[:n], c.logits[:n], slices.Max(c.logits[:n])}
}

// softmax returns the probabilities of the candidates as multiples of the best one's, which is 1.
func (c candidates) softmax(temperature float32, scratch *Scratch) []float32 {
	weights := scratch.weights[:len(c.logits)]
	scale := min(1/temperature, math.MaxFloat32) // infinite, it would make 0 * Inf of the best
	for i, l := range c.logits {
		weights[i] = exp((l - c.best) * scale)
	}
	return weights
}

// ranked is a token in the order of a filter: larger keys first, lower ids on a tie.
type ranked struct {
	key    float32
	id     int32
	weight float32 // probability, up to a common factor
}

func (a ranked) before(b ranked) bool { return a.key > b.key || a.key == b.key && a.id < b.id }

// largest fills heap with the len(heap) largest logits and returns it as a heap whose root is the smallest of them.
func largest(logits []float32, heap []ranked) []ranked {
	for i := range heap {
		heap[i] = ranked{key: logits[i], id: int32(i)}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	root := heap[0].key
	for i, l := range logits[len(heap):] {
		if l > root { // on a tie the lower id is in the heap already
			heap[0] = ranked{key: l, id: int32(len(heap) + i)}
			sink(heap, 0)
			root = heap[0].key
		}
	}
	return heap
}

// sink moves the element at i down to its place in a heap whose root comes last in order.
func sink(heap []ranked, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if right := child + 1; right < len(heap) && heap[child].before(heap[right]) {
			child = right
		}
		if !heap[i].before(heap[child]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// crossing returns the element at which the weights, added up in order, reach mass; the last one if they never do. It
// reorders list: a quickselect that looks for a sum instead of an index, linear on average.
func crossing(list []ranked, mass float64) ranked {
	for len(list) > 1 {
		// list[:upper] comes before the pivot, which is then list[upper].
		upper, before := partition(list)
		switch {
		case before >= mass:
			list = list[:upper]
		case before+float64(list[upper].weight) >= mass || upper == len(list)-1:
			return list[upper]
		default:
			mass -= before + float64(list[upper].weight)
			list = list[upper+1:]
		}
	}
	return list[0]
}

// partition moves what comes before a pivot to the front and returns the pivot's place and the weights before it. The
// pivot is the median of three, which orders that occur, such as ascending, do not make quadratic.
func partition(list []ranked) (place int, before float64) {
	lo, mid, hi := 0, len(list)/2, len(list)-1
	if list[mid].before(list[lo]) {
		lo, mid = mid, lo
	}
	if list[hi].before(list[mid]) {
		mid = hi
		if list[mid].before(list[lo]) {
			mid = lo
		}
	}
	end := len(list) - 1
	list[mid], list[end] = list[end], list[mid]
	pivot := list[end]
	for i := range list[:end] {
		if list[i].before(pivot) {
			before += float64(list[i].weight)
			list[place], list[i] = list[i], list[place]
			place++
		}
	}
	list[place], list[end] = list[end], list[place]
	return place, before
}

// sum adds in four lanes, so that an addition need not wait for the one before.
func sum(x []float32) float64 {
	var a, b, c, d float64
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a += float64(x[i])
		b += float64(x[i+1])
		c += float64(x[i+2])
		d += float64(x[i+3])
	}
	for ; i < len(x); i++ {
		a += float64(x[i])
	}
	return a + b + (c + d)
}

// exp is e^x for x <= 0, to a relative 2e-7, and 0 below the smallest normal number: x = n ln 2 + r with |r| <= ln(2)/2,
// and e^r by the polynomial of Cephes' expf (netlib.org/cephes, single). It takes a fraction of math.Exp's time, whose
// further digits nobody sees here.
func exp(x float32) float32 {
	if x < -87 {
		return 0
	}
	// Adding 3*2^22 leaves no room for a fraction: n is then in the low bits of the sum, and no conversion is needed.
	const ln2Hi, ln2Lo, round = 0.693359375, -2.12194440e-4, 3 << 22
	t := x*math.Log2E + round
	n := t - round
	r := x - n*ln2Hi - n*ln2Lo // n*ln2Hi is exact
	r2 := r * r                // in pairs, so that products need not wait for each other
	p := ((1.9875691500e-4*r+1.3981999507e-3)*r2+8.3334519073e-3*r+4.1665795894e-2)*r2 + 1.6666665459e-1*r + 5.0000001201e-1
	return (p*r2 + r + 1) * math.Float32frombits(math.Float32bits(t)<<23+127<<23)
}
