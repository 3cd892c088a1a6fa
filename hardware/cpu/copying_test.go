package cpu

import (
	"bytes"
	"testing"
)

// TestCopyingShares wants every byte copied once, whatever the number of workers, and nothing behind them.
func TestCopyingShares(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 1000, 4096, 10_001} {
		src := make([]byte, n)
		for i := range src {
			src[i] = byte(1 + i%250)
		}
		for workers := 1; workers < 9; workers++ {
			dst := make([]byte, n+1)
			c := copying{dst[:n], src, workers}
			for id := range workers {
				c.work(id)
			}
			if !bytes.Equal(dst[:n], src) || dst[n] != 0 {
				t.Errorf("%d workers copy %d bytes wrongly", workers, n)
			}
		}
	}
}

// TestWriteBlockTogether moves a block that is large enough for several workers from one queue to another.
func TestWriteBlockTogether(t *testing.T) {
	d, err := Open(Options{Threads: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	q := &queue{device: d.(*device), crew: newCrew(3)}
	src := make([]byte, sharedCopy+77)
	for i := range src {
		src[i] = byte(i * 7)
	}
	dst := make([]byte, len(src)+10)
	for range 3 {
		clear(dst)
		if q.copyTogether(dst, src); !bytes.Equal(dst[:len(src)], src) || dst[len(src)] != 0 || q.fault != nil {
			t.Fatalf("the copy differs; fault: %v", q.fault)
		}
	}
}
