package model

import (
	"math"
	"slices"
	"strings"
	"testing"

	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/devicetest"
	"hearth/hardware/quant"
)

// predictBatch is rows of one sequence at a position.
func predictBatch(l hardware.Limits, start int, tokens []int32, inputs []int32) *hardware.Batch {
	b := hardware.NewBatch(l)
	b.Tokens = append(b.Tokens, tokens...)
	b.Inputs = append(b.Inputs, inputs...)
	b.Spans = append(b.Spans, hardware.Span{Len: int32(len(tokens)), Start: int32(start)})
	for i := range l.Blocks {
		b.Tables = append(b.Tables, int32(i))
	}
	for i := range tokens {
		b.Outputs = append(b.Outputs, int32(i))
	}
	return b
}

func predictTokens(n int) ([]int32, []int32) {
	tokens, rows := make([]int32, n), make([]int32, n)
	for i := range tokens {
		tokens[i], rows[i] = int32((7+i*i*13)%512), int32(i)
	}
	return tokens, rows
}

// TestPredictorFormula makes a model of which every layer adds nothing, and whose predictor takes the embedding alone: what
// it predicts of a hidden row and the token behind it is what the trunk predicts of that token. Fed the hidden row alone,
// it predicts what the trunk does of the row itself.
func TestPredictorFormula(t *testing.T) {
	const n, hidden = 20, 128
	for _, half := range []string{"embedding", "hidden"} {
		o := newOverlay(t, "qwen35-mtp")
		for _, name := range o.Names() {
			info, err := o.Source.Describe(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, "attn_output.weight") || strings.HasSuffix(name, "ssm_out.weight") || strings.HasSuffix(name, "ffn_down.weight") {
				o.set(name, make([]float32, info.Shape[0]*info.Shape[1]), info.Shape...)
			}
		}
		if half == "embedding" {
			o.project(hidden, 1, 0)
		} else {
			o.project(hidden, 0, 1)
		}
		ones := make([]float32, hidden)
		for i := range ones {
			ones[i] = 1
		}
		for _, name := range []string{"output_norm.weight", "blk.4.nextn.enorm.weight", "blk.4.nextn.hnorm.weight", "blk.4.nextn.shared_head_norm.weight"} {
			o.set(name, ones, hidden)
		}
		trunk, guessed := guesses(t, o, n)
		want := trunk[1:]
		if half == "hidden" {
			want = trunk[:n-1]
		}
		if d := distance(guessed, want); d > 1e-9 { // eps is added twice
			t.Errorf("%s alone: a squared error of %.3g", half, d)
		}
	}
}

// predictingDeepSeek4 is the reference model of DeepSeek-V4 whose last layer predicts further tokens instead, from the sum of
// the embedding and the streams, which it collapses as the trunk does.
func predictingDeepSeek4(t *testing.T) *overlay {
	t.Helper()
	o := newOverlay(t, "deepseek4")
	o.md.Set("deepseek4.nextn_predict_layers", uint32(1))
	for _, part := range []string{"fn", "base", "scale"} {
		tensor, err := o.Tensor("output_hc_" + part + ".weight")
		if err != nil {
			t.Fatal(err)
		}
		o.tensors["blk.4.nextn.hc_head_"+part+".weight"] = &tensor
	}
	hidden, _ := o.md.Uint("deepseek4.embedding_length")
	o.project(int(hidden), 0.5, 0.5)
	ones := slices.Repeat([]float32{1}, int(hidden))
	for _, norm := range []string{"output_norm", "blk.4.nextn.enorm", "blk.4.nextn.hnorm", "blk.4.nextn.shared_head_norm"} {
		o.set(norm+".weight", ones, int(hidden))
	}
	return o
}

// project has the predicting block take a sum of the embedding and the hidden row.
func (o *overlay) project(width int, embedding, hidden float32) {
	projection := make([]float32, width*2*width)
	for i := range width {
		projection[i*2*width+i], projection[i*2*width+width+i] = embedding, hidden
	}
	o.set("blk.4.nextn.eh_proj.weight", projection, width, 2*width)
}

// guesses runs a prompt and predicts of each of its rows but the last; both as the specification has them.
func guesses(t *testing.T, src weights.Source, n int) (trunk, guessed [][]float64) {
	t.Helper()
	m, err := LoadDrafting(src)
	if err != nil {
		t.Fatal(err)
	}
	limits := hardware.Limits{Tokens: n, Spans: 1, Outputs: n, Blocks: 1, MaxLen: 64, KV: quant.F32, Slots: 1}
	tokens, rows := predictTokens(n)
	reference := devicetest.NewReference(m.Program, limits)
	reference.Run(m.Trunk, predictBatch(limits, 0, tokens, nil))
	for i := range n {
		trunk = append(trunk, reference.Output(m.Logits, i))
	}
	reference.Run(m.Draft, predictBatch(limits, 0, tokens[1:], rows[:n-1]))
	for i := range n - 1 {
		guessed = append(guessed, reference.Output(m.Guess.Logits, i))
	}
	return trunk, guessed
}

