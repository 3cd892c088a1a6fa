package cpu

import "hearth/hardware"

// hyperPre reads a block's input from residual streams.
type hyperPre struct {
	x, mix      view
	scale, base *weight
	eps         float32
	iterations  int
	dst         view
	coef        view // without memory when only the input is wanted
}

// newHyperPre compiles the reading of streams.
func (c *compiler) newHyperPre(a *hardware.HyperPreArgs) *hyperPre {
	o := &hyperPre{
		x: c.view(a.X), mix: c.view(a.Mix), scale: c.vector(a.Scale), base: c.vector(a.Base),
		eps: a.Eps, iterations: a.Iterations, dst: c.view(a.Dst),
	}
	if a.Coef.Valid() {
		o.coef = c.view(a.Coef)
	}
	c.sizes.row = max(c.sizes.row, a.Mix.Size())
	return o
}

func (o *hyperPre) shape() (hardware.Rows, int) { return o.x.t.rows, 1 }

func (o *hyperPre) block(w *worker, b rowBlock) {
	n := o.x.heads
	mix := w.row[:o.mix.size()]
	for r := b.first; r < b.last; r++ {
		for j, m := range o.mix.row(r) {
			mix[j] = float32(m*o.scale.vector[min(j/n, o.scale.in-1)]) + o.base.vector[j]
		}
		dst := o.dst.row(r)
		for h := range n {
			pre := 1/(1+exp(-mix[h])) + o.eps
			if h == 0 {
				copy(dst, o.x.head(r, 0))
				w.kernels.scale(dst, pre)
			} else {
				w.kernels.addScaled(dst, o.x.head(r, h), pre)
			}
		}
		if o.coef.t != nil {
			for h := n; h < 2*n; h++ {
				mix[h] = 2 / (1 + exp(-mix[h]))
			}
			o.balance(w.kernels, mix[2*n:])
			copy(o.coef.row(r), mix[n:])
		}
	}
}

// balance makes the rows and columns of a matrix of logits sum to nearly 1, by dividing them by their sums in turns
// (Sinkhorn and Knopp).
func (o *hyperPre) balance(k *kernels, c []float32) {
	n := o.x.heads
	for i := 0; i < len(c); i += n {
		row := c[i:][:n]
		k.scale(row, 1/k.expSum(row, row, k.maxOf(row)))
		for j := range row {
			row[j] += o.eps
		}
	}
	for i := range o.iterations {
		for row := 0; i > 0 && row < len(c); row += n {
			divideBySum(c[row:row+n], 1, o.eps)
		}
		for col := range n {
			divideBySum(c[col:], n, o.eps)
		}
	}
}

// divideBySum divides every stride-th element by the sum of all of them.
func divideBySum(x []float32, stride int, eps float32) {
	sum := float32(0)
	for i := 0; i < len(x); i += stride {
		sum += x[i]
	}
	sum += eps
	for i := 0; i < len(x); i += stride {
		x[i] /= sum
	}
}

// hyperPost writes a block's result to residual streams.
type hyperPost struct{ x, y, coef view }

// hyperCols is how many columns are mixed at once: those of all streams then stay in the first-level cache.
const hyperCols = 512

func (o *hyperPost) shape() (hardware.Rows, int) { return o.x.t.rows, 1 }

func (o *hyperPost) block(w *worker, b rowBlock) {
	n := o.x.heads
	for r := b.first; r < b.last; r++ {
		coef := o.coef.row(r)
		for first := 0; first < o.x.dim; first += hyperCols {
			last := min(first+hyperCols, o.x.dim)
			old, cols := w.row[:n*(last-first)], last-first
			for src := range n {
				copy(old[src*cols:][:cols], o.x.head(r, src)[first:last])
			}
			y := o.y.row(r)[first:last]
			for dst := range n {
				x := o.x.head(r, dst)[first:last]
				copy(x, y)
				w.kernels.scale(x, coef[dst])
				for src := range n {
					w.kernels.addScaled(x, old[src*cols:][:cols], coef[n+n*src+dst])
				}
			}
		}
	}
}
