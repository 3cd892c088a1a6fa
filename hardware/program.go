package hardware

import (
	"errors"
	"fmt"

	"hearth/hardware/quant"
)

// ErrUnsupported says that a device cannot run an operation or a format of a program.
var ErrUnsupported = errors.New("hardware: unsupported")

// ErrOutOfMemory says that a program does not fit the device.
var ErrOutOfMemory = errors.New("hardware: out of memory")

// Program is the record of a model's forward passes: plain data, independent of devices, checked while it is recorded.
// The first mistake sticks and is returned by Err; until then every method returns a usable value, so that a model
// file reads as a list of operations. A Program is not safe for concurrent use while it is recorded; afterwards it is
// read-only.
type Program struct {
	name     string
	weights  []WeightInfo
	ropes    []RopeInfo
	streams  []StreamInfo
	rings    []RingInfo
	deltas   []DeltaInfo
	routes   []RoutesInfo
	chosen   []SelectionInfo
	carried  []Tensor
	tensors  []tensorInfo
	sections []sectionInfo
	outputs  []outputInfo

	layer int
	half  Half
	err   error
}

type tensorInfo struct {
	rows    Rows
	cols    int
	section Section
}

type sectionInfo struct {
	name string
	ops  []Op
}

type outputInfo struct {
	name   string
	tensor Tensor
}

// Section is a part of a program that Run executes as a whole, such as "trunk".
type Section int32

// Half says to which half of a layer an operation belongs.
type Half uint8

// The places of an operation in the skeleton of a transformer.
const (
	HalfNone  Half = iota // before, between or after the layers
	HalfMixer             // attention and its projections
	HalfFFN               // feed-forward network or experts
)

// String returns the half's name.
func (h Half) String() string { return [...]string{"none", "mixer", "ffn"}[h] }

// Op is one recorded operation.
type Op struct {
	Layer int // -1 outside the layers
	Half  Half
	Args  Args // one of the …Args types of this package
}

// NewProgram returns an empty program; the name is for errors and traces.
func NewProgram(name string) *Program { return &Program{name: name, layer: -1} }

// Name returns the program's name.
func (p *Program) Name() string { return p.name }

// Err returns the first mistake made while recording, nil if there was none.
func (p *Program) Err() error { return p.err }

// Section starts a section: the operations that follow belong to it.
func (p *Program) Section(name string) Section {
	p.sections = append(p.sections, sectionInfo{name: name})
	p.layer, p.half = -1, HalfNone
	return Section(len(p.sections) - 1)
}

// Mixer marks that the operations that follow are the mixer of a layer, counted from 0.
func (p *Program) Mixer(layer int) { p.layer, p.half = layer, HalfMixer }

// FFN marks that the operations that follow are the feed-forward half of a layer.
func (p *Program) FFN(layer int) { p.layer, p.half = layer, HalfFFN }

// Tail marks that the operations that follow come after the last layer.
func (p *Program) Tail() { p.layer, p.half = -1, HalfNone }

// NumSections returns how many sections were started.
func (p *Program) NumSections() int { return len(p.sections) }

// Ops returns the operations of a section in order. The caller does not modify them.
func (p *Program) Ops(s Section) []Op { return p.sections[s].ops }

// Weight is a handle of a declared weight; the zero value means that there is none.
type Weight struct{ id int32 }

// Valid reports whether the handle names a weight.
func (w Weight) Valid() bool { return w.id > 0 }

// Index is the position of the weight in declaration order, from 0.
func (w Weight) Index() int { return int(w.id) - 1 }

// WeightInfo declares y[Out] = W x[In] + Bias, or, with Out 1, a vector such as the weight of a norm.
type WeightInfo struct {
	Name    string // GGUF name, for errors and traces
	Format  *quant.Format
	Out, In int
	Experts int       // number of stacked matrices [Experts, Out, In]; 0 for a plain matrix
	Scale   float32   // multiplies the result; 0 means 1
	Bias    []float32 // [Out], or nil
	Data    []byte    // rows in order, mapped and read-only; nil while planning. Mapped until Load returns
	Stack   [][]byte  // instead of Data: the rows of each expert, where the file keeps them apart
	// Read, instead of Data and Stack, is for a weight that its file keeps in another form: it writes rows [first, last)
	// of an expert to dst, as Format has them. It may be called concurrently, until Load returns, and fails only when the
	// file can no longer be read.
	Read func(dst []byte, expert, first, last int) error
	// Release, when set, is told which bytes of Data or Stack were read for the last time, so that their memory can be
	// given back. They stay valid: to read them again costs time and nothing else. It may be called concurrently.
	Release func(read []byte)
}

