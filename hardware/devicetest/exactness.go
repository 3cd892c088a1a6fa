package devicetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// modelLimits fit the given sequences, each with blocks of its own.
func modelLimits(kv *quant.Format, maxRows int, sequences [][]int32) hardware.Limits {
	l := hardware.Limits{Tokens: maxRows, Spans: len(sequences), Outputs: maxRows, KV: kv, Slots: len(sequences), Snapshots: 2}
	for _, tokens := range sequences {
		l.Blocks += blocksOf(len(tokens))
		l.MaxLen = max(l.MaxLen, len(tokens))
	}
	return l
}

// testModels compares whole models in float32 with the reference: what single operations do not show is how results
// flow from one to the next.
func testModels(t *testing.T, d hardware.Device, c *Config) {
	for _, spec := range []modelSpec{{tied: true}, {moe: true}, {delta: true}, {forms: true}} {
		t.Run(spec.String(), func(t *testing.T) {
			if c.Plain && spec.forms {
				t.Skip("not claimed")
			}
			spec.weights = quant.F32
			m := newModel(spec)
			if !claims(d, m.Program) || !contains(d.Info().StreamFormats, quant.F32) {
				t.Skip("not claimed")
			}
			rng := rand.New(rand.NewPCG(1, 2))
			sequences := randomSequences(rng, m.vocab, 90, 33)
			l := modelLimits(quant.F32, 40, sequences)
			total := newPlayer(t, d, m, l, sequences).playBeside(NewReference(m.Program, l), mixed(sequences, l.Tokens, rng))
			total.check(t, "logits", 10*c.floatBound())
		})
	}
}

// testExactness feeds sequences alone and one row at a time, then together with others in spans of random length, on
// this device and on its variants: logits and blocks are the same bytes.
func testExactness(t *testing.T, d hardware.Device, c *Config) {
	variants := []hardware.Device{d}
	names := []string{"same"}
	for _, v := range c.Variants {
		variants, names = append(variants, opened(t, v.Open)), append(names, v.Name)
	}
	check := func(spec modelSpec, kv *quant.Format, lengths ...int) {
		t.Run(fmt.Sprintf("%s/%s/kv=%s", spec.weights.Name, spec, kv.Name), func(t *testing.T) {
			m := newModel(spec)
			if !claims(d, m.Program) || !contains(d.Info().StreamFormats, kv) {
				t.Skip("not claimed")
			}
			rng := rand.New(rand.NewPCG(3, 4))
			sequences := randomSequences(rng, m.vocab, lengths...)
			l := modelLimits(kv, 100, sequences)
			want := newPlayer(t, d, m, l, sequences)
			want.play(oneByOne(sequences))
			for i, v := range variants {
				got := newPlayer(t, v, m, l, sequences)
				got.play(mixed(sequences, l.Tokens, rng))
				for s := range sequences {
					if diff := diffPlayers(got, want, s); diff != "" {
						t.Errorf("mixed, on the %s device: %s", names[i], diff)
					}
				}
			}
		})
	}
	check(modelSpec{weights: quant.F32, tied: true}, quant.F16, 1, 5, 70)
	check(modelSpec{weights: quant.Q8_0, moe: true}, quant.F32, 3, 66, 20)
	check(modelSpec{weights: quant.F32, delta: true}, quant.F32, 1, 270, 70)
	if !c.Plain {
		check(modelSpec{weights: quant.Q8_0, forms: true}, quant.F32, 3, 66, 20)
		check(modelSpec{weights: quant.F32, forms: true}, quant.F16, 9, 40)
	}
	if c.brief() {
		return
	}
	check(modelSpec{weights: quant.F32}, quant.F32, 580, 9) // more than one partition of attention
	check(modelSpec{weights: quant.F16}, quant.BF16, 17, 90)
	check(modelSpec{weights: quant.Q4_0}, quant.Q8_0, 17, 90)
	check(modelSpec{weights: quant.Q4_K, tied: true}, quant.F16, 17, 70)
	check(modelSpec{weights: quant.Q6_K, moe: true}, quant.F32, 5, 40)
	check(modelSpec{weights: quant.Q5_1}, quant.F32, 5, 40)
	check(modelSpec{weights: quant.MXFP4, moe: true}, quant.F32, 5, 40)
	check(modelSpec{weights: quant.IQ4_XS}, quant.F32, 5, 40)
	check(modelSpec{weights: quant.Q3_K}, quant.F32, 5, 40)
}

