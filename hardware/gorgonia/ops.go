package gorgonia

import (
	"cmp"
	"math"
	"slices"

	g "gorgonia.org/gorgonia"

	"hearth/hardware"
)

func (q *queue) embed(a *hardware.EmbedArgs, b *hardware.Batch) {
	table, dim := q.weights[a.Table.Index()], q.program.WeightInfo(a.Table).In
	for r, token := range b.Tokens {
		copy(q.head(a.Dst, r, 0), table[int(token)*dim:][:dim])
	}
}

func (q *queue) norm(a *hardware.NormArgs, rows int) {
	if rows == 0 {
		return
	}
	heads, dim := rows*a.X.NumHeads(), a.X.Dim()
	gr := q.graph(graphKey{kind: "norm", a: heads, b: dim, eps: a.Eps}, []shape{{heads, dim}, {1, dim}}, rmsNorm(heads, a.Eps))
	q.scatter(a.Dst, q.compute(gr, q.gather(a.X, rows), q.weights[a.Weight.Index()]))
}

// multiply returns scale * (x w^T) + bias for one matrix of a weight, or nil after a fault.
func (q *queue) multiply(w hardware.Weight, expert int, x []float32, rows int) []float32 {
	info := q.program.WeightInfo(w)
	matrix := q.weights[w.Index()][expert*info.Out*info.In:][:info.Out*info.In]
	gr := q.graph(graphKey{kind: "product", a: rows, b: info.In, c: info.Out}, []shape{{rows, info.In}, {info.Out, info.In}}, product)
	y := slices.Clone(q.compute(gr, x, matrix))
	for i := range y {
		if info.Scale != 0 {
			y[i] *= info.Scale
		}
		if info.Bias != nil {
			y[i] += info.Bias[i%info.Out]
		}
	}
	q.counters.WeightBytes += uint64(len(matrix)) * 4
	return y
}

func (q *queue) matMul(a *hardware.MatMulArgs, rows int) {
	if rows == 0 {
		return
	}
	y := q.multiply(a.W, 0, q.gather(a.X, rows), rows)
	if y != nil && a.Accumulate {
		y = q.addMatrices(y, q.gather(a.Dst, rows), rows)
	}
	q.scatter(a.Dst, y)
}

// addMatrices returns x + y, both of so many rows.
func (q *queue) addMatrices(x, y []float32, rows int) []float32 {
	s := shape{rows, len(x) / rows}
	return q.compute(q.graph(graphKey{kind: "sum", a: s.rows, b: s.cols}, []shape{s, s}, sum), x, y)
}

func (q *queue) elementwise(kind string, expression func([]*g.Node) (*g.Node, error), dst, x, y hardware.Tensor, b *hardware.Batch) {
	rows := q.numRows(dst, b)
	if rows == 0 {
		return
	}
	s := shape{rows, dst.Size()}
	gr := q.graph(graphKey{kind: kind, a: s.rows, b: s.cols}, []shape{s, s}, expression)
	q.scatter(dst, q.compute(gr, q.gather(x, rows), q.gather(y, rows)))
}

// rope rotates the pairs of each head by position times frequency (arXiv 2104.09864 eq. 34), in float64.
func (q *queue) rope(a *hardware.RoPEArgs, b *hardware.Batch) {
	info := q.program.RopeInfo(a.Rope)
	n := len(info.Frequencies)
	forEachRow(b, func(r, position int, _ hardware.Span) {
		for h := range a.X.NumHeads() {
			x, dst := q.head(a.X, r, h), q.head(a.Dst, r, h)
			copy(dst, x)
			for i, f := range info.Frequencies {
				j, k := 2*i, 2*i+1
				if info.Pairing == hardware.HalfSplit {
					j, k = i, i+n
				}
				sin, cos := math.Sincos(float64(position) * f)
				sin, cos = sin*float64(info.Magnitude), cos*float64(info.Magnitude)
				u, v := float64(x[j]), float64(x[k])
				dst[j], dst[k] = float32(u*cos-v*sin), float32(u*sin+v*cos)
			}
		}
	})
}

// forEachRow visits the rows of a batch with their positions.
func forEachRow(b *hardware.Batch, visit func(row, position int, span hardware.Span)) {
	for _, s := range b.Spans {
		for i := range int(s.Len) {
			visit(int(s.Row)+i, int(s.Start)+i, s)
		}
	}
}

// cached returns the row that a stream remembers of a position of a sequence, all heads.
func (q *queue) cached(s hardware.Stream, span hardware.Span, position int, b *hardware.Batch) []float32 {
	info := q.program.StreamInfo(s)
	block := q.block(int(b.Tables[int(span.Table)+position/hardware.BlockLen]))
	size := info.Heads * info.Dim
	return block[q.streams[s.Index()]+position%hardware.BlockLen*size:][:size]
}

func (q *queue) store(a *hardware.StoreArgs, b *hardware.Batch) {
	format := q.limits.KV
	forEachRow(b, func(r, position int, span hardware.Span) {
		row := make([]float32, 0, a.X.Size())
		for h := range a.X.NumHeads() {
			row = append(row, q.head(a.X, r, h)...)
		}
		bytes, _ := format.RowBytes(len(row)) // check has seen that the heads are whole blocks
		stored := make([]byte, bytes)
		format.Quantize(stored, row)
		format.Dequantize(q.cached(a.Stream, span, position, b), stored)
	})
}

