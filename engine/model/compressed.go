package model

import "hearth/hardware"

// compressedAttention is the attention of DeepSeek-V4: queries of several heads read one vector of a position that is key
// and value at once, of the latest positions, and of earlier ones compressed, several positions to an entry. An indexer
// chooses among entries of few positions; those of many are all read. Values carry rotated elements, so the result is
// rotated back by the query's position.
type compressedAttention struct {
	numHeads, headDim, rope int
	numGroups               int // of heads, for the first half of the output projection
	eps                     float32

	qA, qANorm, qB hardware.Weight // [qLora, hidden], [qLora], [numHeads * headDim, qLora]
	kv, kvNorm     hardware.Weight // [headDim, hidden], [headDim]
	sinks          hardware.Weight // [numHeads]
	oA             hardware.Weight // [numGroups, oLora, numHeads * headDim / numGroups]
	oB             hardware.Weight // [hidden, numGroups * oLora]
	table          hardware.Rope
	window         hardware.Ring   // [headDim], the latest positions
	stored         hardware.Stream // [headDim], in place of window: all positions, of which the latest are read
	positions      int             // of the window
	entries        *compressor     // of keys and values; nil: the latest positions alone
	index          *entryIndex     // chooses among the entries; nil: all
}

// compressedConfig holds the hyperparameters of compressed attention.
type compressedConfig struct {
	qLora, oLora, numGroups int
	window                  int // positions, the own included
	theta                   float64
	index                   indexConfig // read for layers that have an indexer
}

// compressedRopes are the rotations of layers without and with compressed entries.
type compressedRopes struct{ plain, stretched hardware.Rope }

// indexedRatio is the number of positions to an entry in layers with an indexer, whose entries overlap.
const indexedRatio = 4

func readCompressed(l *Loader) compressedConfig {
	k := l.keys
	c := compressedConfig{
		qLora:     k.count("attention.q_lora_rank", 0, maxWidth),
		oLora:     k.count("attention.output_lora_rank", 0, maxWidth),
		numGroups: k.count("attention.output_group_count", 0, l.Config.NumHeads),
		window:    k.count("attention.sliding_window", 0, MaxContext),
		theta:     k.positive("attention.compress_rope_freq_base", l.Config.Rope.Theta),
		index:     readIndexer(l),
	}
	switch {
	case k.err != nil:
	case c.theta <= 1:
		k.wrong("attention.compress_rope_freq_base", "is %v, want a number above 1", c.theta)
	case l.Config.NumHeads%c.numGroups != 0:
		k.wrong("attention.output_group_count", "is %d, which does not divide head_count %d", c.numGroups, l.Config.NumHeads)
	case c.window < 2:
		k.wrong("attention.sliding_window", "is %d, want at least 2", c.window)
	case c.oLora*c.numGroups > maxWidth:
		k.wrong("attention.output_lora_rank", "is %d, with %d groups too wide", c.oLora, c.numGroups)
	}
	return c
}

// newCompressedAttention declares the attention of one layer.
func newCompressedAttention(l *Loader, layer, ratio int, c compressedConfig, ropes compressedRopes) compressedAttention {
	heads, dim, hidden, prefix := l.Config.NumHeads, l.Config.HeadDim, l.Config.HiddenSize, blockPrefix(layer)
	b := compressedAttention{
		numHeads: heads, headDim: dim, rope: l.Config.Rope.Dim, numGroups: c.numGroups, eps: l.Config.RMSNormEps,
		qA:     l.Matrix(prefix+"attn_q_a", c.qLora, hidden),
		qANorm: l.Vector(prefix+"attn_q_a_norm.weight", c.qLora),
		qB:     l.Matrix(prefix+"attn_q_b", heads*dim, c.qLora),
		kv:     l.Matrix(prefix+"attn_kv", dim, hidden),
		kvNorm: l.Vector(prefix+"attn_kv_a_norm.weight", dim),
		sinks:  l.Vector(prefix+"attn_sinks.weight", heads),
		oA:     l.Stack(prefix+"attn_output_a", c.numGroups, c.oLora, heads*dim/c.numGroups),
		oB:     l.Matrix(prefix+"attn_output_b", hidden, c.numGroups*c.oLora),
		table:  ropes.plain, positions: c.window,
	}
	if layer < l.Config.NumLayers {
		b.window = l.program.Ring(hardware.RingInfo{Name: prefix + "window", Layer: layer, Dim: dim, Reach: c.window - 1})
	} else { // a predicting block runs for some positions and not for others, which a ring could not go on from
		b.stored = l.program.Stream(hardware.StreamInfo{Name: prefix + "window", Layer: layer, Heads: 1, Dim: dim, Class: hardware.LatentStream})
	}
	if ratio == 0 {
		return b
	}
	b.table = ropes.stretched
	entries := newCompressor(l, layer, ratio, compressorOptions{Name: "attn_compressor", Dim: dim, Class: hardware.LatentStream, Rope: b.table})
	b.entries = &entries
	if ratio == indexedRatio {
		index := newEntryIndex(l, layer, c, b.table)
		b.index = &index
	}
	return b
}

