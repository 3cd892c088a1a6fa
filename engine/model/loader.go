package model

import (
	"errors"
	"fmt"
	"slices"

	"hearth/engine/weights"
	"hearth/hardware"
)

// Loader declares an architecture's weights from a source. The first mistake sticks; until Load returns it, every
// method gives a usable value, so that loading reads as a list of tensors.
type Loader struct {
	Config *Config

	src     weights.Source
	program *hardware.Program
	err     error
}

func (l *Loader) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

// Has reports whether the source has a tensor, for those that may be absent.
func (l *Loader) Has(name string) bool { return l.src.Has(name) }

// Origin says which kind of file the weights come from.
func (l *Loader) Origin() weights.Origin { return l.src.Origin() }

// Vector declares a vector of n elements, such as the weight of a norm.
func (l *Loader) Vector(name string, n int) hardware.Weight {
	t, ok := l.tensor(name, []int{n})
	if !ok {
		return hardware.Weight{}
	}
	return l.program.Weight(hardware.WeightInfo{Name: name, Format: t.Format, Out: 1, In: n, Data: t.Data, Release: l.src.Release})
}

// Matrix declares a weight [out, in], with its bias and its scale where the source has them.
func (l *Loader) Matrix(name string, out, in int) hardware.Weight {
	t, ok := l.tensor(name+".weight", []int{out, in})
	if !ok {
		return hardware.Weight{}
	}
	info := hardware.WeightInfo{Name: t.Name, Format: t.Format, Out: out, In: in, Data: t.Data, Release: l.src.Release}
	if l.Has(name + ".bias") {
		info.Bias = l.Values(name+".bias", out)
	}
	if l.Has(name + ".scale") { // NVFP4 checkpoints carry a multiplier per tensor
		if scale := l.Values(name+".scale", 1); scale != nil {
			info.Scale = scale[0]
		}
	}
	return l.program.Weight(info)
}

// Experts declares a stack of weights [experts, out, in].
func (l *Loader) Experts(name string, out, in int) hardware.Weight {
	t, ok := l.tensor(name+".weight", []int{l.Config.NumExperts, out, in})
	if !ok {
		return hardware.Weight{}
	}
	for _, extra := range []string{".bias", ".scale"} {
		if l.Has(name + extra) {
			l.fail(fmt.Errorf("%w: tensor %q", ErrUnsupported, name+extra))
		}
	}
	return l.program.Weight(hardware.WeightInfo{
		Name: t.Name, Format: t.Format, Out: out, In: in, Experts: l.Config.NumExperts, Data: t.Data, Stack: t.Stack, Release: l.src.Release,
	})
}

// Values returns the n elements of a small tensor as float32.
func (l *Loader) Values(name string, n int) []float32 {
	t, ok := l.tensor(name, []int{n})
	if !ok {
		return nil
	}
	if n%t.Format.BlockLen != 0 {
		l.fail(fmt.Errorf("%w: tensor %q: %d elements in blocks of %s", weights.ErrCorrupt, name, n, t.Format.Name))
		return nil
	}
	values := make([]float32, n)
	t.Format.Dequantize(values, t.Data)
	return values
}

// tensor looks a tensor up and checks its shape. Files may write outer dimensions of 1 or leave them out.
func (l *Loader) tensor(name string, shape []int) (weights.Tensor, bool) {
	t, err := l.src.Tensor(name)
	if err != nil {
		if errors.Is(err, weights.ErrNotFound) {
			err = fmt.Errorf("architecture %s needs it: %w", l.Config.Architecture, err)
		}
		l.fail(err)
		return t, false
	}
	if !slices.Equal(trimOnes(t.Shape), trimOnes(shape)) {
		l.fail(fmt.Errorf("%w: tensor %q has the shape %v, want %v", weights.ErrCorrupt, name, t.Shape, shape))
		return t, false
	}
	if t.Format == nil {
		l.fail(fmt.Errorf("%w: tensor %q is of type %s", ErrUnsupported, name, t.TypeName()))
		return t, false
	}
	return t, true
}

// trimOnes cuts outer dimensions of 1 off.
func trimOnes(shape []int) []int {
	for len(shape) > 1 && shape[0] == 1 {
		shape = shape[1:]
	}
	return shape
}

// failKey records a mistake in a key of the architecture.
func (l *Loader) failKey(name, reason string) {
	l.fail(fmt.Errorf("%w: key %s.%s %s", weights.ErrCorrupt, l.Config.Architecture, name, reason))
}
