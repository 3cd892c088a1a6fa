package inproc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// KernelOptions say what Kernels measures.
type KernelOptions struct {
	Device  hardware.Device
	Ops     []string        // of KernelOps; none: all
	Formats []*quant.Format // of weights and caches; none: those that models come in
	// ColdBytes is the size of weights and caches that are to come from memory; 0: four times the largest cache.
	ColdBytes int

	Progress func(what string) // called before each load; may be nil
	Row      func(KernelRow)   // called with each row when it is known; may be nil
}

// KernelOps are the names of what Kernels measures: operations of devices, the choice of tokens, and parts of operations.
var KernelOps = []string{
	"linear", "experts", "attention", "latents", "select", "store", "embed", "norm", "rope", "glu", "add", "softmax", "sample", "part",
}

// Validate names the first option that is out of range.
func (o *KernelOptions) Validate() error {
	if o.Device == nil {
		return errors.New("inproc: option Device is missing")
	}
	for _, op := range o.Ops {
		if !slices.Contains(KernelOps, op) {
			return fmt.Errorf("inproc: option Ops has %q, want some of %s", op, strings.Join(KernelOps, ", "))
		}
	}
	if o.ColdBytes < 0 || o.ColdBytes > mostColdBytes {
		return fmt.Errorf("inproc: option ColdBytes is %d, want 0 to %d", o.ColdBytes, mostColdBytes)
	}
	for _, op := range o.Ops {
		if len(o.formats(op)) == 0 {
			return fmt.Errorf("inproc: option Formats has %s, %s wants some of %s", formatNames(o.Formats), op, formatNames(o.Device.Info().StreamFormats))
		}
	}
	return nil
}

// formatNames lists formats as errors name them.
func formatNames(formats []*quant.Format) string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

// formats are those that an operation is measured in; nil stands for operations on float32 rows alone.
func (o *KernelOptions) formats(op string) []*quant.Format {
	var formats []*quant.Format
	switch op {
	case "linear", "experts":
		formats = modelFormats
	case "attention", "latents", "select", "store":
		formats = o.Device.Info().StreamFormats
	case "embed":
		formats = []*quant.Format{quant.F16, quant.Q8_0, quant.Q6_K}
	default:
		return []*quant.Format{nil}
	}
	if len(o.Formats) == 0 {
		return formats
	}
	if op == "linear" || op == "experts" || op == "embed" {
		return o.Formats
	}
	return slices.DeleteFunc(slices.Clone(formats), func(f *quant.Format) bool { return !slices.Contains(o.Formats, f) })
}

// KernelReport is the outcome; its JSON form is stable.
type KernelReport struct {
	Device  string      `json:"device"`
	Level   string      `json:"level"`
	Threads int         `json:"threads"`
	Rows    []KernelRow `json:"rows"`
}

// KernelRow is one kernel on one shape, as the device runs it: with all workers and the barriers between them.
type KernelRow struct {
	Op     string `json:"op"`
	Format string `json:"format"`
	Shape  string `json:"shape"`
	Rows   int    `json:"rows"` // tokens

	Seconds    float64 `json:"seconds"` // the median; 0: too short to tell on a machine as busy as this
	Bytes      float64 `json:"bytes"`   // that have to be read or written
	Ops        float64 `json:"ops"`     // of sums of products; 0 where there are none
	Arithmetic string  `json:"arithmetic,omitempty"`

	ReadRate     float64           `json:"bytes_per_second"`
	OpsRate      float64           `json:"ops_per_second"`
	ReadShare    float64           `json:"bandwidth_share"`
	ComputeShare float64           `json:"compute_share"`
	LimitShare   float64           `json:"limit_share"` // of the slower of both bounds
	Bounds       hardware.Roofline `json:"bounds"`

	factors *quant.Format // what decides the arithmetic; unused without Ops
	alone   bool          // runs on one core, which the bounds of all say nothing about
}

// Kernels measures single operations. Weights and caches are larger than the processor's caches; other operands lie in
// them, as they do in a model.
func Kernels(ctx context.Context, o KernelOptions) (*KernelReport, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.ColdBytes == 0 {
		o.ColdBytes = coldBytes()
	}
	bounds, err := openBounds(o.Device, max(o.ColdBytes, leastMeterBytes))
	if err != nil {
		return nil, err
	}
	defer bounds.meter.Close()
	info := o.Device.Info()
	b := &kernelBench{KernelOptions: o, bounds: bounds, report: KernelReport{
		Device: info.Name, Level: info.Level, Threads: info.Threads, Rows: []KernelRow{},
	}}
	if err := bounds.sample(); err != nil {
		return nil, err
	}
	for _, op := range KernelOps {
		if len(o.Ops) > 0 && !slices.Contains(o.Ops, op) {
			continue
		}
		switch op {
		case "sample":
			err = b.sample(ctx)
		case "part":
			err = b.parts(ctx)
		default:
			err = b.groups(ctx, op)
		}
		if err != nil {
			return nil, err
		}
	}
	return &b.report, nil
}

// coldBytes is four times the largest cache, within what is quick to make: whoever goes through it finds nothing of it
// in the caches when he begins anew.
func coldBytes() int {
	largest := uint64(0)
	for _, c := range hardware.Probe("").CPU.Caches {
		largest = max(largest, c.SizeBytes)
	}
	return int(min(max(4*largest, 128<<20), mostColdBytes))
}

const (
	mostColdBytes   = 1 << 30
	leastMeterBytes = 64 << 20
)