// mixed records attention(h), [tokens, hidden].
func (b *compressedAttention) mixed(p *hardware.Program, h hardware.Tensor) hardware.Tensor {
	low := p.Norm(p.MatMul(h, b.qA), b.qANorm, b.eps)
	q := p.MatMul(low, b.qB).Heads(b.numHeads)
	p.Normalize(hardware.NormArgs{X: q, Dst: q, Eps: b.eps})
	kv := p.Norm(p.MatMul(h, b.kv), b.kvNorm, b.eps)
	rotateLast(p, q, b.rope, b.table)
	rotateLast(p, kv, b.rope, b.table)
	sources := []hardware.Source{b.latest(p, kv)}
	if b.entries != nil {
		b.entries.add(p, h)
		source := hardware.Source{K: b.entries.stream, V: b.entries.stream}
		if b.index != nil {
			source.Selection = b.index.choose(p, h, low)
		}
		sources = append(sources, source)
	}
	o := p.Attend(hardware.AttentionArgs{Q: q, Sources: sources, Scale: attentionScale(b.headDim), Sinks: b.sinks})
	if b.window.Valid() {
		p.Remember(b.window, kv)
	}
	p.RoPEInverse(o.HeadCols(b.headDim-b.rope, b.rope), b.table)
	return p.MatMul(p.MatMul(o.Heads(b.numGroups), b.oA), b.oB)
}

// latest returns the latest positions as a source of attention; kv are the step's own.
func (b *compressedAttention) latest(p *hardware.Program, kv hardware.Tensor) hardware.Source {
	if b.window.Valid() {
		return hardware.Source{Recent: kv, Ring: b.window}
	}
	p.Store(b.stored, kv)
	return hardware.Source{K: b.stored, V: b.stored, Window: b.positions}
}

// rotateLast records the rotation of the last elements of each head of x, in place.
func rotateLast(p *hardware.Program, x hardware.Tensor, rope int, table hardware.Rope) {
	last := x.HeadCols(x.Dim()-rope, rope)
	p.RoPEInto(last, last, table)
}

// compressor makes one entry of a stream from several positions, by softmax over learned gates.
type compressor struct {
	eps      float32
	width    int             // of values and of gates
	kv, gate hardware.Weight // [width, hidden]
	ape      hardware.Weight // [ratio, width], added to the gates by place in the entry
	norm     hardware.Weight // [dim]
	overlap  bool            // entries mix the positions of the entry before too, and have two halves of width
	table    hardware.Rope
	ring     hardware.Ring   // [values | gates] of the positions of an entry that is not complete
	stream   hardware.Stream // [dim] per entry
}

// compressorOptions are what compressors differ in.
type compressorOptions struct {
	Name  string // of its tensors
	Dim   int    // of an entry
	Class hardware.StreamClass
	Rope  hardware.Rope
}

// newCompressor declares a compressor of one layer.
func newCompressor(l *Loader, layer, ratio int, opts compressorOptions) compressor {
	name := blockPrefix(layer) + opts.Name
	b := compressor{eps: l.Config.RMSNormEps, width: opts.Dim, overlap: ratio == indexedRatio, table: opts.Rope}
	// Going on from a multiple of the block length needs the rows of the entry that is not complete there, and those of the
	// entry before where entries overlap.
	reach, keep := ratio-1, max(0, ratio-hardware.BlockLen)
	if b.overlap {
		b.width, reach, keep = 2*opts.Dim, 2*ratio-1, keep+ratio
	}
	b.kv = l.Matrix(name+"_kv", b.width, l.Config.HiddenSize)
	b.gate = l.Matrix(name+"_gate", b.width, l.Config.HiddenSize)
	b.ape = l.Matrix(name+"_ape", ratio, b.width)
	b.norm = l.Vector(name+"_norm.weight", opts.Dim)
	b.ring = l.program.Ring(hardware.RingInfo{Name: name, Layer: layer, Dim: 2 * b.width, Reach: reach, Keep: keep})
	b.stream = l.program.Stream(hardware.StreamInfo{Name: name, Layer: layer, Heads: 1, Dim: opts.Dim, Class: opts.Class, Ratio: ratio})
	return b
}

// add records the entries that h completes.
func (b *compressor) add(p *hardware.Program, h hardware.Tensor) {
	x := p.Temp(hardware.Tokens, 1, 2*b.width) // values | gates
	p.MatMulInto(x.Cols(0, b.width), h, b.kv)
	p.MatMulInto(x.Cols(b.width, b.width), h, b.gate)
	p.Compress(hardware.CompressArgs{
		X: x, Ring: b.ring, Ape: b.ape, Weight: b.norm, Eps: b.eps, Rope: b.table, Overlap: b.overlap, Dst: b.stream,
	})
	p.Remember(b.ring, x)
}

// entryIndex scores compressed entries as indexer scores positions, with keys from a compressor of their own.
type entryIndex struct {
	indexConfig
	rope    int
	q       hardware.Weight // [numHeads * headDim, qLora]
	proj    hardware.Weight // [numHeads, hidden], weights of the heads
	table   hardware.Rope
	entries compressor
}

// newEntryIndex declares the indexer of one layer.
func newEntryIndex(l *Loader, layer int, c compressedConfig, table hardware.Rope) entryIndex {
	prefix := blockPrefix(layer)
	return entryIndex{
		indexConfig: c.index, rope: l.Config.Rope.Dim, table: table,
		q:    l.Matrix(prefix+"indexer.attn_q_b", c.index.numHeads*c.index.headDim, c.qLora),
		proj: l.Matrix(prefix+"indexer.proj", c.index.numHeads, l.Config.HiddenSize),
		entries: newCompressor(l, layer, indexedRatio, compressorOptions{
			Name: "indexer_compressor", Dim: c.index.headDim, Class: hardware.IndexStream, Rope: table,
		}),
	}
}

// choose records the choice of entries for h, low being the low-rank queries of attention.
func (b *entryIndex) choose(p *hardware.Program, h, low hardware.Tensor) hardware.Selection {
	q := p.MatMul(low, b.q).Heads(b.numHeads)
	rotateLast(p, q, b.rope, b.table)
	b.entries.add(p, h)
	return p.Select(hardware.SelectArgs{
		Q: q, Weights: p.MatMul(h, b.proj), Index: b.entries.stream, Reduce: hardware.WeightedReLU, Scale: b.scale(), TopK: b.topK,
	})
}
