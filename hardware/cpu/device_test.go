package cpu_test

import (
	"fmt"
	"testing"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/devicetest"
	"hearth/hardware/quant"
)

// roundedRows are the errors of products whose kernels round rows to 8 bits, 32 or 256 elements with one scale: half a
// step of 1/127 of the largest of them, evenly distributed, is less than 1 % of normally distributed rows.
func roundedRows() map[*quant.Format]float64 {
	return map[*quant.Format]float64{quant.Q8_0: 0.01, quant.Q4_0: 0.01, quant.Q4_K: 0.015}
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
	for _, level := range cpu.Levels() {
		t.Run(level, func(t *testing.T) {
			c := devicetest.Config{MatMulError: roundedRows()}
			for _, threads := range []int{2, 3} {
				c.Variants = append(c.Variants, devicetest.Variant{Name: fmt.Sprintf("%d workers", threads), Open: openWith(cpu.Options{ISA: level, Threads: threads})})
			}
			c.Variants = append(c.Variants, devicetest.Variant{Name: "not fused", Open: openWith(cpu.Options{ISA: level, Threads: 1, NoFuse: true})})
			devicetest.Run(t, openWith(cpu.Options{ISA: level, Threads: 1}), c)
		})
	}
}
