package checkpointtest

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"hearth/engine/weights"
)

// Scaling is how the tensors of a checkpoint are scaled: for tiles of so many elements, in scales of a type, which are a
// tensor whose name ends in Suffix instead of ".weight".
type Scaling struct {
	Rows, Cols int
	Type       string // F32, BF16, U8 or F8_E8M0; the latter two are powers of two
	Suffix     string
}

// FP8 encodes a matrix, or a stack of matrices, in E4M3 with a scale for each tile, cut off at the edges, and returns both
// tensors and what they stand for.
func (n *Tensor) FP8(s Scaling) (weight, scale weights.OutTensor, rounded Tensor) {
	weight = weights.OutTensor{Name: n.Name, DType: "F8_E4M3", Shape: n.Shape, Data: make([]byte, len(n.Values))}
	rounded = Tensor{Name: n.Name, Shape: n.Shape, Values: make([]float32, len(n.Values))}
	dims := len(n.Shape)
	rows, cols := n.Shape[dims-2], n.Shape[dims-1]
	magnitudes := newMagnitudesE4M3()
	down, across := (rows+s.Rows-1)/s.Rows, (cols+s.Cols-1)/s.Cols
	scale = weights.OutTensor{Name: s.name(n.Name), DType: s.Type, Shape: append(append([]int{}, n.Shape[:dims-2]...), down, across)}
	for first := 0; first < len(n.Values); first += rows * cols {
		for i := range down {
			for j := range across {
				n.tile(s, magnitudes, &weight, &scale, &rounded, tile{first, cols, i * s.Rows, min(rows, (i+1)*s.Rows), j * s.Cols, min(cols, (j+1)*s.Cols)})
			}
		}
	}
	return weight, scale, rounded
}

func (s Scaling) name(weight string) string {
	if stem, ok := strings.CutSuffix(weight, ".weight"); ok {
		return stem + s.Suffix
	}
	return weight + strings.ReplaceAll(s.Suffix, ".weight", "")
}

// tile is a part of a matrix whose elements begin at first: rows [top, bottom), columns [left, right).
type tile struct{ first, cols, top, bottom, left, right int }

func (t tile) each(visit func(i int)) {
	for r := t.top; r < t.bottom; r++ {
		for c := t.left; c < t.right; c++ {
			visit(t.first + r*t.cols + c)
		}
	}
}

func (n *Tensor) tile(s Scaling, magnitudes *magnitudesE4M3, weight, scale *weights.OutTensor, rounded *Tensor, t tile) {
	largest := 0.0
	t.each(func(i int) { largest = max(largest, math.Abs(float64(n.Values[i]))) })
	d := s.put(scale, largest/448)
	t.each(func(i int) {
		code := magnitudes.nearest(float64(n.Values[i]) / float64(d))
		weight.Data[i], rounded.Values[i] = code, d*float32(valueE4M3(code))
	})
}

// put appends a scale that is not less than x and returns it.
func (s Scaling) put(scale *weights.OutTensor, x float64) float32 {
	exponent := math.Ceil(math.Log2(max(x, 0x1p-100)))
	switch s.Type {
	case "F32":
		scale.Data = binary.LittleEndian.AppendUint32(scale.Data, math.Float32bits(float32(x)))
		return float32(x)
	case "BF16":
		bits := math.Float32bits(float32(x))>>16 + 1
		scale.Data = binary.LittleEndian.AppendUint16(scale.Data, uint16(bits))
		return math.Float32frombits(bits << 16)
	}
	scale.Data = append(scale.Data, byte(127+int(exponent)))
	return float32(math.Pow(2, exponent))
}

// valueE4M3 is the value of a code by its formula; that of all ones is not a number.
func valueE4M3(code byte) float64 {
	sign, exponent, mantissa := 1.0, int(code>>3&15), float64(code&7)
	if code >= 128 {
		sign = -1
	}
	if exponent == 0 {
		return sign * math.Ldexp(mantissa/8, -6)
	}
	return sign * math.Ldexp(1+mantissa/8, exponent-7)
}

// magnitudesE4M3 are the numbers that codes without sign stand for.
type magnitudesE4M3 [127]float64

func newMagnitudesE4M3() *magnitudesE4M3 {
	m := &magnitudesE4M3{}
	for code := range m {
		m[code] = valueE4M3(byte(code))
	}
	return m
}

func (m *magnitudesE4M3) nearest(x float64) byte {
	code, found := slices.BinarySearch(m[:], math.Abs(x))
	switch {
	case code == len(m):
		code--
	case !found && code > 0 && math.Abs(x)-m[code-1] < m[code]-math.Abs(x):
		code--
	}
	if x < 0 {
		code |= 128
	}
	return byte(code)
}

// valuesE2M1 are the magnitudes of 4 bits.
var valuesE2M1 = [8]float64{0, 0.5, 1, 1.5, 2, 3, 4, 6}

// FP4 encodes a matrix in E2M1, two elements a byte, with a power of two for 32 elements of a row, and returns both tensors
// and what they stand for.
func (n *Tensor) FP4() (weight, scale weights.OutTensor, rounded Tensor) {
	rows, cols := n.Shape[0], n.Shape[1]
	s := Scaling{Rows: 1, Cols: 32, Type: "F8_E8M0", Suffix: ".scale"}
	weight = weights.OutTensor{Name: n.Name, DType: "I8", Shape: []int{rows, cols / 2}, Data: make([]byte, rows*cols/2)}
	scale = weights.OutTensor{Name: s.name(n.Name), DType: s.Type, Shape: []int{rows, cols / 32}}
	rounded = Tensor{Name: n.Name, Shape: n.Shape, Values: make([]float32, len(n.Values))}
	for first := 0; first < len(n.Values); first += 32 {
		t := tile{first, 32, 0, 1, 0, 32}
		largest := 0.0
		t.each(func(i int) { largest = max(largest, math.Abs(float64(n.Values[i]))) })
		d := s.put(&scale, largest/6)
		t.each(func(i int) {
			x, best := float64(n.Values[i])/float64(d), 0
			for code, v := range valuesE2M1 {
				if math.Abs(math.Abs(x)-v) < math.Abs(math.Abs(x)-valuesE2M1[best]) {
					best = code
				}
			}
			value := float32(valuesE2M1[best]) * d
			if x < 0 && best > 0 {
				best, value = best|8, -value
			}
			weight.Data[i/2] |= byte(best) << (i % 2 * 4)
			rounded.Values[i] = value
		})
	}
	return weight, scale, rounded
}
