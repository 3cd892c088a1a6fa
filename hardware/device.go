package hardware

import (
	"context"

	"hearth/hardware/quant"
)

// Device is a driver. It is safe for concurrent use and knows nothing about models.
type Device interface {
	// Info describes the device.
	Info() Info
	// Measure returns what Load would allocate. It is pure and needs no weight data.
	Measure(p *Program, l Limits) (Memory, error)
	// Load compiles a program, packs its weights and allocates everything. The weights' data may be unmapped when it
	// returns. It fails with ErrUnsupported, ErrOutOfMemory or the program's own mistake; ctx stops the packing.
	Load(ctx context.Context, p *Program, l Limits) (Queue, error)
	// Close stops the device's workers; its queues must be closed before.
	Close() error
}

// Info describes a device and what it claims.
type Info struct {
	Name          string          // "cpu"
	Level         string          // instruction set or architecture in use: "avx512vnni"
	Levels        []Level         // all there are for this architecture, best first; nil where that means nothing
	Threads       int             // workers, 0 where that means nothing
	FreeBytes     uint64          // memory that Load may take, 0: unknown
	Ops           []OpKind        // operations it runs
	Formats       []*quant.Format // formats of weights it runs
	StreamFormats []*quant.Format // formats of cache rows it keeps
	Exact         bool            // a row's bits depend on its sequence's past alone
	LayoutID      string          // names the inner layout of blocks; blocks move only between equal ones
}

// Level is an instruction set that a device has kernels for.
type Level struct {
	Name   string `json:"name"`
	Reason string `json:"reason"` // why it is not to be had; "": it is
	Faulty bool   `json:"faulty"` // the machine claims to run it, and its kernels failed their check
}

// Limits bound what a queue is asked for; everything is allocated for them at load.
type Limits struct {
	Tokens  int // rows of a step
	Spans   int // sequences of a step
	Outputs int // output rows of a step
	Blocks  int // cache blocks
	MaxLen  int // positions of a sequence
	// Slots is how many sequences may have state at once, Snapshots how many states may be kept aside. Programs without
	// state have neither; those with state need a slot at least.
	Slots, Snapshots int
	MaxDraft         int           // most rows of a span that may be taken back
	KV               *quant.Format // format of cache rows
	// Progress, when set, is called now and then from one goroutine at a time while weights are packed.
	Progress func(doneBytes, totalBytes int64)
}

// Memory is what a queue allocates, in bytes.
type Memory struct {
	Weights  int64 // packed weights
	Block    int64 // one cache block
	Blocks   int64 // all cache blocks
	Slot     int64 // the state of one running sequence
	Snapshot int64 // one state kept aside
	States   int64 // all slots and snapshots
	Scratch  int64 // tensors of a step, outputs and workers' buffers
}

// Total is the sum of what is allocated.
func (m Memory) Total() int64 { return m.Weights + m.Blocks + m.States + m.Scratch }

// Queue is one loaded program with its cache blocks. One goroutine owns it, from Load to Close.
type Queue interface {
	// Run executes a section on a batch; it has read all of b when it returns. A batch that breaks the contract panics.
	Run(s Section, b *Batch)
	// Sync waits for the work and reports a fault of the device.
	Sync() error
	// Output returns a row of an output after Sync, valid until the next Run. The caller may modify it.
	Output(o Output, row int) []float32
	// CopyBlock copies one block onto another: the fork of a partly filled one.
	CopyBlock(dst, src int)
	// ReadBlock copies a block's bytes out, Memory.Block of them; WriteBlock copies them in.
	ReadBlock(id int, dst []byte)
	// WriteBlock restores what ReadBlock gave; the first Memory.Block bytes of src.
	WriteBlock(id int, src []byte)
	// SaveState copies the state of a slot at a position into a snapshot. The position is a multiple of BlockLen: the one
	// up to which the slot's sequence is computed, or the last one below it. What is saved depends on the sequence's tokens
	// before the position alone.
	SaveState(slot, position, snapshot int)
	// LoadState makes a slot go on from a snapshot, saved at a position: the next span with the slot starts there. A span
	// that starts at position 0 needs none.
	LoadState(slot, position, snapshot int)
	// ReadState copies a snapshot's bytes out, Memory.Snapshot of them.
	ReadState(snapshot int, dst []byte)
	// WriteState restores what ReadState gave; the first Memory.Snapshot bytes of src.
	WriteState(snapshot int, src []byte)
	// Counters returns what was done since Load.
	Counters() Counters
	// Idle says that no work is coming: workers may sleep at once.
	Idle()
	// Close frees everything and waits for the queue's workers.
	Close() error
}

// Counters count a queue's work.
type Counters struct {
	Steps       uint64 // calls of Run
	Rows        uint64 // tokens
	WeightBytes uint64 // packed bytes of weights multiplied: each weight once per step, whatever the number of rows
}

// Tracer is implemented by queues that can show every operation's result, for comparing devices. With a trace set the
// queue keeps every tensor and runs one operation at a time.
type Tracer interface {
	// SetTrace calls f after each operation with its index in the section and the rows of its destination, contiguous.
	// The rows are valid during the call. A nil f stops tracing.
	SetTrace(f func(op int, rows []float32))
}
