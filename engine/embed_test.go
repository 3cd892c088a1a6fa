package engine

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"hearth/engine/api"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/devicetest"
	"hearth/hardware/quant"
)

const yesToken, noToken = 30, 40

// newPooledModel returns the reference model of Qwen3 with a pooling, for PoolRank with the rows of two tokens of its head
// as classes.
func newPooledModel(t testing.TB, pooling model.Pooling) weights.Source {
	src := tinyModel(t, "qwen3")
	md := src.Metadata().Clone()
	md.Set("qwen3.pooling_type", uint32(pooling))
	cls, err := src.Tensor("token_embd.weight")
	if err != nil {
		t.Fatal(err)
	}
	rowBytes := len(cls.Data) / cls.Shape[0]
	cls.Data = slices.Concat(cls.Data[yesToken*rowBytes:][:rowBytes], cls.Data[noToken*rowBytes:][:rowBytes])
	cls.Name, cls.Shape = "cls.output.weight", []int{2, cls.Shape[1]}
	return extended{keyed{src, md}, map[string]weights.Tensor{cls.Name: cls}}
}

// embedTexts returns texts of different lengths, some of which begin alike.
func embedTexts() [][]int32 {
	var texts [][]int32
	for _, r := range bitRequests(512, 300) {
		texts = append(texts, r.Prompt)
	}
	return texts
}

