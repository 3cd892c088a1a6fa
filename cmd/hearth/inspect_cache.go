package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"hearth/engine"
	"hearth/engine/model"
	"hearth/hardware"
	"hearth/hardware/all"
	"hearth/hardware/quant"
)

// memoryReport says what running the model takes, beside the activations of a step: on the CPU, or, where the CPU does not
// run it, what the architecture needs at least.
type memoryReport struct {
	WeightBytes      int64              `json:"weight_bytes"`
	KVBytesPerToken  map[string]int64   `json:"kv_bytes_per_token"`   // by format of the cache, those that fit the heads
	KVBytesOfContext map[string]int64   `json:"kv_bytes_of_context"`  // one sequence of context_length
	KVError          map[string]float64 `json:"kv_error"`             // measured: root mean square error of rows of normal elements, of variance 1
	StateBytes       int64              `json:"state_bytes"`          // of a running sequence, whatever its length
	SnapshotBytes    int64              `json:"snapshot_bytes"`       // of a state that is kept at the end of a prefix
	TotalBytesF16    int64              `json:"total_bytes_with_f16"` // weights and one full sequence at F16
	KVType           string             `json:"kv_type"`              // format of the cache that a server chooses
	TotalBytes       int64              `json:"total_bytes"`          // weights and one full sequence at KVType
	Contexts         []contextReport    `json:"contexts"`
	Layers           []layerReport      `json:"layers"`
	Plan             *planReport        `json:"plan,omitempty"`
}

// contextReport says what one sequence takes, blocks and state.
type contextReport struct {
	Tokens int              `json:"tokens"`
	Bytes  map[string]int64 `json:"bytes"` // by format of the cache
}

// layerReport says what layers that remember the same take, each of them.
type layerReport struct {
	Layers        []int            `json:"layers"`
	Holds         []string         `json:"holds"`
	BytesPerToken map[string]int64 `json:"bytes_per_token"` // by format of the cache
	StateBytes    int64            `json:"state_bytes"`     // that going on from the end of a prefix needs
}

// planReport is how a server on this machine would divide the memory for the cache, if nobody told it otherwise.
type planReport struct {
	Format        string `json:"kv_type"`
	Sequences     int    `json:"sequences"` // at once
	ContextLength int    `json:"context_length"`
	Blocks        int    `json:"blocks"`
	BlockBytes    int64  `json:"blocks_bytes"`
	Snapshots     int    `json:"snapshots"`
	StateBytes    int64  `json:"states_bytes"` // of all slots and snapshots
	Problem       string `json:"problem,omitempty"`
}

// kvFormats are the formats of a cache that a report computes.
var kvFormats = []*quant.Format{quant.F32, quant.F16, quant.BF16, quant.Q8_0}

// shownContexts are the lengths that a report computes, beside the model's own.
var shownContexts = []int{4 << 10, 32 << 10, 128 << 10}

