package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/devicetest"
	"hearth/hardware/quant"
)

// overlay is a model file with other keys, and some tensors replaced or taken away.
type overlay struct {
	weights.Source
	md      *weights.Metadata
	tensors map[string]*weights.Tensor // nil: not there
}

func newOverlay(t testing.TB, name string) *overlay { return overlayOf(openGolden(t, name)) }

func overlayOf(src weights.Source) *overlay {
	return &overlay{Source: src, md: src.Metadata().Clone(), tensors: map[string]*weights.Tensor{}}
}

func (o *overlay) Metadata() *weights.Metadata { return o.md }

func (o *overlay) Has(name string) bool {
	_, err := o.Tensor(name)
	return err == nil
}

func (o *overlay) Describe(name string) (weights.Tensor, error) { return o.Tensor(name) }

func (o *overlay) Rows(name string) (weights.Tensor, error) { return o.Tensor(name) }

func (o *overlay) Tensor(name string) (weights.Tensor, error) {
	if t, ok := o.tensors[name]; ok {
		if t == nil {
			return weights.Tensor{}, fmt.Errorf("%w: %q", weights.ErrNotFound, name)
		}
		return *t, nil
	}
	return o.Source.Tensor(name)
}

// set replaces a tensor by one of float32.
func (o *overlay) set(name string, values []float32, shape ...int) {
	data := make([]byte, 4*len(values))
	quant.F32.Quantize(data, values)
	o.tensors[name] = &weights.Tensor{Name: name, Type: quant.F32.ID, Format: quant.F32, Shape: shape, Data: data}
}

// values returns the elements of a tensor of float32.
func (o *overlay) values(t testing.TB, name string) []float32 {
	t.Helper()
	tensor, err := o.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, tensor.Elements())
	if _, err := binary.Decode(tensor.Data, binary.LittleEndian, values); err != nil {
		t.Fatal(err)
	}
	return values
}

// rename gives the file another architecture, with the same keys.
func (o *overlay) rename(to string) {
	from, _ := o.md.String("general.architecture")
	for _, key := range o.md.Clone().Keys() {
		if rest, ok := strings.CutPrefix(key, from+"."); ok {
			value, _ := o.md.Get(key)
			o.md.Set(to+"."+rest, value)
		}
	}
	o.md.Set("general.architecture", to)
}

// specified runs a model over n tokens in double precision and returns the logits of all.
func specified(t testing.TB, src weights.Source, n int) [][]float64 {
	t.Helper()
	m, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	limits := hardware.Limits{Tokens: n, Spans: 1, Outputs: n, Blocks: n/hardware.BlockLen + 1, MaxLen: n, KV: quant.F32, Slots: 1}
	batch := hardware.NewBatch(limits)
	batch.Spans = append(batch.Spans, hardware.Span{Len: int32(n)})
	for i := range int32(n) {
		batch.Tokens = append(batch.Tokens, (7+i*i*13)%int32(m.Config.VocabSize))
		batch.Outputs = append(batch.Outputs, i)
	}
	for i := range limits.Blocks {
		batch.Tables = append(batch.Tables, int32(i))
	}
	reference := devicetest.NewReference(m.Program, limits)
	reference.Run(m.Trunk, batch)
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = reference.Output(m.Logits, i)
	}
	return rows
}

// distance is the largest squared error of a row over the squared length of the wanted one.
func distance(got, want [][]float64) float64 {
	worst := 0.0
	for i := range want {
		num, den := 0.0, 0.0
		for j, w := range want[i] {
			num += (got[i][j] - w) * (got[i][j] - w)
			den += w * w
		}
		worst = math.Max(worst, num/den)
	}
	return worst
}

// TestUnsplitLatent puts keys and values back into the one matrix of older files, which also have other keys: the logits
// stay.
func TestUnsplitLatent(t *testing.T) {
	const heads, nope, value, lora, n = 4, 64, 64, 128, 20
	o := newOverlay(t, "deepseek2")
	want := specified(t, o, n)
	for i := range 4 {
		prefix := blockPrefix(i)
		keys, values := o.values(t, prefix+"attn_k_b.weight"), o.values(t, prefix+"attn_v_b.weight")
		var whole []float32
		for h := range heads {
			for row := range nope {
				for col := range lora {
					whole = append(whole, keys[(h*lora+col)*nope+row])
				}
			}
			whole = append(whole, values[h*value*lora:(h+1)*value*lora]...)
		}
		o.set(prefix+"attn_kv_b.weight", whole, heads*(nope+value), lora)
		o.tensors[prefix+"attn_k_b.weight"], o.tensors[prefix+"attn_v_b.weight"] = nil, nil
	}
	o.md.Delete("deepseek2.attention.key_length_mla")
	o.md.Delete("deepseek2.attention.value_length_mla")
	o.md.Set("deepseek2.attention.head_count_kv", uint32(heads))
	o.md.Set("deepseek2.attention.key_length", uint32(nope+32))
	o.md.Set("deepseek2.attention.value_length", uint32(value))
	if d := distance(specified(t, o, n), want); d > 1e-24 {
		t.Errorf("logits differ by %.3g", d)
	}
}

