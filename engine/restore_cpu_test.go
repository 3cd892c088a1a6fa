package engine

import (
	"slices"
	"testing"

	"hearth/engine/api"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// TestRestoredBitsOnTheCPU computes a turn of a conversation on the real device, closes the engine, and has another one go
// on from disk: the next turn has the tokens, and bitwise the log-probabilities, of an engine that computes all of it. So
// it is for every architecture, with and without guesses, and when every other record is damaged.
func TestRestoredBitsOnTheCPU(t *testing.T) {
	device := openOneThread(t)
	for name, open := range smallModels() {
		t.Run(name, func(t *testing.T) { restoredBits(t, device, open) })
	}
}

func restoredBits(t *testing.T, device hardware.Device, open func(testing.TB) weights.Source) {
	m, err := model.Load(open(t))
	if err != nil {
		t.Fatal(err)
	}
	longest := min(m.Config.ContextLength, 3*hardware.BlockLen)
	first := api.Request{Prompt: textOf(m.Config.VocabSize, 1, longest-60), MaxTokens: 20, IgnoreEOS: true, Logprobs: -1}
	next := api.Request{MaxTokens: 12, IgnoreEOS: true, Logprobs: maxLogprobs}
	var want answer
	for _, test := range []struct {
		name     string
		opts     Options
		damaged  func(read int) bool
		restores bool
	}{
		{name: "computed"},
		{name: "restored", restores: true},
		{name: "restored with guesses", opts: Options{Speculate: SpeculateAuto}, restores: true},
		{name: "damaged", damaged: func(read int) bool { return read%2 == 0 }},
	} {
		store := &brittle{records: openStore(t, t.TempDir()), damaged: test.damaged}
		run := func(r api.Request) answer {
			opts := test.opts
			opts.Device, opts.KV, opts.ContextLength, opts.Disk = device, quant.F16, longest, noStore
			e := loadEngine(t, open(t), opts)
			e.setStore(store)
			e.start()
			got := collect(t, submit(t, e, r))
			if err := e.Close(); err != nil || got.done.Err != nil {
				t.Fatal(err, got.done.Err)
			}
			return got
		}
		if test.opts.Speculate != SpeculateOff && m.Config.Architecture != "qwen35" && m.Config.Architecture != "llama" {
			continue // of the others, some have layers that predict, and all guess alike
		}
		if test.name == "computed" {
			answered := run(first)
			next.Prompt = slices.Concat(first.Prompt, answered.tokens, textOf(m.Config.VocabSize, 2, 10))
			store.records = openStore(t, t.TempDir())
			want = run(next)
			continue
		}
		run(first)
		got := run(next)
		if !slices.Equal(got.tokens, want.tokens) || !equalLogprobs(got.logprobs, want.logprobs) {
			t.Errorf("%s: the turn gives %v, computed %v", test.name, got.tokens, want.tokens)
		}
		if u := got.done.Usage; test.restores && u.RestoredTokens != wholeBlocks(longest-40-1) {
			t.Errorf("%s: usage %+v", test.name, u)
		}
	}
}
