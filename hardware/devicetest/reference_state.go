package devicetest

import (
	"fmt"
	"maps"
	"math"

	"hearth/hardware"
)

// memory is what a slot holds of its sequence beside cache blocks, and what a snapshot keeps of that.
type memory struct {
	rows   []map[int][]float64   // of each ring, by position
	states []map[int][][]float64 // of each delta rule: the S of each value head that enters a position, [key dim, value dim]
}

func (r *Reference) newMemory() *memory {
	m := &memory{}
	for range r.program.Rings() {
		m.rows = append(m.rows, map[int][]float64{})
	}
	for range r.program.Deltas() {
		m.states = append(m.states, map[int][][]float64{})
	}
	return m
}

// slotOf returns the memory of a span's slot.
func (r *Reference) slotOf(s hardware.Span) *memory {
	m := r.slots[s.Slot]
	if m == nil {
		m = r.newMemory()
		r.slots[s.Slot] = m
	}
	return m
}

// SaveState copies the state of a slot at a position into a snapshot, as Queue.SaveState does.
func (r *Reference) SaveState(slot, position, snapshot int) {
	from, to := r.slots[int32(slot)], r.newMemory()
	for i := range to.rows {
		for p := max(0, position-r.program.Rings()[i].Keep); p < position; p++ {
			row, ok := from.rows[i][p]
			if !ok {
				panic(fmt.Sprintf("devicetest: Reference: slot %d has no row of position %d", slot, p))
			}
			to.rows[i][p] = row
		}
	}
	for i := range to.states {
		state, ok := from.states[i][position]
		if !ok {
			panic(fmt.Sprintf("devicetest: Reference: slot %d has no state of position %d", slot, position))
		}
		to.states[i][position] = state
	}
	r.snapshots[snapshot] = to
}

// LoadState makes a slot go on from a snapshot, as Queue.LoadState does.
func (r *Reference) LoadState(slot, position, snapshot int) {
	m, saved := r.newMemory(), r.snapshots[snapshot]
	for i := range m.rows {
		maps.Copy(m.rows[i], saved.rows[i])
	}
	for i := range m.states {
		if saved.states[i][position] == nil {
			panic(fmt.Sprintf("devicetest: Reference: snapshot %d is not of position %d", snapshot, position))
		}
		maps.Copy(m.states[i], saved.states[i])
	}
	r.slots[int32(slot)] = m
}

// latest returns the row of a position that is not negative, of a step's rows x or from a ring.
func (r *Reference) latest(ring hardware.Ring, x hardware.Tensor, s hardware.Span, position int) []float64 {
	if position >= int(s.Start) {
		return r.row(x, int(s.Row-s.Start)+position)
	}
	row, ok := r.slotOf(s).rows[ring.Index()][position]
	if !ok {
		panic(fmt.Sprintf("devicetest: Reference: ring %q of slot %d has no row of position %d", r.program.RingInfo(ring).Name, s.Slot, position))
	}
	return row
}

// remember keeps the rows that a reader can still reach, or a snapshot may take.
func (r *Reference) remember(a *hardware.RememberArgs) {
	reach := r.program.RingInfo(a.Ring).Reach
	for _, s := range r.batch.Spans {
		rows := r.slotOf(s).rows[a.Ring.Index()]
		if s.Start == 0 {
			clear(rows) // of another sequence
		}
		for i := range int(s.Len) {
			rows[int(s.Start)+i] = r.row(a.X, int(s.Row)+i)
		}
		base := int(s.Start+s.Len-1) / hardware.BlockLen * hardware.BlockLen
		maps.DeleteFunc(rows, func(position int, _ []float64) bool { return position < base-hardware.BlockLen-reach })
	}
}

func (r *Reference) conv(a *hardware.ConvArgs) {
	weight := r.weight(a.Weight)
	taps := r.program.WeightInfo(a.Weight).In
	for _, s := range r.batch.Spans {
		for i := range int(s.Len) {
			y := make([]float64, a.Dst.Size())
			first := int(s.Start) + i - taps + 1
			for j := max(0, -first); j < taps; j++ {
				for col, x := range r.latest(a.Ring, a.X, s, first+j) {
					y[col] += weight[col*taps+j] * x
				}
			}
			for col := range y {
				y[col] *= sigmoid(y[col])
			}
			r.set(a.Dst, int(s.Row)+i, y)
		}
	}
}

// deltaRule is the recurrence, position by position.
func (r *Reference) deltaRule(a *hardware.DeltaRuleArgs) {
	info := r.program.DeltaInfo(a.State)
	decay, bias := r.weight(a.Decay), r.weight(a.Bias)
	for _, s := range r.batch.Spans {
		states := r.slotOf(s).states[a.State.Index()]
		if s.Start == 0 {
			clear(states) // of another sequence
		}
		for i := range int(s.Len) {
			row, position := int(s.Row)+i, int(s.Start)+i
			q, k, v, g, beta := r.row(a.Q, row), r.row(a.K, row), r.row(a.V, row), r.row(a.A, row), r.row(a.B, row)
			before := r.entering(states, position, info)
			after := make([][]float64, info.ValueHeads)
			var y []float64
			for h := range after {
				keyHead := h / (info.ValueHeads / info.KeyHeads)
				if info.Map == hardware.Tiled {
					keyHead = h % info.KeyHeads
				}
				after[h] = make([]float64, len(before[h]))
				y = append(y, advanceDelta(after[h], before[h], deltaRow{
					q: q[keyHead*info.KeyDim:][:info.KeyDim], k: k[keyHead*info.KeyDim:][:info.KeyDim],
					v: v[h*info.ValueDim:][:info.ValueDim], beta: sigmoid(beta[h]), g: decay[h] * softplus(g[h]+bias[h]),
				})...)
			}
			r.set(a.Dst, row, y)
			states[position+1] = after
			base := position / hardware.BlockLen * hardware.BlockLen
			maps.DeleteFunc(states, func(p int, _ [][]float64) bool { return p < base })
		}
	}
}

// entering returns the states of all value heads before a position.
func (r *Reference) entering(states map[int][][]float64, position int, info *hardware.DeltaInfo) [][]float64 {
	if position > 0 {
		if states[position] == nil {
			panic(fmt.Sprintf("devicetest: Reference: state %q does not stand at position %d", info.Name, position))
		}
		return states[position]
	}
	zero := make([][]float64, info.ValueHeads)
	for h := range zero {
		zero[h] = make([]float64, info.KeyDim*info.ValueDim)
	}
	return zero
}

// deltaRow is what a position gives to one value head.
type deltaRow struct {
	q, k, v []float64
	beta, g float64
}

// advanceDelta computes the state [key dim, value dim] after a position from the one before it, and the head's result.
func advanceDelta(after, before []float64, x deltaRow) []float64 {
	n, decay := len(x.v), math.Exp(x.g)
	y := make([]float64, n)
	for c := range y {
		remembered := 0.0
		for i, k := range x.k {
			remembered += decay * before[i*n+c] * k
		}
		delta := x.beta * (x.v[c] - remembered)
		for i, k := range x.k {
			after[i*n+c] = decay*before[i*n+c] + k*delta
			y[c] += after[i*n+c] * x.q[i]
		}
	}
	return y
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// softplus is ln(1 + e^x).
func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }
