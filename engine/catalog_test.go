package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/api"
	"hearth/engine/embedded"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
)

func openCatalog(t *testing.T) (*Catalog, Options) {
	t.Helper()
	device, catalog := openOneThread(t), NewCatalog()
	t.Cleanup(func() {
		if err := catalog.Close(); err != nil {
			t.Error(err)
		}
	})
	return catalog, Options{Device: device, MaxSequences: 2, Logger: slog.New(slog.DiscardHandler)}
}

func TestCatalog(t *testing.T) {
	catalog, opts := openCatalog(t)
	var reported atomic.Int64
	opts.Progress = func(done, total int64) {
		reported.Store(done)
		if loading, _ := catalog.Loading(); len(loading) != 1 || loading[0] != (Progress{embedded.Name, done, total}) {
			t.Errorf("while it loads: %+v, want %d of %d bytes", loading, done, total)
		}
		if _, err := catalog.Get(embedded.Name); !errors.Is(err, ErrLoading) {
			t.Errorf("Get while it loads = %v, want ErrLoading", err)
		}
		if _, err := catalog.Load(t.Context(), "", "", opts); err == nil || !strings.Contains(err.Error(), "two models are named") {
			t.Errorf("a second model of the name: %v", err)
		}
	}
	served, err := catalog.Load(t.Context(), "", "", opts)
	if err != nil {
		t.Fatal(err)
	}
	opts.Progress = nil
	if reported.Load() == 0 {
		t.Error("no progress was reported")
	}
	if served.ID != embedded.Name || served.Architecture != "llama" || served.Quantization != "F32" || served.TrainedLength != 512 {
		t.Errorf("served %+v", served)
	}
	path := filepath.Join(t.TempDir(), "story-00001-of-00001.gguf")
	if err := os.WriteFile(path, embedded.Model, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := catalog.Load(t.Context(), path, "", opts)
	if err != nil {
		t.Fatal(err)
	}
	if second.ID != "story" || second.Digest != served.Digest || second.Created.Equal(served.Created) {
		t.Errorf("the same model from a file: %+v, embedded: %+v", second, served)
	}
	if list := catalog.List(); !slices.Equal(list, []*Served{served, second}) {
		t.Errorf("List = %v", list)
	}
	if got, err := catalog.Get("story"); got != second || err != nil {
		t.Errorf("Get = %v, %v", got, err)
	}
	if _, err := catalog.Get("novel"); !errors.Is(err, ErrUnknownModel) || !strings.Contains(err.Error(), `"novel"`) {
		t.Errorf("Get of an unknown model = %v", err)
	}
	if loading, err := catalog.Loading(); loading != nil || err != nil {
		t.Errorf("Loading = %v, %v after everything loaded", loading, err)
	}
}

func TestCatalogNamesWhatFails(t *testing.T) {
	catalog, opts := openCatalog(t)
	garbage := filepath.Join(t.TempDir(), "garbage.gguf")
	if err := os.WriteFile(garbage, []byte("GGUF, or is it?"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, id, want string
		change         func(*Options)
	}{
		{garbage, "", `"garbage"`, func(*Options) {}},
		{garbage + ".missing", "m", "garbage.gguf.missing", func(*Options) {}},
		{"", "e", "option MaxSequences is -1", func(o *Options) { o.MaxSequences = -1 }},
		{"", "e", "beyond the 512", func(o *Options) { o.ContextLength = 513 }},
	} {
		opts := opts
		test.change(&opts)
		_, err := catalog.Load(t.Context(), test.path, test.id, opts)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Load(%q) = %v, want an error with %s", test.path, err, test.want)
		}
		if _, last := catalog.Loading(); last == nil {
			t.Error("Loading does not tell the error")
		}
	}
	if _, err := catalog.Load(t.Context(), "", "e", opts); err != nil {
		t.Errorf("the name of a model that could not be loaded is taken: %v", err)
	}
}

// TestCatalogWithoutVocabulary loads models whose weights are whole and whose vocabulary is not. It is read while weights
// are packed, and whichever ends first, the error is the vocabulary's and the device has its memory back.
func TestCatalogWithoutVocabulary(t *testing.T) {
	catalog, opts := openCatalog(t)
	device, err := cpu.Open(cpu.Options{Threads: 1, FreeBytes: 1 << 28})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	opts.Device = device
	path := filepath.Join(t.TempDir(), "mute.gguf")
	if err := os.WriteFile(path, bytes.Replace(embedded.Model, []byte("ggml.tokens"), []byte("ggml.nekots"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	free := device.Info().FreeBytes
	for range 20 {
		_, err := catalog.Load(t.Context(), path, "mute", opts)
		if err == nil || !strings.Contains(err.Error(), "tokenizer.ggml.tokens") || strings.Contains(err.Error(), "canceled") {
			t.Fatalf("Load = %v, want an error with tokenizer.ggml.tokens alone", err)
		}
		if left := device.Info().FreeBytes; left != free {
			t.Fatalf("%d bytes are free after a load that failed, %d before", left, free)
		}
	}
	packed := &fakeDevice{} // at once, before anything can fail
	opts.Device = packed
	if _, err := catalog.Load(t.Context(), path, "mute", opts); err == nil || !strings.Contains(err.Error(), "tokenizer.ggml.tokens") {
		t.Errorf("Load = %v, want an error with tokenizer.ggml.tokens", err)
	}
	if !packed.closed.Load() {
		t.Error("the queue of a model without vocabulary stays open")
	}
	opts.Device = device
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := catalog.Load(ctx, "", "whole", opts); !errors.Is(err, context.Canceled) {
		t.Errorf("Load that is cancelled = %v", err)
	}
}

func TestModelID(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "Qwen3-0.6B")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"models/qwen3-0.6b-q8_0.gguf": "qwen3-0.6b-q8_0",
		"big-00001-of-00003.gguf":     "big",
		folder:                        "Qwen3-0.6B",
		folder + "/":                  "Qwen3-0.6B",
		filepath.Join(folder, "model.safetensors"):                "Qwen3-0.6B",
		filepath.Join(folder, "model.safetensors.index.json"):     "Qwen3-0.6B",
		filepath.Join(folder, "model-00001-of-00002.safetensors"): "Qwen3-0.6B",
		filepath.Join(folder, "config.json"):                      "Qwen3-0.6B",
	} {
		if got := modelID(path); got != want {
			t.Errorf("modelID(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestStopTokens(t *testing.T) {
	tok, err := OpenTokenizer(openEmbedded(t))
	if err != nil {
		t.Fatal(err)
	}
	if stops := stopTokens(tok); !slices.Equal(stops, []int32{2, 1}) {
		t.Errorf("stop tokens %v, want the end token 2, and 1, which begins another text", stops)
	}
	if banned := bannedTokens(tok, 515); !slices.Equal(banned, []int32{512, 513, 514}) {
		t.Errorf("banned tokens %v, want the rows without a token", banned)
	}
}

// TestBothFormsAreServed loads the trained model as a GGUF file and as a Hugging Face folder, and wants the same story.
func TestBothFormsAreServed(t *testing.T) {
	catalog, opts := openCatalog(t)
	var stories [][]int32
	for _, name := range []string{"stories260K-f32.gguf", "hf"} {
		served, err := catalog.Load(t.Context(), sharedtest.Path(t, "testdata", "models", "stories260K", name), "", opts)
		if err != nil {
			t.Fatal(err)
		}
		prompt := served.Tokenizer.Encode("Once upon a time", tokenizer.EncodeOptions{AddSpecial: true})
		a := collect(t, submit(t, served.Engine, api.Request{Prompt: prompt, MaxTokens: 50}))
		stories = append(stories, a.tokens)
	}
	if len(stories[0]) != 50 || !slices.Equal(stories[0], stories[1]) {
		t.Errorf("the stories are\n%v and\n%v", stories[0], stories[1])
	}
}

func TestSentinelsAreThoseOfTheLayersBelow(t *testing.T) {
	if !errors.Is(ErrOutOfMemory, hardware.ErrOutOfMemory) {
		t.Error("ErrOutOfMemory is another error than the device's")
	}
	if _, err := OpenSource("no/such/file.gguf"); !errors.Is(err, os.ErrNotExist) || errors.Is(err, weights.ErrCorrupt) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestDigestValues checks that values enter the digest as %v prints them, whichever way they are written.
func TestDigestValues(t *testing.T) {
	for _, value := range []any{
		[]string{"a", "", "b c"}, []string{}, []int32{-5, 0, 1 << 30}, []int32(nil), []float32{1.5, -2}, []bool{true}, uint64(7), "text", 2.5, true,
	} {
		var got bytes.Buffer
		w := bufio.NewWriter(&got)
		writeValue(w, value)
		if err := w.Flush(); err != nil || got.String() != fmt.Sprintf("%v", value) {
			t.Errorf("%#v is written as %q (%v), want %q", value, got.String(), err, fmt.Sprintf("%v", value))
		}
	}
}

// TestDraftModelVocabulary refuses draft models whose tokens are others, and choices that ask for what is not there.
func TestDraftModelVocabulary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny-llama.gguf")
	if err := os.WriteFile(path, sharedtest.ReadFile(t, "testdata", "golden", "tiny-llama.gguf.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{Speculate: SpeculateAuto, DraftPath: path}, "vocabulary"},
		{Options{Speculate: SpeculateDraft}, "no draft model"},
		{Options{Speculate: SpeculateMTP}, "predict further tokens"},
		{Options{Speculate: SpeculateDraft, DraftPath: path + ".gguf"}, "draft model"},
	} {
		test.opts.Device, test.opts.Logger = openCPU(t), slog.New(slog.DiscardHandler)
		_, err := NewCatalog().Load(t.Context(), "", "", test.opts)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s with %q: %v, want one line with %q", test.opts.Speculate, test.opts.DraftPath, err, test.want)
		}
	}
	opts := Options{Device: openCPU(t), Speculate: SpeculateDraft, DraftPath: embedded.Name, Logger: slog.New(slog.DiscardHandler)}
	served, err := NewCatalog().Load(t.Context(), "", "", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { served.Engine.Close() })
	a := collect(t, submit(t, served.Engine, api.Request{Prompt: []int32{1, 403, 407}, MaxTokens: 100, Logprobs: -1}))
	if u := a.done.Usage; u.AcceptedTokens == 0 || u.AcceptedTokens != u.DraftedTokens {
		t.Errorf("a model that guesses for itself: %+v", u)
	}
}
