package weights

import (
	"slices"
	"strconv"
	"strings"

	"hearth/hardware/quant"
)

// Recipe decides which tensor of a quantized model gets which format, by the rules of ggml-org/llama.cpp
// (src/llama-quant.cpp) without an importance matrix: the output head, the value projections and the last matrices of
// the feed-forward networks suffer most from few bits, those of the first and last layers more than the others.
type Recipe struct {
	Name     string        // "Q4_K_M"
	FileType uint32        // general.file_type
	Format   *quant.Format // what most tensors get

	head    *quant.Format // output head, or the embedding where they are tied
	attnOut *quant.Format // nil: Format
	experts *quant.Format // stacks of experts; nil: as other tensors
	value   func(p position, queriesPerKV int) *quant.Format
	down    func(p position) *quant.Format
}

// position is that of a tensor among those of its kind.
type position struct{ i, n int }

// early reports whether the tensor is in the first part of n parts.
func (p position) early(part int) bool { return p.i < p.n/part }

// moreBits picks the first and the last eighth, and every third between.
func (p position) moreBits() bool {
	eighth := p.n / 8
	return p.i < eighth || p.i >= 7*p.n/8 || (p.i-eighth)%3 == 2
}

// recipes, by general.file_type (llama.h, enum llama_ftype).
var recipes = []Recipe{
	{Name: "F32", FileType: 0, Format: quant.F32, head: quant.F32},
	{Name: "F16", FileType: 1, Format: quant.F16, head: quant.F16},
	{Name: "BF16", FileType: 32, Format: quant.BF16, head: quant.BF16},
	{Name: "Q8_0", FileType: 7, Format: quant.Q8_0, head: quant.Q8_0},
	{Name: "Q4_0", FileType: 2, Format: quant.Q4_0, head: quant.Q6_K},
	{Name: "Q4_1", FileType: 3, Format: quant.Q4_1, head: quant.Q6_K},
	{Name: "Q5_0", FileType: 8, Format: quant.Q5_0, head: quant.Q6_K},
	{Name: "Q5_1", FileType: 9, Format: quant.Q5_1, head: quant.Q6_K},
	{
		Name: "Q2_K", FileType: 10, Format: quant.Q2_K, head: quant.Q6_K, attnOut: quant.Q3_K,
		value: func(_ position, queriesPerKV int) *quant.Format {
			return either(queriesPerKV >= 4, quant.Q4_K, quant.Q3_K)
		},
		down: func(position) *quant.Format { return quant.Q3_K },
	},
	{Name: "Q3_K_S", FileType: 11, Format: quant.Q3_K, head: quant.Q6_K},
	{
		Name: "Q3_K_M", FileType: 12, Format: quant.Q3_K, head: quant.Q6_K, attnOut: quant.Q4_K,
		value: func(p position, _ int) *quant.Format { return either(p.i < 2, quant.Q5_K, quant.Q4_K) },
		down:  func(p position) *quant.Format { return either(p.early(16), quant.Q5_K, quant.Q4_K) },
	},
	{
		Name: "Q3_K_L", FileType: 13, Format: quant.Q3_K, head: quant.Q6_K, attnOut: quant.Q5_K,
		value: func(position, int) *quant.Format { return quant.Q5_K },
		down:  func(position) *quant.Format { return quant.Q5_K },
	},
	{
		Name: "Q4_K_S", FileType: 14, Format: quant.Q4_K, head: quant.Q6_K,
		value: func(p position, _ int) *quant.Format { return either(p.i < 4, quant.Q5_K, quant.Q4_K) },
		down:  func(p position) *quant.Format { return either(p.early(8), quant.Q5_K, quant.Q4_K) },
	},
	{
		Name: "Q4_K_M", FileType: 15, Format: quant.Q4_K, head: quant.Q6_K,
		value: func(p position, _ int) *quant.Format { return either(p.moreBits(), quant.Q6_K, quant.Q4_K) },
		down:  func(p position) *quant.Format { return either(p.moreBits(), quant.Q6_K, quant.Q4_K) },
	},
	{Name: "Q5_K_S", FileType: 16, Format: quant.Q5_K, head: quant.Q6_K},
	{
		Name: "Q5_K_M", FileType: 17, Format: quant.Q5_K, head: quant.Q6_K,
		value: func(p position, _ int) *quant.Format { return either(p.moreBits(), quant.Q6_K, quant.Q5_K) },
		down:  func(p position) *quant.Format { return either(p.moreBits(), quant.Q6_K, quant.Q5_K) },
	},
	{Name: "Q6_K", FileType: 18, Format: quant.Q6_K, head: quant.Q6_K},
	fourBitCodebook(Recipe{Name: "IQ4_NL", FileType: 25, Format: quant.IQ4_NL}),
	fourBitCodebook(Recipe{Name: "IQ4_XS", FileType: 30, Format: quant.IQ4_XS}),
	{Name: "MXFP4_MOE", FileType: 38, Format: quant.Q8_0, head: quant.Q8_0, experts: quant.MXFP4},
}

