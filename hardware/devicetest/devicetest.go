// Package devicetest is the conformance suite that every device passes.
//
// Operations are compared with a reference in double precision, for every claimed format and for shapes that do not
// fit any tile; devices that claim to be exact are compared with themselves, bit by bit, under every way of cutting
// the same work. Besides that the suite checks what the contract of package hardware says about claims, memory,
// blocks, counters and broken batches.
package devicetest

import (
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// Open opens the device under test; the suite closes it.
type Open func(t testing.TB) hardware.Device

// Variant is another device that must give the same bits as the first: with other workers, or without fusion.
type Variant struct {
	Name string
	Open Open
}

// Config says what a device is held to.
type Config struct {
	Variants []Variant
	// Error bounds the normalised root mean square error of an operation in float32, 0: 3e-6. Twelve times as much
	// is the bound of a single element.
	Error float64
	// MatMulError is the bound for products with weights of a format whose kernels round the rows too.
	MatMulError map[*quant.Format]float64
	// Plain says that the device runs operations in their plain form alone, see hardware.Program.Plain.
	Plain bool
	// Allocates says that steps may allocate memory.
	Allocates bool
	// Brief takes fewer formats and shorter sequences, as -short does: for a device much like one tested in full.
	Brief bool
}

func (c *Config) brief() bool { return c.Brief || testing.Short() }

// defaultError is some ten units in the last place of float32: sums of some hundred elements lose that much.
const defaultError = 3e-6

// bound returns the error bound of products with a format.
func (c *Config) bound(f *quant.Format) float64 {
	if e, ok := c.MatMulError[f]; ok {
		return e
	}
	return c.floatBound()
}

func (c *Config) floatBound() float64 {
	if c.Error == 0 {
		return defaultError
	}
	return c.Error
}

// Run runs the whole suite, or the brief one.
func Run(t *testing.T, open Open, c Config) {
	d := opened(t, open)
	t.Run("operations", func(t *testing.T) { testOperations(t, d, &c) })
	if !c.Plain {
		t.Run("forms", func(t *testing.T) { testForms(t, d, &c) })
		t.Run("attention", func(t *testing.T) { testAttentionForms(t, d, &c) })
	}
	t.Run("model", func(t *testing.T) { testModels(t, d, &c) })
	t.Run("persistence", func(t *testing.T) { testPersistence(t, d) })
	t.Run("state", func(t *testing.T) { testState(t, d, &c) })
	t.Run("rollback", func(t *testing.T) { testRollback(t, d) })
	t.Run("claims", func(t *testing.T) { testClaims(t, d) })
	t.Run("contract", func(t *testing.T) { testContract(t, d, &c) })
	if d.Info().Exact {
		t.Run("exactness", func(t *testing.T) { testExactness(t, d, &c) })
		t.Run("rows", func(t *testing.T) { testRows(t, d, &c) })
	}
}

// opened opens a device and closes it when the test ends.
func opened(t testing.TB, open Open) hardware.Device {
	t.Helper()
	d := open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}
