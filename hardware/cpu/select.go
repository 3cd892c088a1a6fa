package cpu

import (
	"math"
	"slices"

	"hearth/hardware"
)

// selection is what Select has chosen for each row and group: units of consecutive entries, ascending. Only the last unit
// can be short, of which not all entries are visible yet.
type selection struct {
	groups int
	unit   int     // entries of a unit
	most   int     // units that are chosen at most
	units  []int32 // [tokens][groups][most]
	counts []int32 // [tokens][groups] entries of the units
}

func (s *selection) reserve(c *carver, l *hardware.Limits) {
	s.units, s.counts = carve[int32](c, l.Tokens*s.groups*s.most), carve[int32](c, l.Tokens*s.groups)
}

// count returns how many entries are chosen for a group of a row.
func (s *selection) count(row, group int) int { return int(s.counts[row*s.groups+group]) }

// entry returns the entry at a place of the list.
func (s *selection) entry(row, group, place int) int {
	return int(s.units[(row*s.groups+group)*s.most+place/s.unit])*s.unit + place%s.unit
}

// aligned returns the entry at a place that is a multiple of 64, if those up to the next one are consecutive and begin at
// a multiple of 64 too.
func (s *selection) aligned(row, group, place int) (first int, ok bool) {
	first, last := s.entry(row, group, place), min(place+blockLen, s.count(row, group))-1
	return first, first%blockLen == 0 && s.entry(row, group, last)-first == last-place
}

// indexing is Select: the scores of each row's visible entries, and the choice of the best. Few rows are scored by all
// workers together.
type indexing struct {
	query, weights view
	index          *stream
	reduce         hardware.Reduction
	scale          float32
	local, topK    int
	dst            *selection
	scores         *[]float32 // [workers][scoreCols], shared by all: of rows, or of a worker's row
	scoreCols      int
	workers        int
}

// selectChunk is how many positions of a row's entries are scored as an item.
const selectChunk = 16 * blockLen

// emitSelect compiles Select: the scores of few rows, then the choice.
func (c *compiler) emitSelect(a *hardware.SelectArgs) {
	o := &indexing{
		query: c.view(a.Q), index: c.streams[a.Index.Index()], reduce: a.Reduce, scale: a.Scale, local: a.Local, topK: a.TopK,
		dst: c.selected(a.Dst), scores: &c.queue.scores, workers: c.device.pool.size,
	}
	o.scoreCols = roundUp(c.limits.MaxLen/o.index.info.Ratio+1, panelCols)
	if a.Reduce == hardware.WeightedReLU {
		o.weights = c.view(a.Weights)
	}
	n := &c.sizes
	n.indexRows, n.keyCols = max(n.indexRows, a.Q.NumHeads()), max(n.keyCols, roundUp(a.Q.Dim(), panelCols))
	c.scoreCount = max(c.scoreCount, o.workers*o.dst.groups*o.scoreCols)
	c.phases = append(c.phases, indexScores{o}, indexChoice{o})
}

// selected returns a declared selection, noted once.
func (c *compiler) selected(h hardware.Selection) *selection {
	s := c.byChoice[h.Index()]
	if s == nil {
		info := c.program.SelectionInfo(h)
		entries := (c.limits.MaxLen + info.Unit - 1) / info.Unit // units that any row sees
		s = &selection{groups: info.Groups, unit: info.Unit, most: min(info.Entries/info.Unit, entries)}
		c.byChoice[h.Index()] = s
		c.selections = append(c.selections, s)
	}
	return s
}

// visible returns how many entries a row sees.
func (o *indexing) visible(s *step, row int) int {
	return (int(s.positions[row]) + 1) / o.index.info.Ratio
}

// rowScores returns the scores of a group in a place of the shared memory.
func (o *indexing) rowScores(place, group int) []float32 {
	return (*o.scores)[(place*o.dst.groups+group)*o.scoreCols:][:o.scoreCols]
}

// isShared says whether the rows are so few that workers score them together.
func (o *indexing) isShared(s *step) bool { return s.rows[hardware.Tokens] <= o.workers }

// indexScores is the scoring of few rows: an item is some blocks of a row.
type indexScores struct{ *indexing }

func (o indexScores) items(s *step) int {
	if !o.isShared(s) {
		return 0
	}
	return s.rows[hardware.Tokens] * o.chunks(s)
}

// chunks is into how many items the longest row is cut.
func (o indexScores) chunks(s *step) int {
	return int(slices.Max(s.positions[:s.rows[hardware.Tokens]]))/selectChunk + 1
}

func (o indexScores) run(w *worker, item int) {
	chunks := o.chunks(w.step)
	row, first := item/chunks, item%chunks*selectChunk
	o.score(w, row, row, first, min(first+selectChunk, int(w.step.positions[row])+1))
}

// indexChoice is the choice for a row, and its scoring unless that is done.
type indexChoice struct{ *indexing }

func (o indexChoice) items(s *step) int { return s.rows[hardware.Tokens] }