type kernelBench struct {
	KernelOptions
	report KernelReport
	bounds *bounds
}

// group is a program whose sections are measured on one queue.
type group struct {
	what    string
	program *hardware.Program
	limits  hardware.Limits
	fill    func(q hardware.Queue) // before anything is measured; may be nil
	cases   []kernelCase
}

// kernelCase is one measure: a section that runs an operation some times, less one that does everything else.
type kernelCase struct {
	row     KernelRow // without results
	section hardware.Section
	base    hardware.Section // noBase: there is nothing else
	times   int
	batch   *hardware.Batch
}

const noBase hardware.Section = -1

// groups measures an operation in all its formats.
func (b *kernelBench) groups(ctx context.Context, op string) error {
	for _, f := range b.formats(op) {
		if b.Progress != nil {
			b.Progress(op + " " + formatName(f))
		}
		g := groupOf[op](f, b.ColdBytes)
		if err := g.program.Err(); err != nil {
			return err
		}
		if err := b.measure(ctx, g); err != nil {
			return fmt.Errorf("inproc: %s: %w", g.what, err)
		}
	}
	return nil
}

// modelFormats are the formats that models come in.
var modelFormats = []*quant.Format{
	quant.Q8_0, quant.Q4_0, quant.Q4_1, quant.Q5_0, quant.Q5_1, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q2_K, quant.Q3_K,
	quant.IQ4_NL, quant.IQ4_XS, quant.MXFP4, quant.BF16, quant.F16, quant.F32,
}

func formatName(f *quant.Format) string {
	if f == nil {
		return quant.F32.Name
	}
	return f.Name
}

// measure loads a group and measures its cases between two measures of the bounds.
func (b *kernelBench) measure(ctx context.Context, g *group) error {
	queue, err := b.Device.Load(ctx, g.program, g.limits)
	if err != nil {
		return err
	}
	defer queue.Close()
	if g.fill != nil {
		g.fill(queue)
	}
	b.bounds.reset()
	var rows []KernelRow
	for i := range g.cases {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows = append(rows, g.cases[i].measure(queue))
	}
	if err := queue.Sync(); err != nil {
		return err
	}
	return b.add(rows)
}

// measure returns the row of one case.
func (c *kernelCase) measure(q hardware.Queue) KernelRow {
	r := c.row
	r.Seconds = timeRuns(func() { q.Run(c.section, c.batch) })
	packed := c.weightBytes(q, c.section)
	if c.base != noBase {
		r.Seconds = max(0, r.Seconds-timeRuns(func() { q.Run(c.base, c.batch) }))
		packed -= c.weightBytes(q, c.base)
	}
	if packed > 0 { // as the device has them, scales included
		r.Bytes = packed / float64(c.times)
	}
	r.Seconds /= float64(c.times)
	return r
}

// weightBytes returns the bytes of weights that a section reads.
func (c *kernelCase) weightBytes(q hardware.Queue, s hardware.Section) float64 {
	before := q.Counters().WeightBytes
	q.Run(s, c.batch)
	return float64(q.Counters().WeightBytes - before)
}

// add completes rows with the bounds of their time.
func (b *kernelBench) add(rows []KernelRow) error {
	if err := b.bounds.sample(); err != nil {
		return err
	}
	bounds := b.bounds.median()
	for _, r := range rows {
		r.Bounds = bounds
		if r.Seconds > 0 {
			r.ReadRate, r.OpsRate = r.Bytes/r.Seconds, r.Ops/r.Seconds
		}
		if !r.alone {
			r.ReadShare = r.ReadRate / bounds.ReadBytes
		}
		if r.Seconds > 0 && r.Ops > 0 {
			a := arithmeticOf(r.factors, &bounds)
			r.Arithmetic, r.ComputeShare = a.String(), bounds.Seconds(r.Ops, a, 0)/r.Seconds
		}
		r.LimitShare = max(r.ReadShare, r.ComputeShare)
		b.report.Rows = append(b.report.Rows, r)
		if b.Row != nil {
			b.Row(r)
		}
	}
	return nil
}

const (
	kernelTime = 20 * time.Millisecond // of one case
	mostRuns   = 1000
)

// timeRuns returns the median time of a function that is run again and again. The first run, which may have to fetch
// what others find in caches, counts only where the others would take long.
func timeRuns(run func()) float64 {
	var seconds []float64
	for begin := time.Now(); len(seconds) < 3 || time.Since(begin) < kernelTime && len(seconds) < mostRuns; {
		start := time.Now()
		run()
		seconds = append(seconds, time.Since(start).Seconds())
		if len(seconds) == 2 && time.Since(begin) > 4*kernelTime {
			return min(seconds[0], seconds[1])
		}
	}
	return median(seconds[1:])
}

// parts measures pieces of operations on one core.
func (b *kernelBench) parts(ctx context.Context) error {
	parted, ok := b.Device.(hardware.Parted)
	if !ok {
		return nil
	}
	const calls = 100 // of what the clock is too coarse for
	b.bounds.reset()
	var rows []KernelRow
	for _, p := range parted.Parts() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.Format != nil && len(b.Formats) > 0 && !slices.Contains(b.Formats, p.Format) {
			continue
		}
		seconds := timeRuns(func() {
			for range calls {
				p.Run()
			}
		})
		rows = append(rows, KernelRow{
			Op: p.Name, Format: formatName(p.Format), Shape: p.Shape, Rows: p.Rows, Bytes: p.Bytes, Seconds: seconds / calls, alone: true,
		})
	}
	return b.add(rows)
}
