package cpu

import (
	"fmt"
	"math"
	"testing"

	"hearth/hardware/quant"
)

// longest is the largest length that vector kernels are tried with; every shorter one is, too.
const longest = 130

// vectorCase is one call: buffers of a length, each at an odd place between guards.
type vectorCase struct {
	t      *testing.T
	n      int
	guards []guarded
}

// forEachLength runs a test for every level and length.
func forEachLength(t *testing.T, f func(c *vectorCase, k *kernels)) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for n := 0; n <= longest; n++ {
			c := &vectorCase{t: t, n: n}
			f(c, k)
			for _, g := range c.guards {
				g.check(t, fmt.Sprintf("length %d", n))
			}
		}
	})
}

// buffer returns a guarded copy of x.
func (c *vectorCase) buffer(x []float32) []float32 {
	g, data := newGuardedFloats(len(x), len(c.guards)%7)
	copy(data, x)
	c.guards = append(c.guards, g)
	return data
}

// near compares with values in float64: within ulps units of the last place, and infinities and NaN alike.
func (c *vectorCase) near(what string, got []float32, want []float64, ulps float64) {
	c.t.Helper()
	for i, w := range want {
		if !closeTo(got[i], w, ulps) {
			c.t.Fatalf("%s: length %d, element %d is %v, want %v", what, c.n, i, got[i], w)
		}
	}
}

// closeTo reports whether got is within ulps units of the last place of want.
func closeTo(got float32, want, ulps float64) bool {
	g := float64(got)
	if math.IsNaN(want) || math.IsInf(float64(float32(want)), 0) {
		return math.IsNaN(want) && math.IsNaN(g) || g == float64(float32(want)) || math.Abs(want) < math.MaxFloat32*(1+1e-7) && math.Abs(g) > math.MaxFloat32*(1-1e-6)
	}
	_, exponent := math.Frexp(want)
	return math.Abs(g-want) <= ulps*math.Ldexp(1, max(exponent-24, -149))
}

func float64s(x []float32, f func(i int, v float64) float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = f(i, float64(v))
	}
	return y
}

func TestElementwise(t *testing.T) {
	forEachLength(t, func(c *vectorCase, k *kernels) {
		r := newRand(uint64(c.n))
		x, y, z := normals(r, c.n), normals(r, c.n), normals(r, c.n)

		dst := c.buffer(y)
		k.add(dst, c.buffer(x))
		c.near("add", dst, float64s(x, func(i int, v float64) float64 { return float64(y[i] + x[i]) }), 0)

		dst = c.buffer(x)
		k.scale(dst, 0.3)
		c.near("scale", dst, float64s(x, func(i int, v float64) float64 { return float64(x[i] * float32(0.3)) }), 0)

		dst = c.buffer(y)
		k.addScaled(dst, c.buffer(x), 0.3)
		for i := range dst {
			exact := float64(y[i]) + float64(float32(0.3))*float64(x[i])
			bound := (math.Abs(float64(y[i])) + math.Abs(float64(x[i]))) * 0x1p-23
			if math.Abs(float64(dst[i])-exact) > bound {
				t.Fatalf("addScaled: length %d, element %d is %v, want %v", c.n, i, dst[i], exact)
			}
		}

		dst = c.buffer(y)
		k.addPositive(dst, c.buffer(x), -0.3)
		for i := range dst {
			exact := float64(y[i]) - float64(float32(0.3))*max(0, float64(x[i]))
			bound := (math.Abs(float64(y[i])) + math.Abs(float64(x[i]))) * 0x1p-23
			if math.Abs(float64(dst[i])-exact) > bound {
				t.Fatalf("addPositive: length %d, element %d is %v, want %v", c.n, i, dst[i], exact)
			}
		}

		dst = c.buffer(y)
		k.mulAdd(dst, c.buffer(x), c.buffer(z))
		for i := range dst {
			exact := float64(y[i]) + float64(x[i])*float64(z[i])
			bound := (math.Abs(float64(y[i])) + math.Abs(float64(x[i])*float64(z[i]))) * 0x1p-23
			if math.Abs(float64(dst[i])-exact) > bound {
				t.Fatalf("mulAdd: length %d, element %d is %v, want %v", c.n, i, dst[i], exact)
			}
		}

		scaled := float64s(x, func(i int, v float64) float64 { return float64(float32(x[i]*0.3) * z[i]) })
		dst = c.buffer(y)
		k.scaleMul(dst, c.buffer(x), c.buffer(z), 0.3)
		c.near("scaleMul", dst, scaled, 0)
		dst = c.buffer(x)
		k.scaleMul(dst, dst, c.buffer(z), 0.3)
		c.near("scaleMul in place", dst, scaled, 0)
	})
}

