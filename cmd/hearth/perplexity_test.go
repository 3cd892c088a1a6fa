package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

const tale = `Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big dog.
The dog was very friendly and wanted to play. Lily was happy and said, "Let's play together!" They ran and jumped and had so much fun.
At the end of the day, Lily went home and told her mom about the dog. Her mom smiled and said, "I am glad you made a new friend."
`

// measured runs perplexity on the tale, and returns its report.
func measured(t testing.TB, args ...string) *perplexityReport {
	t.Helper()
	out, err := executeWith(t, tale, append([]string{"perplexity", "--file", "-", "--ctx", "32", "--json"}, args...)...)
	if err != nil {
		t.Fatalf("perplexity %v: %v", args, err)
	}
	var r perplexityReport
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("perplexity --json: %v\n%s", err, out)
	}
	return &r
}

// TestPerplexity measures the embedded model beside itself, from a file and with another cache.
func TestPerplexity(t *testing.T) {
	saved := filepath.Join(t.TempDir(), "saved.logits")
	plain := measured(t, "--save-logits", saved)
	if p := plain.Scores.Perplexity; plain.Window != 32 || plain.Predicted != 15*plain.Windows || p.Mean < 2 || p.Mean > 20 || p.Error <= 0 || plain.Divergence != nil {
		t.Errorf("%+v", plain)
	}
	for _, reference := range []string{saved, stories(t, "stories260K-f32.gguf"), stories(t, "hf")} {
		r := measured(t, "--kl-reference", reference)
		bound := 0.0
		if strings.HasSuffix(reference, "hf") { // q and k are in another order
			bound = 1e-9
		}
		if d := r.Divergence; d == nil || d.Max > bound || d.SameTop.Mean != 1 || math.Abs(r.Scores.NLL.Mean-plain.Scores.NLL.Mean) > 0 || r.ReferenceModel == "" {
			t.Errorf("%s: %+v", reference, r)
		}
	}
	f16 := measured(t, "--kv", "f16", "--kl-reference", saved)
	if d := f16.Divergence; f16.KVType != "F16" || !(d.Mean.Mean > 0 && d.Mean.Mean < 1e-4) {
		t.Errorf("a cache of F16: %+v", f16.Divergence)
	}
	other := measured(t, "--kl-reference", stories(t, "stories260K-f32.gguf"), "--reference-kv-type", "f16")
	if d := other.Divergence; other.ReferenceKVType != "F16" || !(d.Mean.Mean > 0 && d.Mean.Mean < 1e-4) {
		t.Errorf("a reference with a cache of F16: %+v", other.Divergence)
	}
	if strided := measured(t, "--stride", "8", "--windows", "3"); strided.Windows != 3 || strided.Predicted != 24 || strided.Stride != 8 {
		t.Errorf("with a stride: %+v", strided)
	}
}

// TestPerplexityOfTypes quantizes the embedded model: the fewer bits, the larger the divergence.
func TestPerplexityOfTypes(t *testing.T) {
	in := stories(t, "stories260K-f32.gguf")
	last := math.Inf(1)
	for _, c := range []struct {
		recipe string
		most   float64 // divergence, about twice what is measured
	}{{"q4_0", 0.15}, {"q4_1", 0.1}, {"q5_0", 0.04}, {"q8_0", 0.002}, {"bf16", 2e-4}, {"f16", 2e-6}, {"f32", 0}} {
		_, path := quantized(t, in, "--type", c.recipe)
		d := measured(t, "--model", path, "--kl-reference", in).Divergence
		if d.Mean.Mean > c.most || d.Mean.Mean > last {
			t.Errorf("%s: divergence %v, want at most %v, and less than %v before", c.recipe, d.Mean, c.most, last)
		}
		last = d.Mean.Mean
	}
}

func TestPerplexityPrints(t *testing.T) {
	out, err := executeWith(t, tale, "perplexity", "--file", "-", "--ctx", "32", "--kl-reference", "stories260k")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"perplexity", " ± ", "windows of 32 tokens", "KL divergence", "0 ± 0 mean", "same top token", "100.00 ± 0.00%"} {
		if !strings.Contains(out, part) {
			t.Errorf("there is no %q in\n%s", part, out)
		}
	}
}

func TestPerplexityRefuses(t *testing.T) {
	folder := t.TempDir()
	junk := filepath.Join(folder, "junk")
	writeTest(t, junk, []byte{0xff, 0xfe})
	saved := filepath.Join(folder, "saved.logits")
	measured(t, "--save-logits", saved)
	other := synth(t, "--size", "tiny")
	text := []string{"--file", "-"}
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "--file is missing"},
		{[]string{"--file", junk}, "not UTF-8"},
		{[]string{"--file", filepath.Join(folder, "absent")}, "absent"},
		{append(text, "--ctx", "3"), "--ctx"},
		{append(text, "--ctx", "513"), "--ctx: 513 is beyond the 512"},
		{append(text, "--ctx", "512"), "tokens, a window 512"},
		{append(text, "--ctx", "32", "--stride", "32"), "--stride"},
		{append(text, "--stride", "-1"), "--stride"},
		{append(text, "--windows", "-1"), "--windows"},
		{append(text, "--kv-type", "q9"), "--kv-type"},
		{append(text, "--kl-reference", saved, "--reference-kv-type", "q9"), "--reference-kv-type"},
		{append(text, "--reference-kv-type", "f16"), "--reference-kv-type: there is no reference without --kl-reference"},
		{append(text, "--ctx", "32", "--save-logits", saved), saved + " is there already; --force replaces it"},
		{append(text, "--ctx", "16", "--kl-reference", saved), "windows of 32"},
		{append(text, "--ctx", "32", "--windows", "2", "--kl-reference", saved), "another text"},
		{append(text, "--ctx", "32", "--kl-reference", other), "vocabulary is another"},
		{append(text, "--ctx", "32", "--model", other, "--kl-reference", saved), "vocabulary is another"},
		{append(text, "--ctx", "32", "--kl-reference", junk), "--kl-reference"},
		{append(text, "--ctx", "32", "--save-logits", filepath.Join(junk, "x")), "--save-logits"},
	} {
		out, err := executeWith(t, tale, append([]string{"perplexity"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %q\n%s", c.args, err, c.says, out)
		}
	}
	measured(t, "--save-logits", saved, "--windows", "2", "--force")
	measured(t, "--kl-reference", saved, "--windows", "2")
}
