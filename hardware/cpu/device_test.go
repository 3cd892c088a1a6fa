package cpu_test

import (
	"fmt"
	"testing"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/devicetest"
	"hearth/hardware/quant"
)

// roundedRows are the errors of products whose kernels round rows to 8 bits, with one scale for as many elements as a
// block of the weights has: half a step of 1/127 of the largest of them, evenly distributed. The largest of 32 normally
// distributed elements is about 2 deviations, of 256 about 2.8. Rows rounded to bfloat16 err as its weights do.
func roundedRows(level string) map[*quant.Format]float64 {
	bounds := map[*quant.Format]float64{}
	for _, f := range cpu.KernelFormats(level) {
		switch {
		case f.BlockLen >= 256:
			bounds[f] = 0.015
		case f.BlockLen > 1:
			bounds[f] = 0.01
		case f == quant.BF16 && cpu.RoundsBF16(level):
			bounds[f] = quant.BF16.MaxError
		}
	}
	return bounds
}

func openWith(o cpu.Options) devicetest.Open {
	return func(t testing.TB) hardware.Device {
		t.Helper()
		d, err := cpu.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func TestDevice(t *testing.T) {
	levels := cpu.Levels()
	for i, level := range levels {
		t.Run(level, func(t *testing.T) {
			// The best level and the specification in full: the others are made from the same templates as the best.
			c := devicetest.Config{MatMulError: roundedRows(level), Brief: i != 0 && i != len(levels)-1}
			for _, threads := range []int{2, 3} {
				c.Variants = append(c.Variants, devicetest.Variant{Name: fmt.Sprintf("%d workers", threads), Open: openWith(cpu.Options{ISA: level, Threads: threads})})
			}
			c.Variants = append(c.Variants, devicetest.Variant{Name: "not fused", Open: openWith(cpu.Options{ISA: level, Threads: 1, NoFuse: true})})
			devicetest.Run(t, openWith(cpu.Options{ISA: level, Threads: 1}), c)
		})
	}
}
