package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// Loader declares an architecture's weights from a source. The first mistake sticks; until Load returns it, every
// method gives a usable value, so that loading reads as a list of tensors.
type Loader struct {
	*mistake
	Config *Config

	keys     *keys // of the architecture, for what Config does not hold
	src      weights.Source
	program  *hardware.Program
	predicts bool // whether weights that guess further tokens are wanted
}

// Has reports whether the source has a tensor, for those that may be absent.
func (l *Loader) Has(name string) bool { return l.src.Has(name) }

// predictsFrom reports whether weights that guess further tokens are wanted, and the block behind n layers has them.
func (l *Loader) predictsFrom(n int) bool {
	return l.predicts && l.Config.NumNextNLayers > 0 && l.Has(blockPrefix(n)+"nextn.eh_proj.weight")
}

// Origin says which kind of file the weights come from.
func (l *Loader) Origin() weights.Origin { return l.src.Origin() }

// Vector declares a vector of n elements, such as the weight of a norm.
func (l *Loader) Vector(name string, n int) hardware.Weight {
	t, ok := l.tensor(name, n)
	if !ok {
		return hardware.Weight{}
	}
	return l.program.Weight(l.info(t, 1, n))
}

// OptionalVector is Vector, or the zero handle where the source does not have it.
func (l *Loader) OptionalVector(name string, n int) hardware.Weight {
	if !l.Has(name) {
		return hardware.Weight{}
	}
	return l.Vector(name, n)
}

