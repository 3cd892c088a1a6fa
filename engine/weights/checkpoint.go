package weights

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A checkpoint's tensors are presented as the converters to GGUF write them (ggml-org/llama.cpp, conversion/), so that
// models find one form only. Most are the file's bytes under another name. The others are made when they are read:
//
//	experts                   one by one, or gate and up joined -> stacks
//	weights with scales       -> blocks, see scaled.go
//	norms, zero-centred       w -> w + 1
//	ssm_a                     A_log -> -exp(A_log)
//	ssm_conv1d, …_inp_shexp   dimensions of 1 are left out
//	attn_qkv … ssm_out        of qwen35 and qwen35moe: the value heads in tiled order, see delta.go
//	in_proj_qkvz              -> attn_qkv and attn_gate
//	kv_b_proj                 -> attn_k_b, transposed by head, and attn_v_b
//	tid2eid                   I64 -> I32
//	e_proj, h_proj            -> nextn.eh_proj
//
// Prediction blocks follow the layers when the configuration announces them and they are there, also those that a
// converter leaves out (DeepSeek-V3) or writes to a file of their own (DeepSeek-V4).

// assembly enters the tensors of a checkpoint into a source.
type assembly struct {
	naming
	s      *source
	scales map[string]*rawTensor // by the name of the tensor that they belong to
	tiling tiling
	stacks map[string][]matrix
	order  []string // of the stacks
	halves map[string]half
	outer  map[string]*rawTensor // outside the layers, by their GGUF names
}

// matrix is one of a stack.
type matrix struct {
	expert int
	tensor *rawTensor
}

// half is the part of a prediction block's projection that was found first.
type half struct {
	tensor *rawTensor
	name   string
}

// addRenamed enters the tensors under their GGUF names.
func (s *source) addRenamed(b *checkpoint) error {
	tensors := b.tensors
	arch, _ := s.md.String("general.architecture")
	if !slices.Contains(renamed, arch) {
		for i := range tensors {
			if err := s.add(tensors[i].tensor(tensors[i].name), tensors[i].data); err != nil {
				return err
			}
		}
		return nil
	}
	blocks, _ := s.md.Uint(arch + ".block_count")
	predicting, _ := s.md.Uint(arch + ".nextn_predict_layers")
	blocks = min(blocks, math.MaxInt32)
	a := &assembly{
		naming: naming{arch: arch, numLayers: int(blocks - min(blocks, predicting)), numBlocks: int(blocks)},
		s:      s, tiling: b.tiling, scales: map[string]*rawTensor{}, stacks: map[string][]matrix{}, halves: map[string]half{},
		outer: map[string]*rawTensor{},
	}
	rest, err := a.takeScales(tensors)
	if err != nil {
		return err
	}
	for _, t := range rest {
		if err := a.place(t); err != nil {
			return err
		}
	}
	for _, name := range a.order {
		if err := a.addStack(name, a.stacks[name]); err != nil {
			return err
		}
	}
	for _, h := range a.halves {
		return fmt.Errorf("%w: %s: the other half of the projection, e_proj or h_proj, is missing", ErrCorrupt, h.tensor)
	}
	if b.ranking != nil && len(tensors) > 0 {
		return a.addRanking(b.ranking)
	}
	return nil
}

// scaleSuffixes end the names of scales, and what is instead of them at the end of their weights' names.
var scaleSuffixes = []struct{ scale, weight string }{
	{".weight_scale_inv", ".weight"}, {".weight_scale", ".weight"}, {".scale", ".weight"},
	{"_proj_scale_inv", "_proj"}, {"_proj_scale", "_proj"}, // of stacks
}

// scaled returns the name of the weight that a tensor scales, "" for other tensors.
func scaled(name string) string {
	for _, s := range scaleSuffixes {
		if stem, ok := strings.CutSuffix(name, s.scale); ok {
			return stem + s.weight
		}
	}
	return ""
}

// takeScales sets the scales aside and returns the other tensors.
func (a *assembly) takeScales(tensors []rawTensor) ([]*rawTensor, error) {
	byName := make(map[string]*rawTensor, len(tensors))
	for i := range tensors {
		byName[tensors[i].name] = &tensors[i]
	}
	var rest []*rawTensor
	for i := range tensors {
		t := &tensors[i]
		weight := scaled(t.name)
		if _, ours := a.plain(t.name); weight == "" || !ours {
			rest = append(rest, t)
			continue
		}
		switch {
		case byName[weight] == nil:
			return nil, fmt.Errorf("%w: %s: it scales %q, which is missing", ErrCorrupt, t, weight)
		case a.scales[weight] != nil:
			return nil, fmt.Errorf("%w: %s: %q has other scales, %s", ErrCorrupt, t, weight, a.scales[weight])
		}
		a.scales[weight] = t
	}
	return rest, nil
}