// fourBitCodebook fills in the rules that the recipes of IQ4 formats share.
func fourBitCodebook(r Recipe) Recipe {
	r.head = quant.Q6_K
	r.value = func(_ position, queriesPerKV int) *quant.Format {
		return either(queriesPerKV >= 4, quant.Q5_K, r.Format)
	}
	r.down = func(p position) *quant.Format { return either(p.early(8), quant.Q5_K, r.Format) }
	return r
}

func either(condition bool, yes, no *quant.Format) *quant.Format {
	if condition {
		return yes
	}
	return no
}

// RecipeByName returns the recipe of a name, in any case: "q4_k_m".
func RecipeByName(name string) (*Recipe, bool) {
	i := slices.IndexFunc(recipes, func(r Recipe) bool { return strings.EqualFold(r.Name, name) })
	if i < 0 {
		return nil, false
	}
	return &recipes[i], true
}

// RecipeNames lists all recipes in lower case, as flags take them.
func RecipeNames() []string {
	names := make([]string, len(recipes))
	for i, r := range recipes {
		names[i] = strings.ToLower(r.Name)
	}
	return names
}

// RecipeModel is what a recipe needs to know of a model.
type RecipeModel struct {
	NumLayers    int
	QueriesPerKV int // query heads that share a key-value head
	NumExperts   int
	Tied         bool // the output head is the embedding
}

// NewRecipeModel reads what a recipe needs to know from a model's metadata and tensors.
func NewRecipeModel(src Source) RecipeModel {
	arch, _ := src.Metadata().String("general.architecture")
	count := func(name string) int {
		key := arch + "." + name
		if n, ok := src.Metadata().Uint(key); ok {
			return int(min(n, 1<<31-1))
		}
		perLayer, _ := src.Metadata().Ints(key)
		i := slices.IndexFunc(perLayer, func(n int) bool { return n > 0 }) // layers without attention have none
		if i < 0 {
			return 0
		}
		return perLayer[i]
	}
	m := RecipeModel{NumLayers: count("block_count"), NumExperts: count("expert_count"), Tied: !src.Has(headName)}
	if groups := count("attention.head_count_kv"); groups > 0 {
		m.QueriesPerKV = count("attention.head_count") / groups
	}
	return m
}

// Assign returns the format of each tensor, nil for those that are kept as they are: vectors, norms, routers and the
// like. Their order is that of the file, which counts.
func (r *Recipe) Assign(m RecipeModel, tensors []Tensor) []*quant.Format {
	formats := r.wanted(m, tensors)
	for i, f := range formats {
		if f != nil {
			formats[i] = fitting(f, tensors[i].Shape[len(tensors[i].Shape)-1])
		}
	}
	return formats
}

