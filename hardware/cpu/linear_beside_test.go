package cpu

import (
	"fmt"
	"slices"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// TestLinearBeside multiplies one row or two with several panels at once, and with each by itself: the bits are the same, where
// the panels are not a multiple of those of a kernel too.
func TestLinearBeside(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		for _, in := range inputs(l.format) {
			const out = 11 * panelCols
			r := newRand(uint64(in))
			panels := packAll(t, l, weightBytes(r, l.format, out, in), out, in)
			size := l.panelBytes(in)
			for rows := 1; rows <= min(2, l.tileRows); rows++ {
				x := normals(r, rows*in)
				extremes(x, in+rows)
				for _, n := range []int{1, 2, 3, 4, 5, 8, 11} {
					got := multiplied(t, l, panels[:n*size], matrixRows{x, in, rows, in})
					for p := range n {
						want := multiplied(t, l, panels[p*size:][:size], matrixRows{x, in, rows, in})
						for row := range rows {
							what := fmt.Sprintf("%s of %d: %d rows, panel %d of %d, row %d", l.format, in, rows, p, n, row)
							sameBits(t, what, got[(row*n+p)*panelCols:][:panelCols], want[row*panelCols:][:panelCols])
						}
					}
				}
			}
		}
	})
}

// TestMatMulOfOneRow gives a row alone the bits that it has among others, where steps of one row are cut into items of other
// panels: 19 of them make items of 5, or of the 4 that a kernel multiplies at once, and a rest.
func TestMatMulOfOneRow(t *testing.T) {
	const out, in, rows = 19 * panelCols, 64, 3
	for _, level := range Levels() {
		for _, f := range []*quant.Format{quant.Q8_0, quant.Q4_0} {
			d, err := Open(Options{ISA: level, Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			r := newRand(19)
			p := hardware.NewProgram("rows")
			weight := func(name string, f *quant.Format, out int) hardware.Weight {
				w := hardware.WeightInfo{Name: name, Format: f, Out: out, In: in, Data: make([]byte, f.BlockBytes*out*in/f.BlockLen)}
				f.Quantize(w.Data, normals(r, out*in))
				return p.Weight(w)
			}
			table, w := weight("table", quant.F32, rows), weight("w", f, out)
			p.Section("trunk")
			dst := p.Output("product", p.MatMul(p.Gather(p.Embed(table)), w))
			limits := hardware.Limits{Tokens: rows, Spans: 1, Outputs: rows, Blocks: 1, MaxLen: hardware.BlockLen}
			q, err := d.Load(t.Context(), p, limits)
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			run := func(outputs ...int32) (got [][]float32) {
				q.Run(0, &hardware.Batch{
					Tokens: []int32{0, 1, 2}, Spans: []hardware.Span{{Len: rows}}, Tables: []int32{0}, Outputs: outputs,
				})
				if err := q.Sync(); err != nil {
					t.Fatal(err)
				}
				for i := range outputs {
					got = append(got, slices.Clone(q.Output(dst, i)))
				}
				return got
			}
			for row, want := range run(0, 1, 2) {
				sameBits(t, fmt.Sprintf("%s, %s: row %d", level, f, row), run(int32(row))[0], want)
			}
		}
	}
}
