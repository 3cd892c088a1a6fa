package weights

import (
	"fmt"
	"math"
	"path"
	"runtime"
	"slices"
	"strings"

	"hearth/hardware/quant"
)

// ConvertOptions say what a conversion makes of a source.
type ConvertOptions struct {
	Recipe    *Recipe
	Overrides []Override // formats of single tensors; the first that matches counts
	// Requantize allows tensors whose blocks are quantized already to be quantized again, which adds up the errors of both.
	Requantize bool
	// Importance says how much each column of a matrix matters, by the tensor's name: [columns], or [experts * columns] of
	// a stack. Matrices without it have columns that all matter alike.
	Importance map[string][]float32
	// Thorough has the quantizers search as long for matrices without importance as for those with it. The bytes are then
	// not those of the reference recipes, the errors smaller.
	Thorough bool
	// Metadata are the keys of the result, but for those of its types and of the source's files; nil: those of the source.
	Metadata *Metadata
	// Extra are further small tensors, float32, put first.
	Extra    []ExtraTensor
	Workers  int                        // 0: as many as processors
	Progress func(doneBytes, all int64) // of the source, called by one goroutine at a time; nil: nobody asks
	Resuming func(earlier Finished)     // called before all else when an earlier run had finished something; nil: nobody asks
	// Replace begins anew where the file in the making is of another conversion or of something else. One of this conversion
	// is gone on with all the same.
	Replace bool
}

// Override gives the matrices whose names match a pattern a format in place of the recipe's.
type Override struct {
	Pattern string // as path.Match has it: "blk.*.ffn_down.weight"
	Format  *quant.Format
}

// ExtraTensor is a tensor that the source does not have.
type ExtraTensor struct {
	Name   string
	Values []float32
}

// Converted says what becomes of one tensor.
type Converted struct {
	Name        string
	Shape       []int         // row-major
	From        string        // type in the source
	Format      *quant.Format // nil: integers and the like, which are copied
	Type        uint32        // GGUF tensor type of the result
	Wanted      *quant.Format // what the recipe asks for, when its blocks do not divide the rows; otherwise nil
	SourceBytes int64
	Bytes       int64
	Error       RoundingError // known once the tensor is written
}

// Copied reports whether the tensor keeps its bytes.
func (c *Converted) Copied() bool { return c.From == c.TypeName() }

// TypeName is the name of the result's type.
func (c *Converted) TypeName() string { return quant.TypeName(c.Type) }

// Elements returns the number of elements.
func (c *Converted) Elements() int64 { return Tensor{Shape: c.Shape}.Elements() }

// Conversion is a GGUF file that is to be made from a source: every tensor has its type and its place, no weight has been
// read. One goroutine uses it, while the source stays open.
type Conversion struct {
	src     *source
	options ConvertOptions
	md      *Metadata
	tensors []Converted
	inputs  []input // [tensors]
	layout  layout

	ones     []float32 // importance of columns that matter alike, of the longest row so far
	progress progress
	finished Finished // when Save returned
}

// input is where the rows of a tensor come from.
type input struct {
	tensor     Tensor    // Shape alone for extra tensors
	rows       int       // of the tensor, all experts together
	columns    int       // of a row
	order      rowOrder  // nil: as in the source
	importance []float32 // nil: columns matter alike
	values     []float32 // of an extra tensor
}

// rowOrder maps a row of the result to that of the source.
type rowOrder func(row int) int

// PlanConversion decides the type of every tensor. It reads no weights, and fails on a tensor that cannot be converted,
// by name.
func PlanConversion(src Source, options ConvertOptions) (*Conversion, error) {
	s, ok := src.(*source)
	if !ok {
		return nil, fmt.Errorf("weights: a source of type %T cannot be converted", src)
	}
	c := &Conversion{src: s, options: options, md: conversionMetadata(s, options)}
	if c.options.Workers <= 0 {
		c.options.Workers = runtime.GOMAXPROCS(0)
	}
	if err := c.plan(); err != nil {
		return nil, fmt.Errorf("weights: %s: %w", s.path, err)
	}
	return c, nil
}

// Tensors lists what becomes of each tensor, in the order of the file. The caller does not modify it.
func (c *Conversion) Tensors() []Converted { return c.tensors }

// Size returns the bytes of the whole file.
func (c *Conversion) Size() int64 { return c.layout.size }

// Metadata returns the keys of the file. The caller does not modify it.
func (c *Conversion) Metadata() *Metadata { return c.md }

// quantizationVersion is that of the block formats (GGML_QNT_VERSION in ggml.h).
const quantizationVersion = 2