// wanted is Assign before it is asked whether blocks divide the rows.
func (r *Recipe) wanted(m RecipeModel, tensors []Tensor) []*quant.Format {
	formats := make([]*quant.Format, len(tensors))
	values := position{}
	for _, t := range tensors {
		if isValueLike(t.Name) {
			values.n++
		}
	}
	for i, t := range tensors {
		if !quantizable(t) {
			continue
		}
		formats[i] = r.choose(m, t, values)
		if isValueLike(t.Name) {
			values.i++
		}
	}
	return formats
}

func isValueLike(name string) bool {
	return strings.HasSuffix(name, "attn_v.weight") || strings.HasSuffix(name, "attn_qkv.weight") || strings.HasSuffix(name, "attn_kv_b.weight")
}

// keptMatrices are parts of the names of matrices that recipes leave alone. They are small, and few bits would cost much:
// they choose (experts, positions, residual streams) or are added and filtered with instead of multiplied by.
var keptMatrices = []string{
	"ffn_gate_inp",     // routers
	"ffn_gate_tid2eid", // table from token to experts
	"ssm_conv1d",       // short convolutions
	"hc_",              // mixes of hyper-connections
	"_compressor_ape",  // positions of compressed blocks
	"indexer.proj",     // weights of the indexer's heads
	"indexer.q_proj",   // MiniMax-M3's indexer
	"indexer.k_proj",   //
	"cls.output",       // the two classes of a reranker
}

// quantizable reports whether a tensor is a matrix that recipes touch.
func quantizable(t Tensor) bool {
	return len(t.Shape) >= 2 && strings.HasSuffix(t.Name, "weight") && !strings.HasSuffix(t.Name, "_norm.weight") &&
		!slices.ContainsFunc(keptMatrices, func(part string) bool { return strings.Contains(t.Name, part) })
}

// choose applies the rules to one tensor; values is the place among the value projections if it is one.
func (r *Recipe) choose(m RecipeModel, t Tensor, values position) *quant.Format {
	eightExperts := m.NumExperts == 8 // the rules for Mixtral, whose small attention is worth more bits
	switch {
	case t.Name == headName || t.Name == "token_embd.weight" && m.Tied:
		return r.head
	case t.Name == "token_embd.weight":
		return r.Format
	case r.experts != nil && strings.HasSuffix(t.Name, "_exps.weight"):
		return r.experts
	case isValueLike(t.Name) && r.value != nil:
		chosen := r.value(values, m.QueriesPerKV)
		if m.NumLayers == 80 && (chosen == quant.Q3_K || chosen == quant.Q4_K) { // models of 70 B
			chosen = quant.Q5_K
		}
		return either(eightExperts, quant.Q8_0, chosen)
	case strings.Contains(t.Name, "attn_k.weight") && eightExperts && r.value != nil:
		return quant.Q8_0
	case strings.Contains(t.Name, "attn_output.weight"):
		return either(eightExperts && r.Format == quant.Q4_K, quant.Q5_K, orDefault(r.attnOut, r.Format))
	case strings.Contains(t.Name, "ffn_down") && r.down != nil:
		return r.down(position{layerOf(t.Name), m.NumLayers})
	}
	return r.Format
}

func orDefault(f, missing *quant.Format) *quant.Format { return either(f != nil, f, missing) }

// layerOf returns N of "blk.N.…".
func layerOf(name string) int {
	number, _, _ := strings.Cut(strings.TrimPrefix(name, "blk."), ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

// fitting returns a format whose blocks divide a row: the chosen one, or one of smaller blocks and no fewer bits.
func fitting(f *quant.Format, rowLen int) *quant.Format {
	if _, whole := f.RowBytes(rowLen); whole {
		return f
	}
	smaller := map[*quant.Format]*quant.Format{
		quant.Q4_K: quant.Q5_0, quant.Q5_K: quant.Q5_1, quant.Q6_K: quant.Q8_0, quant.Q2_K: quant.Q4_0, quant.Q3_K: quant.Q4_0,
		quant.IQ4_XS: quant.IQ4_NL,
	}[f]
	if smaller == nil {
		return quant.F16
	}
	return fitting(smaller, rowLen)
}
