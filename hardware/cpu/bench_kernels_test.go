package cpu

import (
	"fmt"
	"slices"
	"testing"

	"hearth/hardware/quant"
)

// benchShapes are [in, out] of weights: the feed-forward of a 0.6B model, and a square one of a larger model.
var benchShapes = [][2]int{{1024, 3072}, {4096, 4096}}

// BenchmarkLinear multiplies whole weights on one core, a few panels at a time as the device does it, and reports
// operations (a multiplication and an addition are two) and packed bytes of weights per second. Preparing is included.
// Formats without a kernel go through the fallback, whose plain Go says the same at all levels.
func BenchmarkLinear(b *testing.B) {
	for _, name := range availableLevels() {
		k, _, _ := selectKernels(name)
		for _, l := range linearsOfAllFormats(k) {
			if name == "go" && l.scratch > 0 {
				continue
			}
			for _, shape := range benchShapes {
				for _, rows := range []int{1, 8, 512} {
					b.Run(fmt.Sprintf("%s/%s/%dx%dx%d", name, l.format, rows, shape[0], shape[1]), func(b *testing.B) {
						benchLinear(b, l, rows, shape[0], shape[1])
					})
				}
			}
		}
	}
}

// linearsOfAllFormats are those of a level, and its fallback for every other format.
func linearsOfAllFormats(k *kernels) []*linear {
	all := slices.Concat(k.linears, fp8Linears(k))
	for _, f := range quant.All() {
		if !slices.ContainsFunc(all, func(l *linear) bool { return l.format == f }) && f.CanQuantize() {
			all = append(all, newFallbackLinear(k, f))
		}
	}
	return all
}

func benchLinear(b *testing.B, l *linear, rows, in, out int) {
	r := newRand(1)
	weights := heapAllocate(out / panelCols * l.panelBytes(in))
	rowBytes, _ := l.format.RowBytes(in)
	row := make([]byte, panelCols*rowBytes)
	if l.format.CanQuantize() {
		for c := range panelCols {
			l.format.Quantize(row[c*rowBytes:], normals(r, in))
		}
	}
	size := l.panelBytes(in)
	l.pack(weights, row, panelCols, in)
	for p := 1; p < out/panelCols; p++ {
		copy(weights[p*size:], weights[:size])
	}
	x, dst := normals(r, rows*in), make([]float32, rows*out)
	numTiles := (rows + l.tileRows - 1) / l.tileRows
	perTile := (rows + numTiles - 1) / numTiles
	tileBytes := l.tileBytes(in, perTile)
	tiles := heapAllocate(numTiles * tileBytes)
	args := &multiplyArgs{dstStride: out, in: in, scratch: make([]float32, l.scratch)}
	b.SetBytes(int64(len(weights)))
	for b.Loop() {
		for t := range numTiles {
			first := t * perTile
			l.prepare(tiles[t*tileBytes:][:tileBytes], x[first*in:], in, min(perTile, rows-first), in)
		}
		const panels = 2
		for p := 0; p < out/panelCols; p += panels {
			args.panels, args.numPanels = weights[p*size:][:panels*size], panels
			for t := range numTiles {
				first := t * perTile
				args.dst = dst[first*out+p*panelCols:]
				args.tile, args.rows = tiles[t*tileBytes:][:tileBytes], min(perTile, rows-first)
				l.multiply(args)
			}
		}
	}
	ops := 2 * float64(rows) * float64(in) * float64(out) * float64(b.N)
	b.ReportMetric(ops/b.Elapsed().Seconds()/1e9, "GOPS")
}

// BenchmarkPrepare quantizes a tile of activations.
func BenchmarkPrepare(b *testing.B) {
	for _, name := range availableLevels() {
		k, _, _ := selectKernels(name)
		for _, l := range k.linears {
			b.Run(fmt.Sprintf("%s/%s/%dx1024", name, l.format, l.tileRows), func(b *testing.B) {
				x := normals(newRand(1), l.tileRows*1024)
				tile := heapAllocate(l.tileBytes(1024, l.tileRows))
				b.SetBytes(int64(4 * len(x)))
				for b.Loop() {
					l.prepare(tile, x, 1024, l.tileRows, 1024)
				}
			})
		}
	}
}

// BenchmarkPack repacks a panel from the file's format.
func BenchmarkPack(b *testing.B) {
	for _, name := range availableLevels() {
		k, _, _ := selectKernels(name)
		for _, l := range k.linears {
			if name == "go" && l.format != quant.Q8_0 {
				continue // packed by the same code as above
			}
			b.Run(fmt.Sprintf("%s/%s/16x1024", name, l.format), func(b *testing.B) {
				src := weightBytes(newRand(1), l.format, panelCols, 1024)
				dst := heapAllocate(l.panelBytes(1024))
				b.SetBytes(int64(len(src)))
				for b.Loop() {
					l.pack(dst, src, panelCols, 1024)
				}
			})
		}
	}
}

// BenchmarkGemm multiplies as attention does: queries with 64 keys, or probabilities with 64 values.
func BenchmarkGemm(b *testing.B) {
	for _, name := range availableLevels() {
		k, _, _ := selectKernels(name)
		for _, e := range []element{elementF32, elementF16, elementBF16} {
			for _, rows := range []int{1, 2, 16, 64} {
				b.Run(fmt.Sprintf("%s/%s/%dx64", name, e.format(), rows), func(b *testing.B) {
					a := &gemmArgs{dst: make([]float32, rows*panelCols), dstStride: panelCols, x: normals(newRand(1), rows*64), xStride: 64, panel: make([]byte, 64*panelCols*e.bytes()), k: 64, rows: rows}
					gemm := gemmOf(k, e)
					for b.Loop() {
						gemm(a)
					}
					b.ReportMetric(2*float64(rows)*64*panelCols*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
				})
			}
		}
	}
}

// BenchmarkVector runs the vector kernels on 1024 elements.
func BenchmarkVector(b *testing.B) {
	for _, name := range availableLevels() {
		k, _, _ := selectKernels(name)
		r := newRand(1)
		x, y, z := normals(r, 1024), normals(r, 1024), normals(r, 1024)
		h := make([]byte, 2048)
		for _, v := range []struct {
			name string
			f    func()
		}{
			{"sumSquares", func() { k.sumSquares(x) }},
			{"scaleMul", func() { k.scaleMul(x, y, z, 1) }},
			{"maxOf", func() { k.maxOf(x) }},
			{"expSum", func() { k.expSum(x, y, 1) }},
			{"add", func() { k.add(x, y) }},
			{"siluMul", func() { k.siluMul(x, y, z) }},
			{"rotateHalves", func() { k.rotateHalves(x, x, y[:512], z[:512]) }},
			{"rotatePairs", func() { k.rotatePairs(x, x, y[:512], z[:512]) }},
			{"halves", func() { k.halves(h, y) }},
		} {
			b.Run(fmt.Sprintf("%s/%s/1024", name, v.name), func(b *testing.B) {
				for b.Loop() {
					v.f()
				}
			})
		}
	}
}