// TestStreamPredictorFormula is TestPredictorFormula for several streams. Of the embedding alone the predictor makes what a
// trunk of layers that add nothing does. Of the streams alone, each kept to itself, it makes what the trunk does, whichever
// of them both read in the end.
func TestStreamPredictorFormula(t *testing.T) {
	const n, numStreams = 20, 4
	silence := func(o *overlay, prefix string) {
		for _, name := range o.Names() {
			info, err := o.Source.Describe(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, prefix) && (strings.Contains(name, "attn_output_b.") || strings.Contains(name, "ffn_down_")) {
				o.set(name, make([]float32, info.Elements()), info.Shape...)
			}
		}
	}
	o := predictingDeepSeek4(t)
	silence(o, "blk.")
	hidden, _ := o.md.Uint("deepseek4.embedding_length")
	o.project(int(hidden), 1, 0)
	trunk, guessed := guesses(t, o, n)
	if d := distance(guessed, trunk[1:]); !(d < 1e-9) {
		t.Errorf("the embedding alone: a squared error of %.3g", d)
	}
	for stream := range numStreams {
		o := predictingDeepSeek4(t)
		silence(o, "blk.4.")
		o.project(int(hidden), 0, 1)
		apart := make([]float32, numStreams*(numStreams+2))
		for i := range numStreams {
			apart[2*numStreams+i*(numStreams+1)] = 40
		}
		for _, half := range []string{"attn", "ffn"} {
			o.set("blk.4.hc_"+half+"_scale.weight", make([]float32, 3), 3)
			o.set("blk.4.hc_"+half+"_base.weight", apart, len(apart))
		}
		one := slices.Repeat([]float32{-40}, numStreams)
		one[stream] = 40
		for _, head := range []string{"output_hc", "blk.4.nextn.hc_head"} {
			o.set(head+"_scale.weight", make([]float32, 1), 1)
			o.set(head+"_base.weight", one, numStreams)
		}
		trunk, guessed := guesses(t, o, n)
		if d := distance(guessed, trunk[:n-1]); !(d < 1e-9) {
			t.Errorf("stream %d alone: a squared error of %.3g", stream, d)
		}
	}
}

// TestPredictorOnTheCPU compares the predictor with the specification of its operations: for a prompt in two steps, for
// rows that were chosen among those of a step, and for two guesses from guesses.
func TestPredictorOnTheCPU(t *testing.T) {
	for name, src := range map[string]weights.Source{"qwen35-mtp": openGolden(t, "qwen35-mtp"), "deepseek4": predictingDeepSeek4(t)} {
		t.Run(name, func(t *testing.T) { comparePredictor(t, src) })
	}
}

func comparePredictor(t *testing.T, src weights.Source) {
	m, err := LoadDrafting(src)
	if err != nil {
		t.Fatal(err)
	}
	device, err := cpu.Open(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	limits := hardware.Limits{Tokens: 80, Spans: 1, Outputs: 80, Blocks: 2, MaxLen: 128, KV: quant.F32, Slots: 1, MaxDraft: 2}
	queue, err := device.Load(t.Context(), m.Program, limits)
	if err != nil {
		t.Fatal(err)
	}
	defer queue.Close()
	reference := devicetest.NewReference(m.Program, limits)
	tokens, rows := predictTokens(100)
	for _, step := range []struct {
		section hardware.Section
		start   int
		tokens  []int32
		inputs  []int32
	}{
		{m.Trunk, 0, tokens[:70], nil}, {m.Draft, 0, tokens[1:71], rows[:70]},
		{m.Trunk, 70, tokens[70:75], nil}, {m.Draft, 70, tokens[71:74], rows[:3]}, // the last two were wrong guesses
		{m.Draft, 73, []int32{5}, []int32{2}}, {m.Draft, 74, []int32{9}, []int32{0}}, // from the guesses before
		{m.Trunk, 73, tokens[73:76], nil}, {m.Draft, 73, tokens[74:77], rows[:3]},
	} {
		b := predictBatch(limits, step.start, step.tokens, step.inputs)
		b.Spans[0].Draft = int32(min(limits.MaxDraft, len(step.tokens)-1))
		queue.Run(step.section, b)
		if err := queue.Sync(); err != nil {
			t.Fatal(err)
		}
		reference.Run(step.section, b)
		output := m.Logits
		if step.section == m.Draft {
			output = m.Guess.Logits
		}
		var got, want [][]float64
		for i := range step.tokens {
			var row []float64
			for _, l := range queue.Output(output, i) {
				row = append(row, float64(l))
			}
			got, want = append(got, row), append(want, reference.Output(output, i))
		}
		if d := distance(got, want); !(d < 1e-10) || math.IsNaN(d) {
			t.Errorf("section %d at %d: a squared error of %.3g", step.section, step.start, d)
		}
	}
}
