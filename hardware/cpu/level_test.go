package cpu

import (
	"math"
	"strings"
	"testing"
	"time"

	"hearth/hardware"
)

// TestCheckKernels runs the check that every level must pass before it is used.
func TestCheckKernels(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		start := time.Now()
		if err := checkKernels(k); err != nil {
			t.Error(err)
		}
		t.Logf("took %v", time.Since(start))
		for _, l := range k.linears {
			w := make([]float32, checkedIn)
			l.format.Dequantize(w, checkedWeights(l.format)[:len(checkedWeights(l.format))/panelCols])
			for i, v := range w {
				if !(math.Abs(float64(v)) <= math.MaxFloat32) {
					t.Fatalf("%s: weight %d is %v", l.format, i, v)
				}
			}
		}
	})
}

// TestCheckTiles finds a mistake in one of the last rows' products.
func TestCheckTiles(t *testing.T) {
	k := goKernels().complete()
	keys := k.tilesQ8_0.keys
	k.tilesQ8_0.keys = func(a *tileArgs) {
		keys(a)
		a.dst[(a.rows-1)*a.dstStride] *= 0.99
	}
	if err := checkKernels(k); err == nil || !strings.HasPrefix(err.Error(), "keys of Q8_0 with 1 rows") {
		t.Errorf("checkKernels = %v, want that keys of Q8_0 are wrong", err)
	}
}

// broken returns a level whose last format loses a product of its tile's last row.
func broken() *kernels {
	k := goKernels()
	k.level = "broken"
	l := k.linears[len(k.linears)-1]
	multiply := l.multiply
	l.multiply = func(a *multiplyArgs) {
		multiply(a)
		a.dst[(a.rows-1)*a.dstStride] *= 0.99
	}
	return k
}

// TestChooseLevel passes over levels that the machine lacks or gets wrong, and says why.
func TestChooseLevel(t *testing.T) {
	all := []level{
		{name: "vast", lacks: "VAST1, VAST2"},
		{name: "broken", open: broken},
		{name: "good", open: goKernels},
		{name: "go", open: goKernels},
	}
	k, report, err := chooseLevel("", all)
	if err != nil || k.level != "go" {
		t.Fatalf("got %v, %v", k, err)
	}
	want := []hardware.Level{{Name: "vast", Reason: "the processor lacks VAST1, VAST2"}, {Name: "broken", Reason: report[1].Reason, Faulty: true}, {Name: "good"}, {Name: "go"}}
	for i, w := range want {
		if report[i] != w {
			t.Errorf("level %d is reported as %+v, want %+v", i, report[i], w)
		}
	}
	linears := broken().linears
	if format := linears[len(linears)-1].format.Name; !strings.Contains(report[1].Reason, format) {
		t.Errorf("the reason %q does not name %s", report[1].Reason, format)
	}
	for isa, want := range map[string]string{
		"vast":   `cpu: level "vast" is not available: the processor lacks VAST1, VAST2; this machine runs broken, good, go`,
		"broken": `cpu: level "broken" is not available: its kernels get products wrong here: `,
		"none":   `cpu: level "none" is not available, this machine runs broken, good, go`,
	} {
		if _, _, err := chooseLevel(isa, all); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("level %q gave %v, want %q", isa, err, want)
		}
	}
	if k, _, err := chooseLevel("good", all); err != nil || k == nil {
		t.Errorf("level good gave %v", err)
	}
}
