package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/hardware/quant"
)

// forEachLinear runs a test once per level and format, and for the specifications that are no level's.
func forEachLinear(t *testing.T, f func(t *testing.T, l *linear)) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for _, l := range slices.Concat(k.linears, fp8Linears(k)) {
			t.Run(l.format.Name, func(t *testing.T) { f(t, l) })
		}
		if k.level == "go" {
			t.Run("BF16 in pairs", func(t *testing.T) { f(t, pairLinearBF16Generic()) })
		}
	})
}

func pairLinearBF16Generic() *linear {
	return newPairLinearBF16(genericTileRows, preparePairsBF16Generic, multiplyPairsBF16Generic)
}

// weightBytes quantizes random weights [out, in], of which some rows are zero and some large.
func weightBytes(r *rand.Rand, f *quant.Format, out, in int) []byte {
	rowBytes, _ := f.RowBytes(in)
	data := make([]byte, out*rowBytes)
	if isFP8(f) {
		for at := 0; at < len(data); at += f.BlockBytes {
			randomFP8(r, data[at:][:f.BlockBytes])
		}
		return data
	}
	for o := range out {
		w := normals(r, in)
		factor := []float32{1, 1, 1, 0, 1e-3, 100}[r.IntN(6)]
		for i := range w {
			w[i] *= factor
		}
		f.Quantize(data[o*rowBytes:], w)
	}
	return data
}

func isFP8(f *quant.Format) bool { return f == quant.F8_E4M3 || f == quant.MXFP8 }

// randomFP8 fills a block with codes, none of them NaN, and a scale of some size.
func randomFP8(r *rand.Rand, block []byte) {
	codes := block[1:]
	if len(block) == quant.F8_E4M3.BlockBytes {
		codes = block[4:]
		putFloat(block, r.Float32()*[]float32{1, 1e-3, 100}[r.IntN(3)])
	} else {
		block[0] = byte(120 + r.IntN(14))
	}
	for i := range codes {
		if codes[i] = byte(r.Uint32()); codes[i]&0x7f == 0x7f {
			codes[i] = 0
		}
	}
}

// packAll packs a weight into panels, each checked for writing beside it.
func packAll(t *testing.T, l *linear, data []byte, out, in int) []byte {
	t.Helper()
	rowBytes, _ := l.format.RowBytes(in)
	size := l.panelBytes(in)
	if size%64 != 0 {
		t.Fatalf("panels of %d have %d bytes", in, size)
	}
	var panels []byte
	for o := 0; o < out; o += panelCols {
		rows := min(panelCols, out-o)
		g := newGuarded(size, 0)
		l.pack(g.data, data[o*rowBytes:][:rows*rowBytes], rows, in)
		g.check(t, "pack")
		panels = append(panels, g.data...)
	}
	aligned := heapAllocate(len(panels))
	copy(aligned, panels)
	return aligned
}

// matrixRows are rows of in elements, stride elements apart.
type matrixRows struct {
	x                []float32
	stride, rows, in int
}

// multiplied prepares and multiplies rows, and returns [rows, panels*panelCols].
func multiplied(t *testing.T, l *linear, panels []byte, m matrixRows) []float32 {
	t.Helper()
	x, stride, rows, in := m.x, m.stride, m.rows, m.in
	numPanels := len(panels) / l.panelBytes(in)
	width := numPanels * panelCols
	size := l.tileBytes(in, rows)
	if size%64 != 0 {
		t.Fatalf("tile of %d rows of %d has %d bytes", rows, in, size)
	}
	tile := newGuarded(size, 0)
	l.prepare(tile.data, x, stride, rows, in)
	tile.check(t, "prepare")
	before := string(tile.data)

	dstStride := width + 5
	g, dst := newGuardedFloats((rows-1)*dstStride+width, 3)
	l.multiply(&multiplyArgs{
		dst: dst, dstStride: dstStride, panels: panels, numPanels: numPanels, tile: tile.data, rows: rows, in: in, scratch: make([]float32, l.scratch),
	})
	g.check(t, "multiply")
	if before != string(tile.data) {
		t.Fatal("multiply changed the tile")
	}
	var y []float32
	for r := range rows {
		y = append(y, dst[r*dstStride:][:width]...)
		for i := width; i < dstStride && r < rows-1; i++ {
			if v := dst[r*dstStride+i]; v == v {
				t.Fatalf("multiply wrote %v between rows %d and %d", v, r, r+1)
			}
		}
	}
	return y
}

