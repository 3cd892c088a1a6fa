package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/engine/model"
	"hearth/engine/tokenizer"
	"hearth/hardware/quant"
)

// fixedRows are rows of logits that were there before.
type fixedRows struct {
	rows  [][]float32
	next  int
	kept  []int // of the last Feed
	vocab int
}

func (f *fixedRows) Reset()                      {}
func (f *fixedRows) VocabSize() int              { return f.vocab }
func (f *fixedRows) Row(i int) []float32         { return f.rows[f.kept[i]] }
func (f *fixedRows) Most() (tokens, outputs int) { return 3, 2 }

func (f *fixedRows) Feed(_ context.Context, _ []int32, outputs []int32) error {
	f.kept = f.kept[:0]
	for range outputs {
		f.kept = append(f.kept, f.next)
		f.next++
	}
	return nil
}

// embeddedScorer loads the embedded model, trained on children's stories.
func embeddedScorer(t testing.TB, kv *quant.Format, window int) (*Scorer, *tokenizer.Tokenizer) {
	t.Helper()
	device := openCPU(t)
	src := openEmbedded(t)
	m, err := model.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := OpenTokenizer(src)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewScorer(t.Context(), m, ScorerOptions{Device: device, KV: kv, MaxLen: window, Outputs: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, tok
}

const story = `Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big dog.
The dog was very friendly and wanted to play. Lily was happy and said, "Let's play together!" They ran and jumped and had so much fun.
At the end of the day, Lily went home and told her mom about the dog. Her mom smiled and said, "I am glad you made a new friend."
The next day, Lily went back to the park, but the dog was not there. She was sad. Then she heard a bark. It was the dog! He had a ball.`

// TestPerplexityGolden wants the log-probabilities that an independent implementation computed in float64.
func TestPerplexityGolden(t *testing.T) {
	s, tok := embeddedScorer(t, nil, 256)
	for _, want := range readLines[greedyReference](t, "testdata", "models", "stories260K", "expected_greedy.jsonl") {
		tokens := slices.Concat(want.PromptIDs, want.IDs)
		text := &Text{Tokens: tokens, Window: len(tokens), Stride: len(want.IDs), BOS: -1, Vocabulary: vocabularySum(tok)}
		r, err := Perplexity(t.Context(), text, s, PerplexityOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, p := range want.Logprobs {
			sum -= p
		}
		mean := sum / float64(len(want.Logprobs))
		if d := math.Abs(r.Scores.NLL.Mean - mean); r.Predicted != len(want.IDs) || d > 1e-5 || math.Abs(r.Scores.Perplexity.Mean-math.Exp(mean)) > 1e-4 {
			t.Errorf("%.30q: %d tokens, mean %v, want %d and %v", want.Prompt, r.Predicted, r.Scores.NLL.Mean, len(want.IDs), mean)
		}
		if r.Scores.Top.Mean != 1 { // the continuations are greedy
			t.Errorf("%.30q: %v of the tokens are the most likely", want.Prompt, r.Scores.Top)
		}
	}
}

// TestPerplexityWindows computes the same from the logits of each window, position by position.
func TestPerplexityWindows(t *testing.T) {
	src := openEmbedded(t)
	m, err := model.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	device := openCPU(t)
	s, tok := embeddedScorer(t, nil, 64)
	all := tok.Encode(story, tokenizer.EncodeOptions{AddSpecial: true})
	bos, _ := tok.BOS()
	for _, c := range []struct{ window, stride, most, windows, predicted int }{
		{64, 0, 0, len(all) / 64, len(all) / 64 * 31}, {64, 0, 2, 2, 62}, {64, 20, 0, (len(all)-64)/20 + 1, ((len(all)-64)/20 + 1) * 20}, {33, 0, 3, 3, 48},
		{17, 16, 5, 5, 80},
	} {
		text, err := NewText(tok, story, TextOptions{Window: c.window, Stride: c.stride, MaxWindows: c.most})
		if err != nil {
			t.Fatal(err)
		}
		last := 0
		r, err := Perplexity(t.Context(), text, s, PerplexityOptions{Progress: func(n, of int) {
			if n <= last || of != c.predicted {
				t.Errorf("progress %d of %d after %d, want %d", n, of, last, c.predicted)
			}
			last = n
		}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Windows != c.windows || r.Predicted != c.predicted || last != c.predicted {
			t.Errorf("%+v: %d windows, %d predicted", c, r.Windows, r.Predicted)
		}
		var nll []float64
		step, from := c.window, c.window/2+1
		if c.stride > 0 {
			step, from = c.stride, c.window-c.stride
		}
		for w := range c.windows {
			tokens := slices.Clone(all[w*step:][:c.window])
			tokens[0] = bos
			var positions []int
			for target := from; target < c.window; target++ {
				positions = append(positions, target-1)
			}
			rows, err := Logits(t.Context(), m, tokens, positions, LogitsOptions{Device: device})
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range positions {
				sum := 0.0
				for _, v := range rows[i] {
					sum += math.Exp(float64(v - rows[i][tokens[p+1]]))
				}
				nll = append(nll, math.Log(sum))
			}
		}
		var mean, squares float64
		for _, v := range nll {
			mean += v / float64(len(nll))
			squares += v * v / float64(len(nll))
		}
		deviation := math.Sqrt((squares - mean*mean) / float64(len(nll)-1))
		if math.Abs(r.Scores.NLL.Mean-mean) > 1e-5 || math.Abs(r.Scores.NLL.Error-deviation) > 1e-5 || math.Abs(r.Scores.Perplexity.Error-deviation*math.Exp(mean)) > 1e-3 {
			t.Errorf("%+v: %+v, want a mean of %v ± %v", c, r.Scores, mean, deviation)
		}
	}
}

// TestDivergence compares a uniform reference with rows whose divergence is known in closed form.
func TestDivergence(t *testing.T) {
	const vocab, window, stride = 100, 5, 4
	rng := rand.New(rand.NewPCG(3, 4))
	text := &Text{Tokens: make([]int32, 4*window+1), Window: window, Stride: stride, BOS: -1}
	n := text.Predicted()
	uniform := &fixedRows{rows: slices.Repeat([][]float32{make([]float32, vocab)}, n), vocab: vocab}
	peaked := &fixedRows{vocab: vocab}
	want := make([]float64, n)
	for i := range n {
		row := make([]float32, vocab) // one token with the probability e^h / (e^h + 99), all others alike
		height := 10 * rng.Float64()
		top := 1 + rng.IntN(vocab-1)
		if i == 0 {
			top = 0
		}
		row[top] = float32(height)
		norm := math.Log(math.Exp(float64(row[top])) + vocab - 1)
		want[i] = -math.Log(vocab) + norm - float64(row[top])/vocab
		peaked.rows = append(peaked.rows, row)
	}
	r, err := Perplexity(t.Context(), text, peaked, PerplexityOptions{Reference: uniform})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	d := r.Divergence
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	mean := 0.0
	for _, v := range want {
		mean += v / float64(n)
	}
	near("mean", d.Mean.Mean, mean)
	near("largest", d.Max, want[n-1])
	near("median", d.Median, (want[(n-1)/2]+want[n/2])/2)
	near("same top", d.SameTop.Mean, 1/float64(n)) // the uniform reference's is token 0
	near("reference", r.Reference.Perplexity.Mean, vocab)
	near("its error", r.Reference.Perplexity.Error, 0)
	near("difference", d.NLLDifference.Mean, r.Scores.NLL.Mean-r.Reference.NLL.Mean)
}

// TestDivergenceOfItself is 0, and that of formats of the cache is what they lose.
func TestDivergenceOfItself(t *testing.T) {
	s, tok := embeddedScorer(t, nil, 64)
	text, err := NewText(tok, story, TextOptions{Window: 64})
	if err != nil {
		t.Fatal(err)
	}
	run := func(kv *quant.Format) *Divergence {
		other, _ := embeddedScorer(t, kv, 64)
		r, err := Perplexity(t.Context(), text, other, PerplexityOptions{Reference: s})
		if err != nil {
			t.Fatal(err)
		}
		return r.Divergence
	}
	same := run(quant.F32)
	if same.Max != 0 || same.Mean.Mean != 0 || same.SameTop.Mean != 1 || same.NLLDifference.Mean != 0 || same.RMSProbability != 0 {
		t.Errorf("of itself: %+v", same)
	}
	f16, bf16 := run(quant.F16), run(quant.BF16)
	if !(0 < f16.Mean.Mean && f16.Mean.Mean < 1e-5 && f16.Mean.Mean < bf16.Mean.Mean && bf16.Mean.Mean < 1e-3) {
		t.Errorf("F16 %v, BF16 %v", f16.Mean, bf16.Mean)
	}
}

// TestLogitsFile keeps logits and compares with them: the divergence of the same model is 0.
func TestLogitsFile(t *testing.T) {
	s, tok := embeddedScorer(t, nil, 64)
	text, err := NewText(tok, story, TextOptions{Window: 64, MaxWindows: 3})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "stories.logits")
	w, err := CreateLogits(path, "the embedded model", text, s.VocabSize())
	if err != nil {
		t.Fatal(err)
	}
	first, err := Perplexity(t.Context(), text, s, PerplexityOptions{Save: w})
	if err != nil {
		t.Fatal(err)
	}
	if IsLogitsFile(path) {
		t.Error("the file is there before it is whole")
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	l, err := OpenLogits(path, text)
	if err != nil || !IsLogitsFile(path) || l.Name != "the embedded model" {
		t.Fatalf("%+v, %v", l, err)
	}
	defer l.Close()
	second, err := Perplexity(t.Context(), text, s, PerplexityOptions{Reference: l})
	if err != nil {
		t.Fatal(err)
	}
	if second.Divergence.Max != 0 || *second.Reference != first.Scores || second.Scores != first.Scores {
		t.Errorf("%+v, saved by %+v", second, first.Scores)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("%v are left", left)
	}
}

// smallLogits is the file of a text of four predicted tokens, and the text.
func smallLogits(t testing.TB) ([]byte, *Text) {
	t.Helper()
	text := &Text{Tokens: []int32{1, 2, 3, 0, 1}, Window: 5, Stride: 4, BOS: -1}
	path := filepath.Join(t.TempDir(), "small.logits")
	w, err := CreateLogits(path, "small", text, 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err == nil || !strings.Contains(err.Error(), "4 rows are missing") {
		t.Errorf("a file without its rows: %v", err)
	}
	w.Close()
	if w, err = CreateLogits(path, "small", text, 4); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := w.write([]float32{float32(i), 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, text
}

// readLogitsFile reads a file of logits with all of its rows.
func readLogitsFile(t testing.TB, data []byte, text *Text) error {
	t.Helper()
	l := &LogitsFile{size: int64(len(data)), in: bufio.NewReader(bytes.NewReader(data))}
	if err := l.readHead(text); err != nil {
		return err
	}
	return l.Feed(t.Context(), nil, make([]int32, text.Predicted()))
}

// TestLogitsFileDamage changes every byte, and cuts the file off everywhere.
func TestLogitsFileDamage(t *testing.T) {
	data, text := smallLogits(t)
	if err := readLogitsFile(t, data, text); err != nil {
		t.Fatal(err)
	}
	for i := range data {
		damaged := bytes.Clone(data)
		damaged[i] ^= 0x10
		if err := readLogitsFile(t, damaged, text); err == nil {
			t.Errorf("a change of byte %d is not noticed", i)
		}
		if err := readLogitsFile(t, data[:i], text); err == nil {
			t.Errorf("a file of %d bytes is read", i)
		}
	}
	if err := readLogitsFile(t, append(data, 0), text); err == nil {
		t.Error("a file with a byte more is read")
	}
}

// TestLogitsFileOther opens the logits of one text with another.
func TestLogitsFileOther(t *testing.T) {
	data, text := smallLogits(t)
	for says, change := range map[string]func(o *Text){
		"its tokens are others":     func(o *Text) { o.Tokens[2]++ },
		"it has 5 tokens, want 9":   func(o *Text) { o.Tokens = append(o.Tokens, 1, 2, 3, 4) },
		"its vocabulary is another": func(o *Text) { o.Vocabulary[31] = 1 },
		"windows of 5":              func(o *Text) { o.Window, o.Stride = 4, 3 },
		"a stride of 4":             func(o *Text) { o.Stride = 0 },
	} {
		other := *text
		other.Tokens = slices.Clone(text.Tokens)
		change(&other)
		if err := readLogitsFile(t, data, &other); !errors.Is(err, ErrOtherText) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
		if err := other.Same(text); !errors.Is(err, ErrOtherText) {
			t.Errorf("%s: the texts are the same: %v", says, err)
		}
	}
	rows := &fixedRows{vocab: 5}
	if _, err := Perplexity(t.Context(), text, rows, PerplexityOptions{Reference: &fixedRows{vocab: 4}}); err == nil || !strings.Contains(err.Error(), "5 elements, the reference's 4") {
		t.Errorf("rows of other lengths: %v", err)
	}
}

func TestTextRefuses(t *testing.T) {
	_, tok := embeddedScorer(t, nil, 64)
	for _, c := range []struct {
		text string
		opts TextOptions
		says string
	}{
		{story, TextOptions{Window: 3}, "Window"}, {story, TextOptions{Window: 8, Stride: 8}, "Stride"}, {story, TextOptions{Window: 8, Stride: -1}, "Stride"},
		{story, TextOptions{Window: 8, MaxWindows: -1}, "MaxWindows"}, {"Once", TextOptions{Window: 64}, "tokens, a window 64"}, {"", TextOptions{Window: 4}, "a window 4"},
	} {
		if _, err := NewText(tok, c.text, c.opts); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.opts, err, c.says)
		}
	}
	text := &Text{Tokens: []int32{1, 2, 3, 99, 1}, Window: 5, Stride: 4, BOS: -1}
	if _, err := Perplexity(t.Context(), text, &fixedRows{vocab: 50}, PerplexityOptions{}); err == nil || !strings.Contains(err.Error(), "token 99") {
		t.Errorf("a token without a row: %v", err)
	}
	nan := &fixedRows{vocab: 100, rows: slices.Repeat([][]float32{slices.Repeat([]float32{float32(math.NaN())}, 100)}, 4)}
	if _, err := Perplexity(t.Context(), text, nan, PerplexityOptions{}); err == nil || !strings.Contains(err.Error(), "window 0, position 0") {
		t.Errorf("logits that are no numbers: %v", err)
	}
}

// FuzzLogitsFile reads files that nobody wrote: they are refused, or hold rows of the text.
func FuzzLogitsFile(f *testing.F) {
	data, text := smallLogits(f)
	f.Add(data)
	f.Add(data[:100])
	f.Add([]byte(logitsMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &LogitsFile{size: int64(len(data)), in: bufio.NewReader(bytes.NewReader(data))}
		if err := l.readHead(text); err != nil {
			return
		}
		if err := l.Feed(t.Context(), nil, make([]int32, text.Predicted())); err == nil && len(l.Row(3)) != l.VocabSize() {
			t.Errorf("a row of %d elements, want %d", len(l.Row(3)), l.VocabSize())
		}
	})
}
