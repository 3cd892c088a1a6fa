package sample

import (
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/engine/api"
)

// BenchmarkNext/<chain>/<shape of the logits>: a vocabulary of 151,936, as Qwen's. "sure" is as models are of a word, with
// a few probable tokens above thousands of others, in "broad" the others have half of the probability, and "flat" is the
// worst case.
func BenchmarkNext(b *testing.B) {
	for _, chain := range []struct {
		name   string
		params api.Sampling
	}{
		{"greedy", api.Sampling{}},
		{"temperature", api.Sampling{Temperature: 1}},
		{"hot", api.Sampling{Temperature: 1.3}},
		{"top-k", api.Sampling{Temperature: 1, TopK: 40}},
		{"top-p", api.Sampling{Temperature: 1, TopP: 0.95}},
		{"min-p", api.Sampling{Temperature: 1, MinP: 0.05}},
		{"typical-p", api.Sampling{Temperature: 1, TypicalP: 0.95}},
		{"all", api.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, RepeatPenalty: 1.1}},
	} {
		for _, shape := range benchShapes {
			b.Run(chain.name+"/"+shape.name, func(b *testing.B) {
				run := newBenchRow(shape)
				s, tokens := newSampler(b, chain.params, benchVocab), make([]int32, 1000)
				for i := range tokens {
					tokens[i] = int32(i * 151)
				}
				for b.Loop() {
					if _, err := s.Next(run.row(), tokens[:len(tokens)-1]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkLogprobs(b *testing.B) {
	for _, shape := range benchShapes {
		b.Run(shape.name, func(b *testing.B) {
			run := newBenchRow(shape)
			for b.Loop() {
				var p api.Logprob
				if err := run.row().Top(20, &p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const benchVocab = 151_936

type benchShape struct {
	name      string
	deviation float64 // of the logits
	sure      float32 // added to the logits of ten tokens
}

var benchShapes = []benchShape{{"sure", 2, 18}, {"broad", 3.5, 0}, {"flat", 0.1, 0}}

// benchRow is a row that is as it was before each draw.
type benchRow struct {
	scratch       *Scratch
	logits, parts []float32
	all           []float32 // parts as they came
}

func newBenchRow(shape benchShape) *benchRow {
	rng := rand.New(rand.NewPCG(3, 3))
	r := &benchRow{scratch: NewScratch(benchVocab, 64), logits: make([]float32, benchVocab)}
	for i := range r.logits {
		r.logits[i] = float32(rng.NormFloat64() * shape.deviation)
	}
	for i := range 10 {
		r.logits[rng.IntN(benchVocab)] += shape.sure - float32(i)/3
	}
	r.parts = partsOf(r.logits, 64)
	r.all = slices.Clone(r.parts)
	return r
}

// row undoes the changes of the last draw. It copies the parts alone: a row of logits takes longer to copy than to draw
// from.
func (r *benchRow) row() *Row {
	for _, c := range slices.Backward(r.scratch.row.changes) {
		r.logits[c.id] = c.was
	}
	copy(r.parts, r.all)
	return r.scratch.Row(r.logits, r.parts)
}
