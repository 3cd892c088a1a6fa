package model

import (
	"fmt"
	"math"

	"hearth/engine/weights"
)

// mistake keeps the first of what is wrong with a model; whatever comes later follows from it.
type mistake struct{ err error }

func (m *mistake) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// keys reads the hyperparameters of one architecture, by their GGUF names without its prefix. The first mistake sticks;
// until it is returned every method gives a usable value, so that reading is a list of keys.
type keys struct {
	*mistake
	md   *weights.Metadata
	arch string
}

// wrong records a mistake in a key of the architecture.
func (k *keys) wrong(name, format string, args ...any) {
	k.wrongKey(k.arch+"."+name, format, args...)
}

// wrongKey records a mistake in any key.
func (k *keys) wrongKey(key, format string, args ...any) {
	k.fail(fmt.Errorf("%w: key %s %s", weights.ErrCorrupt, key, fmt.Sprintf(format, args...)))
}

// has reports whether the architecture has a key.
func (k *keys) has(name string) bool {
	_, ok := k.md.Get(k.arch + "." + name)
	return ok
}

// text reads a string.
func (k *keys) text(name, missing string) string {
	if !k.has(name) {
		return missing
	}
	v, ok := k.md.String(k.arch + "." + name)
	if !ok {
		k.wrong(name, "is not a string")
	}
	return v
}

// count reads a positive integer; missing is its default, 0 when the key is required. Keys that some files give per
// layer are accepted when all layers agree.
func (k *keys) count(name string, missing, most int) int {
	v := k.optionalCount(name, missing, most)
	if v == 0 && k.err == nil {
		if k.has(name) {
			k.wrong(name, "is 0")
		} else {
			k.wrong(name, "is missing")
		}
	}
	return v
}

// optionalCount is count for a number that may be zero.
func (k *keys) optionalCount(name string, missing, most int) int {
	if !k.has(name) {
		return missing
	}
	if v, ok := k.md.Uint(k.arch + "." + name); ok {
		if v > uint64(most) {
			k.wrong(name, "is %d, the most is %d", v, most)
			return 0
		}
		return int(v)
	}
	perLayer, ok := k.md.Ints(k.arch + "." + name)
	if !ok || len(perLayer) == 0 {
		k.wrong(name, "is not a non-negative integer")
		return 0
	}
	for i, v := range perLayer {
		if v != perLayer[0] {
			k.wrong(name, "differs between layers (%d in layer 0, %d in layer %d), which this architecture cannot run", perLayer[0], v, i)
			return 0
		}
	}
	if perLayer[0] < 0 || perLayer[0] > most {
		k.wrong(name, "is %d, want 0 to %d", perLayer[0], most)
		return 0
	}
	return perLayer[0]
}

// counts reads a non-negative integer for each of n layers, which a file gives as an array or as one number for all; nil
// when the key is missing. Arrays may go on beyond the layers.
func (k *keys) counts(name string, n, most int) []int {
	if !k.has(name) {
		return nil
	}
	values, isArray := k.md.Ints(k.arch + "." + name)
	if !isArray {
		one := k.optionalCount(name, 0, most)
		values = make([]int, n)
		for i := range values {
			values[i] = one
		}
		return values
	}
	if len(values) < n {
		k.wrong(name, "has %d elements, want one for each of %d layers", len(values), n)
		return make([]int, n)
	}
	for i, v := range values[:n] {
		if v < 0 || v > most {
			k.wrong(name, "is %d in layer %d, want 0 to %d", v, i, most)
		}
	}
	return values[:n]
}

// number reads a float; a missing NaN says that the key is required.
func (k *keys) number(name string, missing float64) float64 {
	if !k.has(name) {
		if math.IsNaN(missing) {
			k.wrong(name, "is missing")
		}
		return missing
	}
	v, ok := k.md.Float(k.arch + "." + name)
	if !ok {
		k.wrong(name, "is not a number")
	}
	return v
}

// positive is number for one above zero; a missing 0 says that the key is required.
func (k *keys) positive(name string, missing float64) float64 {
	if missing == 0 {
		missing = math.NaN()
	}
	v := k.number(name, missing)
	if k.err == nil && (!(v > 0) || math.IsInf(v, 0)) {
		k.wrong(name, "is %v, want a positive number", v)
	}
	return v
}

// numbers reads a float for each of n layers, which a file gives as an array or as one number for all; nil when the key is
// missing. Arrays may go on beyond the layers.
func (k *keys) numbers(name string, n int) []float32 {
	if !k.has(name) {
		return nil
	}
	values, isArray := k.md.Floats(k.arch + "." + name)
	if !isArray {
		one := float32(k.number(name, 0))
		values = make([]float32, n)
		for i := range values {
			values[i] = one
		}
	}
	if len(values) < n {
		k.wrong(name, "has %d elements, want one for each of %d layers", len(values), n)
		return make([]float32, n)
	}
	for i, v := range values[:n] {
		if !isFinite(float64(v)) {
			k.wrong(name, "is %v in layer %d", v, i)
		}
	}
	return values[:n]
}

// flag reads a boolean.
func (k *keys) flag(name string, missing bool) bool {
	if !k.has(name) {
		return missing
	}
	v, ok := k.md.Bool(k.arch + "." + name)
	if !ok {
		k.wrong(name, "is not a boolean")
	}
	return v
}

// flags reads a boolean for each of n layers; nil when the key is missing. Arrays may go on beyond the layers.
func (k *keys) flags(name string, n int) []bool {
	if !k.has(name) {
		return nil
	}
	value, _ := k.md.Get(k.arch + "." + name)
	values, ok := value.([]bool)
	if !ok || len(values) < n {
		k.wrong(name, "is not an array of a boolean for each of %d layers", n)
		return make([]bool, n)
	}
	return values[:n]
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