// reference is a float64 product with the bounds of the two errors that kernels make.
type reference struct {
	y        float64
	rounding float64 // float32 arithmetic: some units of the last place of the sum of magnitudes
	quantize float64 // activations as bytes: half a scale on each; as bfloat16: half of the eighth bit
}

func referenceDot(l *linear, w, x []float32) reference {
	var ref reference
	run := l.format.BlockLen // activations share a scale as weights do
	if isFP8(l.format) {
		run = 1 // they are floats
	}
	for i := 0; i < len(x); i += run {
		var most, magnitude float64
		for j := i; j < i+run; j++ {
			most = max(most, math.Abs(float64(x[j])))
			ref.y += float64(w[j]) * float64(x[j])
			ref.rounding += math.Abs(float64(w[j]) * float64(x[j]))
			magnitude += math.Abs(float64(w[j]))
		}
		if run > 1 {
			ref.quantize += magnitude * most / 127 / 2
		}
	}
	if l.roundsFloat {
		ref.quantize = ref.rounding * 0x1p-8
	}
	// A chain of n float32 additions of magnitudes with sum s errs by at most n/2 units of 2^-23 s; blocks are the links.
	ref.rounding *= float64(4+len(x)/run) * 0x1p-24
	return ref
}

func (r reference) holds(got float32) bool {
	return math.Abs(float64(got)-r.y) <= r.quantize*1.001+2*r.rounding+1e-30
}

// inputs are row lengths to try: 1 to some blocks, whole and half pairs of blocks.
func inputs(f *quant.Format) []int {
	switch f.BlockLen {
	case 1:
		return []int{1, 2, 3, 5, 8, 31, 33, 64, 100, 257}
	case shortRun:
		return []int{32, 64, 96, 128, 320, 352}
	default:
		return []int{256, 512, 1280}
	}
}

func TestLinear(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		for _, in := range inputs(l.format) {
			for _, out := range []int{1, 15, 16, 17, 48} {
				r := newRand(uint64(in*1000 + out))
				data := weightBytes(r, l.format, out, in)
				panels := packAll(t, l, data, out, in)
				stride := in + 3
				x := normals(r, l.tileRows*stride)
				y := multiplied(t, l, panels, matrixRows{x, stride, l.tileRows, in})
				checkProduct(t, l, data, matrixRows{x, stride, l.tileRows, in}, out, y)
			}
		}
	})
}

// checkProduct compares results [rows, panels] with the reference, and the columns that weights lack with zero.
func checkProduct(t *testing.T, l *linear, data []byte, m matrixRows, out int, y []float32) {
	t.Helper()
	in := m.in
	rowBytes, _ := l.format.RowBytes(in)
	width := roundUp(out, panelCols)
	w := make([]float32, in)
	for o := range width {
		clear(w)
		if o < out {
			l.format.Dequantize(w, data[o*rowBytes:][:rowBytes])
		}
		for r := range m.rows {
			got, ref := y[r*width+o], referenceDot(l, w, m.x[r*m.stride:][:in])
			if !ref.holds(got) {
				t.Fatalf("%s [%d, %d]: row %d, column %d is %v, want %v ± %v ± %v", l.format, out, in, r, o, got, ref.y, ref.rounding, ref.quantize)
			}
		}
	}
}

