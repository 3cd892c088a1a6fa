package cpu

import (
	"hearth/hardware"
	"hearth/hardware/quant"
)

// emitAttention compiles attention: the units, then the merging of partitions.
func (c *compiler) emitAttention(a *hardware.AttentionArgs) {
	o := &attention{
		query: c.view(a.Q), dst: c.view(a.Dst), scale: a.Scale, keyHeads: 1,
		keyCols: roundUp(a.Q.Dim(), panelCols), valueCols: roundUp(a.Dst.Dim(), panelCols), partials: &c.queue.partials,
	}
	if a.Sinks.Valid() {
		o.sinks = c.vector(a.Sinks)
	}
	shape := attentionShape{canSplit: len(a.Sources) == 1, partialCols: o.partialCols()}
	tiles, bytes := 0, 0
	for i := range a.Sources {
		s := c.source(&a.Sources[i])
		o.sources = append(o.sources, s)
		o.keyHeads *= s.heads / gcd(o.keyHeads, s.heads)
		shape.canSplit = shape.canSplit && s.isDirect() && s.reach == maxPositions
		shape.oneToken = shape.oneToken || s.chosen != nil
		if s.isDirect() {
			continue
		}
		c.sources++
		s.id, s.place, s.offset = c.sources, tiles, bytes
		tiles, bytes = tiles+partitionTiles, bytes+partitionTiles*s.tileBytes
	}
	for _, s := range o.sources {
		s.share = o.keyHeads / s.heads
	}
	o.group = a.Q.NumHeads() / o.keyHeads
	shape.group, shape.keyHeads = o.group, o.keyHeads
	o.plan = c.byShape[shape]
	if o.plan == nil {
		o.plan = newAttentionPlan(shape, &c.limits, c.device.pool.size)
		c.byShape[shape] = o.plan
		c.plans = append(c.plans, o.plan)
	}
	n := &c.sizes
	n.attentionRows = max(n.attentionRows, o.plan.rows())
	n.keyCols, n.valueCols = max(n.keyCols, o.keyCols), max(n.valueCols, o.valueCols)
	n.gatheredTiles, n.gatheredBytes = max(n.gatheredTiles, tiles), max(n.gatheredBytes, bytes)
	c.partialCount = max(c.partialCount, o.plan.slots*a.Q.NumHeads()*o.partialCols())
	c.phases = append(c.phases, o, attentionMerge{o})
}

// source compiles a source of attention.
func (c *compiler) source(a *hardware.Source) *source {
	s := &source{reach: maxPositions}
	if a.Ring.Valid() {
		s.ring, s.recent, s.reach = c.rings[a.Ring.Index()], c.view(a.Recent), c.program.RingInfo(a.Ring).Reach
		s.key = &stream{format: quant.F32, heads: 1, dim: a.Recent.Size(), slots: blockLen}
		s.key.info.Ratio, s.key.tileBytes = 1, 4*blockLen*roundUp(s.key.dim, panelCols)
		s.value = s.key
	} else {
		s.key, s.value = c.streams[a.K.Index()], c.streams[a.V.Index()]
	}
	s.heads, s.keyFormat, s.valueFormat, s.keyPanels, s.ratio = s.key.heads, s.key.format, s.value.format, s.key.isKeys, s.key.info.Ratio
	if a.Window > 0 {
		s.reach = a.Window - 1
	}
	if a.Selection.Valid() {
		s.chosen = c.selected(a.Selection)
	}
	s.keyBytes = s.key.gatheredBytes()
	s.tileBytes = s.keyBytes
	if s.value != s.key {
		s.tileBytes += s.value.gatheredBytes()
	}
	return s
}
