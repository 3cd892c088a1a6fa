package gorgonia

import (
	"fmt"

	g "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// graph is a compiled expression of matrices. It belongs to one goroutine.
type graph struct {
	machine g.VM
	inputs  []*g.Node
	output  g.Value // set by each run
}

// shape is rows and columns.
type shape struct{ rows, cols int }

// build compiles an expression over matrices of the given shapes.
func build(shapes []shape, expression func(in []*g.Node) (*g.Node, error)) (*graph, error) {
	expr := g.NewGraph()
	out := &graph{}
	for i, s := range shapes {
		out.inputs = append(out.inputs, g.NewMatrix(expr, tensor.Float32, g.WithShape(s.rows, s.cols), g.WithName(fmt.Sprintf("in%d", i))))
	}
	node, err := expression(out.inputs)
	if err != nil {
		return nil, err
	}
	g.Read(node, &out.output)
	out.machine = g.NewTapeMachine(expr)
	return out, nil
}

// run evaluates the expression. The inputs are row-major and not modified; the result is valid until the next run.
func (gr *graph) run(inputs ...[]float32) ([]float32, error) {
	for i, in := range inputs {
		node := gr.inputs[i]
		if err := g.Let(node, tensor.New(tensor.WithShape(node.Shape()...), tensor.WithBacking(in))); err != nil {
			return nil, err
		}
	}
	defer gr.machine.Reset()
	if err := gr.machine.RunAll(); err != nil {
		return nil, err
	}
	data, ok := gr.output.Data().([]float32)
	if !ok {
		return nil, fmt.Errorf("gorgonia: result is of type %T", gr.output.Data())
	}
	return data, nil
}

// product is x [rows, in] times the transpose of w [out, in].
func product(in []*g.Node) (*g.Node, error) {
	transposed, err := g.Transpose(in[1], 1, 0)
	if err != nil {
		return nil, err
	}
	return g.Mul(in[0], transposed)
}

// sum is x + y.
func sum(in []*g.Node) (*g.Node, error) { return g.Add(in[0], in[1]) }

// swiglu is silu(gate) * up, with silu(x) = x * sigmoid(x).
func swiglu(in []*g.Node) (*g.Node, error) {
	gate, err := g.Sigmoid(in[0])
	if err != nil {
		return nil, err
	}
	if gate, err = g.HadamardProd(in[0], gate); err != nil {
		return nil, err
	}
	return g.HadamardProd(gate, in[1])
}

// rmsNorm is x [rows, dim] * weight [1, dim] / sqrt(mean(x^2) + eps).
func rmsNorm(rows int, eps float32) func(in []*g.Node) (*g.Node, error) {
	return func(in []*g.Node) (*g.Node, error) {
		squares, err := g.Square(in[0])
		if err != nil {
			return nil, err
		}
		mean, err := g.Mean(squares, 1)
		if err != nil {
			return nil, err
		}
		if mean, err = g.Add(mean, g.NewConstant(eps)); err != nil {
			return nil, err
		}
		root, err := g.Sqrt(mean)
		if err != nil {
			return nil, err
		}
		if root, err = g.Reshape(root, tensor.Shape{rows, 1}); err != nil {
			return nil, err
		}
		scaled, err := g.BroadcastHadamardDiv(in[0], root, nil, []byte{1})
		if err != nil {
			return nil, err
		}
		return g.BroadcastHadamardProd(scaled, in[1], nil, []byte{0})
	}
}

// softmax is the softmax of each row.
func softmax(in []*g.Node) (*g.Node, error) { return g.SoftMax(in[0], 1) }

// largest is the largest element of each row.
func largest(in []*g.Node) (*g.Node, error) { return g.Max(in[0], 1) }

// expSum is the sum of e^(x-m) of each row, x [rows, dim] and m [rows, 1].
func expSum(in []*g.Node) (*g.Node, error) {
	shifted, err := g.BroadcastSub(in[0], in[1], nil, []byte{1})
	if err != nil {
		return nil, err
	}
	powers, err := g.Exp(shifted)
	if err != nil {
		return nil, err
	}
	return g.Sum(powers, 1)
}

// attend is softmax(q k^T + mask) v, with q [rows, dim] scaled already, k and v [positions, dim], mask [rows, positions].
func attend(in []*g.Node) (*g.Node, error) {
	q, k, v, mask := in[0], in[1], in[2], in[3]
	scores, err := product([]*g.Node{q, k})
	if err != nil {
		return nil, err
	}
	if scores, err = g.Add(scores, mask); err != nil {
		return nil, err
	}
	weights, err := g.SoftMax(scores, 1)
	if err != nil {
		return nil, err
	}
	return g.Mul(weights, v)
}
