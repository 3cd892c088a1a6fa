package devicetest

import (
	"math"
	"slices"

	"hearth/hardware"
)

// store writes rows into a stream.
func (r *Reference) store(a *hardware.StoreArgs) {
	for _, s := range r.batch.Spans {
		for i := range s.Len {
			r.keep(a.Stream, s, int(s.Start+i), r.row(a.X, int(s.Row+i)))
		}
	}
}

// keep rounds an entry of a span's sequence to the cache's format and keeps it.
func (r *Reference) keep(stream hardware.Stream, s hardware.Span, entry int, x []float64) {
	info := r.program.StreamInfo(stream)
	rowBytes, _ := r.limits.KV.RowBytes(info.Dim)
	packed, head := make([]byte, rowBytes), make([]float32, info.Dim)
	for h := range info.Heads {
		for j := range head {
			head[j] = float32(x[h*info.Dim+j])
		}
		r.limits.KV.Quantize(packed, head)
		r.limits.KV.Dequantize(head, packed)
		copy(x[h*info.Dim:], widen(head))
	}
	r.streams[stream.Index()][r.placeOf(stream, s, entry)] = x
}

// entry returns one head of an entry of a span's sequence.
func (r *Reference) entry(stream hardware.Stream, s hardware.Span, entry, head int) []float64 {
	dim := r.program.StreamInfo(stream).Dim
	return r.streams[stream.Index()][r.placeOf(stream, s, entry)][head*dim:][:dim]
}

// placeOf is where an entry of a span's sequence lies: a block and a place in it.
func (r *Reference) placeOf(stream hardware.Stream, s hardware.Span, entry int) [2]int32 {
	block, place := r.program.StreamInfo(stream).Place(entry)
	return [2]int32{r.batch.Tables[int(s.Table)+block], int32(place)}
}

// visible returns how many entries of a stream a position sees.
func (r *Reference) visible(stream hardware.Stream, position int) int {
	return (position + 1) / r.program.StreamInfo(stream).Ratio
}

func (r *Reference) attention(a *hardware.AttentionArgs) {
	for _, s := range r.batch.Spans {
		for i := range s.Len {
			q, o := r.row(a.Q, int(s.Row+i)), make([]float64, a.Dst.Size())
			for h := range a.Q.NumHeads() {
				var keys, values [][]float64
				for j := range a.Sources {
					k, v := r.sourceOf(a, j, s, i, h)
					keys, values = append(keys, k...), append(values, v...)
				}
				var weights []float64
				for _, k := range keys {
					weights = append(weights, float64(a.Scale)*dot(q[h*a.Q.Dim():][:a.Q.Dim()], k))
				}
				if a.Sinks.Valid() {
					weights = append(weights, r.weight(a.Sinks)[h])
				}
				if len(weights) == 0 {
					continue
				}
				softmax(weights)
				for e, v := range values {
					for j, x := range v {
						o[h*a.Dst.Dim()+j] += weights[e] * x
					}
				}
			}
			r.set(a.Dst, int(s.Row+i), o)
		}
	}
}

// sourceOf returns the keys and values that query head h of a span's i-th row reads of the j-th source.
func (r *Reference) sourceOf(a *hardware.AttentionArgs, j int, s hardware.Span, i int32, h int) (keys, values [][]float64) {
	source, position := &a.Sources[j], int(s.Start+i)
	if source.Ring.Valid() {
		for p := max(0, position-r.program.RingInfo(source.Ring).Reach); p <= position; p++ {
			row := r.latest(source.Ring, source.Recent, s, p)
			keys, values = append(keys, row), append(values, row[:source.ValueDim])
		}
		return keys, values
	}
	heads := r.program.StreamInfo(source.K).Heads
	head := h / (a.Q.NumHeads() / heads)
	take := func(e int) {
		keys = append(keys, r.entry(source.K, s, e, head))
		values = append(values, r.entry(source.V, s, e, head)[:source.ValueDim])
	}
	if source.Selection.Valid() {
		groups := r.selections[source.Selection.Index()][s.Row+i]
		for _, e := range groups[head*len(groups)/heads] {
			take(e)
		}
		return keys, values
	}
	visible, first := r.visible(source.K, position), 0
	if source.Window > 0 {
		first = max(0, visible-source.Window)
	}
	for e := first; e < visible; e++ {
		take(e)
	}
	return keys, values
}

