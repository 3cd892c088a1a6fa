package devicetest

import (
	"math"
	"slices"

	"hearth/hardware"
)

// The reference of operations that look at one row at a time.

// product is scale * (W x) + bias for one row and expert.
func (r *Reference) product(w hardware.Weight, expert int, x []float64) []float64 {
	info := r.program.WeightInfo(w)
	matrix := r.weight(w)[expert*info.Out*info.In:]
	y := make([]float64, info.Out)
	for o := range y {
		y[o] = dot(matrix[o*info.In:][:info.In], x)
		if info.Scale != 0 {
			y[o] *= float64(info.Scale)
		}
		if info.Bias != nil {
			y[o] += float64(info.Bias[o])
		}
	}
	return y
}

// matMul multiplies a row with a matrix, or the heads of a row with those of a stack.
func (r *Reference) matMul(a *hardware.MatMulArgs) {
	in := r.program.WeightInfo(a.W).In
	for i := range r.rows[a.X.Rows()] {
		var y []float64
		for h, x := range slices.Collect(slices.Chunk(r.row(a.X, i), in)) {
			y = append(y, r.product(a.W, h, x)...)
		}
		if a.Accumulate {
			y = plus(r.row(a.Dst, i), y)
		}
		r.set(a.Dst, i, y)
	}
}

// normalize measures and scales one head in place.
func (r *Reference) normalize(a *hardware.NormArgs, x []float64) {
	n, mean := float64(len(x)), 0.0
	if a.Norm == hardware.LayerNorm {
		for _, v := range x {
			mean += v / n
		}
	}
	for i := range x {
		x[i] -= mean
	}
	power := dot(x, x)
	if a.Norm != hardware.L2Norm {
		power /= n
	}
	factor := float64(a.Scale) / math.Sqrt(power+float64(a.Eps))
	for i := range x {
		x[i] *= factor
		if a.Weight.Valid() {
			x[i] *= r.weight(a.Weight)[i]
		}
		if a.Bias.Valid() {
			x[i] += r.weight(a.Bias)[i]
		}
	}
}

// turns is the position that a head is rotated by.
func turns(a *hardware.RoPEArgs, position int) int {
	if a.Inverse {
		return -position
	}
	return position
}

func rotate(x []float64, info *hardware.RopeInfo, position int) {
	n := len(info.Frequencies)
	for i, f := range info.Frequencies {
		sin, cos := math.Sincos(float64(position) * f)
		sin, cos = sin*float64(info.Magnitude), cos*float64(info.Magnitude)
		u, v := i, i+n
		if info.Pairing == hardware.Interleaved {
			u, v = 2*i, 2*i+1
		}
		x[u], x[v] = x[u]*cos-x[v]*sin, x[v]*cos+x[u]*sin
	}
}

// gate is a gated linear unit of one row; a single g is the factor of all u.
func gate(act hardware.Activation, limit float32, g, u []float64) []float64 {
	y := make([]float64, len(u))
	for i, up := range u {
		x := g[i%len(g)]
		if l := float64(limit); l > 0 {
			x, up = min(x, l), min(max(up, -l), l)
		}
		switch act {
		case hardware.SiLU:
			y[i] = x * sigmoid(x) * up
		case hardware.Sigmoid:
			y[i] = sigmoid(x) * up
		case hardware.OAI:
			y[i] = x * sigmoid(1.702*x) * (up + 1)
		}
	}
	return y
}

func softmax(x []float64) {
	largest, sum := slices.Max(x), 0.0
	for i := range x {
		x[i] = math.Exp(x[i] - largest)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}

func softmaxParts(x []float64) []float64 {
	var parts []float64
	for part := range slices.Chunk(x, hardware.PartLen) {
		largest, sum := slices.Max(part), 0.0
		for _, v := range part {
			sum += math.Exp(v - largest)
		}
		parts = append(parts, largest, sum)
	}
	return parts
}

// hyperPre mixes the streams of each row, and computes how its result is written back.
func (r *Reference) hyperPre(a *hardware.HyperPreArgs) {
	n, dim, eps := a.X.NumHeads(), a.X.Dim(), float64(a.Eps)
	scale, base := r.weight(a.Scale), r.weight(a.Base)
	for i := range r.rows[a.X.Rows()] {
		x, mix, y := r.row(a.X, i), r.row(a.Mix, i), make([]float64, dim)
		for j := range mix {
			mix[j] = mix[j]*scale[min(j/n, len(scale)-1)] + base[j]
		}
		for h := range n {
			for j := range y {
				y[j] += (sigmoid(mix[h]) + eps) * x[h*dim+j]
			}
		}
		r.set(a.Dst, i, y)
		if !a.Coef.Valid() {
			continue
		}
		for h := range n {
			mix[n+h] = 2 * sigmoid(mix[n+h])
		}
		balance(mix[2*n:], n, a.Iterations, eps)
		r.set(a.Coef, i, mix[n:])
	}
}

// balance makes the rows and columns of an n times n matrix of logits sum to nearly 1 (Sinkhorn and Knopp).
func balance(c []float64, n, iterations int, eps float64) {
	rows := func() {
		for row := range slices.Chunk(c, n) {
			divide(row, 1, eps)
		}
	}
	columns := func() {
		for j := range n {
			divide(c[j:], n, eps)
		}
	}
	for row := range slices.Chunk(c, n) {
		softmax(row)
	}
	for i := range c {
		c[i] += eps
	}
	columns()
	for range iterations - 1 {
		rows()
		columns()
	}
}

// divide divides every stride-th element by the sum of all of them.
func divide(x []float64, stride int, eps float64) {
	sum := eps
	for i := 0; i < len(x); i += stride {
		sum += x[i]
	}
	for i := 0; i < len(x); i += stride {
		x[i] /= sum
	}
}

// hyperPost mixes the streams of each row among each other and adds the block's result.
func (r *Reference) hyperPost(a *hardware.HyperPostArgs) {
	n, dim := a.X.NumHeads(), a.X.Dim()
	for i := range r.rows[a.X.Rows()] {
		x, y, coef := r.row(a.X, i), r.row(a.Y, i), r.row(a.Coef, i)
		mixed := make([]float64, n*dim)
		for dst := range n {
			for j := range dim {
				mixed[dst*dim+j] = coef[dst] * y[j]
				for src := range n {
					mixed[dst*dim+j] += coef[n+n*src+dst] * x[src*dim+j]
				}
			}
		}
		r.set(a.X, i, mixed)
	}
}
