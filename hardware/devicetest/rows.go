package devicetest

import (
	"math"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// maxRows is the number of rows up to which a row is compared with itself alone.
const maxRows = 64

// testRows multiplies 1 to 64 rows with weights of every format, plainly and as a gated linear unit. A row's bits are
// those that it has alone, at whichever place it stands.
func testRows(t *testing.T, d hardware.Device, c *Config) {
	for _, f := range d.Info().Formats {
		t.Run(f.Name, func(t *testing.T) { testRowsOf(t, d, c, f) })
	}
}

func testRowsOf(t *testing.T, d hardware.Device, c *Config, f *quant.Format) {
	in := f.BlockLen * max(1, 96/f.BlockLen)
	if f.BlockLen == 1 {
		in = 70
	}
	o := newOpTest("rows")
	x := o.Norm(o.Embed(o.table(opVocab, in)), o.vector("norm", in), 1e-5)
	o.show("product", o.MatMul(x, o.matrix("w", f, 33, in)))
	o.show("unit", o.GLU(hardware.SiLU, o.MatMul(x, o.matrix("gate", f, 17, in)), o.MatMul(x, o.matrix("up", f, 17, in))))
	o.mustClaim(t, d)
	l := hardware.Limits{Tokens: maxRows, Spans: 1, Outputs: maxRows, Blocks: 1, MaxLen: maxRows, KV: quant.F32}
	q, batch := load(t, d, o.Program, l), hardware.NewBatch(l)
	run := func(first, rows int) {
		batch.Reset()
		batch.Tables = append(batch.Tables, 0)
		batch.Spans = append(batch.Spans, hardware.Span{Len: int32(rows)})
		for row := range rows {
			batch.Tokens = append(batch.Tokens, int32((first+row)%maxRows))
			batch.Outputs = append(batch.Outputs, int32(row))
		}
		q.Run(0, batch)
		if err := q.Sync(); err != nil {
			t.Fatalf("Sync: %v", err)
		}
	}
	var alone [2][maxRows][]float32
	for token := range maxRows {
		run(token, 1)
		for i := range alone {
			alone[i][token] = append(alone[i][token], q.Output(hardware.Output(i), 0)...)
		}
	}
	for rows := 2; rows <= maxRows; rows++ {
		if c.brief() && rows > 13 && rows%16 > 1 {
			continue
		}
		run(rows, rows)
		for i := range alone {
			for row := range rows {
				name, _ := o.OutputTensor(hardware.Output(i))
				got, want := q.Output(hardware.Output(i), row), alone[i][(rows+row)%maxRows]
				for j := range want {
					if math.Float32bits(got[j]) != math.Float32bits(want[j]) {
						t.Fatalf("%s: row %d of %d, column %d is %v, alone %v", name, row, rows, j, got[j], want[j])
					}
				}
			}
		}
	}
}