// selectEntries chooses entries of an index stream.
func (r *Reference) selectEntries(a *hardware.SelectArgs) {
	chosen := make([][][]int, r.rows[hardware.Tokens])
	for _, s := range r.batch.Spans {
		for i := range s.Len {
			row, visible := int(s.Row+i), r.visible(a.Index, int(s.Start+i))
			q := r.row(a.Q, row)
			products := make([][]float64, a.Q.NumHeads()) // of each head and entry
			for h := range products {
				for e := range visible {
					products[h] = append(products[h], dot(q[h*a.Q.Dim():][:a.Q.Dim()], r.entry(a.Index, s, e, 0)))
				}
			}
			if a.Reduce == hardware.WeightedReLU {
				scores := make([]float64, visible)
				for h, w := range r.row(a.Weights, row) {
					for e := range scores {
						scores[e] += w * max(0, products[h][e]) * float64(a.Scale)
					}
				}
				chosen[row] = append(chosen[row], best(scores, a.TopK))
				continue
			}
			for h := range products {
				chosen[row] = append(chosen[row], bestUnits(products[h], a))
			}
		}
	}
	r.selections[a.Dst.Index()] = chosen
}

// bestUnits returns the entries of the best units, ascending, given the entries' scores.
func bestUnits(scores []float64, a *hardware.SelectArgs) []int {
	var units []float64
	for unit := range slices.Chunk(scores, a.Unit) {
		units = append(units, slices.Max(unit)*float64(a.Scale))
	}
	for u := max(0, len(units)-a.Local); u < len(units); u++ {
		units[u] = math.Inf(1)
	}
	var entries []int
	for _, u := range best(units, a.TopK) {
		for e := u * a.Unit; e < min((u+1)*a.Unit, len(scores)); e++ {
			entries = append(entries, e)
		}
	}
	return entries
}

// best returns the places of the k largest scores, ascending.
func best(scores []float64, k int) []int {
	kept := make([]int32, min(k, len(scores)))
	hardware.TopK(kept, scores)
	var places []int
	for _, p := range kept {
		places = append(places, int(p))
	}
	return places
}

// compress makes the entries that the rows of this step complete.
func (r *Reference) compress(a *hardware.CompressArgs) {
	info := r.program.StreamInfo(a.Dst)
	width := r.program.WeightInfo(a.Ape).In
	for _, s := range r.batch.Spans {
		for p := int(s.Start); p < int(s.Start+s.Len); p++ {
			if (p+1)%info.Ratio != 0 {
				continue
			}
			first, half := p+1-info.Ratio, width-info.Dim // an entry mixes its own positions from column half on
			begin := first
			if a.Overlap {
				begin = max(0, first-info.Ratio)
			}
			var rows [][]float64
			for at := begin; at <= p; at++ {
				rows = append(rows, r.latest(a.Ring, a.X, s, at))
			}
			entry := make([]float64, info.Dim)
			for c := range entry {
				var gates, values []float64
				for j, row := range rows {
					column := c
					if begin+j >= first {
						column += half
					}
					gates = append(gates, row[width+column]+r.weight(a.Ape)[(begin+j)%info.Ratio*width+column])
					values = append(values, row[column])
				}
				softmax(gates)
				entry[c] = dot(gates, values)
			}
			r.normalize(&hardware.NormArgs{Weight: a.Weight, Scale: 1, Eps: a.Eps}, entry)
			rope := r.program.RopeInfo(a.Rope)
			rotate(entry[info.Dim-2*len(rope.Frequencies):], rope, first)
			r.keep(a.Dst, s, p/info.Ratio, entry)
		}
	}
}