func (o indexChoice) run(w *worker, row int) {
	place := row
	if !o.isShared(w.step) {
		place = w.id
		o.score(w, row, place, 0, int(w.step.positions[row])+1)
	}
	n := o.visible(w.step, row)
	for g := range o.dst.groups {
		units := (n + o.dst.unit - 1) / o.dst.unit
		chosen := o.dst.units[(row*o.dst.groups+g)*o.dst.most:][:min(o.topK, units)]
		count := int32(n)
		switch {
		case len(chosen) == units:
			for i := range chosen {
				chosen[i] = int32(i)
			}
		default:
			scores := o.rowScores(place, g)[:n]
			if o.reduce == hardware.MaxOfUnit {
				scores = o.unitScores(w.kernels, scores)
			}
			best(chosen, scores)
			count = int32(len(chosen) * o.dst.unit)
			if int(chosen[len(chosen)-1]) == units-1 {
				count -= int32(units*o.dst.unit - n)
			}
		}
		o.dst.counts[row*o.dst.groups+g] = count
	}
}

// unitScores turns the scores of entries into those of units, in the same memory.
func (o *indexing) unitScores(k *kernels, scores []float32) []float32 {
	units := (len(scores) + o.dst.unit - 1) / o.dst.unit
	for u := range units {
		scores[u] = k.maxOf(scores[u*o.dst.unit : min((u+1)*o.dst.unit, len(scores))])
	}
	for u := max(0, units-o.local); u < units; u++ {
		scores[u] = float32(math.Inf(1))
	}
	return scores[:units]
}

// score computes the scores of the entries that positions [first, end) complete, as far as any choice depends on them.
func (o *indexing) score(w *worker, row, place, first, end int) {
	if (o.visible(w.step, row)+o.dst.unit-1)/o.dst.unit <= o.topK {
		return
	}
	a, heads, cols := &w.attention, o.query.heads, roundUp(o.query.dim, panelCols)
	for h := range heads {
		q := a.indexQuery[h*cols:][:cols]
		copy(q, o.query.head(row, h))
		clear(q[o.query.dim:])
	}
	table := int(w.step.batch.Spans[w.step.spans[row]].Table)
	for position := first; position < end; position += blockLen {
		// What the positions of a block complete, lies in it.
		lo, hi := position/o.index.info.Ratio, min(position+blockLen, end)/o.index.info.Ratio
		if lo == hi {
			continue
		}
		a.tile.dst, a.tile.dstStride = a.indexScores, blockLen
		a.tile.x, a.tile.xStride = a.indexQuery, cols
		a.tile.tile, a.tile.ahead = o.index.tile(w.queue.block(int(w.step.batch.Tables[table+position/blockLen])), 0), nil
		a.tile.k, a.tile.slots, a.tile.entries, a.tile.rows = cols, o.index.slots, hi-lo, heads
		w.kernels.tiles(o.index.format).latents(&a.tile)
		o.reduceHeads(w, row, place, lo, hi)
	}
}

// reduceHeads makes the scores of entries [lo, hi) of their products with each head.
func (o *indexing) reduceHeads(w *worker, row, place, lo, hi int) {
	a := &w.attention
	if o.reduce == hardware.MaxOfUnit {
		for h := range o.query.heads {
			scores := o.rowScores(place, h)[lo:hi]
			copy(scores, a.indexScores[h*blockLen:])
			w.kernels.scale(scores, o.scale)
		}
		return
	}
	scores := o.rowScores(place, 0)[lo:hi]
	clear(scores)
	for h := range o.query.heads {
		weight := o.weights.head(row, h/o.weights.dim)[h%o.weights.dim]
		w.kernels.addPositive(scores, a.indexScores[h*blockLen:][:hi-lo], weight)
	}
	w.kernels.scale(scores, o.scale)
}

// best writes the places of the largest scores, ascending, as hardware.TopK does. There are more scores than places. Only
// where some of equal scores are left out does it matter which, and is the order of TopK followed.
func best(dst []int32, scores []float32) {
	least, taken := threshold(scores, len(dst))
	n := 0
	for i, s := range scores {
		key := sortKey(s)
		if key < least {
			continue
		}
		if key == least {
			taken--
		}
		if taken < 0 {
			hardware.TopK(dst, scores)
			return
		}
		dst[n] = int32(i)
		n++
	}
}

// sortKey returns a number that grows with a score; those of both zeros are equal, and that of what is not a number is the
// least.
func sortKey(x float32) uint32 {
	switch {
	case x != x:
		return 0
	case x == 0:
		return 1 << 31
	}
	b := math.Float32bits(x)
	if b>>31 != 0 {
		return ^b
	}
	return b | 1<<31
}

// threshold returns the k-th largest key of scores, and how many with this key are among the k largest. It finds the key
// byte by byte from the highest on (radix selection).
func threshold(scores []float32, k int) (least uint32, taken int) {
	for shift := 24; shift >= 0; shift -= 8 {
		var counts [256]int
		for _, s := range scores {
			if key := sortKey(s); key>>(shift+8) == least {
				counts[key>>shift&255]++
			}
		}
		digit := 255
		for ; counts[digit] < k; digit-- {
			k -= counts[digit]
		}
		least = least<<8 | uint32(digit)
	}
	return least, k
}
