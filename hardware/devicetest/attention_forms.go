package devicetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// attentionForm is a way to attend beyond one pair of keys and values over all positions. Its program stores what comes
// from the embedding, so that device and reference round the same numbers to the cache's format, and attends at once.
type attentionForm struct {
	name    string
	formats int   // of the cache that are tried: 1: float32; 2: Q8_0 too; 3: those of floats; 4: all
	whole   bool  // its selections hold all visible entries: an exact device gives the same bits without them
	lengths []int // of the sequences that are fed; nil: short ones
	record  func(b *formBuilder) hardware.Tensor
}

// formBuilder records a form.
type formBuilder struct {
	*builder
	x     hardware.Tensor // [tokens, formCols], the embedding
	next  int             // columns of it that are in use
	dense bool            // selections are made and not used
	after []func()        // recorded behind attention: rings are written
}

const formCols = 2400

// rows returns the next columns of the embedding as heads.
func (b *formBuilder) rows(heads, dim int) hardware.Tensor {
	b.next += heads * dim
	if b.next > formCols {
		panic("devicetest: a form of attention needs more columns")
	}
	return b.x.Cols(b.next-heads*dim, heads*dim).Heads(heads)
}

// stored returns a stream that holds a row of each position.
func (b *formBuilder) stored(class hardware.StreamClass, heads, dim int) hardware.Stream {
	s := b.Stream(hardware.StreamInfo{Name: "rows", Heads: heads, Dim: dim, Class: class})
	b.Store(s, b.rows(heads, dim))
	return s
}

// latents is a source of latents.
func (b *formBuilder) latents(dim, valueDim int) hardware.Source {
	s := b.stored(hardware.LatentStream, 1, dim)
	return hardware.Source{K: s, V: s, ValueDim: valueDim}
}

// pairs is a source of keys and values.
func (b *formBuilder) pairs(heads, keyDim, valueDim int) hardware.Source {
	return hardware.Source{K: b.stored(hardware.KeyStream, heads, keyDim), V: b.stored(hardware.ValueStream, heads, valueDim)}
}

// attend attends with query heads that are the next columns.
func (b *formBuilder) attend(heads, dim int, sinks bool, sources ...hardware.Source) hardware.Tensor {
	a := hardware.AttentionArgs{Q: b.rows(heads, dim), Sources: sources, Scale: 0.2}
	if sinks {
		a.Sinks = b.vector("sinks", heads)
	}
	o := b.Attend(a)
	for _, remember := range b.after {
		remember()
	}
	return o
}

// ring returns rows with a ring that holds those before the step, and of which snapshots keep some.
func (b *formBuilder) ring(cols, reach, keep int) (hardware.Tensor, hardware.Ring) {
	x, ring := b.rows(1, cols), b.Ring(hardware.RingInfo{Name: "rows", Dim: cols, Reach: reach, Keep: keep})
	b.after = append(b.after, func() { b.Remember(ring, x) })
	return x, ring
}

// window is a source of the latest rows.
func (b *formBuilder) window(dim, valueDim, positions int) hardware.Source {
	x, ring := b.ring(dim, positions-1, 0)
	return hardware.Source{Recent: x, Ring: ring, ValueDim: valueDim}
}

// compressed returns a stream with an entry for several positions.
func (b *formBuilder) compressed(class hardware.StreamClass, dim, ratio int, overlap bool) hardware.Stream {
	s := b.Stream(hardware.StreamInfo{Name: "entries", Heads: 1, Dim: dim, Class: class, Ratio: ratio})
	width, reach, keep := dim, ratio-1, 1 // a ring keeps a row at least, needed or not
	if ratio > hardware.BlockLen {
		keep = ratio - hardware.BlockLen
	}
	if overlap {
		width, reach, keep = 2*dim, 2*ratio-1, ratio
	}
	x, ring := b.ring(2*width, reach, keep)
	b.Compress(hardware.CompressArgs{
		X: x, Ring: ring, Ape: b.table(ratio, width), Weight: b.vector("norm", dim), Eps: 1e-5, Overlap: overlap, Dst: s,
		Rope: b.Rope(hardware.RopeInfo{Frequencies: frequencies(dim/4, 10000), Pairing: hardware.Interleaved}),
	})
	return s
}