// TestEmbed compares with the specification, alone and in a batch beside generation, from the cache and preempted: the
// vectors are the same to the bit.
func TestEmbed(t *testing.T) {
	src := newPooledModel(t, model.PoolLast)
	texts := embedTexts()
	alone := startEngine(t, src, Options{Device: openOneThread(t), KV: quant.F32, MaxSequences: 1})
	want, err := alone.Embed(t.Context(), texts, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts[:4] {
		if d := squaredDistance(want[i].Vector, specifiedEmbedding(t, src, text)); d > 1e-10 {
			t.Errorf("text %d: differs from the specification by %.3g", i, d)
		}
		if want[i].Usage.PromptTokens != len(text) || want[i].Usage.GeneratedTokens != 0 {
			t.Errorf("text %d of %d tokens: %+v", i, len(text), want[i].Usage)
		}
	}
	busy := startEngine(t, src, Options{Device: openOneThread(t), KV: quant.F32, MaxSequences: 6, MaxBatchTokens: 40, ContextLength: 448, Blocks: 8})
	beside := submit(t, busy, api.Request{Prompt: texts[1], MaxTokens: 200, IgnoreEOS: true, Logprobs: -1})
	for _, round := range []string{"first", "cached"} {
		got, err := busy.Embed(t.Context(), texts, 0, "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range texts {
			if !slices.Equal(got[i].Vector, want[i].Vector) {
				t.Errorf("%s: text %d has another vector beside others", round, i)
			}
		}
	}
	if a := collect(t, beside); len(a.tokens) != 200 {
		t.Errorf("the sequence beside: %+v", a.done)
	}
	short, err := alone.Embed(t.Context(), texts[:1], 16, "")
	if err != nil {
		t.Fatal(err)
	}
	expected := slices.Clone(want[0].Vector[:16])
	if err := normalize(expected); err != nil || squaredDistance(short[0].Vector, expected) > 1e-12 {
		t.Errorf("16 dimensions: %v, want %v", short[0].Vector, expected)
	}
}

func squaredDistance(a, b []float32) float64 {
	sum := 0.0
	for i := range b {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return sum
}

// specifiedEmbedding is the embedding in double precision.
func specifiedEmbedding(t *testing.T, src weights.Source, text []int32) []float32 {
	t.Helper()
	m, err := model.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	limits := hardware.Limits{Tokens: len(text), Spans: 1, Outputs: 1, Blocks: blocksFor(len(text)), MaxLen: len(text), KV: quant.F32}
	batch := hardware.NewBatch(limits)
	batch.Tokens = append(batch.Tokens, text...)
	batch.Spans = append(batch.Spans, hardware.Span{Len: int32(len(text))})
	batch.Outputs = append(batch.Outputs, int32(len(text)-1))
	for i := range limits.Blocks {
		batch.Tables = append(batch.Tables, int32(i))
	}
	reference := devicetest.NewReference(m.Program, limits)
	reference.Run(m.Trunk, batch)
	var vector []float32
	for _, x := range reference.Output(m.Pooled, 0) {
		vector = append(vector, float32(x))
	}
	if err := normalize(vector); err != nil {
		t.Fatal(err)
	}
	return vector
}

// TestScore checks that two classes and the logits of two tokens give the same probability when the classes are the tokens'
// rows of the head.
func TestScore(t *testing.T) {
	texts := embedTexts()
	device := openOneThread(t)
	var got [2][]Score
	for i, pooling := range []model.Pooling{model.PoolNone, model.PoolRank} {
		e := startEngine(t, newPooledModel(t, pooling), Options{Device: device, KV: quant.F32, MaxSequences: 4})
		var err error
		if got[i], err = e.Score(t.Context(), texts, yesToken, noToken, ""); err != nil {
			t.Fatal(err)
		}
	}
	for i := range texts {
		a, b := got[0][i].Probability, got[1][i].Probability
		if !(a > 0 && a < 1) || math.Abs(float64(a-b)) > 1e-6 {
			t.Errorf("text %d: %v by tokens, %v by classes", i, a, b)
		}
	}
	e := startEngine(t, newPooledModel(t, model.PoolNone), Options{Device: device, KV: quant.F32})
	logits := collect(t, submit(t, e, api.Request{Prompt: texts[0], MaxTokens: api.NoTokens, LogitsOf: []int32{yesToken, noToken}, Logprobs: -1})).done.Values
	if want := 1 / (1 + math.Exp(float64(logits[1]-logits[0]))); math.Abs(want-float64(got[0][0].Probability)) > 1e-6 {
		t.Errorf("logits %v, probability %v", logits, got[0][0].Probability)
	}
}

func TestEmbedRefuses(t *testing.T) {
	device := openOneThread(t)
	plain := startEngine(t, newPooledModel(t, model.PoolNone), Options{Device: device})
	pooled := startEngine(t, newPooledModel(t, model.PoolLast), Options{Device: device, ContextLength: 128})
	for name, c := range map[string]struct {
		err   error
		kind  error
		field string
	}{
		"a model without pooling":   {embedError(t, plain, []int32{1}, 0), api.ErrInvalid, "pooling is none"},
		"too many dimensions":       {embedError(t, pooled, []int32{1}, 129), api.ErrInvalid, "dimensions"},
		"negative dimensions":       {embedError(t, pooled, []int32{1}, -1), api.ErrInvalid, "dimensions"},
		"no tokens":                 {embedError(t, pooled, nil, 0), api.ErrInvalid, "prompt"},
		"too many tokens":           {embedError(t, pooled, make([]int32, 129), 0), api.ErrTooLong, "129"},
		"a token out of range":      {embedError(t, pooled, []int32{512}, 0), api.ErrInvalid, "512"},
		"pooling and tokens":        {submitError(t, pooled, api.Request{Prompt: []int32{1}, Pooled: true}), api.ErrInvalid, "max_tokens"},
		"pooling of a plain model":  {submitError(t, plain, api.Request{Prompt: []int32{1}, Pooled: true, MaxTokens: api.NoTokens}), api.ErrInvalid, "pooled"},
		"pooling and logits":        {submitError(t, pooled, api.Request{Prompt: []int32{1}, Pooled: true, LogitsOf: []int32{1}, MaxTokens: api.NoTokens}), api.ErrInvalid, "max_tokens"},
		"logits of no token at all": {submitError(t, plain, api.Request{Prompt: []int32{1}, LogitsOf: []int32{-1}, MaxTokens: api.NoTokens}), api.ErrInvalid, "logits_of"},
	} {
		if !errors.Is(c.err, c.kind) || !strings.Contains(c.err.Error(), c.field) {
			t.Errorf("%s: %v, want %v naming %q", name, c.err, c.kind, c.field)
		}
	}
}

func embedError(t *testing.T, e *Engine, text []int32, dimensions int) error {
	_, err := e.Embed(t.Context(), [][]int32{text}, dimensions, "")
	return err
}

func submitError(t *testing.T, e *Engine, r api.Request) error {
	_, err := e.Submit(t.Context(), &r)
	return err
}