// measure computes what the cache of a model takes.
func (r *memoryReport) measure(m *model.Model) (err error) {
	device, err := all.Open("cpu", all.Options{Threads: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	length := m.Config.ContextLength
	for i, n := range append(slices.Clone(shownContexts), length) {
		if n < length || n == length && i == len(shownContexts) {
			r.Contexts = append(r.Contexts, contextReport{n, map[string]int64{}})
		}
	}
	r.SnapshotBytes = m.StateBytes()
	r.StateBytes = r.SnapshotBytes
	for _, f := range kvFormats {
		if slices.ContainsFunc(m.Program.Streams(), func(s hardware.StreamInfo) bool { return s.Dim%f.BlockLen != 0 }) {
			continue // heads are kept in whole blocks
		}
		block, slot, snapshot, err := engine.CacheBytes(m, device, f)
		switch {
		case errors.Is(err, hardware.ErrUnsupported):
			block = m.KVBytesPerBlock(f)
		case err != nil:
			return err
		default:
			r.StateBytes, r.SnapshotBytes = slot, snapshot
		}
		r.KVBytesPerToken[f.Name] = ceilDiv(block, hardware.BlockLen)
		r.KVError[f.Name] = roundingError(f)
		for i := range r.Contexts {
			c := &r.Contexts[i]
			c.Bytes[f.Name] = block*ceilDiv(int64(c.Tokens), hardware.BlockLen) + r.StateBytes
		}
		r.KVBytesOfContext[f.Name] = block * ceilDiv(int64(length), hardware.BlockLen)
	}
	r.KVType = engine.CacheFormat(m.Program, device.Info().StreamFormats).Name
	r.TotalBytes = r.WeightBytes + r.KVBytesOfContext[r.KVType] + r.StateBytes
	r.TotalBytesF16 = r.WeightBytes + r.KVBytesOfContext[quant.F16.Name] + r.StateBytes
	r.addLayers(m.Program)
	r.plan(m, device)
	return nil
}

// roundingError measures what a format of the cache loses of rows of normal elements of variance 1: the root mean square.
func roundingError(f *quant.Format) float64 {
	random := rand.New(rand.NewPCG(1, 2))
	row, back := make([]float32, 4096), make([]float32, 4096)
	for i := range row {
		row[i] = float32(random.NormFloat64())
	}
	bytes, _ := f.RowBytes(len(row)) // whole blocks: 4096 is a multiple of every block
	data := make([]byte, bytes)
	f.Quantize(data, row)
	f.Dequantize(back, data)
	sum := 0.0
	for i, x := range row {
		sum += float64(x-back[i]) * float64(x-back[i])
	}
	return math.Sqrt(sum / float64(len(row)))
}

// plan asks for what a server would do without flags.
func (r *memoryReport) plan(m *model.Model, device hardware.Device) {
	machine := hardware.Probe("/")
	if usable := machine.Limits.UsableBytes; usable > 0 && uint64(r.WeightBytes) > usable {
		r.Plan = &planReport{Problem: fmt.Sprintf("the weights do not fit the %s that this process may use", formatBytes(usable))}
		return
	}
	limits, memory, err := engine.PlanFor(m, engine.Options{Device: device, KVBytes: int64(machine.KVBytes(uint64(r.WeightBytes)))})
	if err != nil {
		r.Plan = &planReport{Problem: err.Error()}
		return
	}
	r.Plan = &planReport{
		Format: limits.KV.Name, Sequences: limits.Spans, ContextLength: limits.MaxLen, Blocks: limits.Blocks,
		BlockBytes: memory.Blocks, Snapshots: limits.Snapshots, StateBytes: memory.States,
	}
}

// addLayers describes what each layer remembers, layers that remember the same together.
func (r *memoryReport) addLayers(p *hardware.Program) {
	layers := map[int]*layerReport{}
	at := func(layer int) *layerReport {
		if layers[layer] == nil {
			layers[layer] = &layerReport{Layers: []int{layer}, BytesPerToken: map[string]int64{}}
		}
		return layers[layer]
	}
	for _, s := range p.Streams() {
		l := at(s.Layer)
		every := ""
		if s.Ratio > 1 {
			every = fmt.Sprintf(" for every %d tokens", s.Ratio)
		}
		l.Holds = append(l.Holds, fmt.Sprintf("%s %d × %d%s", s.Class, s.Heads, s.Dim, every))
		for name := range r.KVBytesPerToken {
			f, _ := quant.ByName(name)
			row, _ := f.RowBytes(s.Dim)
			l.BytesPerToken[name] += ceilDiv(int64(s.Entries()*s.Heads*row), hardware.BlockLen)
		}
	}
	for _, ring := range p.Rings() {
		l := at(ring.Layer)
		l.Holds = append(l.Holds, fmt.Sprintf("latest %d of %d", ring.Reach, ring.Dim))
		l.StateBytes += 4 * int64(ring.Keep) * int64(ring.Dim)
	}
	for _, d := range p.Deltas() {
		l := at(d.Layer)
		l.Holds = append(l.Holds, fmt.Sprintf("state %d × %d × %d", d.ValueHeads, d.KeyDim, d.ValueDim))
		l.StateBytes += 4 * int64(d.ValueHeads) * int64(d.KeyDim) * int64(d.ValueDim)
	}
	for layer := range maxLayers(layers) {
		l := layers[layer]
		if l == nil {
			continue
		}
		same := slices.IndexFunc(r.Layers, func(o layerReport) bool { return slices.Equal(o.Holds, l.Holds) })
		if same < 0 {
			r.Layers = append(r.Layers, *l)
		} else {
			r.Layers[same].Layers = append(r.Layers[same].Layers, layer)
		}
	}
}

// maxLayers is the number of layers up to the last one that remembers anything.
func maxLayers(layers map[int]*layerReport) (n int) {
	for layer := range layers {
		n = max(n, layer+1)
	}
	return n
}

func (r *memoryReport) rows(row func(name, format string, args ...any), h *hyperparameters) {
	row("weights", "%s", formatBytes(uint64(r.WeightBytes)))
	if h == nil || len(r.Contexts) == 0 {
		return
	}
	row("cache per token", "%s", byFormat(r.KVBytesPerToken))
	row("cache rounding", "%s: root mean square of rows of variance 1", errorsByFormat(r.KVError))
	if r.StateBytes > 0 {
		row("cache per sequence", "%s of state while it runs, %s for each state that is kept", formatBytes(uint64(r.StateBytes)), formatBytes(uint64(r.SnapshotBytes)))
	}
	for _, c := range r.Contexts {
		row(fmt.Sprintf("cache of %d tokens", c.Tokens), "%s", byFormat(c.Bytes))
	}
	row("memory needed", "%s for weights and one full sequence at %s", formatBytes(uint64(r.TotalBytes)), r.KVType)
	if p := r.Plan; p != nil && p.Problem != "" {
		row("plan here", "%s", visible(p.Problem))
	} else if p != nil {
		states := ""
		if p.Snapshots > 0 {
			states = fmt.Sprintf(", %s of states of which %d are kept", formatBytes(uint64(p.StateBytes)), p.Snapshots)
		}
		row("plan here", "sequences at once: %d, of up to %d tokens each; %s of cache at %s%s",
			p.Sequences, p.ContextLength, formatBytes(uint64(p.BlockBytes)), p.Format, states)
	}
}

// printLayers shows what the layers remember, where they are not all alike.
func (r *memoryReport) printLayers(w io.Writer) {
	if len(r.Layers) == 0 {
		return
	}
	fmt.Fprintf(w, "\nLAYERS\tBYTES PER TOKEN\tSTATE\tEACH REMEMBERS\n")
	for _, l := range r.Layers {
		state := "-"
		if l.StateBytes > 0 {
			state = formatBytes(uint64(l.StateBytes))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", ranges(l.Layers), byFormat(l.BytesPerToken), state, strings.Join(l.Holds, ", "))
	}
}

// byFormat lists sizes in the order of kvFormats.
func byFormat(bytes map[string]int64) string {
	var parts []string
	for _, f := range kvFormats {
		if n, ok := bytes[f.Name]; ok {
			parts = append(parts, fmt.Sprintf("%s at %s", formatBytes(uint64(n)), f.Name))
		}
	}
	if parts == nil {
		return "-"
	}
	return strings.Join(parts, ", ")
}

// errorsByFormat lists errors in the order of kvFormats.
func errorsByFormat(errors map[string]float64) string {
	var parts []string
	for _, f := range kvFormats {
		if e, ok := errors[f.Name]; ok {
			parts = append(parts, fmt.Sprintf("%.2g at %s", e, f.Name))
		}
	}
	return strings.Join(parts, ", ")
}

// ranges writes ascending numbers, runs of them as the first and the last. Of many runs it writes some, and how many
// numbers there are.
func ranges(numbers []int) string {
	const shown = 4
	var parts []string
	for i := 0; i < len(numbers); {
		j := i + 1
		for j < len(numbers) && numbers[j] == numbers[j-1]+1 {
			j++
		}
		part := fmt.Sprint(numbers[i])
		if j > i+1 {
			part = fmt.Sprintf("%d-%d", numbers[i], numbers[j-1])
		}
		parts, i = append(parts, part), j
	}
	if len(parts) <= shown {
		return strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%s, … %s (%d)", strings.Join(parts[:shown-1], ", "), parts[len(parts)-1], len(numbers))
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
