package sample

import (
	"math"
	"math/bits"
)

// draw returns the place of a token that is not after last, with the probability that the softmax of logit/temperature
// gives it among those.
//
// It is drawn by rejection (von Neumann 1951), so that only the largest logit of each part has to be weighed: a part is
// chosen in proportion to a bound of its weight, as if all its tokens were as probable as its best; then any of its
// tokens, which is taken with the probability that it has in proportion to the best one, or else all is done again. A
// token is so taken with a probability proportional to
//
//	partLen e^(m/T) * 1/partLen * e^((l-m)/T) = e^(l/T)
//
// as it should be. The best token of every part that may be chosen is always taken: on average it takes partLen attempts
// at most, of some nanoseconds, and it takes few where logits are much alike.
func (r *Row) draw(temperature, best float32, last ranked, random *stream) int32 {
	scale := min(1/temperature, math.MaxFloat32) // infinite, it would make 0 * Inf of the best
	cumulative, total := r.scratch.cumulative[:r.numParts()], 0.0
	for i := range cumulative {
		m := r.largest(i)
		if m > last.key || m == last.key && int32(i*r.partLen) <= last.id {
			total += float64(exp((m - best) * scale))
		}
		cumulative[i] = total
	}
	for {
		part := search(cumulative, random.uniform()*total)
		high, _ := bits.Mul64(random.next(), uint64(r.partLen)) // the bias of 2^-58 is nobody's
		i := part*r.partLen + int(high)
		if i >= len(r.logits) {
			continue // the last part is shorter
		}
		l := r.logits[i]
		if l < last.key || l == last.key && int32(i) > last.id {
			continue
		}
		if random.uniform() < float64(exp((l-r.largest(part))*scale)) {
			return int32(i)
		}
	}
}

// search returns the first place whose cumulative sum is larger than x; rounding may have brought x to the last of them,
// and then it is the place that reaches it.
func search(cumulative []float64, x float64) int {
	x = min(x, math.Nextafter(cumulative[len(cumulative)-1], 0))
	lo, n := 0, len(cumulative)
	for n > 0 {
		if half := n / 2; cumulative[lo+half] <= x {
			lo, n = lo+half+1, n-half-1
		} else {
			n = half
		}
	}
	return lo
}

// stream is a sequence of random numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", 2014).
type stream uint64

const golden = 0x9e3779b97f4a7c15

// newStream returns the sequence of a position. The seed is mixed first, so that neighbouring seeds, which the choices of
// one request have, begin in unrelated places; then the position, so that positions do.
func newStream(seed uint64, position int) stream {
	return stream(mix(mix(seed+golden) + golden*uint64(position+1)))
}

func (s *stream) next() uint64 {
	*s += golden
	return mix(uint64(*s))
}

// uniform returns a number in [0, 1).
func (s *stream) uniform() float64 { return float64(s.next()>>11) / (1 << 53) }

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
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