// testPersistence moves blocks through memory into other ids of another queue, and forks one that is partly filled.
func testPersistence(t *testing.T, d hardware.Device) {
	for _, kv := range d.Info().StreamFormats {
		t.Run(kv.Name, func(t *testing.T) {
			m := newModel(modelSpec{weights: quant.F32})
			rng := rand.New(rand.NewPCG(5, 6))
			sequences := randomSequences(rng, m.vocab, 150)
			l := modelLimits(kv, 64, sequences)
			l.Blocks++ // one for the fork
			want, got := newPlayer(t, d, m, l, sequences), newPlayer(t, d, m, l, sequences)
			want.play(script{{{0, 64, -1, 0}}, {{0, 64, -1, 0}}, {{0, 12, -1, 0}}})
			for i, b := range want.bytes(0) {
				got.queue.WriteBlock(int(got.tables[0][i]), b)
			}
			// The third block is copied to a free id, and the first copy is filled with something else.
			old := got.tables[0][2]
			free := unused(got.tables[0], l.Blocks)
			got.queue.CopyBlock(int(free), int(old))
			got.queue.WriteBlock(int(old), make([]byte, got.memory.Block))
			got.tables[0][2] = free
			got.lengths[0] = 140
			for _, p := range []*player{want, got} {
				p.play(script{{{0, 4, -1, 0}}, {{0, 6, -1, 0}}})
			}
			if diff := diffPlayers(got, want, 0); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// unused returns a block id that a table does not use.
func unused(table []int32, blocks int) int32 {
	for id := range int32(blocks) {
		if !contains(table, id) {
			return id
		}
	}
	panic("devicetest: no unused block")
}

// testRollback writes drafts that are taken back: positions are written again with other tokens.
func testRollback(t *testing.T, d hardware.Device) {
	m := newModel(modelSpec{weights: quant.F32})
	if !claims(d, m.Program) {
		t.Skip("not claimed")
	}
	rng := rand.New(rand.NewPCG(7, 8))
	sequences := randomSequences(rng, m.vocab, 140)
	l := modelLimits(d.Info().StreamFormats[0], 8, sequences)
	want, got := newPlayer(t, d, m, l, sequences), newPlayer(t, d, m, l, sequences)
	want.play(oneByOne(sequences))
	final := sequences[0]
	for at := 0; at < len(final); {
		n := min(1+rng.IntN(l.Tokens), len(final)-at)
		accepted := 1 + rng.IntN(n)
		drafted := append([]int32(nil), final...)
		for i := at + accepted; i < at+n; i++ {
			drafted[i] = int32(rng.IntN(m.vocab))
		}
		got.sequences[0] = drafted
		got.play(script{{{0, n, at, 0}}})
		at += accepted
	}
	got.sequences[0] = final
	if !d.Info().Exact {
		return
	}
	if diff := diffPlayers(got, want, 0); diff != "" {
		t.Error(diff)
	}
}

// testClaims checks that what a device does not claim is refused by name.
func testClaims(t *testing.T, d hardware.Device) {
	refused := func(name string, p *hardware.Program, kv *quant.Format, word string) {
		t.Run(name, func(t *testing.T) {
			if err := p.Err(); err != nil {
				t.Fatal(err)
			}
			_, err := d.Load(context.Background(), p, hardware.Limits{Tokens: 1, Spans: 1, Outputs: 1, Blocks: 1, MaxLen: 1, KV: kv})
			if !isUnsupported(err) || !strings.Contains(err.Error(), word) {
				t.Errorf("Load: %v, want ErrUnsupported naming %q", err, word)
			}
		})
	}
	unknown := &quant.Format{Name: "X9", ID: 1 << 30, BlockLen: 1, BlockBytes: 1}
	b := newBuilder("claims", 1)
	b.Section("trunk")
	b.show("y", b.MatMul(b.Embed(b.table(3, 4)), b.Weight(hardware.WeightInfo{Name: "strange", Format: unknown, Out: 2, In: 4, Data: make([]byte, 8)})))
	refused("weight format", b.Program, quant.F32, "strange")
	refused("cache format", newModel(modelSpec{weights: quant.F32}).Program, unknown, "X9")
	for _, f := range quant.All() {
		if contains(d.Info().Formats, f) {
			continue
		}
		b := newBuilder("claims", 1)
		b.Section("trunk")
		b.show("y", b.MatMul(b.Embed(b.table(3, f.BlockLen)), b.matrix("unclaimed", f, 2, f.BlockLen)))
		refused("weight format "+f.Name, b.Program, quant.F32, "unclaimed")
	}
}
