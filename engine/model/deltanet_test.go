package model

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hearth/engine/weights"
	"hearth/hardware"
)

// deltaKeys returns the keys of a small gated delta rule, with changes.
func deltaKeys(changes map[string]any) *keys {
	md := weights.NewMetadata()
	for key, value := range map[string]any{
		"ssm.conv_kernel": uint32(4), "ssm.state_size": uint32(12), "ssm.group_count": uint32(2), "ssm.time_step_rank": uint32(6), "ssm.inner_size": uint32(60),
	} {
		md.Set("qwen35."+key, value)
	}
	for key, value := range changes {
		md.Set("qwen35."+key, value)
	}
	return &keys{mistake: &mistake{}, md: md, arch: "qwen35"}
}

func TestReadDeltaConfig(t *testing.T) {
	k := deltaKeys(nil)
	if c := readDeltaConfig(k); k.err != nil || c != (deltaConfig{keyHeads: 2, valueHeads: 6, keyDim: 12, valueDim: 10, kernel: 4}) || c.convDim() != 108 {
		t.Errorf("%+v, %v", c, k.err)
	}
	for key, value := range map[string]any{
		"ssm.conv_kernel": uint32(1), "ssm.state_size": uint32(0), "ssm.group_count": uint32(4), "ssm.time_step_rank": uint32(7), "ssm.inner_size": uint32(61),
	} {
		k := deltaKeys(map[string]any{key: value})
		readDeltaConfig(k)
		if !errors.Is(k.err, weights.ErrCorrupt) || !strings.Contains(k.err.Error(), "qwen35.ssm.") {
			t.Errorf("%s is %v: %v", key, value, k.err)
		}
	}
}

func TestRecurrentLayers(t *testing.T) {
	for _, c := range []struct {
		changes map[string]any
		layers  int
		want    []bool
	}{
		{nil, 5, []bool{true, true, true, false, true}},
		{map[string]any{"full_attention_interval": uint32(2)}, 4, []bool{true, false, true, false}},
		{map[string]any{"full_attention_interval": uint32(1)}, 2, []bool{false, false}},
		{map[string]any{"attention.recurrent_layers": []bool{false, true, true}}, 2, []bool{false, true}},
	} {
		if got := recurrentLayers(deltaKeys(c.changes), c.layers); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.changes, got, c.want)
		}
	}
}

// TestDeltaNetRecords checks the operations of a recurrent and of a gated layer, and what sequences remember.
func TestDeltaNetRecords(t *testing.T) {
	m, err := Load(openGolden(t, "qwen35"))
	if err != nil {
		t.Fatal(err)
	}
	const recurrent = "Norm MatMul MatMul Conv Remember Norm Norm MatMul MatMul DeltaRule Norm GLU MatMul"
	if got := operations(m, 1, hardware.HalfMixer); got != recurrent {
		t.Errorf("a recurrent layer: %s, want %s", got, recurrent)
	}
	const gated = "Norm MatMul MatMul MatMul Norm Norm RoPE RoPE Store Store Attention GLU MatMul"
	if got := operations(m, 3, hardware.HalfMixer); got != gated {
		t.Errorf("a layer of attention: %s, want %s", got, gated)
	}
	if rings, deltas := len(m.Program.Rings()), len(m.Program.Deltas()); rings != 3 || deltas != 3 {
		t.Errorf("%d rings and %d states of 3 recurrent layers", rings, deltas)
	}
}
