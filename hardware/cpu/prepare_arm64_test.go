//go:build !purego

package cpu

import (
	"encoding/binary"
	"testing"
)

// TestPrepareAgainstGeneric compares tiles byte by byte with ones that are put together as the layouts say.
func TestPrepareAgainstGeneric(t *testing.T) {
	for _, p := range []armPrepares{preparesInFours(), preparesInEights()} {
		for name, c := range map[string]prepareCase{
			"short":      {form: tileForm{p.short, shortRun, 0, 1}},
			"short sums": {form: tileForm{p.shortSums, shortRun, 0, 2}},
			"long":       {form: tileForm{p.long, longRun, 0, 1}},
			"sums of 32": {tileForm{p.sums32, longRun, 16, 1}, func(to tileRow, q []byte) { putByteSums(to, q, 32) }},
			"sums of 16": {tileForm{p.sums16, longRun, 32, 1}, func(to tileRow, q []byte) { putByteSums(to, q, 16) }},
			"starts":     {tileForm{p.starts, longRun, 16 * int(p.group), 1}, putStarts},
		} {
			for blocks := 1; blocks <= 5; blocks++ {
				for rows := 1; rows <= 6; rows++ {
					in := blocks * c.form.blockLen
					stride := in + rows%4
					x := normals(newRand(uint64(blocks*100+rows)), rows*stride)
					extremes(x, blocks*rows)
					m := matrixView{x, stride, rows, in}
					want := c.tile(p.group, m)
					got := newGuarded(len(want), 0)
					c.form.prepare(p.group, got.data, m)
					got.check(t, name)
					for i := range want {
						if want[i] != got.data[i] {
							t.Fatalf("%s in groups of %d, %d rows of %d: byte %d is %#x, want %#x", name, p.group, rows, in, i, got.data[i], want[i])
						}
					}
				}
			}
		}
	}
}

// prepareCase is a form of tiles, and what writes the bytes of a row behind a block's elements.
type prepareCase struct {
	form  tileForm
	extra func(to tileRow, q []byte)
}

// tileRow is a part of a tile that has a row r of some rows.
type tileRow struct {
	data    []byte
	g       group
	r, rows int
}

// word is the row's word i.
func (t tileRow) word(i int) []byte { return t.data[(i*t.rows+t.r)*int(t.g):][:t.g] }

// tile puts a tile together.
func (c prepareCase) tile(g group, m matrixView) []byte {
	tile := make([]byte, c.form.tileBytes(g, m.in, m.rows))
	factors, _ := c.form.sizes(g, m.in, m.rows)
	rows := g.rows(m.rows)
	q := make([]byte, c.form.blockLen)
	for b := range m.in / c.form.blockLen {
		for r := range m.rows {
			scale, sum := quantizeRun(q, m.x[r*m.stride+b*len(q):][:len(q)])
			to := tileRow{tile[b*rows*(len(q)+c.form.extra):], g, r, rows}
			for i := 0; i < len(q); i += int(g) {
				copy(to.word(i/int(g)), q[i:])
			}
			if c.extra != nil {
				to.data = to.data[rows*len(q):]
				c.extra(to, q)
			}
			to.data = tile[factors+b*c.form.factors*rows*int(g):]
			for i, v := range []float32{scale, float32(sum) * scale}[:c.form.factors] {
				for j := 0; j < int(g); j += 4 {
					putFloat(to.word(i)[j:], v)
				}
			}
		}
	}
	return tile
}

// putByteSums writes a row's sums over runs in two bytes.
func putByteSums(to tileRow, q []byte, runLen int) {
	runs := len(q) / runLen
	for run := range runs {
		sum := sumOf(q[run*runLen:][:runLen])
		to.word(run / int(to.g))[run%int(to.g)] = byte(sum >> 7)
		to.word((runs + run) / int(to.g))[run%int(to.g)] = byte(sum & 127)
	}
}

// putStarts writes -32 times a row's sums over runs of 16.
func putStarts(to tileRow, q []byte) {
	for run := range len(q) / sixteenth {
		for i := 0; i < int(to.g); i += 4 {
			binary.LittleEndian.PutUint32(to.word(run)[i:], uint32(-shiftQ6_K*sumOf(q[run*sixteenth:][:sixteenth])))
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
