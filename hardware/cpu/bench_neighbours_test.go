package cpu_test

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// stepsOf runs steps of a work for as long as a benchmark goes on.
func stepsOf(b *testing.B, work benchWork) {
	p, _ := shape06B.record(quant.Q8_0)
	if err := p.Err(); err != nil {
		b.Fatal(err)
	}
	q, batch := loadStep(b, p, work)
	b.ResetTimer()
	for b.Loop() {
		q.Run(0, batch)
	}
	if err := q.Sync(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCollector/<work> collects garbage every 20 ms beside steps, and reports how long the world stood still for it:
// workers must come by places where they can be stopped.
func BenchmarkCollector(b *testing.B) {
	for _, work := range []benchWork{{1, 1, 0}, {8, 1, 100}, {1, 512, 0}} {
		b.Run(fmt.Sprintf("%dx%d@%d", work.sequences, work.rows, work.start), func(b *testing.B) {
			runtime.GOMAXPROCS(hardware.Threads() + 1) // as a device's users set it
			stop, stopped := make(chan struct{}), make(chan struct{})
			var before, after debug.GCStats
			debug.ReadGCStats(&before)
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
						runtime.GC()
					}
				}
			}()
			stepsOf(b, work)
			close(stop)
			<-stopped
			debug.ReadGCStats(&after)
			pauses := 2 * (after.NumGC - before.NumGC) // each collection stops the world twice
			b.ReportMetric(float64((after.PauseTotal-before.PauseTotal).Microseconds())/float64(max(pauses, 1)), "µs/pause")
		})
	}
}

// BenchmarkNeighbour/<work>/<alone or beside> runs steps alone, and beside a thread that keeps one processor busy. Beside
// it, two workers have three quarters of two processors: 1.3 times as long would be ideal.
func BenchmarkNeighbour(b *testing.B) {
	for _, work := range []benchWork{{1, 1, 0}, {8, 1, 100}, {1, 128, 0}} {
		name := fmt.Sprintf("%dx%d@%d", work.sequences, work.rows, work.start)
		b.Run(name+"/alone", func(b *testing.B) { stepsOf(b, work) })
		b.Run(name+"/beside", func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(hardware.Threads() + 2))
			var stop atomic.Bool
			defer stop.Store(true)
			go func() {
				runtime.LockOSThread()
				pinThread(b)
				for !stop.Load() {
				}
			}()
			stepsOf(b, work)
		})
	}
}
