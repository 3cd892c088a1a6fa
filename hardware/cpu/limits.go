package cpu

import (
	"fmt"
	"slices"
	"time"

	"hearth/hardware"
)

// peak is a sequence of instructions for sums of products, run on registers alone.
type peak struct {
	arithmetic   hardware.Arithmetic
	instructions string
	ops          int // operations of a round; a round takes some tens of cycles
	run          func(rounds int)
}

// readKernel reads n bytes from p in address order; n is a multiple of readUnit and not 0.
type readKernel = func(p *byte, n int)

const (
	readUnit   = 256
	readPasses = 3                    // over the meter's memory, of each way to read
	peakPasses = 3                    // of each sequence
	peakTime   = 4 * time.Millisecond // of a pass: a thousand times what starting the workers takes
	peakRounds = 1000                 // between two points where the collector can stop a worker: some 20 µs
	readChunk  = 1 << 20              // bytes likewise
	leastMeter = maxThreads * readUnit
)

// meter implements hardware.Meter.
type meter struct {
	device *device
	memory region
	part   int // bytes of each worker, consecutive
}

// OpenMeter implements hardware.Metered.
func (d *device) OpenMeter(bytes int) (hardware.Meter, error) {
	if bytes < leastMeter || bytes > memoryLimit {
		return nil, fmt.Errorf("cpu: OpenMeter: %d bytes, want %d to %d", bytes, leastMeter, int64(memoryLimit))
	}
	memory, err := newRegion(bytes)
	if err != nil {
		return nil, err
	}
	m := &meter{device: d, memory: memory, part: bytes / d.options.Threads / readUnit * readUnit}
	// Pages that nobody has written to are all one, full of zeros and in the caches.
	const page = 4 << 10
	_, err = m.pass(func(id int) {
		for chunk := range slices.Chunk(m.partOf(id), page) {
			chunk[0] = 1
			preempt(id)
		}
	})
	if err != nil {
		memory.release()
		return nil, err
	}
	return m, nil
}

func (m *meter) partOf(id int) []byte { return m.memory.mem[id*m.part:][:m.part] }

// Measure implements hardware.Meter.
func (m *meter) Measure() (hardware.Roofline, error) {
	var r hardware.Roofline
	for _, read := range m.device.kernels.reads {
		best, median, err := m.rate(readPasses, float64(m.part*m.device.options.Threads), func(id int) {
			for chunk := range slices.Chunk(m.partOf(id), readChunk) {
				read(&chunk[0], len(chunk))
				preempt(id)
			}
		})
		if err != nil {
			return r, err
		}
		r.ReadBytes, r.MedianReadBytes = max(r.ReadBytes, best), max(r.MedianReadBytes, median)
	}
	for i := range m.device.kernels.peaks {
		p := &m.device.kernels.peaks[i]
		ops, err := m.peak(p)
		if err != nil {
			return r, err
		}
		r.Peaks = append(r.Peaks, hardware.Peak{Arithmetic: p.arithmetic, Instructions: p.instructions, Ops: ops})
	}
	return r, nil
}

// peak returns the operations per second of all workers. It first finds how often to run the sequence.
func (m *meter) peak(p *peak) (float64, error) {
	for calls := 1; ; calls *= 2 {
		run := func(id int) {
			for range calls {
				p.run(peakRounds)
				preempt(id)
			}
		}
		if took, err := m.pass(run); err != nil {
			return 0, err
		} else if took < peakTime {
			continue
		}
		best, _, err := m.rate(peakPasses, float64(calls)*peakRounds*float64(p.ops*m.device.options.Threads), run)
		return best, err
	}
}

// rate runs passes of so much work and returns the work per second of the best and of the median one.
func (m *meter) rate(passes int, work float64, run func(id int)) (best, median float64, err error) {
	rates := make([]float64, passes)
	for i := range rates {
		took, err := m.pass(run)
		if err != nil {
			return 0, 0, err
		}
		rates[i] = work / took.Seconds()
	}
	slices.Sort(rates)
	return rates[passes-1], rates[passes/2], nil
}

// pass has every worker run a function once.
func (m *meter) pass(run func(id int)) (time.Duration, error) {
	start := time.Now()
	_, err := m.device.pool.run(pass(run), m.device.options.Threads)
	return time.Since(start), err
}

// pass implements job.
type pass func(id int)

func (p pass) work(id int) { p(id) }

// Close implements hardware.Meter.
func (m *meter) Close() error {
	m.memory.release()
	return nil
}
