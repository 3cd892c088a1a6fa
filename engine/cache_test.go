package engine

import (
	"testing"

	"hearth/engine/model"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// cacheNeeds is what the caches of a reference model hold, computed by hand from its layers: elements of a block of 64
// positions, and of the state that going on from the end of a prefix needs.
var cacheNeeds = map[string]struct{ block, state int64 }{
	// Keys and values of two heads.
	"llama":      {block: 3 * 64 * 2 * 2 * 32},
	"qwen2":      {block: 3 * 64 * 2 * 2 * 32},
	"qwen3":      {block: 3 * 64 * 2 * 2 * 64},
	"qwen3moe":   {block: 3 * 64 * 2 * 2 * 64},
	"minimax-m2": {block: 3 * 64 * 2 * 2 * 64},
	// And index keys of the layers behind the dense one.
	"minimax-m3": {block: 4*64*2*2*64 + 3*64*64},
	// One latent row for all heads, with what is rotated; and index keys.
	"deepseek2-lite": {block: 27 * 64 * (64 + 16)},
	"deepseek2":      {block: 4 * 64 * (128 + 32)},
	"deepseek32":     {block: 4 * 64 * (128 + 32 + 64)},
	// Two layers with an entry and an index key for 4 positions, one with an entry for 128, for which every block has room.
	// The state is the window of each layer, and values and gates of the entries that are not complete.
	"deepseek4": {block: 2*16*(64+64) + 64, state: 5*15*64 + 2*4*(2*2*64+2*2*64) + 64*2*64},
	// Every fourth layer has keys and values; the others three rows for the convolution and four heads' states.
	"qwen35":     {block: 64 * 2 * 2 * 64, state: 3 * (3*(2*128+256) + 4*64*64)},
	"qwen35-mtp": {block: 64 * 2 * 2 * 64, state: 3 * (3*(2*128+256) + 4*64*64)},
	"qwen35moe":  {block: 64 * 2 * 2 * 64, state: 3 * (3*(2*128+256) + 4*64*64)},
}

// TestCacheHoldsWhatIsNeeded holds the cache of every architecture, as recorded and as the CPU lays it out, to what its
// layers need: a block and a snapshot are that and no more. A slot adds the rows since the last multiple of the block
// length.
func TestCacheHoldsWhatIsNeeded(t *testing.T) {
	device := openCPU(t)
	for _, name := range golden {
		needs, ok := cacheNeeds[name]
		if !ok {
			t.Errorf("%s: nobody said what its cache holds", name)
			continue
		}
		m, err := model.Load(tinyModel(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.StateBytes(); got != 4*needs.state {
			t.Errorf("%s: a state has %d bytes, want %d", name, got, 4*needs.state)
		}
		for _, kv := range []*quant.Format{quant.F32, quant.F16} {
			want := needs.block * int64(kv.BlockBytes)
			if got := m.KVBytesPerBlock(kv); got != want {
				t.Errorf("%s: a block at %s has %d bytes, want %d", name, kv, got, want)
			}
			block, slot, snapshot, err := CacheBytes(m, device, kv)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if block != want || snapshot != 4*needs.state || slot < snapshot || slot > snapshot+chunkBytes(m.Program) {
				t.Errorf("%s at %s: on the CPU a block has %d bytes, a snapshot %d, a slot %d; want %d, %d and at most %d more",
					name, kv, block, snapshot, slot, want, 4*needs.state, chunkBytes(m.Program))
			}
		}
	}
}

// chunkBytes is what a slot holds of the block that goes on, beside the state at its beginning: keys, values and decays of
// delta rules, and the rows that can be reached from its last position.
func chunkBytes(p *hardware.Program) int64 {
	elements := 0
	for _, d := range p.Deltas() {
		elements += hardware.BlockLen * (d.KeyHeads*d.KeyDim + d.ValueHeads*(d.ValueDim+1))
	}
	for _, r := range p.Rings() {
		elements += r.Dim * (r.Reach + 1)
	}
	return 4 * int64(elements)
}
