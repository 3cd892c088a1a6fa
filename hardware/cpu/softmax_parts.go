package cpu

import (
	"math"

	"hearth/hardware"
)

// softmaxParts is a phase of parts of rows, each by itself.
type softmaxParts struct {
	x, dst view
}

// partsOfItem is the number of parts in an item: some microseconds of exponentials.
const partsOfItem = 64

// perRow is the number of items of a row.
func (o *softmaxParts) perRow() int { return (o.dst.heads + partsOfItem - 1) / partsOfItem }

func (o *softmaxParts) items(s *step) int { return s.rows[o.x.t.rows] * o.perRow() }

func (o *softmaxParts) run(w *worker, item int) {
	r, first := item/o.perRow(), item%o.perRow()*partsOfItem
	x, dst := o.x.row(r), o.dst.row(r)
	for i := first; i < min(first+partsOfItem, o.dst.heads); i++ {
		part := x[i*hardware.PartLen : min((i+1)*hardware.PartLen, len(x))]
		dst[2*i], dst[2*i+1] = softmaxPart(w, part)
	}
}

// softmaxPart returns the largest element and the sum of the exponentials of the differences from it.
func softmaxPart(w *worker, x []float32) (largest, sum float32) {
	largest = w.kernels.maxOf(x)
	shift := largest
	if largest < -math.MaxFloat32 {
		shift = 0 // instead of the difference of infinities; what is not a number shows in the sum
	}
	return largest, w.kernels.expSum(w.row[:len(x)], x, shift)
}