// Matrix declares a weight [out, in], with its bias and its scale where the source has them.
func (l *Loader) Matrix(name string, out, in int) hardware.Weight {
	t, ok := l.tensor(name+".weight", out, in)
	if !ok {
		return hardware.Weight{}
	}
	info := l.info(t, out, in)
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

// Stack declares a stack of n weights [n, out, in].
func (l *Loader) Stack(name string, n, out, in int) hardware.Weight {
	info, ok := l.stack(name, n, out, in)
	if !ok {
		return hardware.Weight{}
	}
	return l.program.Weight(info)
}

// Experts declares the experts' weights [experts, out, in].
func (l *Loader) Experts(name string, out, in int) hardware.Weight {
	return l.Stack(name, l.Config.NumExperts, out, in)
}

// GateUp declares the gate and up projections of all experts, [experts, ffn, in] each. Files have a tensor for both, or
// one with the rows of gate before those of up.
func (l *Loader) GateUp(prefix string, ffn, in int) (gate, up hardware.Weight) {
	fused := prefix + "ffn_gate_up_exps"
	if !l.Has(fused + ".weight") {
		return l.Experts(prefix+"ffn_gate_exps", ffn, in), l.Experts(prefix+"ffn_up_exps", ffn, in)
	}
	info, ok := l.stack(fused, l.Config.NumExperts, 2*ffn, in)
	if !ok {
		return gate, up
	}
	return l.program.Weight(stackRows(info, 0, ffn)), l.program.Weight(stackRows(info, ffn, ffn))
}

// stack looks up a stack of n weights [n, out, in]. Files may write its rows as one matrix [n*out, in].
func (l *Loader) stack(name string, n, out, in int) (info hardware.WeightInfo, ok bool) {
	shape := []int{n, out, in}
	if t, err := l.src.Describe(name + ".weight"); err == nil && len(trimOnes(t.Shape)) == 2 {
		shape = []int{n * out, in}
	}
	t, ok := l.tensor(name+".weight", shape...)
	if !ok {
		return info, false
	}
	for _, extra := range []string{".bias", ".scale"} {
		if l.Has(name + extra) {
			l.fail(fmt.Errorf("%w: tensor %q", ErrUnsupported, name+extra))
		}
	}
	info = l.info(t, out, in)
	info.Experts = n
	if read := info.Read; read != nil && len(shape) == 2 {
		info.Read = func(dst []byte, i, first, last int) error { return read(dst, 0, i*out+first, i*out+last) }
	}
	return info, true
}

// stackRows returns rows [first, first+out) of each matrix of a stack as a stack.
func stackRows(whole hardware.WeightInfo, first, out int) hardware.WeightInfo {
	rows := whole
	rows.Name = fmt.Sprintf("%s[%d:%d]", whole.Name, first, first+out)
	rows.Out = out
	if whole.Read != nil {
		rows.Read = func(dst []byte, i, lo, hi int) error { return whole.Read(dst, i, first+lo, first+hi) }
		return rows
	}
	rows.Data, rows.Stack = nil, make([][]byte, whole.Experts)
	for i := range rows.Stack {
		rows.Stack[i], _ = whole.Rows(nil, i, first, first+out) // the file's own bytes
	}
	return rows
}

// transposed returns the transpose [in, out] of each matrix [out, in] of a stack. Its blocks are others than the file's, so
// rows are made while they are read: in the file's format where that has no blocks, and otherwise in F16, which has more
// digits than what was cut into blocks.
func transposed(whole hardware.WeightInfo) hardware.WeightInfo {
	t := whole
	t.Name = whole.Name + " transposed"
	t.Out, t.In = whole.In, whole.Out
	t.Data, t.Stack, t.Release = nil, nil, nil
	if t.Format.BlockLen > 1 {
		t.Format = quant.F16
	}
	rowBytes := t.Format.BlockBytes * t.In
	t.Read = func(dst []byte, i, first, last int) error {
		rows, err := whole.Rows(nil, i, 0, whole.Out)
		if err != nil {
			return err
		}
		values := make([]float32, whole.Out*whole.In)
		whole.Format.Dequantize(values, rows)
		column := make([]float32, whole.Out)
		for c := first; c < last; c++ {
			for r := range column {
				column[r] = values[r*whole.In+c]
			}
			t.Format.Quantize(dst[(c-first)*rowBytes:][:rowBytes], column)
		}
		return nil
	}
	return t
}

// Table returns the integers of a tensor [rows, cols], row after row.
func (l *Loader) Table(name string, rows, cols int) []int32 {
	t, ok := l.shaped(name, []int{rows, cols})
	if !ok {
		return nil
	}
	t, err := l.src.Tensor(name) // its bytes
	if err != nil {
		l.fail(err)
		return nil
	}
	size := map[string]int{"I32": 4, "I64": 8}[t.TypeName()]
	if size == 0 || len(t.Data) != rows*cols*size {
		l.fail(fmt.Errorf("%w: tensor %q is of type %s, want integers", ErrUnsupported, name, t.TypeName()))
		return nil
	}
	table := make([]int32, rows*cols)
	for i := range table {
		table[i] = int32(binary.LittleEndian.Uint32(t.Data[i*size:]))
		if size == 8 && binary.LittleEndian.Uint32(t.Data[i*size+4:]) != uint32(table[i]>>31) {
			l.fail(fmt.Errorf("%w: tensor %q: element %d is too large", weights.ErrCorrupt, name, i))
			return nil
		}
	}
	return table
}

// info describes a weight of the source.
func (l *Loader) info(t weights.Tensor, out, in int) hardware.WeightInfo {
	return hardware.WeightInfo{
		Name: t.Name, Format: t.Format, Out: out, In: in, Data: t.Data, Stack: t.Stack, Read: t.Read, Release: l.src.Release,
	}
}

// Values returns the n elements of a small tensor as float32.
func (l *Loader) Values(name string, n int) []float32 {
	t, ok := l.tensor(name, n)
	if !ok {
		return nil
	}
	if n%t.Format.BlockLen != 0 {
		l.fail(fmt.Errorf("%w: tensor %q: %d elements in blocks of %s", weights.ErrCorrupt, name, n, t.Format.Name))
		return nil
	}
	t, err := l.src.Tensor(name) // its bytes, where the file has other ones
	if err != nil {
		l.fail(err)
		return nil
	}
	values := make([]float32, n)
	t.Format.Dequantize(values, t.Data)
	return values
}

// tensor looks a tensor up and checks its shape and type.
func (l *Loader) tensor(name string, shape ...int) (weights.Tensor, bool) {
	t, ok := l.shaped(name, shape)
	if ok && t.Format == nil {
		l.fail(fmt.Errorf("%w: tensor %q is of type %s", ErrUnsupported, name, t.TypeName()))
		return t, false
	}
	return t, ok
}

// shaped looks a tensor up and checks its shape. Files may write outer dimensions of 1 or leave them out.
func (l *Loader) shaped(name string, shape []int) (weights.Tensor, bool) {
	t, err := l.src.Rows(name)
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
	return t, true
}

// trimOnes cuts outer dimensions of 1 off.
func trimOnes(shape []int) []int {
	for len(shape) > 1 && shape[0] == 1 {
		shape = shape[1:]
	}
	return shape
}

// blockPrefix is the prefix of a layer's tensors.
func blockPrefix(layer int) string { return "blk." + strconv.Itoa(layer) + "." }