// TestLinearAgainstGeneric bounds the difference of two levels by float32 rounding alone: both multiply the same bytes.
func TestLinearAgainstGeneric(t *testing.T) {
	generic := goKernels()
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for i, l := range k.linears {
			g := generic.linears[i]
			if l.roundsFloat {
				g = pairLinearBF16Generic()
			}
			for _, in := range inputs(l.format) {
				const out = 32
				r := newRand(uint64(in))
				data := weightBytes(r, l.format, out, in)
				x := normals(r, l.tileRows*in)
				got := multiplied(t, l, packAll(t, l, data, out, in), matrixRows{x, in, l.tileRows, in})
				want := make([]float32, 0, len(got))
				panels := packAll(t, g, data, out, in)
				for row := range l.tileRows {
					want = append(want, multiplied(t, g, panels, matrixRows{x[row*in:], in, 1, in})...)
				}
				rowBytes, _ := l.format.RowBytes(in)
				w := make([]float32, in)
				for j := range got {
					o, row := j%out, j/out
					l.format.Dequantize(w, data[o*rowBytes:][:rowBytes])
					bound := 2*referenceDot(l, w, x[row*in:][:in]).rounding + 1e-30
					if hasMinimums(l.format) {
						bound *= 4 // the minimums' part and the scales' part may each be larger than their difference
					}
					if diff := math.Abs(float64(got[j]) - float64(want[j])); !(diff <= bound) {
						t.Fatalf("%s in %d: row %d, column %d is %v, generic %v, bound %v", l.format, in, row, o, got[j], want[j], bound)
					}
				}
			}
		}
	})
}

// TestLinearRows checks that a row's bits do not depend on the rows beside it, however many they are and wherever it stands.
func TestLinearRows(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		for _, in := range inputs(l.format) {
			const out = 32
			r := newRand(uint64(in))
			panels := packAll(t, l, weightBytes(r, l.format, out, in), out, in)
			x := normals(r, l.tileRows*in)
			want := make([][]float32, l.tileRows)
			for row := range want {
				want[row] = multiplied(t, l, panels, matrixRows{x[row*in:], in, 1, in})
			}
			step := max(1, l.tileRows/16)
			for rows := 2; rows <= l.tileRows; rows += step {
				for first := 0; first <= l.tileRows-rows; first += step {
					y := multiplied(t, l, panels, matrixRows{x[first*in:], in, rows, in})
					for row := range rows {
						sameBits(t, fmt.Sprintf("in %d, row %d of %d", in, row, rows), y[row*out:][:out], want[first+row])
					}
				}
			}
		}
	})
}

// TestLinearRow checks that packing loses nothing: every column reads back as the file's bits.
func TestLinearRow(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		for _, in := range inputs(l.format) {
			const out = 21
			data := weightBytes(newRand(uint64(in)), l.format, out, in)
			panels := packAll(t, l, data, out, in)
			rowBytes, _ := l.format.RowBytes(in)
			want := make([]float32, in)
			for o := range out {
				l.format.Dequantize(want, data[o*rowBytes:][:rowBytes])
				g, got := newGuardedFloats(in, 1)
				l.row(got, panels[o/panelCols*l.panelBytes(in):][:l.panelBytes(in)], o%panelCols, in)
				g.check(t, "row")
				sameBits(t, fmt.Sprintf("in %d, weight row %d", in, o), got, want)
			}
		}
	})
}

// TestFP8NotANumber wants a code that is not a number to show in every product with its block's row, and only there.
func TestFP8NotANumber(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for _, l := range fp8Linears(k) {
			const in, out = 256, 16
			data := weightBytes(newRand(3), l.format, out, in)
			rowBytes, _ := l.format.RowBytes(in)
			data[5*rowBytes-1] = 0xff // the last code of row 4
			for o, y := range multiplied(t, l, packAll(t, l, data, out, in), matrixRows{normals(newRand(4), in), in, 1, in}) {
				if isNaN := y != y; isNaN != (o == 4) {
					t.Errorf("%s: column %d is %v", l.format, o, y)
				}
			}
		}
	})
}

