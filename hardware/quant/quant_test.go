package quant

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// normal returns n numbers of the normal distribution of variance 1, always the same ones.
func normal(n int) []float32 {
	rng := rand.New(rand.NewPCG(7, 11))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// randomBlocks returns blocks of random bytes.
func randomBlocks(f *Format, rng *rand.Rand, n int) []byte {
	src := make([]byte, n*f.BlockBytes)
	for i := range src {
		src[i] = byte(rng.Uint32())
	}
	return src
}

func TestFormatsKnown(t *testing.T) {
	want := strings.Fields(`F32 F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL
		IQ3_S IQ2_S IQ4_XS IQ1_M BF16 TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 Q2_0 F8_E4M3 MXFP8`)
	all := All()
	if len(all) != len(want) {
		t.Errorf("%d formats, want %d", len(all), len(want))
	}
	for i, f := range all {
		if f.Name != want[i] {
			t.Errorf("format %d is %s, want %s", i, f, want[i])
		}
		for _, name := range []string{f.Name, strings.ToLower(f.Name)} {
			if got, ok := ByName(name); !ok || got != f {
				t.Errorf("ByName(%q) = %v, %v", name, got, ok)
			}
		}
		if got, ok := ByID(f.ID); ok != (f.ID != NoID) || ok && got != f {
			t.Errorf("ByID(%d) = %v, %v; want %v", f.ID, got, ok, f)
		}
	}
	for _, name := range []string{"", "q8", "I32", "Q8_K", "Q4_2 (removed)"} {
		if f, ok := ByName(name); ok {
			t.Errorf("ByName(%q) = %v", name, f)
		}
	}
}

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		id         uint32
		name       string
		len, bytes int
	}{
		{0, "F32", 1, 4}, {8, "Q8_0", 32, 34}, {9, "Q8_1", 32, 36}, {15, "Q8_K", 256, 292}, {24, "I8", 1, 1}, {25, "I16", 1, 2},
		{26, "I32", 1, 4}, {27, "I64", 1, 8}, {28, "F64", 1, 8}, {4, "Q4_2 (removed)", 0, 0}, {33, "Q4_0_8_8 (removed)", 0, 0},
		{38, "IQ4_NL_8_8 (removed)", 0, 0}, {43, "type 43", 0, 0}, {137, "type 137", 0, 0}, {math.MaxUint32, "type 4294967295", 0, 0},
	} {
		if name := TypeName(c.id); name != c.name {
			t.Errorf("TypeName(%d) = %q, want %q", c.id, name, c.name)
		}
		if n, b, ok := TypeSize(c.id); n != c.len || b != c.bytes || ok != (c.len > 0) {
			t.Errorf("TypeSize(%d) = %d, %d, %v; want %d, %d", c.id, n, b, ok, c.len, c.bytes)
		}
	}
	for id := range uint32(43) {
		if strings.HasPrefix(TypeName(id), "type ") {
			t.Errorf("type %d has no name", id)
		}
		if n, b, ok := TypeSize(id); ok != !strings.Contains(TypeName(id), "removed") || ok && (n <= 0 || b <= 0) {
			t.Errorf("%s has blocks of %d elements and %d bytes, %v", TypeName(id), n, b, ok)
		}
	}
}

func TestRowBytes(t *testing.T) {
	for _, c := range []struct {
		f     *Format
		n     int
		bytes int
		whole bool
	}{{Q8_0, 64, 68, true}, {Q8_0, 0, 0, true}, {Q8_0, 33, 34, false}, {Q4_K, 512, 288, true}, {Q4_K, 128, 0, false}, {F16, 7, 14, true}, {F32, -4, 0, false}} {
		if bytes, whole := c.f.RowBytes(c.n); bytes != c.bytes || whole != c.whole {
			t.Errorf("%s.RowBytes(%d) = %d, %v; want %d, %v", c.f, c.n, bytes, whole, c.bytes, c.whole)
		}
	}
}