// TestTransposed checks the transposes of stacks in formats with and without blocks.
func TestTransposed(t *testing.T) {
	const n, out, in = 3, 6, 32
	values := make([]float32, n*out*in)
	for i := range values {
		values[i] = float32(i%37-18) / 8
	}
	for _, format := range []*quant.Format{quant.F32, quant.BF16, quant.Q8_0} {
		rowBytes, _ := format.RowBytes(in)
		whole := hardware.WeightInfo{Name: "w", Format: format, Out: out, In: in, Experts: n, Data: make([]byte, n*out*rowBytes)}
		format.Quantize(whole.Data, values)
		kept := make([]float32, len(values))
		format.Dequantize(kept, whole.Data)
		turned := transposed(whole)
		if turned.Out != in || turned.In != out || turned.Format.BlockLen != 1 {
			t.Fatalf("%s becomes %s [%d, %d]", format, turned.Format, turned.Out, turned.In)
		}
		for e := range n {
			rows, err := turned.Rows(nil, e, 5, 9)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, 4*out)
			turned.Format.Dequantize(got, rows)
			for i, v := range got {
				want := kept[(e*out+i%out)*in+5+i/out]
				if math.Abs(float64(v-want)) > 1e-3*math.Abs(float64(want)) {
					t.Errorf("%s: element (%d, %d) of matrix %d is %v, want %v", format, 5+i/out, i%out, e, v, want)
				}
			}
		}
	}
}

// TestIndexerOfAll checks that an indexer which chooses all positions changes nothing: V3.2 is V3 then.
func TestIndexerOfAll(t *testing.T) {
	const n = 40 // the file's own indexer chooses 32
	o := newOverlay(t, "deepseek32")
	sparse := specified(t, o, n)
	o.md.Set("deepseek32.attention.indexer.top_k", uint32(n))
	all := specified(t, o, n)
	o.rename("deepseek2")
	dense := specified(t, o, n)
	if d := distance(all, dense); d != 0 {
		t.Errorf("with and without an indexer that chooses all: %.3g", d)
	}
	if d := distance(sparse[:32], dense[:32]); d != 0 {
		t.Errorf("while there are few positions: %.3g", d)
	}
	if d := distance(sparse, dense); d < 1e-9 {
		t.Errorf("the indexer has no effect: %.3g", d)
	}
}

// TestCompressedIndexOfAll is the same for DeepSeek-V4's compressed entries.
func TestCompressedIndexOfAll(t *testing.T) {
	const n = 48 // 12 entries, of which the file's own indexer chooses 8
	o := newOverlay(t, "deepseek4")
	sparse := specified(t, o, n)
	o.md.Set("deepseek4.attention.indexer.top_k", uint32(12))
	all := specified(t, o, n)
	o.md.Set("deepseek4.attention.indexer.top_k", uint32(1000))
	if d := distance(specified(t, o, n), all); d != 0 {
		t.Errorf("choosing 12 and 1000 of 12 entries: %.3g", d)
	}
	if d := distance(sparse[:35], all[:35]); d != 0 {
		t.Errorf("while there are few entries: %.3g", d)
	}
	if d := distance(sparse, all); d < 1e-12 {
		t.Errorf("the indexer has no effect: %.3g", d)
	}
}

// TestDeepSeekStreams checks what the cache holds of a position, and a slot of a sequence.
func TestDeepSeekStreams(t *testing.T) {
	const window, headDim, keyDim = 16, 64, 64
	for _, c := range []struct {
		name         string
		block, state int64 // float32 elements
	}{
		{"deepseek2-lite", 27 * 64 * (64 + 16), 0},
		{"deepseek2", 4 * 64 * (128 + 32), 0},
		{"deepseek32", 4 * 64 * (128 + 32 + keyDim), 0},
		// Two layers of entries for 4 positions with index keys, one of entries for 128, of which a block has room for one.
		// Rings hold the window of all layers, and values and gates of the entry before, or of half an entry.
		{"deepseek4", 2*16*(headDim+keyDim) + headDim, 5*(window-1)*headDim + 2*4*(2*2*headDim+2*2*keyDim) + 64*2*headDim},
	} {
		m, err := Load(openGolden(t, c.name))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.KVBytesPerBlock(quant.F32); got != 4*c.block {
			t.Errorf("%s: a block has %d bytes, want %d", c.name, got, 4*c.block)
		}
		if got := m.StateBytes(); got != 4*c.state {
			t.Errorf("%s: a sequence has %d bytes of state, want %d", c.name, got, 4*c.state)
		}
	}
}