// attention computes each sequence and each key head by itself: the rows of all query heads that share the key head
// against all positions, later ones masked.
func (q *queue) attention(a *hardware.AttentionArgs, b *hardware.Batch) {
	source := a.Sources[0] // check has seen that there is one
	key, value := q.program.StreamInfo(source.K), q.program.StreamInfo(source.V)
	group := a.Q.NumHeads() / key.Heads
	for _, span := range b.Spans {
		length := int(span.Start + span.Len)
		// Shapes are rounded up to whole blocks, so that a growing sequence needs a new graph only once per block.
		padded := span.Blocks() * hardware.BlockLen
		rows := int(span.Len) * group
		mask := causalMask(span, group, padded)
		gr := q.graph(graphKey{kind: "attend", a: rows, b: padded, c: key.Dim<<16 | value.Dim},
			[]shape{{rows, key.Dim}, {padded, key.Dim}, {padded, value.Dim}, {rows, padded}}, attend)
		for h := range key.Heads {
			queries := make([]float32, 0, rows*key.Dim)
			for r := range int(span.Len) {
				for j := range group {
					for _, x := range q.head(a.Q, int(span.Row)+r, h*group+j) {
						queries = append(queries, x*a.Scale)
					}
				}
			}
			keys, values := make([]float32, padded*key.Dim), make([]float32, padded*value.Dim)
			for p := range length {
				copy(keys[p*key.Dim:], q.cached(source.K, span, p, b)[h*key.Dim:][:key.Dim])
				copy(values[p*value.Dim:], q.cached(source.V, span, p, b)[h*value.Dim:][:value.Dim])
			}
			out := q.compute(gr, queries, keys, values, mask)
			if out == nil {
				return
			}
			for i := range rows {
				copy(q.head(a.Dst, int(span.Row)+i/group, h*group+i%group), out[i*value.Dim:][:value.Dim])
			}
		}
	}
}

// causalMask is 0 where a row sees a position and minus infinity where it does not, [span.Len*group, padded].
func causalMask(span hardware.Span, group, padded int) []float32 {
	mask := make([]float32, int(span.Len)*group*padded)
	for i := range int(span.Len) * group {
		for p := int(span.Start) + i/group + 1; p < padded; p++ {
			mask[i*padded+p] = float32(math.Inf(-1))
		}
	}
	return mask
}

func (q *queue) gatherRows(a *hardware.GatherArgs, b *hardware.Batch) {
	for r, row := range b.Outputs {
		for h := range a.X.NumHeads() {
			copy(q.head(a.Dst, r, h), q.head(a.X, int(row), h))
		}
	}
}

// routes are the chosen experts of each row, best first, and their weights.
type routes struct {
	experts [][]int
	weights [][]float32
}

func (q *queue) route(a *hardware.RouteArgs, rows int) {
	chosen := &q.routes[a.Dst.Index()]
	*chosen = routes{}
	if rows == 0 {
		return
	}
	s := shape{rows, a.Logits.Size()}
	gr := q.graph(graphKey{kind: "softmax", a: s.rows, b: s.cols}, []shape{s}, softmax)
	probabilities := q.compute(gr, q.gather(a.Logits, rows))
	if probabilities == nil {
		return
	}
	for r := range rows {
		p := probabilities[r*s.cols:][:s.cols]
		order := make([]int, s.cols)
		for e := range order {
			order[e] = e
		}
		slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(p[y], p[x]) })
		order = order[:a.TopK]
		weights, total := make([]float32, a.TopK), float32(0)
		for i, e := range order {
			weights[i] = p[e]
			total += p[e]
		}
		for i := range weights {
			if a.Normalize {
				weights[i] /= total
			}
			weights[i] *= a.Scale
		}
		chosen.experts, chosen.weights = append(chosen.experts, order), append(chosen.weights, weights)
	}
}

func (q *queue) experts(a *hardware.ExpertsArgs, rows int) {
	chosen := &q.routes[a.Routes.Index()]
	all, s := q.gather(a.X, rows), shape{1, q.program.WeightInfo(a.Gate).Out}
	for r := range rows {
		x := all[r*a.X.Size():][:a.X.Size()]
		y := q.head(a.Dst, r, 0)
		for i, e := range chosen.experts[r] {
			gate, up := q.multiply(a.Gate, e, x, 1), q.multiply(a.Up, e, x, 1)
			hidden := q.compute(q.graph(graphKey{kind: "swiglu", a: 1, b: s.cols}, []shape{s, s}, swiglu), gate, up)
			down := q.multiply(a.Down, e, slices.Clone(hidden), 1)
			if q.fault != nil {
				return
			}
			for j := range y {
				y[j] += chosen.weights[r][i] * down[j]
			}
		}
	}
}

// softmaxParts fills the rows of the last part up with elements that add nothing.
func (q *queue) softmaxParts(a *hardware.SoftmaxPartsArgs, rows int) {
	if rows == 0 {
		return
	}
	s := shape{rows * a.Dst.NumHeads(), hardware.PartLen}
	x := make([]float32, 0, s.rows*s.cols)
	for row := range slices.Chunk(q.gather(a.X, rows), a.X.Size()) {
		x = append(x, row...)
		for len(x)%hardware.PartLen != 0 {
			x = append(x, float32(math.Inf(-1)))
		}
	}
	m := slices.Clone(q.compute(q.graph(graphKey{kind: "largest", a: s.rows, b: s.cols}, []shape{s}, largest), x))
	if m == nil {
		return
	}
	sums := q.compute(q.graph(graphKey{kind: "expSum", a: s.rows, b: s.cols}, []shape{s, {s.rows, 1}}, expSum), x, m)
	parts := make([]float32, 0, 2*len(m))
	for i, sum := range sums {
		parts = append(parts, m[i], sum)
	}
	q.scatter(a.Dst, parts)
}