func TestSumSquares(t *testing.T) {
	forEachLength(t, func(c *vectorCase, k *kernels) {
		x := normals(newRand(uint64(c.n)), c.n)
		var want float64
		for _, v := range x {
			want += float64(v) * float64(v)
		}
		if got := k.sumSquares(c.buffer(x)); !closeTo(got, want, 8) {
			c.t.Fatalf("length %d: %v, want %v", c.n, got, want)
		}
	})
}

func TestMaxOf(t *testing.T) {
	forEachLength(t, func(c *vectorCase, k *kernels) {
		x := normals(newRand(uint64(c.n)), c.n)
		for at := range x {
			x[at] -= 10 // all negative, so that zeros beyond the end would show
		}
		want := float32(math.Inf(-1))
		for _, v := range x {
			want = max(want, v)
		}
		if got := k.maxOf(c.buffer(x)); got != want {
			c.t.Fatalf("length %d: %v, want %v", c.n, got, want)
		}
		for at := range x {
			y := c.buffer(x)
			y[at] = 5
			if got := k.maxOf(y); got != 5 {
				c.t.Fatalf("length %d: 5 at %d, got %v", c.n, at, got)
			}
			y[at] = float32(math.NaN())
			if got := k.maxOf(y); got != got {
				c.t.Fatalf("length %d: NaN at %d, got %v", c.n, at, got)
			}
			c.guards = c.guards[:1]
		}
	})
}

func TestExpSum(t *testing.T) {
	forEachLength(t, func(c *vectorCase, k *kernels) {
		x := normals(newRand(uint64(c.n)), c.n)
		for i := range x {
			x[i] *= 10
		}
		const shift = 7.25
		want := float64s(x, func(i int, v float64) float64 { return math.Exp(float64(x[i] - shift)) })
		var total float64
		for _, v := range want {
			total += v
		}
		for _, dst := range [][]float32{c.buffer(x), c.buffer(make([]float32, c.n))} {
			src := dst // in place
			if c.n > 0 && dst[0] != x[0] {
				src = c.buffer(x)
			}
			sum := k.expSum(dst, src, shift)
			c.near("expSum", dst, want, expUlps)
			if !closeTo(sum, total, 10) {
				c.t.Fatalf("length %d: sum %v, want %v", c.n, sum, total)
			}
		}
	})
}

// expUlps is how far the exponential may be from the true one, in units of the last place.
const expUlps = 1

// TestExpAll goes through the whole range of float32 in small steps, and its ends.
func TestExpAll(t *testing.T) {
	x := []float32{0, -0, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 88.7228, 88.7229, 88.73, 89, 1e4, math.MaxFloat32,
		-87.33, -87.34, -103.27, -103.28, -103.97, -103.98, -104, -105, -1e4, -math.MaxFloat32, 0x1p-149, -0x1p-149}
	step := float32(0.00037)
	if testing.Short() {
		step = 0.0137
	}
	for v := float32(-110); v < 95; v += step {
		x = append(x, v)
	}
	forEachLevel(t, func(t *testing.T, k *kernels) {
		dst := make([]float32, len(x))
		k.expSum(dst, x, 0)
		for i, v := range x {
			if want := math.Exp(float64(v)); !closeTo(dst[i], want, expUlps) {
				t.Fatalf("exp(%v) = %v, want %v", v, dst[i], want)
			}
		}
		if dst[0] != 1 || dst[3] != 0 || dst[2] != float32(math.Inf(1)) {
			t.Errorf("exp of 0, -Inf and Inf: %v, %v, %v", dst[0], dst[3], dst[2])
		}
	})
}

