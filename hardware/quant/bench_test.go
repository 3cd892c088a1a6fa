package quant

import (
	"math/rand/v2"
	"testing"
)

func BenchmarkDequantize(b *testing.B) {
	for _, f := range All() {
		b.Run(f.Name, func(b *testing.B) {
			const n = 4096
			bytes, _ := f.RowBytes(n)
			src, dst := make([]byte, bytes), make([]float32, n)
			if f.CanQuantize() {
				f.Quantize(src, normal(n))
			} else {
				src = randomBlocks(f, rand.New(rand.NewPCG(1, 2)), n/f.BlockLen)
			}
			b.SetBytes(4 * n)
			for b.Loop() {
				f.Dequantize(dst, src)
			}
		})
	}
}

func BenchmarkQuantize(b *testing.B) {
	for _, f := range All() {
		if !f.CanQuantize() {
			continue
		}
		b.Run(f.Name, func(b *testing.B) {
			const n = 4096
			bytes, _ := f.RowBytes(n)
			src, dst := normal(n), make([]byte, bytes)
			b.SetBytes(4 * n)
			for b.Loop() {
				f.Quantize(dst, src)
			}
		})
	}
}
