package gorgonia

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	g "gorgonia.org/gorgonia"
)

func TestGraphs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	for _, rows := range []int{1, 2, 5} {
		for _, dim := range []int{1, 3, 64} {
			x, y, w := random(rows*dim), random(rows*dim), random(dim)
			check := func(name string, shapes []shape, e func([]*g.Node) (*g.Node, error), want func(i, j int) float64, in ...[]float32) {
				t.Run(fmt.Sprintf("%s/%dx%d", name, rows, dim), func(t *testing.T) {
					gr, err := build(shapes, e)
					if err != nil {
						t.Fatal(err)
					}
					for range 2 { // a graph runs again with the same result
						got, err := gr.run(in...)
						if err != nil {
							t.Fatal(err)
						}
						for i := range got {
							if w := want(i/(len(got)/rows), i%(len(got)/rows)); math.Abs(float64(got[i])-w) > 1e-5*(1+math.Abs(w)) {
								t.Fatalf("element %d is %v, want %v", i, got[i], w)
							}
						}
					}
				})
			}
			same := shape{rows, dim}
			check("sum", []shape{same, same}, sum, func(i, j int) float64 { return float64(x[i*dim+j]) + float64(y[i*dim+j]) }, x, y)
			check("swiglu", []shape{same, same}, swiglu, func(i, j int) float64 {
				gate := float64(x[i*dim+j])
				return gate / (1 + math.Exp(-gate)) * float64(y[i*dim+j])
			}, x, y)
			check("rmsNorm", []shape{same, {1, dim}}, rmsNorm(rows, 1e-3), func(i, j int) float64 {
				sum := 0.0
				for _, v := range x[i*dim:][:dim] {
					sum += float64(v) * float64(v)
				}
				return float64(x[i*dim+j]) * float64(w[j]) / math.Sqrt(sum/float64(dim)+float64(float32(1e-3)))
			}, x, w)
			check("softmax", []shape{same}, softmax, func(i, j int) float64 {
				sum := 0.0
				for _, v := range x[i*dim:][:dim] {
					sum += math.Exp(float64(v))
				}
				return math.Exp(float64(x[i*dim+j])) / sum
			}, x)
			weight := random(7 * dim)
			check("product", []shape{same, {7, dim}}, product, func(i, j int) float64 {
				sum := 0.0
				for k := range dim {
					sum += float64(x[i*dim+k]) * float64(weight[j*dim+k])
				}
				return sum
			}, x, weight)
		}
	}
}
