package sample

import "math"

// typicalP returns the row of the smallest set of tokens, those first whose surprise -ln(p) is nearest its mean, the
// entropy, whose probabilities add up to at least p (arXiv 2202.00666 §4), and its largest logit. Tokens after last have no
// probability. As the set is no beginning of the order of the other filters, it becomes a row of its own.
func (r *Row) typicalP(p, best float32, last ranked) (rest *Row, most float32) {
	rest = &r.scratch.rest
	rest.logits, rest.ids = rest.logits[:0], rest.ids[:0]
	total, mean := 0.0, 0.0 // of the surprise, up to ln(total)
	for i, l := range r.logits {
		if l < last.key || l == last.key && int32(i) > last.id {
			continue
		}
		rest.logits, rest.ids = append(rest.logits, l), append(rest.ids, int32(i))
		w := float64(exp(l - best))
		total += w
		mean += w * float64(best-l)
	}
	logTotal, entropy := math.Log(total), math.Log(total)+mean/total
	atypical := func(l float32) float32 {
		return float32(math.Abs(logTotal + float64(best-l) - entropy))
	}
	list := r.scratch.ranked[:len(rest.logits)]
	for i, l := range rest.logits {
		list[i] = ranked{-atypical(l), rest.ids[i], exp(l - best)}
	}
	least := crossing(list, float64(p)*total)
	n := 0
	most = negInf
	for i, l := range rest.logits {
		if !least.before(ranked{key: -atypical(l), id: rest.ids[i]}) {
			rest.ids[n], rest.logits[n] = rest.ids[i], l
			most = max(most, l)
			n++
		}
	}
	rest.ids, rest.logits = rest.ids[:n], rest.logits[:n]
	rest.parts = rest.parts[:2*((n+r.partLen-1)/r.partLen)]
	for i := range rest.numParts() {
		rest.findLargest(i)
	}
	return rest, most
}
