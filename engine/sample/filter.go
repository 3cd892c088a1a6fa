package sample

import "math"

// ranked is a token in the order of all filters: larger keys first, lower ids on a tie.
type ranked struct {
	key    float32
	id     int32
	weight float32 // what crossing adds up
}

func (a ranked) before(b ranked) bool { return a.key > b.key || a.key == b.key && a.id < b.id }

// everything comes after all tokens that are possible.
var everything = ranked{key: -math.MaxFloat32, id: math.MaxInt32}

// topK returns the last of the k largest logits.
func (r *Row) topK(k int) ranked {
	if k <= 0 || k >= len(r.logits) {
		return everything
	}
	floor := float32(-math.MaxFloat32)
	list := r.scratch.ranked[:0]
	for i := range r.numParts() {
		if m := r.largest(i); m >= floor {
			list = append(list, ranked{m, int32(i), 1})
		}
	}
	if len(list) >= k { // k parts reach it, so k tokens do
		floor = crossing(list, float64(k)).key
	}
	if list = r.upTo(ranked{key: floor, id: math.MaxInt32}); len(list) < k {
		return everything
	}
	for i := range list {
		list[i].weight = 1
	}
	return crossing(list, float64(k))
}

// upTo returns the tokens that are not after last, by id, in scratch memory.
func (r *Row) upTo(last ranked) []ranked {
	list := r.scratch.ranked[:0]
	for i := range r.numParts() {
		if r.largest(i) < last.key {
			continue
		}
		for j, l := range r.part(i) {
			if l < last.key {
				continue
			}
			if t := (ranked{key: l, id: int32(i*r.partLen + j)}); !last.before(t) {
				list = append(list, t)
			}
		}
	}
	return list
}

// topP returns the last token of the smallest set of the most probable ones that has the part p of the probability of
// all those that are not after last.
func (r *Row) topP(p, best float32, last ranked) ranked {
	if last == everything {
		return r.topPOfAll(float64(p), best)
	}
	list, total := r.upTo(last), 0.0
	for i := range list {
		w := exp(list[i].key - best)
		list[i].weight = w
		total += float64(w)
	}
	return crossing(list, float64(p)*total)
}

// topPOfAll weighs logits by intervals, and then those of one interval one by one.
func (r *Row) topPOfAll(p float64, best float32) ranked {
	h := &r.scratch.histogram
	total := r.total(best)
	floor := r.floor(p, total, best)
	h.reset(best, floor)
	for i := range r.numParts() {
		if r.largest(i) >= floor {
			h.add(r.part(i), floor)
		}
	}
	interval, before := h.find(p * total)
	list := r.scratch.ranked[:0]
	least, most := h.bounds(interval)
	least = max(least, floor)
	for i := range r.numParts() {
		if r.largest(i) < least {
			continue
		}
		for j, l := range r.part(i) {
			if l >= least && l <= most && h.interval(l) == interval {
				list = append(list, ranked{l, int32(i*r.partLen + j), exp(l - best)})
			}
		}
	}
	return crossing(list, p*total-before)
}

// floor, after total, returns a logit such that the tokens from it on have at least the part p of the total probability,
// as far as the parts can tell: a part whose largest logit is below the floor has nothing above it, and another one has
// less below the floor than as many times e^floor as it has tokens.
func (r *Row) floor(p, total float64, best float32) float32 {
	h := &r.scratch.histogram
	// With all parts above a floor, this one is low enough.
	lowest := best + float32(math.Log((1-p)*total/float64(len(r.logits))))
	h.reset(best, lowest)
	for i := range r.numParts() {
		if m := r.largest(i); m >= lowest {
			at := h.interval(m)
			h.sums[at] += r.scratch.masses[i]
			h.counts[at]++
		}
	}
	sum, count, ratio := 0.0, 0.0, math.Exp(-1/h.scale)
	for i, bound := 0, ratio; i < intervals; i, bound = i+1, bound*ratio {
		sum += h.sums[i]
		count += h.counts[i]
		if sum-count*float64(r.partLen)*bound >= p*total*(1+1e-5) { // room for rounding
			return best - float32(float64(i+1)/h.scale)
		}
	}
	return lowest - 1e-3 // room for rounding
}

// minP returns what comes after all tokens that are at least p times as probable as the best.
func minP(p, best float32) ranked {
	return ranked{key: max(best+float32(math.Log(float64(p))), -math.MaxFloat32), id: math.MaxInt32}
}

// histogram adds up e^(l-top) of logits l, by intervals of equal length from the largest one, top, down. Those of an
// interval all come before those of the next one.
type histogram struct {
	top    float64
	scale  float64 // intervals per unit
	sums   [intervals]float64
	counts [intervals]float64
}

// intervals are so many that one is a fiftieth at most, and few tokens are in it.
const intervals = 2048

// reset empties the histogram and makes it reach from one logit down to another.
func (h *histogram) reset(top, bottom float32) {
	h.top, h.scale = float64(top), intervals
	if top > bottom {
		h.scale = intervals / (float64(top) - float64(bottom))
	}
	clear(h.sums[:])
	clear(h.counts[:])
}

// interval returns the interval of a logit between top and bottom.
func (h *histogram) interval(l float32) int {
	return min(int((h.top-float64(l))*h.scale), intervals-1)
}

// bounds returns two logits, between which are all those of an interval, and few others.
func (h *histogram) bounds(interval int) (least, most float32) {
	const room = 1. / 64 // of an interval, for rounding
	least, most = float32(h.top-(float64(interval)+1+room)/h.scale), float32(h.top-(float64(interval)-room)/h.scale)
	if interval == intervals-1 {
		least = -math.MaxFloat32 // the last one is open
	}
	return math.Nextafter32(least, negInf), math.Nextafter32(most, float32(math.Inf(1)))
}

// add adds those logits that are not below the bottom, up to a factor that is the same for all of an interval.
func (h *histogram) add(logits []float32, bottom float32) {
	width := 1 / h.scale
	for _, l := range logits {
		if l < bottom {
			continue
		}
		x := (h.top - float64(l)) * h.scale
		i := min(int(x), intervals-1)
		f := (float64(i) - x) * width // in (-0.02, 0], where Taylor's polynomial is good to 1e-8
		h.sums[i] += 1 + f*(1+f*(1./2+f*(1./6)))
	}
}

// find returns the interval in which the sums, added up in order, reach mass, the last one that is not empty if they
// never do; and the sum of those before it.
func (h *histogram) find(mass float64) (interval int, before float64) {
	sum, factor, ratio := 0.0, 1.0, math.Exp(-1/h.scale)
	for i, s := range h.sums {
		if s == 0 {
			factor *= ratio
			continue
		}
		interval, before = i, sum
		if sum += s * factor; sum >= mass {
			break
		}
		factor *= ratio
	}
	return interval, before
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
