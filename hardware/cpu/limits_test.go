package cpu

import (
	"testing"

	"hearth/hardware"
)

// TestMeter measures every level with little memory: the rates are those of caches, but there is one of everything.
func TestMeter(t *testing.T) {
	for _, name := range availableLevels() {
		t.Run(name, func(t *testing.T) {
			d, err := Open(Options{Threads: 2, ISA: name})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			m, err := d.(hardware.Metered).OpenMeter(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			r, err := m.Measure()
			if err != nil {
				t.Fatal(err)
			}
			if r.ReadBytes < r.MedianReadBytes || r.MedianReadBytes <= 0 {
				t.Errorf("reads %g bytes per second at best, %g in the median", r.ReadBytes, r.MedianReadBytes)
			}
			for _, a := range []hardware.Arithmetic{hardware.Int8, hardware.Float32} {
				if r.Peak(a) <= 0 {
					t.Errorf("no peak of %s among %+v", a, r.Peaks)
				}
			}
		})
	}
}

func TestMeterRefusesSizes(t *testing.T) {
	d, err := Open(Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, bytes := range []int{-1, 0, leastMeter - 1, memoryLimit + 1} {
		if m, err := d.(hardware.Metered).OpenMeter(bytes); err == nil {
			m.Close()
			t.Errorf("a meter of %d bytes opens", bytes)
		}
	}
}
