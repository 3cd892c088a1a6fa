package inproc

import (
	"hearth/hardware"
	"hearth/hardware/quant"
)

// work counts the operations of a program's matrix products by what their weights are made of; a multiplication and an
// addition are two.
type work struct {
	perToken, perOutput map[*quant.Format]float64
}

// workOf reads a section. Matrices that meet the rows of Outputs alone, such as the head, count once for each output; of
// experts, those that a row chooses.
func workOf(p *hardware.Program, s hardware.Section) work {
	w := work{map[*quant.Format]float64{}, map[*quant.Format]float64{}}
	add := func(rows hardware.Rows, weight hardware.Weight, copies int) {
		info, sum := p.WeightInfo(weight), w.perToken
		if rows == hardware.Outputs {
			sum = w.perOutput
		}
		sum[info.Format] += 2 * float64(info.In) * float64(info.Out) * float64(copies)
	}
	for _, op := range p.Ops(s) {
		switch a := op.Args.(type) {
		case *hardware.MatMulArgs:
			add(a.X.Rows(), a.W, 1)
		case *hardware.ExpertsArgs:
			for _, weight := range []hardware.Weight{a.Gate, a.Up, a.Down} {
				add(a.X.Rows(), weight, p.RoutesInfo(a.Routes).TopK)
			}
		}
	}
	return w
}

// times returns the operations of so many tokens and outputs.
func (w *work) times(tokens, outputs float64) map[*quant.Format]float64 {
	ops := map[*quant.Format]float64{}
	for f, n := range w.perToken {
		ops[f] += n * tokens
	}
	for f, n := range w.perOutput {
		ops[f] += n * outputs
	}
	return ops
}

// arithmeticOf is the fastest arithmetic that is right for a format: integers but for floats, and for bfloat16 that of
// float32 where the machine has none of its own.
func arithmeticOf(f *quant.Format, r *hardware.Roofline) hardware.Arithmetic {
	switch {
	case f == quant.BF16 && r.Peak(hardware.BFloat16) > 0:
		return hardware.BFloat16
	case f == quant.BF16 || f == quant.F16 || f == quant.F32:
		return hardware.Float32
	}
	return hardware.Int8
}

// leastSeconds is the time of operations when every one of them runs at its peak.
func leastSeconds(ops map[*quant.Format]float64, r *hardware.Roofline) float64 {
	seconds := 0.0
	for f, n := range ops {
		seconds += r.Seconds(n, arithmeticOf(f, r), 0)
	}
	return seconds
}

func total(ops map[*quant.Format]float64) float64 {
	sum := 0.0
	for _, n := range ops {
		sum += n
	}
	return sum
}
