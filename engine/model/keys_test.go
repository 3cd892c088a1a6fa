package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hearth/engine/weights"
	"hearth/hardware"
)

func TestKeysPerLayer(t *testing.T) {
	open := func(value any) *keys {
		md := weights.NewMetadata()
		md.Set("a.key", value)
		return &keys{mistake: &mistake{}, md: md, arch: "a"}
	}
	for _, c := range []struct {
		value any
		read  func(k *keys) any
		want  string // the values, or a part of the error
	}{
		{[]int32{4, 0, 128, 4}, func(k *keys) any { return k.counts("key", 3, 128) }, "[4 0 128]"},
		{uint32(7), func(k *keys) any { return k.counts("key", 3, 128) }, "[7 7 7]"},
		{uint32(7), func(k *keys) any { return k.counts("other", 3, 128) }, "[]"},
		{[]int32{4, 0}, func(k *keys) any { return k.counts("key", 3, 128) }, "2 elements"},
		{[]int32{4, -1, 0}, func(k *keys) any { return k.counts("key", 3, 128) }, "-1 in layer 1"},
		{[]int32{4, 129, 0}, func(k *keys) any { return k.counts("key", 3, 128) }, "129"},
		{"4", func(k *keys) any { return k.counts("key", 3, 128) }, "integer"},
		{[]float32{10, 7}, func(k *keys) any { return k.numbers("key", 2) }, "[10 7]"},
		{float32(7), func(k *keys) any { return k.numbers("key", 2) }, "[7 7]"},
		{float32(7), func(k *keys) any { return k.numbers("other", 2) }, "[]"},
		{[]float32{10}, func(k *keys) any { return k.numbers("key", 2) }, "1 elements"},
		{"7", func(k *keys) any { return k.numbers("key", 2) }, "number"},
		{[]bool{true, false, true}, func(k *keys) any { return k.flags("key", 2) }, "[true false]"},
		{[]bool{true}, func(k *keys) any { return k.flags("other", 2) }, "[]"},
		{[]bool{true}, func(k *keys) any { return k.flags("key", 2) }, "2 layers"},
		{uint8(1), func(k *keys) any { return k.flags("key", 2) }, "array of a boolean"},
		{float32(0.5), func(k *keys) any { return k.positive("key", 0) }, "0.5"},
		{float32(0.5), func(k *keys) any { return k.positive("other", 2) }, "2"},
		{float32(0.5), func(k *keys) any { return k.positive("other", 0) }, "a.other is missing"},
		{float32(-1), func(k *keys) any { return k.positive("key", 0) }, "-1"},
	} {
		k := open(c.value)
		got := fmt.Sprint(c.read(k))
		if k.err != nil {
			if got = k.err.Error(); !errors.Is(k.err, weights.ErrCorrupt) || !strings.Contains(got, "key a.") {
				t.Errorf("%v: %v", c.value, k.err)
			}
		}
		if k.err == nil && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%v gives %s, want %s", c.value, got, c.want)
		}
	}
}

// TestNextN checks that blocks which predict further tokens are no layers, unless the file does not have them.
func TestNextN(t *testing.T) {
	f := newTiny("llama")
	f.md.Set("llama.nextn_predict_layers", uint32(1))
	m, err := Load(f.open(t))
	if err != nil || m.Config.NumLayers != tinyLayers || m.Config.NumNextNLayers != 0 {
		t.Errorf("counted and not there: %v: %+v", err, m)
	}
	f.add(fmt.Sprintf("blk.%d.nextn.eh_proj.weight", tinyLayers-1), tinyWidth, 2*tinyWidth)
	m, err = Load(f.open(t))
	if err != nil || m.Config.NumLayers != tinyLayers-1 || m.Config.NumNextNLayers != 1 {
		t.Errorf("%v: %+v", err, m)
	}
	f.md.Set("llama.nextn_predict_layers", uint32(tinyLayers))
	if _, err := Load(f.open(t)); !errors.Is(err, weights.ErrCorrupt) || !strings.Contains(err.Error(), "nextn_predict_layers") {
		t.Errorf("no layers left: %v", err)
	}
}

// TestFusedExperts checks that gate and up are found in the one tensor that holds both.
func TestFusedExperts(t *testing.T) {
	const expertBytes = 4 * tinyExpertFFN * tinyWidth
	f := newTiny("qwen3moe")
	for i := range tinyLayers {
		prefix := fmt.Sprintf("blk.%d.", i)
		f.reshape(prefix + "ffn_gate_exps.weight")
		f.reshape(prefix + "ffn_up_exps.weight")
		f.add(prefix+"ffn_gate_up_exps.weight", tinyExperts, 2*tinyExpertFFN, tinyWidth)
	}
	src := f.open(t)
	m, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	fused, err := src.Tensor("blk.0.ffn_gate_up_exps.weight")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Program.Ops(m.Trunk), func(op hardware.Op) bool { return op.Args.Kind() == hardware.OpExperts })
	args := m.Program.Ops(m.Trunk)[i].Args.(*hardware.ExpertsArgs)
	for half, w := range []hardware.Weight{args.Gate, args.Up} {
		info := m.Program.WeightInfo(w)
		for e := range tinyExperts {
			got, _ := info.Rows(nil, e, 0, tinyExpertFFN)
			if want := fused.Data[(2*e+half)*expertBytes:]; len(got) != expertBytes || &got[0] != &want[0] {
				t.Errorf("half %d of expert %d lies elsewhere", half, e)
			}
		}
	}
}

// TestPooling checks which outputs a model for embeddings or ranking has.
func TestPooling(t *testing.T) {
	for pooling, size := range map[Pooling]int{PoolNone: 0, PoolMean: 0, PoolFirst: 0, PoolLast: tinyWidth, PoolRank: NumClasses} {
		f := newTiny("qwen3")
		f.md.Set("qwen3.pooling_type", uint32(pooling))
		f.add("cls.output.weight", NumClasses, tinyWidth)
		m, err := Load(f.open(t))
		if err != nil {
			t.Errorf("%s: %v", pooling, err)
			continue
		}
		if m.Config.Pooling != pooling || m.Pools != (size > 0) {
			t.Errorf("%s: %+v, pools %t", pooling, m.Config.Pooling, m.Pools)
		}
		if m.Pools {
			if _, pooled := m.Program.OutputTensor(m.Pooled); pooled.Size() != size {
				t.Errorf("%s gives rows of %d, want %d", pooling, pooled.Size(), size)
			}
		}
	}
	for _, shape := range [][]int{{3, tinyWidth}, {NumClasses, tinyWidth + 1}, {NumClasses}, nil} {
		f := newTiny("qwen3")
		f.md.Set("qwen3.pooling_type", uint32(PoolRank))
		f.reshape("cls.output.weight", shape...)
		if _, err := Load(f.open(t)); err == nil || !strings.Contains(err.Error(), "cls.output.weight") {
			t.Errorf("classes of shape %v: %v", shape, err)
		}
	}
}