// conversionMetadata returns the keys of the result: those that are about the source's files go.
func conversionMetadata(s *source, options ConvertOptions) *Metadata {
	md := s.md
	if options.Metadata != nil {
		md = options.Metadata
	}
	out := md.Clone()
	arch, _ := md.String("general.architecture")
	out.Delete(arch + "." + TiedKey) // a GGUF file says it by leaving the head out
	for _, key := range md.Keys() {
		if strings.HasPrefix(key, "split.") || strings.HasPrefix(key, "safetensors.") {
			out.Delete(key)
		}
	}
	out.Set("general.file_type", options.Recipe.FileType)
	out.Set("general.quantization_version", uint32(quantizationVersion))
	return out
}

// plan fills tensors, inputs and layout.
func (c *Conversion) plan() error {
	for _, extra := range c.options.Extra {
		size := int64(4 * len(extra.Values))
		shape := []int{len(extra.Values)}
		c.tensors = append(c.tensors, Converted{Name: extra.Name, Shape: shape, From: quant.F32.Name, Format: quant.F32, SourceBytes: size})
		c.inputs = append(c.inputs, input{tensor: Tensor{Name: extra.Name, Format: quant.F32, Shape: shape}, rows: 1, columns: len(extra.Values), values: extra.Values})
	}
	described, err := c.describe()
	if err != nil {
		return err
	}
	model := NewRecipeModel(c.src)
	model.Tied = !slices.ContainsFunc(described, func(t Tensor) bool { return t.Name == headName })
	wanted := c.options.Recipe.wanted(model, described)
	if err := c.checkOverrides(described, wanted); err != nil {
		return err
	}
	for i := range described {
		if err := c.add(&described[i], c.override(described[i].Name, wanted[i])); err != nil {
			return fmt.Errorf("tensor %q: %w", described[i].Name, err)
		}
	}
	if len(c.tensors) == 0 {
		return fmt.Errorf("%w: there are no tensors", ErrUnsupported)
	}
	c.layout, err = newLayout(c.md, c.tensors)
	return err
}

// headName is the output head. A GGUF file whose head is the embedding has no such tensor.
const headName = "output.weight"

// describe lists the source's tensors that a language model has.
func (c *Conversion) describe() ([]Tensor, error) {
	arch, _ := c.src.md.String("general.architecture")
	tied, told := c.src.md.Bool(arch + "." + TiedKey)
	if told && !tied && !c.src.Has(headName) {
		return nil, fmt.Errorf("%w: %s is false, and there is no head: %w: %q", ErrCorrupt, TiedKey, ErrNotFound, headName)
	}
	var list []Tensor
	for _, name := range c.src.Names() {
		if tied && name == headName { // the embedding a second time
			continue
		}
		t, err := c.src.Describe(name)
		if err != nil {
			return nil, err
		}
		if c.src.origin == HuggingFace && !isGGUFName(name) {
			if isOtherModality(name) {
				continue
			}
			return nil, fmt.Errorf("%w: tensor %q has no GGUF name in the architecture %q", ErrUnsupported, name, arch)
		}
		if len(t.Shape) == 0 { // GGUF has no scalars
			t.Shape = []int{1}
		}
		list = append(list, t)
	}
	return list, nil
}