// TestUnits compares gated linear units, apart and into either operand.
func TestUnits(t *testing.T) {
	const slope, limit, shift = 1.7, 3, 1
	clip := func(v, least float64) float64 { return min(max(v, least), limit) }
	sigmoid := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	for _, unit := range []struct {
		name   string
		kernel func(k *kernels) func(dst, gate, up []float32)
		want   func(g, u float64) float64
	}{
		{"siluMul", func(k *kernels) func(dst, gate, up []float32) { return k.siluMul }, func(g, u float64) float64 { return g * sigmoid(g) * u }},
		{"sigmoidMul", func(k *kernels) func(dst, gate, up []float32) { return k.sigmoidMul }, func(g, u float64) float64 { return sigmoid(g) * u }},
		{"clippedMul", func(k *kernels) func(dst, gate, up []float32) {
			return func(dst, gate, up []float32) { k.clippedMul(dst, gate, up, slope, limit, shift) }
		}, func(g, u float64) float64 {
			g = clip(g, math.Inf(-1))
			return g * sigmoid(float64(float32(slope))*g) * (clip(u, -limit) + shift)
		}},
	} {
		t.Run(unit.name, func(t *testing.T) {
			forEachLength(t, func(c *vectorCase, k *kernels) {
				r := newRand(uint64(c.n))
				gate, up := normals(r, c.n), normals(r, c.n)
				for i := range gate {
					gate[i] *= []float32{1, 10, 1e3, 1e30}[r.IntN(4)]
				}
				kernel := unit.kernel(k)
				check := func(what string, dst []float32) {
					for i, g := range gate {
						// Where e^-x overflows, the true result is below what float32 can hold.
						w, ulps := unit.want(float64(g), float64(up[i])), 4.0
						if unit.name == "clippedMul" { // rounds slope * g, which is an exponent
							ulps += 2 * math.Abs(float64(g))
						}
						if !closeTo(dst[i], w, ulps) && math.Abs(float64(dst[i])-w) > 1e-36 {
							c.t.Fatalf("%s: length %d, of %v and %v is %v, want %v", what, c.n, g, up[i], dst[i], w)
						}
					}
				}
				dst := c.buffer(make([]float32, c.n))
				kernel(dst, c.buffer(gate), c.buffer(up))
				check("apart", dst)
				dst = c.buffer(gate)
				kernel(dst, dst, c.buffer(up))
				check("into gate", dst)
				dst = c.buffer(up)
				kernel(dst, c.buffer(gate), dst)
				check("into up", dst)
				if c.n > 0 {
					gate[c.n-1] = float32(math.NaN())
					dst = c.buffer(gate)
					if kernel(dst, dst, c.buffer(up)); dst[c.n-1] == dst[c.n-1] {
						c.t.Fatalf("length %d: NaN becomes %v", c.n, dst[c.n-1])
					}
				}
			})
		})
	}
}

func TestRotate(t *testing.T) {
	forEachLength(t, func(c *vectorCase, k *kernels) {
		r := newRand(uint64(c.n))
		x := normals(r, 2*c.n)
		cos, sin := make([]float32, c.n), make([]float32, c.n)
		for i := range cos {
			s, co := math.Sincos(r.Float64() * 100)
			cos[i], sin[i] = float32(co), float32(s)
		}
		for name, rotate := range map[string]func(dst, x, cos, sin []float32){"halves": k.rotateHalves, "pairs": k.rotatePairs} {
			want := make([]float64, len(x))
			for i := range cos {
				a, b := i, i+c.n
				if name == "pairs" {
					a, b = 2*i, 2*i+1
				}
				u, v, co, s := float64(x[a]), float64(x[b]), float64(cos[i]), float64(sin[i])
				want[a], want[b] = u*co-v*s, v*co+u*s
			}
			inPlace := c.buffer(x)
			rotate(inPlace, inPlace, c.buffer(cos), c.buffer(sin))
			apart := c.buffer(make([]float32, len(x)))
			rotate(apart, c.buffer(x), c.buffer(cos), c.buffer(sin))
			for i, w := range want {
				if math.Abs(float64(apart[i])-w) > 1e-6 || apart[i] != inPlace[i] {
					c.t.Fatalf("%s: %d pairs, element %d is %v and in place %v, want %v", name, c.n, i, apart[i], inPlace[i], w)
				}
			}
		}
	})
}

