package weights

import (
	"fmt"
	"math"
	"slices"
)

// deltaNames are the tensors of gated DeltaNet that checkpoints keep in another form than GGUF files.
var deltaNames = []string{
	"attn_qkv.weight", "attn_gate.weight", "ssm_beta.weight", "ssm_alpha.weight", "ssm_conv1d.weight", "ssm_a", "ssm_dt.bias",
	"ssm_out.weight", groupedQKVZ + ".weight",
}

func isDelta(name string) bool { return slices.Contains(deltaNames, name) }

// deltaShape is how the heads of gated DeltaNet lie. Each key head serves as many value heads, in a checkpoint those that
// follow each other: value head h belongs to key head h/perKey. The GGUF files of qwen35 and qwen35moe have them in tiled
// order, where it belongs to key head h mod keyHeads.
type deltaShape struct {
	keyHeads, keyDim, perKey, valueDim int
	tiled                              bool
}

func (a *assembly) deltaShape() (deltaShape, error) {
	keyHeads, err := a.key("ssm.group_count")
	keyDim, err2 := a.key("ssm.state_size")
	valueHeads, err3 := a.key("ssm.time_step_rank")
	values, err4 := a.key("ssm.inner_size")
	if err := firstError(err, err2, err3, err4); err != nil {
		return deltaShape{}, err
	}
	if valueHeads%keyHeads != 0 || values%valueHeads != 0 {
		return deltaShape{}, fmt.Errorf("%w: %d value heads of %d elements in all do not fit %d key heads", ErrCorrupt, valueHeads, values, keyHeads)
	}
	return deltaShape{keyHeads, keyDim, valueHeads / keyHeads, values / valueHeads, a.arch != "qwen3next"}, nil
}

// keys is the size of all key heads, values that of all value heads.
func (d *deltaShape) keys() int   { return d.keyHeads * d.keyDim }
func (d *deltaShape) values() int { return d.keyHeads * d.perKey * d.valueDim }

// valueHead returns the value head of a checkpoint that is the h-th in the model.
func (d *deltaShape) valueHead(h int) int {
	if !d.tiled {
		return h
	}
	return h%d.keyHeads*d.perKey + h/d.keyHeads
}

// value does the same for an element of the value heads.
func (d *deltaShape) value(i int) int {
	return d.valueHead(i/d.valueDim)*d.valueDim + i%d.valueDim
}

// channel does the same for an element of queries, keys and values.
func (d *deltaShape) channel(i int) int {
	if first := 2 * d.keys(); i >= first {
		return first + d.value(i-first)
	}
	return i
}

// addDelta enters a tensor of gated DeltaNet in GGUF's form.
func (a *assembly) addDelta(to target, t *rawTensor) error {
	d, err := a.deltaShape()
	if err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	name, heads := to.prefix+to.name, d.keyHeads*d.perKey
	switch to.name {
	case "ssm_a", "ssm_dt.bias":
		g, err := a.vector(t)
		if err == nil && g.cols != heads {
			err = fmt.Errorf("%w: %s: want an element for each of %d heads", ErrCorrupt, t, heads)
		}
		function := func(x float32) float32 { return x }
		if to.name == "ssm_a" {
			function = func(x float32) float32 { return float32(-math.Exp(float64(x))) }
		}
		return a.add(name, []int{heads}, err, g.each(function).gatherCols(1, d.valueHead))
	case "ssm_conv1d.weight":
		g, err := a.vector(t)
		channels := 2*d.keys() + d.values()
		if err != nil || len(t.shape) == 0 || t.shape[0] != channels {
			return fmt.Errorf("%w: %s: want the kernels of %d channels", ErrCorrupt, t, channels)
		}
		kernels := t.grid(channels, g.cols/channels)
		return a.add(name, []int{channels, kernels.cols}, nil, d.rows(kernels, channels, d.channel))
	}
	grids, err := a.grids(t)
	if err != nil {
		return err
	}
	g := grids[0]
	want := map[string]int{
		"attn_qkv.weight": 2*d.keys() + d.values(), "attn_gate.weight": d.values(), "ssm_beta.weight": heads, "ssm_alpha.weight": heads,
		"ssm_out.weight": g.rows, groupedQKVZ + ".weight": 2*d.keys() + 2*d.values(),
	}[to.name]
	if len(grids) != 1 || g.rows != want || to.name == "ssm_out.weight" && g.cols != d.values() {
		return fmt.Errorf("%w: %s does not fit %d key heads of %d and %d value heads of %d", ErrCorrupt, t, d.keyHeads, d.keyDim, heads, d.valueDim)
	}
	switch to.name {
	case "attn_qkv.weight":
		g = d.rows(g, g.rows, d.channel)
	case "attn_gate.weight":
		g = d.rows(g, g.rows, d.value)
	case "ssm_beta.weight", "ssm_alpha.weight":
		g = d.rows(g, g.rows, d.valueHead)
	case "ssm_out.weight":
		if d.tiled && d.perKey > 1 {
			g = g.gatherCols(d.valueDim, d.valueHead)
		}
	default:
		return a.addGrouped(to.prefix, g, &d)
	}
	return a.add(name, []int{g.rows, g.cols}, nil, g)
}

// rows puts rows into the model's order, where it is another.
func (d *deltaShape) rows(g grid, n int, from func(int) int) grid {
	if !d.tiled || d.perKey == 1 {
		return g
	}
	return g.gather(n, from)
}

// addGrouped takes Qwen3-Next's in_proj_qkvz apart. Its rows are, for each key head, a query, a key, values and the gates
// of these.
func (a *assembly) addGrouped(prefix string, g grid, d *deltaShape) error {
	groupValues := d.perKey * d.valueDim
	group := 2*d.keyDim + 2*groupValues
	qkv := g.gather(2*d.keys()+d.values(), func(row int) int {
		switch {
		case row < d.keys():
			return row/d.keyDim*group + row%d.keyDim
		case row < 2*d.keys():
			row -= d.keys()
			return row/d.keyDim*group + d.keyDim + row%d.keyDim
		}
		row -= 2 * d.keys()
		return row/groupValues*group + 2*d.keyDim + row%groupValues
	})
	gate := g.gather(d.values(), func(row int) int {
		return row/groupValues*group + 2*d.keyDim + groupValues + row%groupValues
	})
	if err := a.add(prefix+"attn_qkv.weight", []int{qkv.rows, qkv.cols}, nil, qkv); err != nil {
		return err
	}
	return a.add(prefix+"attn_gate.weight", []int{gate.rows, gate.cols}, nil, gate)
}