// TestRoundTrip holds every format to its bound, and the bound to the format: it may not be slack.
func TestRoundTrip(t *testing.T) {
	x := normal(1 << 15)
	for _, f := range All() {
		if !f.CanQuantize() {
			if f.MaxError != 0 {
				t.Errorf("%s does not quantize, but has an error bound", f)
			}
			continue
		}
		n, _ := f.RowBytes(len(x))
		block, y := make([]byte, n), make([]float32, len(x))
		f.Quantize(block, x)
		f.Dequantize(y, block)
		got := rmsError(y, x)
		if got > f.MaxError || got < 0.95*f.MaxError {
			t.Errorf("%s: root mean square error %.5f, the bound is %.5f", f, got, f.MaxError)
		}
		// A longer search is no worse.
		ones := make([]float32, len(x))
		for i := range ones {
			ones[i] = 1
		}
		f.QuantizeWeighted(block, x, ones)
		f.Dequantize(y, block)
		if weighted := rmsError(y, x); weighted > got {
			t.Errorf("%s: root mean square error %.5f with importance, %.5f without", f, weighted, got)
		}
	}
}

// TestQuantizeWeightedHelps gives a few columns nearly all the importance, and looks at the error there.
func TestQuantizeWeightedHelps(t *testing.T) {
	x := normal(1 << 12)
	for _, f := range []*Format{Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS} {
		n, _ := f.RowBytes(len(x))
		block, y := make([]byte, n), make([]float32, len(x))
		importance := make([]float32, len(x))
		for i := range importance {
			importance[i] = 1e-3
			if i%8 == 5 {
				importance[i] = 1
			}
		}
		important := func() float64 {
			f.Dequantize(y, block)
			var sum float64
			for i := 5; i < len(x); i += 8 {
				sum += float64(y[i]-x[i]) * float64(y[i]-x[i])
			}
			return math.Sqrt(sum / float64(len(x)/8))
		}
		f.Quantize(block, x)
		plain := important()
		f.QuantizeWeighted(block, x, importance)
		if weighted := important(); weighted > 0.9*plain {
			t.Errorf("%s: error %.5f in important columns, %.5f without their importance", f, weighted, plain)
		}
	}
}

// extremeRows are 256 elements each that quantizers find hard.
func extremeRows() map[string][]float32 {
	inf := float32(math.Inf(1))
	rows := map[string][]float32{}
	repeat := func(name string, values ...float32) {
		x := make([]float32, 256)
		for i := range x {
			x[i] = values[i%len(values)]
		}
		rows[name] = x
	}
	repeat("zero", 0)
	repeat("negative zero", float32(math.Copysign(0, -1)))
	repeat("subnormal", math.SmallestNonzeroFloat32)
	repeat("subnormals", 1e-40, -3e-41, 0, 7e-42)
	repeat("tiny", 1e-30, -1e-30, 3e-31)
	repeat("small halves", 1e-7, -3e-8, 5e-6)
	repeat("constant", 0.37)
	repeat("negative constant", -0.37)
	repeat("one of each", 1, -1)
	repeat("wide", 1e-20, 1, -1e-10, 1e4)
	repeat("large", 6e4, -6e4, 1)
	repeat("beyond halves", 1e20, -1e20, 1)
	repeat("largest", math.MaxFloat32, -math.MaxFloat32)
	repeat("largest and zero", math.MaxFloat32, 0, 0)
	repeat("infinite", inf)
	repeat("one infinite", append(make([]float32, 255), inf)...)
	repeat("negative infinite", -inf, 1)
	repeat("not a number", float32(math.NaN()))
	repeat("one not a number", append(make([]float32, 255), float32(math.NaN()))...)
	repeat("all sorts", inf, float32(math.NaN()), -inf, 1e30, 0, -1e-30)
	rows["ramp"] = make([]float32, 256)
	for i := range rows["ramp"] {
		rows["ramp"][i] = float32(i-128) / 16
	}
	return rows
}

func TestQuantizeExtremes(t *testing.T) {
	for name, x := range extremeRows() {
		for _, f := range All() {
			if f.CanQuantize() {
				checkQuantize(t, f, name, x)
			}
		}
	}
}

