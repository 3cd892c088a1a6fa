package hardware

import "slices"

// TopK fills places with those of the largest scores, ascending. There are at least as many scores as places, and none is
// not a number.
//
// Which of several equal scores are taken when not all are is part of the rule, since an index whose products are all
// negative scores many entries 0: the first scores make a heap with the least on top, and each later one that is larger
// than the top replaces it, the hole sinking to a leaf past the lesser children, of equal ones the right, and the new one
// rising from there. That is how std::partial_sort of the GNU C++ library selects, and with it the reference
// implementation of the models that have indexes (ggml-org/llama.cpp, ggml_top_k).
func TopK[S float32 | float64](places []int32, scores []S) {
	k := len(places)
	if k == 0 {
		return
	}
	for i := range places {
		places[i] = int32(i)
	}
	for top := k/2 - 1; top >= 0; top-- {
		sink(places, scores, top, places[top])
	}
	for i := k; i < len(scores); i++ {
		if scores[i] > scores[places[0]] {
			sink(places, scores, 0, int32(i))
		}
	}
	slices.Sort(places)
}

// sink puts a place into the part of the heap below top, whose own place is given up.
func sink[S float32 | float64](heap []int32, scores []S, top int, place int32) {
	hole := top
	for child := 2*hole + 2; child <= len(heap); child = 2*hole + 2 {
		if child == len(heap) || scores[heap[child]] > scores[heap[child-1]] {
			child--
		}
		heap[hole], hole = heap[child], child
	}
	for hole > top {
		parent := (hole - 1) / 2
		if scores[heap[parent]] <= scores[place] {
			break
		}
		heap[hole], hole = heap[parent], parent
	}
	heap[hole] = place
}