// HasData reports whether the weight's rows can be had, which they need not while planning.
func (w *WeightInfo) HasData() bool { return w.Data != nil || w.Stack != nil || w.Read != nil }

// Rows returns rows [first, last) of an expert, those of a plain weight as expert 0. They are the file's own bytes, or
// else are read into buf, which is replaced where it is too small. It panics while there are no data.
func (w *WeightInfo) Rows(buf []byte, expert, first, last int) ([]byte, error) {
	rowBytes, _ := w.Format.RowBytes(w.In)
	switch {
	case w.Stack != nil:
		return w.Stack[expert][first*rowBytes : last*rowBytes], nil
	case w.Data != nil:
		matrix := w.Data[expert*w.Out*rowBytes:][:w.Out*rowBytes]
		return matrix[first*rowBytes : last*rowBytes], nil
	}
	n := (last - first) * rowBytes
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	return buf[:n], w.Read(buf[:n], expert, first, last)
}

// Bytes returns the size of the weight as stored.
func (w *WeightInfo) Bytes() int {
	rowBytes, _ := w.Format.RowBytes(w.In)
	return rowBytes * w.Out * max(1, w.Experts)
}

// Weight declares a weight. Its data may be absent while planning.
func (p *Program) Weight(w WeightInfo) Weight {
	switch {
	case w.Format == nil:
		p.fail("weight %q has no format", w.Name)
	case w.Out <= 0 || w.In <= 0 || w.Experts < 0:
		p.fail("weight %q has the shape [%d, %d] with %d experts", w.Name, w.Out, w.In, w.Experts)
	default:
		if _, whole := w.Format.RowBytes(w.In); !whole {
			p.fail("weight %q: rows of %d are not a multiple of %s's %d", w.Name, w.In, w.Format, w.Format.BlockLen)
		} else {
			p.checkData(&w)
		}
	}
	if w.Bias != nil && len(w.Bias) != w.Out {
		p.fail("weight %q has %d outputs and a bias of %d", w.Name, w.Out, len(w.Bias))
	}
	p.weights = append(p.weights, w)
	return Weight{int32(len(p.weights))}
}

// checkData records a mistake when a weight's bytes are there and do not fit its shape.
func (p *Program) checkData(w *WeightInfo) {
	if w.Read != nil && (w.Data != nil || w.Stack != nil) {
		p.fail("weight %q has bytes and a way to read others", w.Name)
	}
	if w.Data != nil && (w.Stack != nil || len(w.Data) != w.Bytes()) {
		p.fail("weight %q has %d bytes, its shape needs %d", w.Name, len(w.Data), w.Bytes())
	}
	if w.Stack != nil && len(w.Stack) != max(1, w.Experts) {
		p.fail("weight %q has %d matrices, its shape needs %d", w.Name, len(w.Stack), max(1, w.Experts))
	}
	for i, matrix := range w.Stack {
		if len(matrix)*len(w.Stack) != w.Bytes() {
			p.fail("weight %q: matrix %d has %d bytes, its shape needs %d", w.Name, i, len(matrix), w.Bytes()/len(w.Stack))
		}
	}
}

// NumWeights returns how many weights were declared.
func (p *Program) NumWeights() int { return len(p.weights) }

// WeightInfo returns a declared weight; it panics on the zero handle.
func (p *Program) WeightInfo(w Weight) *WeightInfo { return &p.weights[w.Index()] }

// WeightAt returns the i-th declared weight.
func (p *Program) WeightAt(i int) *WeightInfo { return &p.weights[i] }

// ReleaseData forgets the weights' bytes, after a device has packed them. The program stays readable otherwise.
func (p *Program) ReleaseData() {
	for i := range p.weights {
		w := &p.weights[i]
		w.Data, w.Stack, w.Read, w.Release = nil, nil, nil, nil
	}
}

// Rope is a handle of a declared rotary embedding.
type Rope struct{ id int32 }

// Pairing says which two elements of a head rotate together.
type Pairing uint8

// The two pairings in use; swapping them gives fluent-looking garbage.
const (
	Interleaved Pairing = iota // (x[2i], x[2i+1]): GGUF llama and deepseek
	HalfSplit                  // (x[i], x[i+n/2]): qwen, minimax, and llama of Hugging Face
)

// RopeInfo is a rotary position embedding (arXiv 2104.09864) over the first 2*len(Frequencies) elements of a head.
type RopeInfo struct {
	Frequencies []float64 // radians per position of each pair, scaling already applied
	Magnitude   float32   // multiplies cosine and sine (YaRN, arXiv 2309.00071); 0 means 1
	Pairing     Pairing
}