// place enters a tensor under its GGUF name, in GGUF's form, or sets it aside for its stack.
func (a *assembly) place(t *rawTensor) error {
	to, ok := a.translate(t.name)
	if !ok {
		return nil
	}
	name := to.prefix + to.name
	if to.prefix == "" {
		a.outer[name] = t
	}
	switch to.name {
	case classTensor:
		if len(t.shape) == 1 || len(t.shape) == 2 && t.shape[0] == 1 {
			return a.addClass(t)
		}
	case joinedGateUp + ".weight":
		return a.addGateUp(to.prefix, t)
	case joinedKV + ".weight":
		return a.addKeysValues(to.prefix, t)
	case predictEmbedding + ".weight", predictHidden + ".weight":
		return a.addHalf(to, t)
	case "ffn_gate_inp_shexp.weight":
		g, err := a.vector(t)
		return a.add(name, []int{g.cols}, err, g)
	case "ffn_gate_tid2eid.weight":
		if t.dtype == "I64" {
			return a.addTable(name, t)
		}
	}
	switch {
	case to.stack:
		if a.stacks[name] == nil {
			a.order = append(a.order, name)
		}
		a.stacks[name] = append(a.stacks[name], matrix{to.expert, t})
		return nil
	case isDelta(to.name) && a.isHybrid():
		return a.addDelta(to, t)
	case a.hasZeroCentredNorms() && strings.HasSuffix(name, "norm.weight") && to.name != "ssm_norm.weight":
		g, err := a.vector(t)
		return a.add(name, []int{g.cols}, err, g.each(func(x float32) float32 { return x + 1 }))
	case a.scales[t.name] != nil || isTiny(t.dtype):
		grids, err := a.grids(t)
		return a.add(name, shapeOf(grids, len(t.shape)), err, grids...)
	}
	return a.s.add(t.tensor(name), t.data)
}

// isTiny reports whether numbers of a type say little without scales.
func isTiny(dtype string) bool { return strings.HasPrefix(dtype, "F8_") || dtype == "F4" }

// shapeOf is the shape of matrices of one size, in two dimensions or three.
func shapeOf(grids []grid, dims int) []int {
	if len(grids) == 0 {
		return nil
	}
	if dims == 2 {
		return []int{grids[0].rows, grids[0].cols}
	}
	return []int{len(grids), grids[0].rows, grids[0].cols}
}

// add enters a tensor whose rows come from grids of one size, unless they could not be had.
func (a *assembly) add(name string, shape []int, err error, grids ...grid) error {
	if err != nil {
		return fmt.Errorf("%w, for %q", err, name)
	}
	g := &grids[0]
	t := Tensor{Name: name, Type: g.typ, Format: g.format, Shape: shape, dtype: g.dtype}
	t.size = int64(len(grids)) * int64(g.rows) * int64(g.rowBytes())
	parts := make([][]byte, len(grids))
	for i := range grids {
		if grids[i].stored == nil {
			return a.s.addMade(t, grids)
		}
		parts[i] = grids[i].stored
	}
	return a.s.add(t, parts...)
}

// grids returns the matrices of a tensor with two dimensions or three, with their scales where it has some.
func (a *assembly) grids(t *rawTensor) ([]grid, error) {
	scale := a.scales[t.name]
	if len(t.shape) < 2 || len(t.shape) > 3 || len(t.data) == 0 {
		return nil, fmt.Errorf("%w: %s: want a matrix, or a stack of them", ErrCorrupt, t)
	}
	if scale == nil && isTiny(t.dtype) {
		return nil, fmt.Errorf("%w: %s: its scales are missing", ErrCorrupt, t)
	}
	if len(t.shape) == 2 {
		g, err := a.matrix(t, scale)
		return []grid{g}, err
	}
	count := t.shape[0] // not more than bytes
	if scale != nil && (len(scale.shape) != 3 || scale.shape[0] != count) {
		return nil, fmt.Errorf("%w: %s: its scales are %s, which does not fit it", ErrCorrupt, t, scale)
	}
	grids := make([]grid, count)
	for i := range grids {
		var err error
		if grids[i], err = a.matrix(t.part(i), scale.part(i)); err != nil {
			return nil, err
		}
	}
	return grids, nil
}

// matrix returns a tensor of two dimensions, with its scales where it has some.
func (a *assembly) matrix(t, scale *rawTensor) (grid, error) {
	if scale != nil {
		return scaledGrid(t, scale, a.tiling)
	}
	g := t.grid(t.shape[0], t.shape[1])
	if g.format == nil {
		return g, fmt.Errorf("%w: %s: want numbers", ErrCorrupt, t)
	}
	return g, nil
}

// vector returns a tensor's elements as one row, whatever its dimensions.
func (a *assembly) vector(t *rawTensor) (grid, error) {
	g := t.grid(1, int(t.elements()))
	if a.scales[t.name] != nil || g.format == nil || len(t.data) == 0 {
		return g, fmt.Errorf("%w: %s: want numbers without scales", ErrCorrupt, t)
	}
	return g, nil
}

