package quant

import "math"

// columns weighs the errors of a row's elements: by the importance of their columns, and more where an element is large
// compared with the power around it.
type columns struct {
	importance []float32 // of each column; nil: nothing is known, and each format weighs in its own way
	power      float32   // mean square of the row or block
	weights    [32]float32
}

// weigh returns the weights of the run x that starts at a column, nil if nothing is known. They are valid until the
// next call.
func (c *columns) weigh(at int, x []float32) []float32 {
	if c.importance == nil {
		return nil
	}
	weights, importance := c.weights[:len(x)], c.importance[at:at+len(x)]
	for i, v := range x {
		weights[i] = importance[i] * root(c.power+float32(v*v))
	}
	return weights
}

// measure sets the power to that of x.
func (c *columns) measure(x []float32) {
	if c.importance != nil {
		c.power = squares(x) / float32(len(x))
	}
}

// known returns the weights of a block's runs, nil if nothing is known.
func (c *columns) known(weights []float32) []float32 {
	if c.importance == nil {
		return nil
	}
	return weights
}

// square fills buffer with the squares of x.
func square(buffer, x []float32) []float32 {
	for i, v := range x {
		buffer[i] = v * v
	}
	return buffer
}

func squares(x []float32) (sum float32) {
	for _, v := range x {
		sum += float32(v * v)
	}
	return sum
}

func sum(x []float32) (total float32) {
	for _, v := range x {
		total += v
	}
	return total
}

func root(v float32) float32 { return float32(math.Sqrt(float64(v))) }