// Rope declares a rotary embedding.
func (p *Program) Rope(r RopeInfo) Rope {
	if len(r.Frequencies) == 0 {
		p.fail("rotary embedding without frequencies")
	}
	if r.Magnitude == 0 {
		r.Magnitude = 1
	}
	p.ropes = append(p.ropes, r)
	return Rope{int32(len(p.ropes))}
}

// RopeInfo returns a declared rotary embedding.
func (p *Program) RopeInfo(r Rope) *RopeInfo { return &p.ropes[r.id-1] }

// Stream is a handle of declared cache rows.
type Stream struct{ id int32 }

// Index is the position of the stream in declaration order, from 0.
func (s Stream) Index() int { return int(s.id) - 1 }

// StreamClass says what a stream holds, so that a device can choose its layout.
type StreamClass uint8

// The classes of streams.
const (
	KeyStream    StreamClass = iota // rows that queries are multiplied with
	ValueStream                     // rows that probabilities add up
	LatentStream                    // both at once
	IndexStream                     // rows that index queries of Select are multiplied with
)

var streamClassNames = [...]string{KeyStream: "key", ValueStream: "value", LatentStream: "latent", IndexStream: "index"}

// String returns the class in one word.
func (c StreamClass) String() string { return streamClassNames[c] }

// StreamInfo declares what one layer remembers of each position: a row of Heads*Dim elements. With a Ratio above 1 it is a
// row of every Ratio positions, complete when the last of them is there: entry e stands for [e*Ratio, (e+1)*Ratio).
// Where Ratio is below BlockLen it divides it, where above it is a multiple; a block holds the entries that its positions
// complete.
type StreamInfo struct {
	Name       string
	Layer      int
	Heads, Dim int
	Class      StreamClass
	Ratio      int // 0 means 1
}

// Entries returns how many entries a block has room for.
func (s *StreamInfo) Entries() int { return max(1, BlockLen/s.Ratio) }

// Place returns the block of a sequence that holds an entry, counted from its first, and where in it.
func (s *StreamInfo) Place(entry int) (block, slot int) {
	return ((entry+1)*s.Ratio - 1) / BlockLen, entry % s.Entries()
}

// Stream declares cache rows.
func (p *Program) Stream(s StreamInfo) Stream {
	if s.Ratio == 0 {
		s.Ratio = 1
	}
	if s.Heads <= 0 || s.Dim <= 0 {
		p.fail("stream %q has %d heads of %d", s.Name, s.Heads, s.Dim)
	}
	if s.Ratio < 0 || BlockLen%s.Ratio != 0 && s.Ratio%BlockLen != 0 {
		p.fail("stream %q has an entry for every %d positions, blocks have %d", s.Name, s.Ratio, BlockLen)
	}
	p.streams = append(p.streams, s)
	return Stream{int32(len(p.streams))}
}

// Streams returns all declared streams in order. The caller does not modify them.
func (p *Program) Streams() []StreamInfo { return p.streams }

// StreamInfo returns a declared stream.
func (p *Program) StreamInfo(s Stream) *StreamInfo { return &p.streams[s.Index()] }

// Ring is a handle of declared latest rows of a sequence.
type Ring struct{ id int32 }

// Valid reports whether the handle names a ring.
func (r Ring) Valid() bool { return r.id > 0 }

// Index is the position of the ring in declaration order, from 0.
func (r Ring) Index() int { return int(r.id) - 1 }

// RingInfo declares float32 rows of the latest positions, a part of a sequence's slot.
type RingInfo struct {
	Name  string
	Layer int
	Dim   int // elements of a row
	Reach int // how many positions before its own an operation reads
	Keep  int // rows before a multiple of BlockLen that going on from there needs; 0: Reach
}

// Ring declares latest rows.
func (p *Program) Ring(r RingInfo) Ring {
	if r.Keep == 0 {
		r.Keep = r.Reach
	}
	if r.Dim <= 0 || r.Reach <= 0 || r.Keep < 0 || r.Keep > r.Reach {
		p.fail("ring %q keeps %d rows of %d and reaches %d back", r.Name, r.Keep, r.Dim, r.Reach)
	}
	p.rings = append(p.rings, r)
	return Ring{int32(len(p.rings))}
}

// Rings returns all declared rings in order. The caller does not modify them.
func (p *Program) Rings() []RingInfo { return p.rings }

// RingInfo returns a declared ring.
func (p *Program) RingInfo(r Ring) *RingInfo { return &p.rings[r.Index()] }

// Delta is a handle of the declared state of a delta rule.
type Delta struct{ id int32 }