// checkQuantize quantizes a row and holds the result to what Quantize says: blocks do not depend on each other, elements
// that are not finite stay visible, zeros stay zeros, and no element ends up farther away than the block is wide.
func checkQuantize(t *testing.T, f *Format, name string, x []float32) {
	t.Helper()
	n, _ := f.RowBytes(len(x))
	row, y := make([]byte, n), make([]float32, len(x))
	for i := range row {
		row[i] = 0xa5 // what lay there before does not matter
	}
	f.Quantize(row, x)
	f.Dequantize(y, row)
	for b := range len(x) / f.BlockLen {
		src, got := x[b*f.BlockLen:(b+1)*f.BlockLen], y[b*f.BlockLen:(b+1)*f.BlockLen]
		alone := make([]byte, f.BlockBytes)
		f.Quantize(alone, src)
		if block := row[b*f.BlockBytes : (b+1)*f.BlockBytes]; !bytes.Equal(alone, block) {
			t.Errorf("%s, %s: block %d alone is % x, in its row % x", f, name, b, alone, block)
		}
		largest, ok := extreme(src)
		width := 2 * math.Abs(float64(largest))
		for i, v := range src {
			switch {
			case !ok && f != NVFP4 && finite(got):
				t.Fatalf("%s, %s: block %d of %v reads as finite: %v", f, name, b, src, got)
			case !ok:
			case largest == 0 && got[i] != 0:
				t.Fatalf("%s, %s: block %d of zeros reads as %v", f, name, b, got)
			case width < 60000 && !(math.Abs(float64(got[i])-float64(v)) <= width):
				t.Fatalf("%s, %s: element %d of block %d is %v, reads as %v", f, name, i, b, v, got[i])
			}
		}
	}
	importance := make([]float32, len(x))
	for i := range importance {
		importance[i] = float32(i % 3)
	}
	f.QuantizeWeighted(row, x, importance) // holds no promise beyond ending
	f.Dequantize(y, row)
}

func FuzzQuantize(f *testing.F) {
	rows := extremeRows()
	for _, format := range All() {
		for _, name := range []string{"ramp", "subnormals", "all sorts"} {
			x := rows[name][:format.BlockLen]
			data := make([]byte, 4*len(x))
			F32.Quantize(data, x)
			f.Add(format.Name, data)
		}
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		format, ok := ByName(name)
		if !ok || !format.CanQuantize() {
			return
		}
		x := make([]float32, len(data)/4/format.BlockLen*format.BlockLen)
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		checkQuantize(t, format, "fuzzed", x)
	})
}

// TestWrongLengths checks that a caller's mistake is named, not read past.
func TestWrongLengths(t *testing.T) {
	for name, call := range map[string]func(){
		"quant: Dequantize: 33 elements are not whole blocks of Q8_0's 32":   func() { Q8_0.Dequantize(make([]float32, 33), make([]byte, 100)) },
		"quant: Dequantize: 64 elements of Q8_0 need 68 bytes, there are 67": func() { Q8_0.Dequantize(make([]float32, 64), make([]byte, 67)) },
		"quant: Quantize: 64 elements of Q8_0 need 68 bytes, there are 34":   func() { Q8_0.Quantize(make([]byte, 34), make([]float32, 64)) },
		"quant: Quantize: IQ1_S is only read":                                func() { IQ1_S.Quantize(make([]byte, 50), make([]float32, 256)) },
		"quant: QuantizeWeighted: IQ1_S is only read":                        func() { IQ1_S.QuantizeWeighted(make([]byte, 50), make([]float32, 256), make([]float32, 256)) },
		"quant: QuantizeWeighted: 32 elements have the importance of 31":     func() { Q8_0.QuantizeWeighted(make([]byte, 34), make([]float32, 32), make([]float32, 31)) },
	} {
		func() {
			defer func() {
				if got := recover(); got != name {
					t.Errorf("panic %v, want %q", got, name)
				}
			}()
			call()
		}()
	}
}

// TestNoAllocation checks that reading and writing rows allocates nothing.
func TestNoAllocation(t *testing.T) {
	x := normal(512)
	for _, f := range All() {
		n, _ := f.RowBytes(len(x))
		row, y := make([]byte, n), make([]float32, len(x))
		allocs := testing.AllocsPerRun(2, func() {
			if f.CanQuantize() {
				f.Quantize(row, x)
				f.QuantizeWeighted(row, x, x)
			}
			f.Dequantize(y, row)
		})
		if allocs != 0 {
			t.Errorf("%s allocates %v times", f, allocs)
		}
	}
}

// TestBounds checks that nothing outside the row is written, and that a row in a larger buffer reads the same.
func TestBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	for _, f := range All() {
		src := randomBlocks(f, rng, 4)
		y := make([]float32, 3*f.BlockLen+1)
		y[len(y)-1] = 42
		f.Dequantize(y[:3*f.BlockLen], src)
		if y[len(y)-1] != 42 {
			t.Errorf("%s: Dequantize writes past its row", f)
		}
		if !f.CanQuantize() {
			continue
		}
		dst := make([]byte, 3*f.BlockBytes+1)
		dst[len(dst)-1] = 42
		f.Quantize(dst, normal(3*f.BlockLen))
		if dst[len(dst)-1] != 42 {
			t.Errorf("%s: Quantize writes past its row", f)
		}
	}
}