// TestLinearExtremes feeds rows of zeros, of tiny, huge and non-finite elements. A row that is not finite gives NaN in
// integer formats and follows the arithmetic in float ones; the other rows of the tile are what they are without it.
func TestLinearExtremes(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		in := inputs(l.format)[2]
		const out = 16
		data := make([]byte, 0)
		rowBytes, _ := l.format.RowBytes(in)
		for range out {
			if isFP8(l.format) {
				data = append(data, weightBytes(newRand(7), l.format, 1, in)...)
				continue
			}
			w := normals(newRand(7), in)
			b := make([]byte, rowBytes)
			l.format.Quantize(b, w)
			data = append(data, b...)
		}
		panels := packAll(t, l, data, out, in)
		for name, v := range map[string]float32{
			"zero": 0, "subnormal": 0x1p-149, "tiny": 0x1p-121, "huge": 1e36, "largest": math.MaxFloat32,
			"infinite": float32(math.Inf(1)), "NaN": float32(math.NaN()),
		} {
			rows := min(3, l.tileRows)
			x := normals(newRand(8), rows*in)
			plain := multiplied(t, l, panels, matrixRows{x, in, 1, in})
			last := x[(rows-1)*in:]
			for i := range last {
				last[i] *= 1e-3
			}
			switch name {
			case "zero":
				clear(last)
			default:
				last[in/2] = v
			}
			y := multiplied(t, l, panels, matrixRows{x, in, rows, in})
			if rows > 1 {
				sameBits(t, name, y[:out], plain)
			}
			for c, got := range y[(rows-1)*out:] {
				finite := math.Abs(float64(got)) <= math.MaxFloat32
				switch {
				case name == "zero" && got != 0:
					t.Errorf("zeros give %v", got)
				case (name == "infinite" || name == "NaN") && finite:
					t.Errorf("%s gives %v in column %d", name, got, c)
				case name != "infinite" && name != "NaN" && name != "largest" && !finite:
					t.Errorf("%s gives %v in column %d", name, got, c)
				}
			}
		}
	})
}

// TestLinearFaults scatters elements that are huge or not finite. Which results are finite, infinite or NaN is the same at
// all levels, as long as float32 holds the products of those that are finite: a run of a row that is not finite makes all
// results NaN in integer formats, and float ones follow the arithmetic.
func TestLinearFaults(t *testing.T) {
	generic, seeds := goKernels(), 30
	if testing.Short() {
		seeds = 6
	}
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for i, l := range k.linears {
			if l.roundsFloat {
				continue // rounding makes the largest numbers infinite
			}
			in, g := max(l.format.BlockLen, 2*shortRun), generic.linears[i]
			for seed := range seeds {
				r := newRand(uint64(seed))
				data := weightBytes(r, l.format, panelCols, in)
				x := normals(r, l.tileRows*in)
				for range 1 + seed%3 {
					if v := extremeValues()[r.IntN(len(extremeValues()))]; !(math.Abs(float64(v)) > 1e30 && math.Abs(float64(v)) <= math.MaxFloat32) {
						x[r.IntN(len(x))] = v
					}
				}
				got := multiplied(t, l, packAll(t, l, data, panelCols, in), matrixRows{x, in, l.tileRows, in})
				panels := packAll(t, g, data, panelCols, in)
				for row := range l.tileRows {
					want := multiplied(t, g, panels, matrixRows{x[row*in:], in, 1, in})
					for c, w := range want {
						if v := got[row*panelCols+c]; kind(v) != kind(w) {
							t.Fatalf("%s, seed %d: row %d, column %d is %v, generic %v", l.format, seed, row, c, v, w)
						}
					}
				}
			}
		}
	})
}

// kind tells NaN, the two infinities and numbers apart.
func kind(v float32) string {
	switch {
	case v != v:
		return "NaN"
	case math.Abs(float64(v)) > math.MaxFloat32:
		return fmt.Sprint(v)
	default:
		return "finite"
	}
}

