// Package cpu is the portable device: every operation and every format on the processor's cores.
//
// Load turns a program into phases, lists of work items that a set of workers goes through together, with a barrier
// after each; while other processes keep the processors busy, the set is smaller (crew.go). Weights are packed into
// panels of 16 outputs that kernels read in one pass; the cache keeps keys and values as panels too, so that attention
// is made of the same float kernels. The inner loops come from a table of functions for the machine's instruction set,
// with plain Go as their specification (kernels.go).
//
// Rows are rounded to what the kernels of a weight's format multiply: to 8-bit integers, with one scale for 32 or 256
// elements, for weights that are integers; to bfloat16 for BF16 weights at the level avx512bf16; and not at all for other
// floats. An element that is not finite makes every product of integers that it takes part in NaN, at all levels.
//
// The device is exact: on one instruction set a row's bits depend on its sequence's past alone. Work is cut only
// where that does not show: by rows, by columns, by heads, and over positions at multiples of 512.
package cpu

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// Options configure a device. The zero value is one that uses the whole machine.
type Options struct {
	Threads   int    // workers, the calling goroutine included; 0: hardware.Threads
	ISA       string // level of the kernels: "go", "avx2", …; "": the best of this machine
	NoFuse    bool   // one phase per operation, every tensor kept: for comparing devices
	FreeBytes uint64 // memory that Load may take, over all queues; 0: unknown
}

// Validate names the option that makes no sense.
func (o *Options) Validate() error {
	if o.Threads < 0 || o.Threads > maxThreads {
		return fmt.Errorf("cpu: Options.Threads is %d, want 0 to %d", o.Threads, maxThreads)
	}
	return nil
}

const maxThreads = 1024

type device struct {
	options Options
	kernels *kernels
	levels  []hardware.Level // what became of each
	linears map[*quant.Format]*linear
	pool    *pool
	used    atomic.Int64 // bytes that queues hold
}

// Open starts the workers of a device.
func Open(o Options) (hardware.Device, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Threads == 0 {
		o.Threads = hardware.Threads()
	}
	k, levels, err := selectKernels(o.ISA)
	if err != nil {
		return nil, err
	}
	d := &device{options: o, kernels: k, levels: levels, linears: map[*quant.Format]*linear{}, pool: newPool(o.Threads)}
	for _, f := range quant.All() {
		d.linears[f] = newFallbackLinear(k, f)
	}
	for _, l := range slices.Concat(fp8Linears(k), k.linears) {
		d.linears[l.format] = l
	}
	return d, nil
}

// Info implements hardware.Device.
func (d *device) Info() hardware.Info {
	info := hardware.Info{
		Name: "cpu", Level: d.kernels.level, Levels: d.levels, Threads: d.options.Threads, Ops: hardware.OpKinds(),
		Formats: formatsOf(d.linears), StreamFormats: streamFormats(), Exact: true,
		// Levels differ in the last bits, as plain Go does between architectures, and a cache that mixed them would not be exact.
		LayoutID: "cpu-2-" + runtime.GOARCH + "-" + d.kernels.level,
	}
	if d.options.FreeBytes > 0 {
		info.FreeBytes = uint64(max(1, int64(d.options.FreeBytes)-d.used.Load()))
	}
	return info
}

// Measure implements hardware.Device.
func (d *device) Measure(p *hardware.Program, l hardware.Limits) (hardware.Memory, error) {
	q, err := compile(d, p, l)
	if err != nil {
		return hardware.Memory{}, err
	}
	return q.memory, nil
}

// Load implements hardware.Device.
func (d *device) Load(ctx context.Context, p *hardware.Program, l hardware.Limits) (hardware.Queue, error) {
	q, err := compile(d, p, l)
	if err != nil {
		return nil, err
	}
	need := q.memory.Total()
	if err := d.takeBytes(p, need); err != nil {
		return nil, err
	}
	if err := q.allocate(ctx); err != nil {
		d.returnBytes(need)
		return nil, err
	}
	if d.options.NoFuse {
		return tracedQueue{q}, nil
	}
	return q, nil
}

// takeBytes counts memory as used, if there is enough.
func (d *device) takeBytes(p *hardware.Program, n int64) error {
	used := d.used.Add(n)
	if free := d.options.FreeBytes; n >= memoryLimit || free > 0 && used > int64(min(free, memoryLimit)) {
		d.used.Add(-n)
		return fmt.Errorf("%w: cpu: program %q needs %d bytes, %d are free", hardware.ErrOutOfMemory, p.Name(), n, d.Info().FreeBytes)
	}
	return nil
}

func (d *device) returnBytes(n int64) { d.used.Add(-n) }

// Close implements hardware.Device.
func (d *device) Close() error {
	d.pool.close()
	return nil
}
