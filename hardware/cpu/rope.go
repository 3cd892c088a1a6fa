package cpu

import (
	"math"

	"hearth/hardware"
)

// A position p = 256a + b is turned by the angles 256a·f and b·f one after the other: two small tables of cosines and
// sines in double precision, whose product is rounded once, give any position's own bits.
const ropeFine = 256

// rotation is a declared rotary embedding with its tables.
type rotation struct {
	pairing     hardware.Pairing
	magnitude   float64
	frequencies []float64 // radians per position of each pair, negative to turn back
	pairs       int

	coarseCos, coarseSin []float64 // [positions / ropeFine][pairs]
	fineCos, fineSin     []float64 // [ropeFine][pairs]
	cos, sin             []float32 // [limit of tokens][pairs], of this step's rows
}

// reserve takes the memory of the tables.
func (o *rotation) reserve(c *carver, l *hardware.Limits) {
	coarse := (l.MaxLen + ropeFine - 1) / ropeFine
	o.coarseCos, o.coarseSin = carve[float64](c, coarse*o.pairs), carve[float64](c, coarse*o.pairs)
	o.fineCos, o.fineSin = carve[float64](c, ropeFine*o.pairs), carve[float64](c, ropeFine*o.pairs)
	o.cos, o.sin = carve[float32](c, l.Tokens*o.pairs), carve[float32](c, l.Tokens*o.pairs)
}

// fill computes the two tables.
func (o *rotation) fill() {
	for i := range o.coarseCos {
		o.coarseSin[i], o.coarseCos[i] = math.Sincos(float64(i/o.pairs*ropeFine) * o.frequencies[i%o.pairs])
	}
	for i := range o.fineCos {
		o.fineSin[i], o.fineCos[i] = math.Sincos(float64(i/o.pairs) * o.frequencies[i%o.pairs])
	}
}

func (o *rotation) shape() (hardware.Rows, int) { return hardware.Tokens, 1 }

// block computes the cosines and sines of rows, once per step for all layers.
func (o *rotation) block(w *worker, b rowBlock) {
	for r := b.first; r < b.last; r++ {
		o.angles(o.cos[r*o.pairs:][:o.pairs], o.sin[r*o.pairs:][:o.pairs], int(w.step.positions[r]))
	}
}

// angles computes the cosines and sines of a position.
func (o *rotation) angles(cos, sin []float32, position int) {
	cosA, sinA := o.coarseCos[position/ropeFine*o.pairs:], o.coarseSin[position/ropeFine*o.pairs:]
	cosB, sinB := o.fineCos[position%ropeFine*o.pairs:], o.fineSin[position%ropeFine*o.pairs:]
	for i := range cos {
		cos[i] = float32(o.magnitude * (float64(cosA[i]*cosB[i]) - float64(sinA[i]*sinB[i])))
		sin[i] = float32(o.magnitude * (float64(sinA[i]*cosB[i]) + float64(cosA[i]*sinB[i])))
	}
}

// turns returns the kernel that rotates the pairs of a head.
func (o *rotation) turns(k *kernels) func(dst, x, cos, sin []float32) {
	if o.pairing == hardware.HalfSplit {
		return k.rotateHalves
	}
	return k.rotatePairs
}

// rope turns the pairs of each head.
type rope struct {
	x, dst view
	by     *rotation
}

func (o *rope) shape() (hardware.Rows, int) { return hardware.Tokens, o.x.heads }

func (o *rope) block(w *worker, b rowBlock) {
	rotate := o.by.turns(w.kernels)
	n := 2 * o.by.pairs
	lo, hi := b.heads(o.x.heads)
	for r := b.first; r < b.last; r++ {
		cos, sin := o.by.cos[r*o.by.pairs:][:o.by.pairs], o.by.sin[r*o.by.pairs:][:o.by.pairs]
		for h := lo; h < hi; h++ {
			x, dst := o.x.head(r, h), o.dst.head(r, h)
			rotate(dst[:n], x[:n], cos, sin)
			copy(dst[n:], x[n:])
		}
	}
}