// isGGUFName reports whether a tensor of a Hugging Face checkpoint got a GGUF name.
func isGGUFName(name string) bool {
	return slices.ContainsFunc([]string{"blk.", "output", "token_embd", "rope_", "cls."}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}

// isOtherModality recognises the tensors of encoders for pictures and sound, and buffers that are computed from the
// configuration: GGUF files of language models have neither.
func isOtherModality(name string) bool {
	for _, part := range []string{"visual.", "vision_", "audio_", "multi_modal_projector.", ".rotary_emb.inv_freq"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// checkOverrides refuses patterns that no matrix matches: they are misspelt, or for another model.
func (c *Conversion) checkOverrides(described []Tensor, wanted []*quant.Format) error {
	for _, o := range c.options.Overrides {
		matches, quantized := 0, 0
		for i, t := range described {
			if match, err := path.Match(o.Pattern, t.Name); err != nil || !match {
				continue
			}
			matches++
			if wanted[i] != nil {
				quantized++
			}
		}
		switch {
		case matches == 0:
			return fmt.Errorf("%w: no name matches the pattern %q", ErrNotFound, o.Pattern)
		case quantized == 0:
			return fmt.Errorf("%w: only tensors that keep their numbers match the pattern %q", ErrUnsupported, o.Pattern)
		}
	}
	return nil
}

// override returns the format that the options give to a matrix, or else the recipe's.
func (c *Conversion) override(name string, wanted *quant.Format) *quant.Format {
	if wanted == nil {
		return nil
	}
	for _, o := range c.options.Overrides {
		if match, err := path.Match(o.Pattern, name); err == nil && match {
			return o.Format
		}
	}
	return wanted
}

// add decides the type of one tensor; wanted is nil for those that recipes leave alone.
func (c *Conversion) add(t *Tensor, wanted *quant.Format) error {
	columns := t.Shape[len(t.Shape)-1]
	out := Converted{Name: t.Name, Shape: t.Shape, From: t.TypeName(), Type: t.Type, Format: t.Format, SourceBytes: t.Size()}
	switch {
	case t.Format == nil && t.Type == NoType:
		return fmt.Errorf("%w: type %s cannot be converted", ErrUnsupported, t.TypeName())
	case t.Format == nil: // integers
	case wanted == nil && (c.src.origin == HuggingFace && t.Format.BlockLen == 1 || t.Type == NoType):
		out.Format = quant.F32 // vectors and the like are float32 in every GGUF file
	case wanted == nil:
	default:
		if out.Format = fitting(wanted, columns); out.Format != wanted {
			out.Wanted = wanted
		}
		if err := c.mayRequantize(t, out.Format); err != nil {
			return err
		}
	}
	if out.Format != t.Format && !out.Format.CanQuantize() {
		return fmt.Errorf("%w: %s is only read", ErrUnsupported, out.Format)
	}
	if out.Format != nil {
		out.Type = out.Format.ID
	}
	in := input{tensor: *t, columns: columns, rows: int(t.Elements() / int64(max(columns, 1)))}
	if err := c.refine(&in); err != nil {
		return err
	}
	c.tensors, c.inputs = append(c.tensors, out), append(c.inputs, in)
	return nil
}

// mayRequantize refuses to quantize twice unless it is allowed. Blocks of a Hugging Face checkpoint are what the model was
// published in, and writing numbers out in full loses next to nothing.
func (c *Conversion) mayRequantize(t *Tensor, to *quant.Format) error {
	if c.options.Requantize || c.src.origin == HuggingFace || t.Format == to || t.Format.BlockLen == 1 || to.BlockLen == 1 {
		return nil
	}
	return fmt.Errorf("%w from %s to %s", ErrRequantize, t.Format, to)
}

// refine finds the order of a tensor's rows and the importance of its columns.
func (c *Conversion) refine(in *input) error {
	t := &in.tensor
	if weights := c.options.Importance[t.Name]; weights != nil {
		experts := 1
		if len(t.Shape) == 3 && len(weights) != in.columns {
			experts = t.Shape[0]
		}
		if len(weights) != experts*in.columns {
			return fmt.Errorf("%w: %d columns have the importance of %d", ErrCorrupt, experts*in.columns, len(weights))
		}
		if i := slices.IndexFunc(weights, func(w float32) bool { return !(w >= 0) || math.IsInf(float64(w), 0) }); i >= 0 {
			return fmt.Errorf("%w: the importance of column %d is %v", ErrCorrupt, i%in.columns, weights[i])
		}
		in.importance = weights
	} else if c.options.Thorough {
		if len(c.ones) < in.columns {
			c.ones = slices.Repeat([]float32{1}, in.columns)
		}
		in.importance = c.ones[:in.columns]
	}
	if c.src.origin != HuggingFace {
		return nil
	}
	var err error
	in.order, err = pairedRows(c.md, t.Name, in)
	return err
}

// pairedRows returns the order in which GGUF files of Llama keep the rows of q and k: pairs that are rotated together
// lie side by side, where Hugging Face keeps the halves of a head apart. It is nil for all others.
func pairedRows(md *Metadata, name string, in *input) (rowOrder, error) {
	arch, _ := md.String("general.architecture")
	queries, keys := strings.Contains(name, ".attn_q."), strings.Contains(name, ".attn_k.")
	if arch != "llama" || !queries && !keys {
		return nil, nil
	}
	heads, _ := md.Uint(arch + ".attention.head_count")
	if groups, ok := md.Uint(arch + ".attention.head_count_kv"); ok && keys {
		heads = groups
	}
	rows := in.rows
	if len(in.tensor.Shape) == 1 { // a bias: its elements are in the order of the rows
		rows, in.rows, in.columns = in.columns, in.columns, 1
	}
	if heads == 0 || uint64(rows)%(2*heads) != 0 {
		return nil, fmt.Errorf("%w: %d rows are not pairs of %d heads", ErrCorrupt, rows, heads)
	}
	headDim := rows / int(heads)
	return func(row int) int {
		head, i := row/headDim, row%headDim
		return head*headDim + i%2*(headDim/2) + i/2
	}, nil
}
