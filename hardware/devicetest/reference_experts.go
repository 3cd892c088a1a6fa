package devicetest

import (
	"cmp"
	"math"
	"slices"

	"hearth/hardware"
)

// choice is an expert and its weight.
type choice struct {
	expert int
	weight float64
}

// route chooses the experts of each row.
func (r *Reference) route(a *hardware.RouteArgs) {
	all := make([][]choice, r.rows[a.Logits.Rows()])
	for i := range all {
		logits := r.row(a.Logits, i)
		scores := routeScores(a.Score, logits)
		var experts []int
		if a.Table != nil {
			for _, e := range a.Table[int(r.batch.Tokens[i])*a.TopK:][:a.TopK] {
				experts = append(experts, int(e))
			}
		} else {
			ranks := slices.Clone(scores)
			if a.Bias.Valid() {
				ranks = plus(ranks, r.weight(a.Bias))
			}
			experts = ranked(limitGroups(a, ranks), a.TopK)
		}
		weights := make([]float64, a.TopK)
		for j, e := range experts {
			weights[j] = scores[e]
		}
		if a.Score == hardware.ScoreSelected {
			softmax(weights)
		}
		total := 1.0
		if a.Normalize {
			total = 1e-20
			for _, w := range weights {
				total += w
			}
		}
		for j, e := range experts {
			all[i] = append(all[i], choice{e, weights[j] * float64(a.Scale) / total})
		}
	}
	r.routes[a.Dst.Index()] = all
}

// routeScores turns router logits into scores.
func routeScores(score hardware.RouteScore, logits []float64) []float64 {
	scores := slices.Clone(logits)
	switch score {
	case hardware.ScoreSoftmax:
		softmax(scores)
	case hardware.ScoreSigmoid:
		for i, x := range scores {
			scores[i] = sigmoid(x)
		}
	case hardware.ScoreSqrtSoftplus:
		for i, x := range scores {
			scores[i] = math.Sqrt(softplus(x))
		}
	}
	return scores
}

// limitGroups puts the experts outside the best groups behind all others.
func limitGroups(a *hardware.RouteArgs, ranks []float64) []float64 {
	size := len(ranks) / a.Groups
	groups := make([]float64, a.Groups)
	for g := range groups {
		members := ranks[g*size:][:size]
		for _, e := range ranked(members, 1) {
			groups[g] = members[e]
		}
		if a.PairRank {
			pair := ranked(members, 2)
			groups[g] = members[pair[0]] + members[pair[1]]
		}
	}
	used := ranked(groups, a.UsedGroups)
	for e := range ranks {
		if !slices.Contains(used, e/size) {
			ranks[e] = math.Inf(-1)
		}
	}
	return ranks
}

// ranked returns the indices of the n largest elements, of equal ones the first, in this order.
func ranked(x []float64, n int) []int {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(x[b], x[a]) })
	return order[:n]
}

// experts adds the chosen experts of each row.
func (r *Reference) experts(a *hardware.ExpertsArgs) {
	for i, chosen := range r.routes[a.Routes.Index()] {
		x, y := r.row(a.X, i), r.row(a.Dst, i)
		for _, c := range chosen {
			hidden := gate(a.Act, a.Limit, r.product(a.Gate, c.expert, x), r.product(a.Up, c.expert, x))
			for j, v := range r.product(a.Down, c.expert, hidden) {
				y[j] += c.weight * v
			}
		}
		r.set(a.Dst, i, y)
	}
}