func TestHalves(t *testing.T) {
	forEachLength(t, func(c *vectorCase, k *kernels) {
		r := newRand(uint64(c.n))
		x := normals(r, c.n)
		special := []float32{0, 65504, 65519.99, 65520, 1e9, float32(math.Inf(-1)), float32(math.NaN()), 0x1p-24, 0x1p-25, 0x1.8p-24, 0x1p-14, 1.0009765625, 1.00048828125, -0x1p-149}
		for i := range x {
			if r.IntN(3) == 0 {
				x[i] = special[r.IntN(len(special))]
			}
		}
		g := newGuarded(2*c.n, 2*(c.n%5))
		k.halves(g.data, c.buffer(x))
		g.check(t, "halves")
		for i, v := range x {
			got, want := element.at(elementF16, g.data, i), quant.F16ToF32(quant.F32ToF16(v))
			if math.Float32bits(got) != math.Float32bits(want) && (got == got || want == want) {
				c.t.Fatalf("length %d: half of %v is %v, want %v", c.n, v, got, want)
			}
		}
	})
}

// TestHalvesOfE4M3 unpacks every code that is a number, in runs of all lengths that kernels have.
func TestHalvesOfE4M3(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for n := 32; n <= 256; n += 32 {
			codes := make([]byte, n)
			for i := range codes {
				if codes[i] = byte(i * 9); codes[i]&0x7f == 0x7f {
					codes[i] = 0
				}
			}
			g := newGuarded(2*n, 2*(n/32%5))
			k.halvesOfE4M3(g.data, codes)
			g.check(t, "halvesOfE4M3")
			for i, code := range codes {
				if got, want := scaleOfHalves*element.at(elementF16, g.data, i), quant.E4M3ToF32(code); math.Float32bits(got) != math.Float32bits(want) {
					t.Fatalf("code %#x of %d is %v, want %v", code, n, got, want)
				}
			}
		}
	})
}

func TestRows(t *testing.T) {
	forEachLength(t, func(c *vectorCase, k *kernels) {
		r := newRand(uint64(c.n))
		for _, rows := range []int{0, 1, 3} {
			dstStride, xStride := c.n+r.IntN(4), c.n+r.IntN(4)
			x, old := normals(r, rows*xStride), normals(r, rows*dstStride)
			copied, added := c.buffer(old), c.buffer(old)
			k.copyRows(copied, dstStride, x, xStride, rows, c.n)
			k.addRows(added, dstStride, x, xStride, rows, c.n)
			for i, v := range old {
				copy, sum := v, v
				if row, col := i/dstStride, i%dstStride; col < c.n {
					copy, sum = x[row*xStride+col], v+x[row*xStride+col]
				}
				if copied[i] != copy || added[i] != sum {
					c.t.Fatalf("%d rows of %d: element %d is %v and %v, want %v and %v", rows, c.n, i, copied[i], added[i], copy, sum)
				}
			}
		}
	})
}

// TestVectorsAllocateNothing covers what runs per step.
func TestVectorsAllocateNothing(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		x, y, z := make([]float32, 64), make([]float32, 64), make([]float32, 64)
		h := make([]byte, 128)
		if n := testing.AllocsPerRun(5, func() {
			k.add(x, y)
			k.scale(x, k.sumSquares(y))
			k.scaleMul(x, y, z, k.maxOf(z))
			k.siluMul(x, y, z)
			k.addScaled(x, y, k.expSum(z, y, 1))
			k.rotateHalves(x, x, y[:32], z[:32])
			k.rotatePairs(x, x, y[:32], z[:32])
			k.halves(h, x)
			k.copyRows(x, 16, y, 32, 2, 9)
			k.addRows(x, 16, y, 32, 2, 9)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
