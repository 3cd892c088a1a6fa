//go:build !purego

package cpu

import (
	"encoding/binary"
	"testing"
)

// TestPrepareAgainstGeneric compares tiles byte by byte with ones that are put together as the layouts say.
func TestPrepareAgainstGeneric(t *testing.T) {
	for _, c := range []struct {
		name   string
		g      group
		kernel prepareKernel
		run    int // elements with one scale
		extra  int // bytes of a row behind them
		sums   func(g group, tile []byte, q []byte, r, rows int)
	}{
		{"short, fours", 4, prepareShort4NEON, shortRun, 0, nil},
		{"short, eights", 8, prepareShort8NEON, shortRun, 0, nil},
		{"sums, fours", 4, prepareSums4NEON, longRun, 16, putByteSums},
		{"sums, eights", 8, prepareSums8NEON, longRun, 16, putByteSums},
		{"starts, fours", 4, prepareStarts4NEON, longRun, 64, putStarts},
		{"starts, eights", 8, prepareStarts8NEON, longRun, 128, putStarts},
	} {
		for blocks := 1; blocks <= 5; blocks++ {
			for rows := 1; rows <= 6; rows++ {
				in := blocks * c.run
				stride := in + rows%4
				x := normals(newRand(uint64(blocks*100+rows)), rows*stride)
				extremes(x, blocks*rows)
				blockBytes := c.run + c.extra
				want := make([]byte, c.g.tileBytes(blocks, blockBytes, rows))
				n := c.g.rows(rows)
				var q [longRun]byte
				for b := range blocks {
					block := want[b*n*blockBytes:]
					for r := range rows {
						scale, _ := quantizeRun(q[:c.run], x[r*stride+b*c.run:][:c.run])
						for i, v := range q[:c.run] {
							block[(i/int(c.g)*n+r)*int(c.g)+i%int(c.g)] = v
						}
						for i := range int(c.g) / 4 {
							putFloat(want[blocks*n*blockBytes+(b*n+r)*int(c.g)+4*i:], scale)
						}
						if c.sums != nil {
							c.sums(c.g, block[c.run*n:], q[:], r, n)
						}
					}
				}
				got := newGuarded(len(want), 0)
				c.g.prepare(c.kernel, c.run, blockBytes)(got.data, x, stride, rows, in)
				got.check(t, c.name)
				for i := range want {
					if want[i] != got.data[i] {
						t.Fatalf("%s, %d rows of %d: byte %d is %#x, want %#x", c.name, rows, in, i, got.data[i], want[i])
					}
				}
			}
		}
	}
}

// putByteSums writes a row's sums over runs of 32 in two bytes.
func putByteSums(g group, sums, q []byte, r, rows int) {
	for run := range longRun / shortRun {
		sum := sumOf(q[run*shortRun:][:shortRun])
		for part, v := range []int32{sum >> 7, sum & 127} {
			word := part*8/int(g) + run/int(g)
			sums[(word*rows+r)*int(g)+run%int(g)] = byte(v)
		}
	}
}

// putStarts writes -32 times a row's sums over runs of 16.
func putStarts(g group, starts, q []byte, r, rows int) {
	for run := range longRun / sixteenth {
		for i := range int(g) / 4 {
			at := (run*rows+r)*int(g) + 4*i
			binary.LittleEndian.PutUint32(starts[at:], uint32(-shiftQ6_K*sumOf(q[run*sixteenth:][:sixteenth])))
		}
	}
}

func sumOf(q []byte) int32 {
	var sum int32
	for _, v := range q {
		sum += int32(int8(v))
	}
	return sum
}