// TestDeepSeekErrors damages one key or tensor at a time: the error names it.
func TestDeepSeekErrors(t *testing.T) {
	sources := map[string]weights.Source{}
	for _, name := range []string{"deepseek2-lite", "deepseek2", "deepseek32", "deepseek4"} {
		sources[name] = openGolden(t, name)
	}
	for _, c := range []struct {
		model, key string
		value      any
		quoted     string
	}{
		{"deepseek2", "deepseek2.attention.kv_lora_rank", nil, "missing"},
		{"deepseek2", "deepseek2.attention.kv_lora_rank", uint32(1 << 20), "wide"},
		{"deepseek2", "deepseek2.rope.dimension_count", uint32(96), "leaves nothing"},
		{"deepseek2", "deepseek2.rope.scaling.yarn_log_multiplier", float32(-1), "-1"},
		{"deepseek2", "deepseek2.leading_dense_block_count", uint32(5), "5"},
		{"deepseek2", "deepseek2.feed_forward_length", uint32(0), "dense layers"},
		{"deepseek2", "deepseek2.expert_group_count", uint32(3), "3"},
		{"deepseek2", "deepseek2.expert_group_used_count", uint32(9), "9"},
		{"deepseek32", "deepseek32.attention.indexer.top_k", uint32(0), "is 0"},
		{"deepseek32", "deepseek32.attention.indexer.head_count", uint32(1 << 19), "wide"},
		{"deepseek32", "deepseek32.attention.indexer.key_length", uint32(16), "16"},
		{"deepseek4", "deepseek4.attention.compress_ratios", nil, "missing"},
		{"deepseek4", "deepseek4.attention.compress_ratios", []int32{0, 4}, "2 elements"},
		{"deepseek4", "deepseek4.attention.sliding_window", uint32(1), "1"},
		{"deepseek4", "deepseek4.attention.output_group_count", uint32(3), "3"},
		{"deepseek4", "deepseek4.attention.compress_rope_freq_base", float32(0.5), "0.5"},
		{"deepseek4", "deepseek4.hyper_connection.epsilon", float32(0), "positive"},
		{"deepseek4", "deepseek4.hyper_connection.count", nil, "missing"},
		{"deepseek4", "deepseek4.expert_shared_count", uint32(0), "0"},
		{"deepseek4", "deepseek4.swiglu_clamp_exp", []float32{10}, "1 elements"},
	} {
		o := overlayOf(sources[c.model])
		if o.md.Delete(c.key); c.value != nil {
			o.md.Set(c.key, c.value)
		}
		_, err := Load(o)
		if !errors.Is(err, weights.ErrCorrupt) || !strings.Contains(err.Error(), c.key) || !strings.Contains(err.Error(), c.quoted) {
			t.Errorf("%s = %v: %v, want ErrCorrupt with the key and %q", c.key, c.value, err, c.quoted)
		}
	}
	for _, c := range []struct{ model, tensor string }{
		{"deepseek2", "blk.1.attn_v_b.weight"}, {"deepseek2", "blk.2.ffn_up_shexp.weight"}, {"deepseek2-lite", "blk.3.attn_q.weight"},
		{"deepseek32", "blk.0.indexer.k_norm.bias"}, {"deepseek4", "blk.0.ffn_gate_tid2eid.weight"}, {"deepseek4", "output_hc_fn.weight"},
		{"deepseek4", "blk.4.hc_ffn_scale.weight"}, {"deepseek4", "blk.3.indexer_compressor_ape.weight"},
	} {
		o := overlayOf(sources[c.model])
		o.tensors[c.tensor] = nil
		if _, err := Load(o); !errors.Is(err, weights.ErrNotFound) || !strings.Contains(err.Error(), c.tensor) {
			t.Errorf("%s without %s: %v", c.model, c.tensor, err)
		}
	}
	o := overlayOf(sources["deepseek4"])
	table, err := o.Tensor("blk.0.ffn_gate_tid2eid.weight")
	if err != nil {
		t.Fatal(err)
	}
	table.Data = append([]byte{8}, table.Data[1:]...) // of 8 experts
	o.tensors[table.Name] = &table
	if _, err := Load(o); err == nil || !strings.Contains(err.Error(), "expert 8 of 8") {
		t.Errorf("a token with an expert that is not there: %v", err)
	}
	o.set(table.Name, make([]float32, 512*2), 512, 2)
	if _, err := Load(o); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), table.Name) {
		t.Errorf("a table of fractions: %v", err)
	}
}