// entries is a source of compressed latents.
func (b *formBuilder) entries(dim, ratio int, overlap bool) hardware.Source {
	s := b.compressed(hardware.LatentStream, dim, ratio, overlap)
	return hardware.Source{K: s, V: s}
}

// indexed chooses entries by weighted products of index heads.
func (b *formBuilder) indexed(heads, dim, topK int) hardware.Selection {
	return b.indexedBy(b.stored(hardware.IndexStream, 1, dim), heads, topK)
}

func (b *formBuilder) indexedBy(index hardware.Stream, heads, topK int) hardware.Selection {
	return b.Select(hardware.SelectArgs{
		Q: b.rows(heads, b.StreamInfo(index).Dim), Weights: b.rows(1, heads), Index: index, Scale: 0.5, TopK: topK,
	})
}

// units chooses units of entries.
func (b *formBuilder) units(heads, dim, unit, local, topK int) hardware.Selection {
	return b.Select(hardware.SelectArgs{
		Q: b.rows(heads, dim), Index: b.stored(hardware.IndexStream, 1, dim), Reduce: hardware.MaxOfUnit, Unit: unit, Local: local, TopK: topK,
	})
}

// choosing restricts a source to a selection.
func (b *formBuilder) choosing(s hardware.Source, chosen hardware.Selection) hardware.Source {
	if !b.dense {
		s.Selection = chosen
	}
	return s
}

// attentionForms are the forms that models have, and their neighbours.
func attentionForms() []attentionForm {
	return []attentionForm{
		{name: "latents", formats: 4, lengths: []int{530, 40}, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(16, 96, false, b.latents(96, 64))
		}},
		{name: "latents of many heads", formats: 1, lengths: []int{70, 9}, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(51, 32, false, b.latents(32, 32))
		}},
		{name: "latents of odd sizes", formats: 3, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(5, 41, true, b.latents(41, 23))
		}},
		{name: "sinks", formats: 1, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(6, 32, true, b.pairs(3, 32, 64))
		}},
		{name: "two sources", formats: 1, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(12, 32, true, b.latents(32, 32), b.pairs(2, 32, 32))
		}},
		{name: "the best entries", formats: 4, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(16, 64, false, b.choosing(b.latents(64, 32), b.indexed(8, 32, 40)))
		}},
		{name: "the best entries of many", formats: 1, lengths: []int{620}, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(4, 32, false, b.choosing(b.pairs(2, 32, 32), b.indexed(3, 32, 530)))
		}},
		{name: "the best units", formats: 2, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(8, 32, false, b.choosing(b.pairs(4, 32, 32), b.units(2, 32, 24, 1, 3)))
		}},
		{name: "the best blocks", formats: 1, lengths: []int{580, 30}, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(8, 32, true, b.choosing(b.pairs(4, 32, 32), b.units(4, 32, 128, 2, 3)))
		}},
		{name: "a window", formats: 1, lengths: []int{200, 30}, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(6, 41, true, b.window(41, 23, 70))
		}},
		{name: "a window of stored latents", formats: 4, lengths: []int{700, 30}, record: func(b *formBuilder) hardware.Tensor {
			s := b.latents(64, 32)
			s.Window = 70
			return b.attend(8, 64, true, s)
		}},
		{name: "windows of stored keys", formats: 1, lengths: []int{300, 30}, record: func(b *formBuilder) hardware.Tensor {
			one, two := b.pairs(2, 32, 32), b.latents(32, 32)
			one.Window, two.Window = 1, 500
			return b.attend(6, 32, false, one, two)
		}},
		{name: "a window wider than all", formats: 1, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(6, 32, false, b.window(32, 32, 500))
		}},
		{name: "a window and entries of 128", formats: 2, lengths: []int{400, 30}, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(8, 64, true, b.window(64, 64, 40), b.entries(64, 128, false))
		}},
		{name: "a window and the best entries of 4", formats: 4, lengths: []int{330, 30}, record: func(b *formBuilder) hardware.Tensor {
			index := b.compressed(hardware.IndexStream, 32, 4, true)
			return b.attend(52, 32, true, b.window(32, 32, 20), b.choosing(b.entries(32, 4, true), b.indexedBy(index, 8, 20)))
		}},
		{name: "entries of 2 alone", formats: 1, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(3, 40, false, b.entries(40, 2, false))
		}},
		{name: "all entries of 4 chosen", formats: 2, whole: true, lengths: []int{300}, record: func(b *formBuilder) hardware.Tensor {
			index := b.compressed(hardware.IndexStream, 32, 4, true)
			return b.attend(8, 32, true, b.choosing(b.entries(32, 4, true), b.indexedBy(index, 8, 500)))
		}},
		{name: "all entries chosen", formats: 2, whole: true, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(16, 64, false, b.choosing(b.latents(64, 32), b.indexed(8, 32, 5000)))
		}},
		{name: "all units chosen", formats: 2, whole: true, record: func(b *formBuilder) hardware.Tensor {
			return b.attend(8, 32, false, b.choosing(b.pairs(4, 32, 32), b.units(2, 32, 24, 1, 300)))
		}},
	}
}

