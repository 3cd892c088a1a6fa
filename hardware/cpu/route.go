package cpu

import (
	"math"

	"hearth/hardware"
)

// routes are the chosen experts of each row.
type routes struct {
	rows    hardware.Rows
	experts int
	topK    int
	chosen  []int32   // [limit of rows][topK], best first
	weights []float32 // [limit of rows][topK]
}

// route chooses experts.
type route struct {
	logits             view
	score              hardware.RouteScore
	bias               *weight // nil: none
	groups, usedGroups int
	pairRank           bool
	table              []int32 // [vocab][topK], or nil
	normalize          bool
	scale              float32
	dst                *routes
}

// newRoute compiles a choice of experts.
func (c *compiler) newRoute(a *hardware.RouteArgs) *route {
	o := &route{
		logits: c.view(a.Logits), score: a.Score, groups: a.Groups, usedGroups: a.UsedGroups, pairRank: a.PairRank,
		table: a.Table, normalize: a.Normalize, scale: a.Scale, dst: c.chosen(a.Dst),
	}
	if a.Bias.Valid() {
		o.bias = c.vector(a.Bias)
	}
	c.sizes.row = max(c.sizes.row, 3*a.Logits.Size())
	return o
}

func (o *route) shape() (hardware.Rows, int) { return o.dst.rows, 1 }

func (o *route) block(w *worker, b rowBlock) {
	k := o.dst.topK
	for r := b.first; r < b.last; r++ {
		o.row(w, r, o.dst.chosen[r*k:][:k], o.dst.weights[r*k:][:k])
	}
}

// row chooses and weighs a row's experts.
func (o *route) row(w *worker, r int, chosen []int32, weights []float32) {
	n := o.dst.experts
	scores, ranks := w.row[:n], w.row[n:2*n]
	for h := range o.logits.heads {
		copy(scores[h*o.logits.dim:], o.logits.head(r, h))
	}
	copy(ranks, scores) // a larger logit is a larger score, so that by themselves logits rank alike, and finer
	total := o.scores(w.kernels, scores)
	if o.table != nil {
		copy(chosen, o.table[int(w.step.batch.Tokens[r])*len(chosen):])
	} else {
		if o.bias != nil || o.groups > 1 {
			o.rank(w.kernels, ranks, scores, total)
		}
		o.choose(ranks, w.row[2*n:3*n], chosen, weights)
	}
	for i, e := range chosen {
		weights[i] = scores[e]
	}
	if o.score == hardware.ScoreSelected {
		total = w.kernels.expSum(weights, weights, w.kernels.maxOf(weights))
	}
	if o.normalize {
		total = 1e-20
		for _, weight := range weights {
			total += weight
		}
	}
	for i, weight := range weights {
		weights[i] = weight / total * o.scale
	}
}

// rank computes what experts are chosen by from their scores, which total divides.
func (o *route) rank(k *kernels, ranks, scores []float32, total float32) {
	copy(ranks, scores)
	k.scale(ranks, 1/total)
	if o.bias != nil {
		k.add(ranks, o.bias.vector)
	}
}

// scores turns logits into scores and returns what divides them.
func (o *route) scores(k *kernels, x []float32) float32 {
	switch o.score {
	case hardware.ScoreSoftmax:
		return k.expSum(x, x, k.maxOf(x))
	case hardware.ScoreSigmoid:
		k.scale(x, -1)
		k.expSum(x, x, 0)
		for i, e := range x {
			x[i] = 1 / (1 + e)
		}
	case hardware.ScoreSqrtSoftplus:
		for i, v := range x {
			logit := float64(v)
			x[i] = float32(math.Sqrt(max(logit, 0) + math.Log1p(math.Exp(-math.Abs(logit)))))
		}
	}
	return 1
}

// choose finds the experts of the largest ranks, of equal ones the first, among those of the best groups. room has
// elements for the ranks of groups; those of the chosen experts are left in best.
func (o *route) choose(ranks, room []float32, chosen []int32, best []float32) {
	size := len(ranks) / o.groups
	groups, n := room[:o.groups], 0
	for g := range groups {
		groups[g] = o.groupRank(ranks[g*size:][:size])
	}
	for g := range groups {
		if !o.used(groups, g) {
			continue
		}
		for i, rank := range ranks[g*size:][:size] {
			n = insert(chosen, best, n, int32(g*size+i), rank)
		}
	}
}

// insert puts an expert in its place among the n best so far and returns their new number.
func insert(chosen []int32, best []float32, n int, expert int32, rank float32) int {
	if n == len(chosen) && !(rank > best[n-1]) {
		return n
	}
	at := n
	if n < len(chosen) {
		n++
	} else {
		at--
	}
	for ; at > 0 && rank > best[at-1]; at-- {
		chosen[at], best[at] = chosen[at-1], best[at-1]
	}
	chosen[at], best[at] = expert, rank
	return n
}

// groupRank is the rank of a group of experts by theirs.
func (o *route) groupRank(ranks []float32) float32 {
	first, second := float32(math.Inf(-1)), float32(math.Inf(-1))
	for _, rank := range ranks {
		if rank > first {
			first, second = rank, first
		} else if rank > second {
			second = rank
		}
	}
	if o.pairRank {
		return first + second
	}
	return first
}

// used reports whether a group is among the best ones, of equal ones the first.
func (o *route) used(groups []float32, g int) bool {
	better := 0
	for i, rank := range groups {
		if rank > groups[g] || i < g && !(rank < groups[g]) {
			better++
		}
	}
	return better < o.usedGroups
}
