package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/hardware/quant"
)

// machineLevels lists the levels that this machine runs, best first.
func machineLevels() []level {
	return slices.DeleteFunc(levels(), func(l level) bool { return l.lacks != "" })
}

// availableLevels names them.
func availableLevels() []string {
	var names []string
	for _, l := range machineLevels() {
		names = append(names, l.name)
	}
	return names
}

// forEachLevel runs a test once per level of this machine.
func forEachLevel(t *testing.T, f func(t *testing.T, k *kernels)) {
	for _, name := range availableLevels() {
		k, _, err := selectKernels(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { f(t, k) })
	}
}

// assemblyHere lists the levels in assembly that this machine runs, best first.
func assemblyHere() []level {
	levels := machineLevels()
	return levels[:len(levels)-1]
}

// guard stands around buffers; nothing else writes it.
const guard = 0x5a

// guarded is a buffer between guard values.
type guarded struct {
	all  []byte
	data []byte
}

// newGuarded returns n bytes that start skip bytes behind a cache line.
func newGuarded(n, skip int) guarded {
	all := heapAllocate(128 + skip + n + 64)
	for i := range all {
		all[i] = guard
	}
	return guarded{all, all[128+skip : 128+skip+n]}
}

// newGuardedFloats returns n elements that start skip elements behind a cache line, each NaN.
func newGuardedFloats(n, skip int) (guarded, []float32) {
	g := newGuarded(4*n, 4*skip)
	x := floatsOf(g.data)
	for i := range x {
		x[i] = float32(math.NaN())
	}
	return g, x
}

// check fails the test when something beside the buffer was written.
func (g guarded) check(t *testing.T, what string) {
	t.Helper()
	start := len(g.all) - 64 - len(g.data)
	for i, b := range g.all {
		if (i < start || i >= start+len(g.data)) && b != guard {
			t.Fatalf("%s: byte %d of a buffer of %d was written", what, i-start, len(g.data))
		}
	}
}

// extremeValues are inputs that need care.
func extremeValues() []float32 {
	inf := float32(math.Inf(1))
	return []float32{0, 0x1p-149, 0x1p-121, 0x1p-120, -0x1p-119, 1e36, math.MaxFloat32, -math.MaxFloat32, inf, -inf, float32(math.NaN())}
}

// extremes scatters elements that need care: ties of rounding, zeros, tiny and huge ones, and some that are not finite.
func extremes(x []float32, seed int) {
	r := newRand(uint64(seed))
	for range len(x) / 64 {
		x[r.IntN(len(x))] = extremeValues()[r.IntN(len(extremeValues()))]
	}
	if seed%3 == 0 {
		clear(x[:len(x)/2])
	}
	if seed%5 == 0 {
		for i := range x {
			x[i] = float32(i%255-127) / 2
		}
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// normals returns n elements of a normal distribution.
func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// sameBits compares bit by bit.
func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v (%08x), want %v (%08x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func TestSelectKernels(t *testing.T) {
	names := availableLevels()
	if len(names) == 0 || names[len(names)-1] != "go" {
		t.Fatalf("levels %v, want go as the last", names)
	}
	best, _, err := selectKernels("")
	if err != nil || best.level != names[0] {
		t.Fatalf("best level %v, %v, want %s", best, err, names[0])
	}
	for _, name := range names {
		if k, _, err := selectKernels(name); err != nil || k.level != name {
			t.Errorf("level %q gave %v, %v", name, k, err)
		}
	}
	for _, name := range []string{"AVX2", "sse9", "generic", " "} {
		_, _, err := selectKernels(name)
		want := fmt.Sprintf("cpu: level %q is not available, this machine runs ", name)
		if err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("level %q gave %v, want %q", name, err, want)
		}
	}
}

// TestKernelsComplete checks that no level leaves out a kernel or a format, not even one that this machine cannot run.
func TestKernelsComplete(t *testing.T) {
	formats := []*quant.Format{
		quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q4_1, quant.Q5_0,
		quant.Q5_1, quant.IQ4_NL, quant.MXFP4, quant.IQ4_XS, quant.Q2_K, quant.Q3_K,
	}
	for _, l := range levels() {
		t.Run(l.name, func(t *testing.T) {
			k := l.open().complete()
			if k.gemmF32 == nil || k.gemmF16 == nil || k.gemmBF16 == nil || k.sumSquares == nil || k.scaleMul == nil ||
				k.maxOf == nil || k.expSum == nil || k.scale == nil || k.add == nil || k.siluMul == nil || k.addScaled == nil || k.addPositive == nil ||
				k.rotateHalves == nil || k.rotatePairs == nil || k.halves == nil || k.quantizeQ8_0 == nil ||
				k.copyRows == nil || k.addRows == nil || k.level != l.name {
				t.Errorf("level %s lacks a kernel, or is named %s", l.name, k.level)
			}
			for _, f := range streamFormats() {
				if tiles := k.tiles(f); tiles.keys == nil || tiles.values == nil || tiles.latents == nil {
					t.Errorf("level %s lacks a kernel for tiles of %s", k.level, f)
				}
			}
			for i, f := range formats {
				if i >= len(k.linears) || k.linears[i].format != f {
					t.Errorf("level %s: linear %d is not of %s", k.level, i, f)
				}
			}
		})
	}
}
