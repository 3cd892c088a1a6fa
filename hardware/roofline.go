package hardware

import (
	"fmt"

	"hearth/hardware/quant"
)

// Arithmetic is a kind of operations whose rate bounds kernels.
type Arithmetic uint8

// The kinds of arithmetic that kernels are made of.
const (
	Int8         Arithmetic = iota // sums of products of 8-bit integers, exact in 32 bits
	Float32                        // sums of products of float32
	BFloat16                       // sums of products of bfloat16, in float32
	Int8Products                   // products of 8-bit integers alone, without room to add many of them up
	numArithmetics
)

// String returns the name as reports have it.
func (a Arithmetic) String() string {
	return [...]string{"int8", "float32", "bfloat16", "int8 products"}[a]
}

// MarshalText is part of encoding.TextMarshaler.
func (a Arithmetic) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is part of encoding.TextUnmarshaler.
func (a *Arithmetic) UnmarshalText(text []byte) error {
	for known := range numArithmetics {
		if known.String() == string(text) {
			*a = known
			return nil
		}
	}
	return fmt.Errorf("hardware: unknown arithmetic %q", text)
}

// Roofline is what a device does at best while it is measured and nothing else runs: the two bounds of every kernel
// (Williams, Waterman, Patterson 2009). Memory clocks, turbo clocks and neighbours change it from minute to minute, so
// fractions of it compare only with measures of the same seconds.
type Roofline struct {
	ReadBytes       float64 `json:"read_bytes_per_second"`        // sequential, all workers, the best pass
	MedianReadBytes float64 `json:"median_read_bytes_per_second"` // the median pass
	Peaks           []Peak  `json:"peaks"`                        // one or more of each arithmetic that the device has
}

// Peak is the rate of one sequence of instructions on all workers, on registers alone.
type Peak struct {
	Arithmetic   Arithmetic `json:"arithmetic"`
	Instructions string     `json:"instructions"`
	Ops          float64    `json:"ops_per_second"` // a multiplication and an addition are two
}

// Peak returns the best rate of an arithmetic in operations per second, 0 where it was not measured.
func (r *Roofline) Peak(a Arithmetic) float64 {
	best := 0.0
	for _, p := range r.Peaks {
		if p.Arithmetic == a {
			best = max(best, p.Ops)
		}
	}
	return best
}

// Seconds is the least time for so many operations of a kind on so many bytes from memory, when both overlap fully.
func (r *Roofline) Seconds(ops float64, a Arithmetic, bytes float64) float64 {
	seconds := 0.0
	if r.ReadBytes > 0 {
		seconds = bytes / r.ReadBytes
	}
	if peak := r.Peak(a); peak > 0 {
		seconds = max(seconds, ops/peak)
	}
	return seconds
}

// Metered is implemented by devices that can measure their own bounds.
type Metered interface {
	// OpenMeter takes so many bytes of memory to read from. Less than some times the caches' size measures the caches.
	OpenMeter(bytes int) (Meter, error)
}

// Meter measures a device's bounds with the workers that run its queues; it is owned by one goroutine, and waits for
// steps of queues and keeps them waiting.
type Meter interface {
	// Measure takes some tenths of a second.
	Measure() (Roofline, error)
	// Close gives the memory back.
	Close() error
}

// Part is a piece of operations that a device runs by itself, on one worker and on operands in its caches.
type Part struct {
	Name   string
	Format *quant.Format // of the weights that it is for; nil: none
	Shape  string
	Rows   int
	Bytes  float64 // that it reads and writes
	Run    func()  // may be called from one goroutine at a time
}

// Parted is implemented by devices that show their parts, for measuring them.
type Parted interface {
	Parts() []Part
}
