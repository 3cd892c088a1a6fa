package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"hearth/hardware"
	"hearth/hardware/quant"
)

func TestPlan(t *testing.T) {
	in := func(change func(*PlanInput)) PlanInput {
		p := PlanInput{
			ModelContext: 4096, MaxSequences: 8, MaxBatchTokens: 512, KV: quant.F16,
			BlockBytes: 1 << 20, KVBytes: 1 << 30,
		}
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		in     PlanInput
		blocks int
		maxLen int
		tokens int
		err    string // what the error says, "" for none
	}{
		"whole context for all":          {in: in(func(*PlanInput) {}), blocks: 8 * 64, maxLen: 4096, tokens: 512},
		"as many blocks as fit":          {in: in(func(p *PlanInput) { p.KVBytes = 100<<20 + 5 }), blocks: 100, maxLen: 4096, tokens: 512},
		"shorter than the model's":       {in: in(func(p *PlanInput) { p.ContextLength = 100 }), blocks: 16, maxLen: 100, tokens: 512},
		"cut down to memory":             {in: in(func(p *PlanInput) { p.KVBytes = 3 << 20 }), blocks: 3, maxLen: 192, tokens: 512},
		"exact blocks":                   {in: in(func(p *PlanInput) { p.Blocks = 70 }), blocks: 70, maxLen: 4096, tokens: 512},
		"more sequences than batch rows": {in: in(func(p *PlanInput) { p.MaxBatchTokens = 1 }), blocks: 512, maxLen: 4096, tokens: 8 + minChunk},
		"beyond the model's":             {in: in(func(p *PlanInput) { p.ContextLength = 4097 }), err: "context length 4097 is beyond the 4096"},
		"asked for and not fitting":      {in: in(func(p *PlanInput) { p.ContextLength, p.KVBytes = 4096, 63<<20 }), err: "context of 4096 tokens needs 67108864 bytes of cache, there are 66060288"},
		"no memory at all":               {in: in(func(p *PlanInput) { p.KVBytes = 1000 }), err: "1000 bytes for the cache do not hold one block of 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Plan(test.in)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want one that says %q", err, test.err)
				}
				if beyond := test.in.ContextLength > test.in.ModelContext; errors.Is(err, hardware.ErrOutOfMemory) == beyond {
					t.Errorf("error %v: out of memory, or not", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Blocks != test.blocks || got.MaxLen != test.maxLen || got.Tokens != test.tokens || got.Spans != 8 || got.Outputs < got.Spans {
				t.Errorf("Plan = %+v, want %d blocks, %d positions, %d rows", got, test.blocks, test.maxLen, test.tokens)
			}
			if test.in.Blocks == 0 && int64(got.Blocks)*test.in.BlockBytes > test.in.KVBytes {
				t.Errorf("%d blocks of %d bytes exceed %d", got.Blocks, test.in.BlockBytes, test.in.KVBytes)
			}
		})
	}
}