// addStack enters the matrices of all experts as one tensor [experts, out, in].
func (a *assembly) addStack(name string, stack []matrix) error {
	slices.SortStableFunc(stack, func(a, b matrix) int { return a.expert - b.expert })
	grids := make([]grid, len(stack))
	for i, m := range stack {
		if m.expert != i {
			return fmt.Errorf("%w: tensor %q: the matrix of expert %d is missing or there twice", ErrCorrupt, name, i)
		}
		matrices, err := a.grids(m.tensor)
		if err != nil {
			return err
		}
		grids[i] = matrices[0]
		g, first := &grids[i], &grids[0]
		if len(matrices) != 1 || g.encoding != first.encoding || g.rows != first.rows || g.cols != first.cols {
			return fmt.Errorf("%w: %s: the matrix of expert 0 is %s", ErrCorrupt, m.tensor, stack[0].tensor)
		}
	}
	return a.add(name, shapeOf(grids, 3), nil, grids...)
}

// addGateUp enters a stack [experts, 2*ffn, hidden], whose rows are first those of gate, then those of up, as two.
func (a *assembly) addGateUp(prefix string, t *rawTensor) error {
	joined, err := a.grids(t)
	if err != nil {
		return err
	}
	if len(t.shape) != 3 || joined[0].rows%2 != 0 {
		return fmt.Errorf("%w: %s: want the shape [experts, 2*ffn, hidden]", ErrCorrupt, t)
	}
	ffn := joined[0].rows / 2
	for i, name := range []string{"ffn_gate_exps.weight", "ffn_up_exps.weight"} {
		grids := make([]grid, len(joined))
		for e := range joined {
			grids[e] = joined[e].slice(i*ffn, ffn)
		}
		if err := a.add(prefix+name, shapeOf(grids, 3), nil, grids...); err != nil {
			return err
		}
	}
	return nil
}

// addKeysValues enters the two halves of DeepSeek's kv_b [heads*(nope+v), rank], of which the absorbed form of latent
// attention multiplies queries with the transposed first (arXiv 2405.04434 §2.1.2).
func (a *assembly) addKeysValues(prefix string, t *rawTensor) error {
	numHeads, err := a.key("attention.head_count")
	keyLen, err2 := a.key("attention.key_length_mla")
	rope, err3 := a.key("rope.dimension_count")
	valueLen, err4 := a.key("attention.value_length_mla")
	if err := firstError(err, err2, err3, err4); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	joined, err := a.grids(t)
	if err != nil {
		return err
	}
	nope := keyLen - rope
	if len(t.shape) != 2 || nope <= 0 || t.shape[0] != numHeads*(nope+valueLen) {
		return fmt.Errorf("%w: %s: want the shape [%d*(%d-%d+%d), rank]", ErrCorrupt, t, numHeads, keyLen, rope, valueLen)
	}
	keys, values := make([]grid, numHeads), make([]grid, numHeads)
	for h := range numHeads {
		first := h * (nope + valueLen)
		keys[h] = joined[0].slice(first, nope).transposed()
		values[h] = joined[0].slice(first+nope, valueLen)
	}
	if err := a.add(prefix+"attn_k_b.weight", shapeOf(keys, 3), nil, keys...); err != nil {
		return err
	}
	return a.add(prefix+"attn_v_b.weight", shapeOf(values, 3), nil, values...)
}

// addHalf enters the projection of a prediction block when both halves are there: that of the embedding comes first.
func (a *assembly) addHalf(to target, t *rawTensor) error {
	name := to.prefix + "nextn.eh_proj.weight"
	other, found := a.halves[name]
	if !found {
		a.halves[name] = half{t, to.name}
		return nil
	}
	delete(a.halves, name)
	pair := map[string]*rawTensor{to.name: t, other.name: other.tensor}
	embedding, hidden := pair[predictEmbedding+".weight"], pair[predictHidden+".weight"]
	if embedding == nil || hidden == nil {
		return fmt.Errorf("%w: %s: it is there twice", ErrCorrupt, t)
	}
	left, err := a.grids(embedding)
	if err != nil {
		return err
	}
	right, err := a.grids(hidden)
	if err != nil {
		return err
	}
	if len(left) != 1 || len(right) != 1 || left[0].rows != right[0].rows {
		return fmt.Errorf("%w: %s does not fit %s", ErrCorrupt, embedding, hidden)
	}
	both := left[0].beside(right[0])
	return a.add(name, []int{both.rows, both.cols}, nil, both)
}

// addTable enters a table of the experts of tokens, which are fewer than a file's 8 bytes can tell apart.
func (a *assembly) addTable(name string, t *rawTensor) error {
	if len(t.shape) != 2 || len(t.data) == 0 {
		return fmt.Errorf("%w: %s: want the shape [tokens, experts of a token]", ErrCorrupt, t)
	}
	return a.add(name, t.shape, nil, t.grid(t.shape[0], t.shape[1]).narrowed())
}

// key returns a hyperparameter that the form of a tensor depends on.
func (a *assembly) key(name string) (int, error) {
	const most = 1 << 24 // of what products of three of them still fit
	n, ok := a.s.md.Uint(a.arch + "." + name)
	if !ok || n == 0 || n > most {
		return 0, fmt.Errorf("%w: its form depends on the key %s.%s, which is %d", ErrCorrupt, a.arch, name, n)
	}
	return int(n), nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
