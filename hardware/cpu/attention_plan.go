package cpu

import "hearth/hardware"

// attentionPlan cuts the spans of a step into units of work, for all attention of one shape.
type attentionPlan struct {
	attentionShape
	tokens   int // of a unit
	shares   int // least number of shares of a key head's query heads
	slots    int // partitions that can be kept for merging
	maxUnits int
	units    []attentionUnit
	merges   []attentionMergeRow
}

// attentionShape is what a plan depends on.
type attentionShape struct {
	group, keyHeads int  // query heads of a key head, and how many there are of these
	canSplit        bool // partitions may be computed apart
	oneToken        bool // a unit's rows read the same entries: it is of one token
	partialCols     int  // of a partition that is kept
}

// attentionUnit is some rows of one span, some of a key head's query heads, and some partitions of what they see.
type attentionUnit struct {
	span                int // of the batch
	row, rows           int // rows of the batch
	position            int // of the first row
	table               int // index of the sequence's block table
	firstHead, heads    int // of the key head's query heads
	firstPart, lastPart int // of the split ones
	split               bool
	slot, slotStride    int // where the partitions of the first row are kept, and the distance to the next row's
}

// attentionMergeRow is a row whose partitions were computed apart.
type attentionMergeRow struct{ row, slot, parts int }

const (
	attentionRows = 48      // query rows of a unit, heads included: whole tiles of the kernels (6 or 12 rows), and the scores stay near
	leastShare    = 4       // heads of a share that is made for the sake of more units: fewer would leave multipliers idle
	splitRows     = 8       // the longest span of which partitions are computed apart
	keptBytes     = 1 << 25 // of partitions kept for merging, if those of one row are not more
)

// newAttentionPlan sizes a plan.
func newAttentionPlan(shape attentionShape, l *hardware.Limits, workers int) *attentionPlan {
	p := &attentionPlan{attentionShape: shape, tokens: max(1, attentionRows/shape.group), shares: (shape.group + attentionRows - 1) / attentionRows}
	if shape.oneToken {
		p.tokens = 1
	}
	if shape.canSplit {
		parts := (l.MaxLen + partitionLen - 1) / partitionLen
		p.slots = max(parts, min(4*parts+min(l.Tokens, 64), keptBytes/(4*shape.partialCols*shape.group*shape.keyHeads)))
	}
	p.maxUnits = (l.Tokens/p.tokens+l.Spans+p.slots)*p.shares + 2*workers
	return p
}

// reserve takes the plan's memory.
func (p *attentionPlan) reserve(c *carver) {
	p.units, p.merges = carve[attentionUnit](c, p.maxUnits), carve[attentionMergeRow](c, p.slots)
}

// rows is the most query rows of a unit.
func (p *attentionPlan) rows() int { return p.tokens * ((p.group + p.shares - 1) / p.shares) }

// fill cuts a batch. Short spans are split into partitions as long as there is room to keep them; longer ones give
// enough units as they are. Where units are still too few for the workers, shares of query heads make more.
func (p *attentionPlan) fill(b *hardware.Batch, workers int) {
	p.units, p.merges = p.units[:0], p.merges[:0]
	slot := 0
	for i := range b.Spans {
		s := &b.Spans[i]
		parts := (int(s.Start+s.Len) + partitionLen - 1) / partitionLen
		split := parts > 1 && s.Len <= splitRows && slot+int(s.Len)*parts <= p.slots
		for first := 0; first < int(s.Len); first += p.tokens {
			u := attentionUnit{
				span: i, row: int(s.Row) + first, rows: min(p.tokens, int(s.Len)-first), position: int(s.Start) + first, table: int(s.Table),
				heads: p.group, split: split, slot: slot + first*parts, slotStride: parts,
			}
			if !split {
				p.units = append(p.units, u)
				continue
			}
			for part := range (u.position + u.rows + partitionLen - 1) / partitionLen {
				u.firstPart, u.lastPart = part, part+1
				p.units = append(p.units, u)
			}
		}
		if split {
			for r := range int(s.Len) {
				p.merges = append(p.merges, attentionMergeRow{int(s.Row) + r, slot + r*parts, (int(s.Start)+r)/partitionLen + 1})
			}
			slot += int(s.Len) * parts
		}
	}
	p.shareHeads(workers)
}

// shareHeads cuts every unit into shares of its query heads, of nearly equal size: not too large for the worker's
// memory, and as many as keep all workers busy.
func (p *attentionPlan) shareHeads(workers int) {
	n := len(p.units)
	if n == 0 {
		return
	}
	items := n * p.keyHeads
	shares := max(p.shares, min((workers+items-1)/items, p.group/leastShare))
	if shares == 1 {
		return
	}
	p.units = p.units[:n*shares]
	for i := n*shares - 1; i >= 0; i-- { // from the last one on: a unit's shares lie at or behind it
		u := p.units[i/shares]
		u.firstHead = i % shares * p.group / shares
		u.heads = (i%shares+1)*p.group/shares - u.firstHead
		p.units[i] = u
	}
}