// TestLinearAllocatesNothing covers what runs per step.
func TestLinearAllocatesNothing(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		const in, out = 256, 32
		r := newRand(1)
		panels := packAll(t, l, weightBytes(r, l.format, out, in), out, in)
		x := normals(r, l.tileRows*in)
		tile := heapAllocate(l.tileBytes(in, l.tileRows))
		args := &multiplyArgs{dst: make([]float32, l.tileRows*out), dstStride: out, panels: panels, numPanels: 2, tile: tile, rows: l.tileRows, in: in, scratch: make([]float32, l.scratch)}
		if n := testing.AllocsPerRun(5, func() {
			l.prepare(tile, x, in, l.tileRows, in)
			l.multiply(args)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestLinearFullRange multiplies the largest codes that blocks can hold, the same ones everywhere and mixed ones, with
// activations that are all as large as their run allows, in the worst of signs: no sum on the way may overflow or saturate.
func TestLinearFullRange(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		if l.format.BlockLen == 1 || isFP8(l.format) {
			t.Skip("float products overflow as floats do")
		}
		in := max(2*l.format.BlockLen, 4*shortRun)
		w := make([]float32, panelCols*in)
		for seed := range 18 {
			data := extremeBlocks(l.format, panelCols*in/l.format.BlockLen, seed)
			l.format.Dequantize(w, data)
			panels := packAll(t, l, data, panelCols, in)
			x := make([]float32, l.tileRows*in)
			r := newRand(uint64(seed))
			for i := range x {
				x[i] = 1
				switch row := i / in; {
				case row == 1, row == 2 && r.IntN(2) == 0, row > 2 && w[row%panelCols*in+i%in] < 0:
					x[i] = -1
				}
			}
			for i, got := range multiplied(t, l, panels, matrixRows{x, in, l.tileRows, in}) {
				row, col := i/panelCols, i%panelCols
				ref := referenceDot(l, w[col*in:][:in], x[row*in:][:in])
				if math.Abs(float64(got)-ref.y) > 8*ref.rounding {
					t.Fatalf("%s with codes %d: row %d, column %d is %v, want %v ± %v", l.format, seed, row, col, got, ref.y, 8*ref.rounding)
				}
			}
		}
	})
}

// extremeBlocks returns blocks whose scales are 1 and whose other bytes are all the same, for the first seeds, or any of
// the extreme ones.
func extremeBlocks(f *quant.Format, blocks, seed int) []byte {
	codes := []byte{0x00, 0x7f, 0x80, 0xff, 0x0f, 0xf0}
	r := newRand(uint64(seed))
	data := make([]byte, blocks*f.BlockBytes)
	for i := range data {
		if data[i] = codes[r.IntN(len(codes))]; seed < len(codes) {
			data[i] = codes[seed]
		}
	}
	for b := 0; b < len(data); b += f.BlockBytes {
		putOnes(data[b:], f)
	}
	return data
}

// putOnes makes the scales of a block 1.
func putOnes(block []byte, f *quant.Format) {
	if f == quant.MXFP4 {
		block[0] = 127
		return
	}
	for _, at := range scaleOffsets(f) {
		block[at], block[at+1] = 0x00, 0x3c // 1 as half
	}
}

// scaleOffsets are the places of half-precision scales in a block.
func scaleOffsets(f *quant.Format) []int {
	switch f {
	case quant.Q4_1, quant.Q5_1, quant.Q4_K, quant.Q5_K:
		return []int{0, 2}
	case quant.Q6_K:
		return []int{208}
	case quant.Q2_K:
		return []int{80, 82}
	case quant.Q3_K:
		return []int{108}
	default:
		return []int{0}
	}
}

// hasMinimums tells whether a format has minimums beside scales.
func hasMinimums(f *quant.Format) bool {
	switch f {
	case quant.Q4_1, quant.Q5_1, quant.Q2_K, quant.Q4_K, quant.Q5_K:
		return true
	default:
		return false
	}
}