// model records a form as a model whose logits are the rows of attention.
func (f *attentionForm) model(dense bool) *model {
	b := &formBuilder{builder: newBuilder("form", 11), dense: dense}
	m := &model{Program: b.Program, vocab: opVocab, trunk: b.Section("trunk")}
	b.x = b.Embed(b.table(opVocab, formCols))
	m.logits = b.show("o", f.record(b))
	return m
}

// testAttentionForms compares each form with the reference, and an exact device with itself.
func testAttentionForms(t *testing.T, d hardware.Device, c *Config) {
	for _, f := range attentionForms() {
		formats := []*quant.Format{quant.F32, quant.Q8_0, quant.F16, quant.BF16}
		switch {
		case c.brief():
			formats = formats[:1]
		case f.formats == 3:
			formats = []*quant.Format{quant.F32, quant.F16, quant.BF16}
		default:
			formats = formats[:f.formats]
		}
		for _, kv := range formats {
			t.Run(fmt.Sprintf("%s/%s", f.name, kv.Name), func(t *testing.T) {
				f.test(t, d, c, kv)
			})
		}
	}
}

func (f *attentionForm) test(t *testing.T, d hardware.Device, c *Config, kv *quant.Format) {
	m := f.model(false)
	if err := m.Err(); err != nil {
		t.Fatal(err)
	}
	if !claims(d, m.Program) || !contains(d.Info().StreamFormats, kv) {
		t.Skip("not claimed")
	}
	rng := rand.New(rand.NewPCG(21, 22))
	lengths := f.lengths
	switch {
	case lengths == nil || kv != quant.F32: // what takes long sequences to see depends on no format
		lengths = []int{100, 30, 3}
	case c.brief():
		lengths = []int{90}
	}
	sequences := randomSequences(rng, m.vocab, lengths...)
	l := modelLimits(kv, 150, sequences)
	l.MaxDraft = 9
	if len(sequences) > 1 && !c.Allocates {
		wantNoAllocations(t, newPlayer(t, d, m, l, sequences))
	}
	got := f.compare(t, d, c, m, l, sequences)
	if !d.Info().Exact {
		return
	}
	for _, v := range c.Variants {
		other := newPlayer(t, opened(t, v.Open), m, l, sequences)
		other.play(mixed(sequences, l.Tokens, rng))
		for s := range sequences {
			if diff := diffPlayers(other, got, s); diff != "" {
				t.Errorf("mixed, on the %s device: %s", v.Name, diff)
			}
		}
	}
	testTakenBack(t, d, m, l, sequences)
	if m.Stateful() && len(sequences) > 1 && kv == quant.F32 && !c.brief() {
		testSnapshots(t, d, c, m, l, sequences)
	}
	if f.whole {
		want := newPlayer(t, d, f.model(true), l, sequences)
		want.play(mixed(sequences, l.Tokens, rng))
		for s := range sequences {
			if diff := diffLogits(got, want, s); diff != "" {
				t.Errorf("beside the dense form: %s", diff)
			}
		}
	}
}

// compare feeds all sequences in spans of random length to the device and the reference.
func (f *attentionForm) compare(t *testing.T, d hardware.Device, c *Config, m *model, l hardware.Limits, sequences [][]int32) *player {
	t.Helper()
	rng := rand.New(rand.NewPCG(23, 24))
	p := newPlayer(t, d, m, l, sequences)
	total := p.playBeside(NewReference(m.Program, l), mixed(sequences, l.Tokens, rng))
	total.check(t, f.name, 3*c.floatBound())
	return p
}
