package cpu

import (
	"fmt"
	"runtime"
	"testing"
)

// barrierJob passes a barrier many times.
type barrierJob struct {
	pool  *pool
	times int
}

func (j *barrierJob) work(id int) {
	round := uint32(0)
	for range j.times {
		if !j.pool.barrier(id, &round) {
			return
		}
	}
}

// BenchmarkBarrier/<workers> is one barrier, BenchmarkBarrier/<workers>/step one step of nothing: as many as there are
// processors spin for each other.
func BenchmarkBarrier(b *testing.B) {
	for workers := 2; workers <= runtime.NumCPU(); workers *= 2 {
		p := newPool(workers)
		defer p.close()
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			j := &barrierJob{p, b.N}
			if _, err := p.run(j, workers); err != nil {
				b.Fatal(err)
			}
		})
		b.Run(fmt.Sprintf("%d/step", workers), func(b *testing.B) {
			j := &barrierJob{p, 0}
			for b.Loop() {
				if _, err := p.run(j, workers); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