// Index is the position of the state in declaration order, from 0.
func (d Delta) Index() int { return int(d.id) - 1 }

// DeltaInfo declares what a delta rule remembers, a part of a sequence's slot: for each value head S [KeyDim, ValueDim]
// and, of the chunk of BlockLen positions that goes on, the rows that DeltaRuleArgs names, all float32.
type DeltaInfo struct {
	Name                 string
	Layer                int
	KeyHeads, ValueHeads int
	KeyDim, ValueDim     int
	Map                  HeadMap
}

// Delta declares the state of a delta rule.
func (p *Program) Delta(d DeltaInfo) Delta {
	if d.KeyHeads <= 0 || d.KeyDim <= 0 || d.ValueDim <= 0 || d.ValueHeads <= 0 || d.ValueHeads%d.KeyHeads != 0 {
		p.fail("state %q has %d key heads of %d, %d value heads of %d", d.Name, d.KeyHeads, d.KeyDim, d.ValueHeads, d.ValueDim)
	}
	p.deltas = append(p.deltas, d)
	return Delta{int32(len(p.deltas))}
}

// Deltas returns all declared states of delta rules in order. The caller does not modify them.
func (p *Program) Deltas() []DeltaInfo { return p.deltas }

// DeltaInfo returns the declared state of a delta rule.
func (p *Program) DeltaInfo(d Delta) *DeltaInfo { return &p.deltas[d.Index()] }

// Stateful reports whether sequences have slots: rings or states of delta rules beside their cache blocks.
func (p *Program) Stateful() bool { return len(p.rings)+len(p.deltas) > 0 }

// Selection is a handle of chosen entries of each row; the zero value means all that are visible.
type Selection struct{ id int32 }

// Valid reports whether the handle names a selection.
func (s Selection) Valid() bool { return s.id > 0 }

// Index is the position of the selection in declaration order, from 0.
func (s Selection) Index() int { return int(s.id) - 1 }

// SelectionInfo gives the sizes of a selection.
type SelectionInfo struct {
	Groups  int    // each chooses for itself
	Entries int    // most entries chosen in a group
	Unit    int    // that many entries in a row are chosen together, from a multiple of it on
	Index   Stream // whose entries are meant
}

// SelectionInfo returns the sizes of a declared selection.
func (p *Program) SelectionInfo(s Selection) *SelectionInfo { return &p.chosen[s.Index()] }

// NumSelections returns how many selections were declared.
func (p *Program) NumSelections() int { return len(p.chosen) }

// Carry says that a tensor of tokens survives Run: a later section gathers its rows by Batch.Inputs, and may write it
// again behind that, for its own next Run. It holds the rows of the last Run of a section that writes it.
func (p *Program) Carry(t Tensor) {
	if !p.ok("Carry", t) {
		return
	}
	if t.rows != Tokens {
		p.fail("Carry: rows of %s", t.rows)
	}
	p.carried = append(p.carried, t)
}

// Carried returns the carried tensors in order. The caller does not modify them.
func (p *Program) Carried() []Tensor { return p.carried }

// Output is a handle of rows that the caller reads after a step.
type Output int32

// Output names a tensor that the caller reads after a step with Queue.Output. Its rows must be Outputs.
func (p *Program) Output(name string, t Tensor) Output {
	if p.ok("output", t) && t.rows != Outputs {
		p.fail("output %q has rows of %s, want one row per output", name, t.rows)
	}
	p.outputs = append(p.outputs, outputInfo{name, t})
	return Output(len(p.outputs) - 1)
}

// NumOutputs returns how many outputs were named.
func (p *Program) NumOutputs() int { return len(p.outputs) }

// OutputTensor returns the name and the tensor of an output.
func (p *Program) OutputTensor(o Output) (string, Tensor) {
	return p.outputs[o].name, p.outputs[o].tensor
}

// fail keeps the first mistake, with the place where it was made.
func (p *Program) fail(format string, args ...any) {
	if p.err != nil {
		return
	}
	place := ""
	if p.layer >= 0 {
		place = fmt.Sprintf(" layer %d %s:", p.layer, p.half)
	}
	p.err = fmt.Errorf("hardware: program %q:%s %s", p.name, place, fmt.Sprintf(format, args...))
}

// record appends an operation to the current section.
func (p *Program) record(args Args) {
	if len(p.sections) == 0 {
		p.fail("%s recorded before the first section", args.Kind())
		return
	}
	section := &p.sections[len(p.sections)-1]
	section.ops = append(section.ops, Op{Layer: p.layer, Half: p.half, Args: args})
}