// TestPlanOfState divides memory among slots, snapshots and blocks.
func TestPlanOfState(t *testing.T) {
	in := func(change func(*PlanInput)) PlanInput {
		p := PlanInput{
			ModelContext: 4096, MaxSequences: 8, MaxBatchTokens: 512, KV: quant.F16,
			BlockBytes: 1 << 20, KVBytes: 1 << 30, Stateful: true, SlotBytes: 4 << 20, SnapshotBytes: 2 << 20,
		}
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		in                                   PlanInput
		sequences, blocks, snapshots, maxLen int
		err                                  string
	}{
		"whole context for all":        {in: in(func(*PlanInput) {}), sequences: 8, blocks: 512, snapshots: 64, maxLen: 4096},
		"two snapshots for each":       {in: in(func(p *PlanInput) { p.KVBytes = 200 << 20 }), sequences: 8, blocks: 136, snapshots: 16, maxLen: 4096},
		"one for every 2048 tokens":    {in: in(func(p *PlanInput) { p.MaxSequences, p.ModelContext, p.KVBytes = 1, 1<<17, 512<<20 }), sequences: 1, blocks: 479, snapshots: 14, maxLen: 479 * 64},
		"half the memory for states":   {in: in(func(p *PlanInput) { p.KVBytes = 100 << 20 }), sequences: 6, blocks: 52, snapshots: 12, maxLen: 52 * 64},
		"large states":                 {in: in(func(p *PlanInput) { p.SlotBytes, p.SnapshotBytes = 270<<20, 150<<20 }), sequences: 1, blocks: 154, snapshots: 4, maxLen: 4096},
		"a context of fewer sequences": {in: in(func(p *PlanInput) { p.KVBytes, p.ContextLength = 100<<20, 4096 }), sequences: 4, blocks: 68, snapshots: 8, maxLen: 4096},
		"a context without snapshots":  {in: in(func(p *PlanInput) { p.KVBytes, p.ContextLength = 69<<20, 4096 }), sequences: 1, blocks: 64, maxLen: 4096},
		"a short context of little":    {in: in(func(p *PlanInput) { p.KVBytes = 6 << 20 }), sequences: 1, blocks: 1, maxLen: 64},
		"exact blocks":                 {in: in(func(p *PlanInput) { p.Blocks = 7 }), sequences: 8, blocks: 7, snapshots: 16, maxLen: 7 * 64},
		"no memory":                    {in: in(func(p *PlanInput) { p.KVBytes = 4 << 20 }), err: "4194304 bytes for the cache do not hold one block of 1048576 and a sequence's state of 4194304"},
		"asked for and not fitting":    {in: in(func(p *PlanInput) { p.KVBytes, p.ContextLength = 60<<20, 4096 }), err: "context of 4096 tokens needs 67108864 bytes of cache, there are 58720256"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Plan(test.in)
			if test.err != "" {
				if !errors.Is(err, hardware.ErrOutOfMemory) || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want one that says %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Spans != test.sequences || got.Slots != test.sequences || got.Blocks != test.blocks || got.Snapshots != test.snapshots || got.MaxLen != test.maxLen {
				t.Errorf("Plan = %+v, want %d sequences, %d blocks, %d snapshots, %d positions", got, test.sequences, test.blocks, test.snapshots, test.maxLen)
			}
			need := int64(got.Slots)*test.in.SlotBytes + int64(got.Snapshots)*test.in.SnapshotBytes + int64(got.Blocks)*test.in.BlockBytes
			if test.in.Blocks == 0 && need > test.in.KVBytes {
				t.Errorf("the plan takes %d bytes of %d", need, test.in.KVBytes)
			}
		})
	}
}

// TestPaceKeepsStreamsMoving plays a machine on which a decode takes 20 ms: a mixed step may take four times that, so it
// has room for 60 ms of prompt rows, and for 16 rows in any case.
func TestPaceKeepsStreamsMoving(t *testing.T) {
	const limit, decode = 512, 20 * time.Millisecond
	for _, test := range []struct {
		row         time.Duration // time of a prompt row
		mixed, pure int           // rows of a step with and without decodes
	}{
		{20 * time.Millisecond, minChunk, 50}, {5 * time.Millisecond, minChunk, 200}, {time.Millisecond, 60, limit},
		{200 * time.Microsecond, 300, limit}, {10 * time.Microsecond, limit, limit},
	} {
		var p pace
		if got := p.budget(limit); got != firstRows {
			t.Errorf("before anything was measured a step has %d rows, want %d", got, firstRows)
		}
		near := func(what string, want int) {
			t.Helper()
			if got := p.budget(limit); got < want*98/100 || got > want*102/100 {
				t.Errorf("with %v a row a step of %s has %d rows, want %d", test.row, what, got, want)
			}
		}
		p.observe(stepRows{decodes: 0, prompts: 400}, 400*test.row)
		near("a prompt alone", test.pure)
		p.observe(stepRows{decodes: 1, prompts: 0}, decode)
		for range 50 {
			rows := p.budget(limit)
			p.observe(stepRows{decodes: 3, prompts: rows}, decode+time.Duration(rows)*test.row)
		}
		near("a prompt beside streams", test.mixed)
		p.observe(stepRows{decodes: 0, prompts: 400}, 400*test.row)
		near("a prompt whose streams have ended", test.pure)
	}
	p := pace{}
	p.observe(stepRows{decodes: 2, prompts: 100}, time.Second)
	if got := p.budget(limit); got != firstRows {
		t.Errorf("before a decode was measured a mixed step has %d rows, want %d", got, firstRows)
	}
	slow := pace{decode: 2, row: 0.5} // a large model: the pass over the weights takes most of the time
	if got := slow.budget(limit); got != minChunk {
		t.Errorf("a slow model's step has %d rows, want %d", got, minChunk)
	}
	if p := (pace{fixed: 48}); p.budget(limit) != 48 || p.budget(20) != 20 {
		t.Errorf("a fixed budget of 48 gives %d, and %d of at most 20", p.budget(limit), p.budget(20))
	}
}
