package weights

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// architectures are GGUF's names of the model types of Hugging Face that differ, and of those of its classes whose model
// type misleads.
var architectures = map[string]string{
	"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "qwen3_next": "qwen3next",
	"qwen3_5": "qwen35", "qwen3_5_text": "qwen35", "qwen3_5_moe": "qwen35moe", "qwen3_5_moe_text": "qwen35moe",
	"minimax_m2": "minimax-m2", "minimax_m3": "minimax-m3", "minimax_m3_vl": "minimax-m3", "minimax_m3_vl_text": "minimax-m3",
	"deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "deepseek_v32": "deepseek32", "deepseek_v4": "deepseek4",

	"MiniMaxM3SparseForCausalLM": "minimax-m3", "MiniMaxM3SparseForConditionalGeneration": "minimax-m3",
	"DeepseekV3ForCausalLM": "deepseek2",
}

// TiedKey follows the architecture's name in the one key that GGUF has no name for: whether the output head is the
// embedding. A GGUF file says it by leaving the head's tensor out.
const TiedKey = "tie_word_embeddings"

// maxBlocks bounds the number of layers: arrays have an element for each.
const maxBlocks = 1 << 16

// readConfig translates a config.json to GGUF keys (ggml-org/llama.cpp conversion/base.py). Of a multimodal model
// text_config overrides the rest. A field that the configuration leaves out has the default of Hugging Face's
// configuration classes, where it differs from GGUF's. What it says of prediction blocks counts when predicts says that
// they are there. It returns the tiles of scales, where the configuration announces any.
func readConfig(md *Metadata, data []byte, predicts bool) (tiling, error) {
	c := &hfConfig{file: configFile, md: md}
	if err := c.decode(data); err != nil {
		return tiling{}, err
	}
	classes, _ := c.fields["architectures"].([]any)
	if inner, ok := c.fields["text_config"].(map[string]any); ok {
		for key, value := range inner {
			c.fields[key] = value
		}
	}
	arch := c.architecture(classes)
	if arch == "" && c.err == nil {
		return tiling{}, fmt.Errorf("%w: %s: model_type is missing", ErrCorrupt, configFile)
	}
	c.arch, c.prefix = arch, arch+"."
	md.Set("general.architecture", arch)
	if path, ok := c.text("_name_or_path"); ok && path != "" {
		md.Set("general.name", filepath.Base(path))
	}
	c.shape()
	c.blocks(predicts)
	c.rope()
	c.family()
	if tied, ok := c.flag("tie_word_embeddings"); ok {
		md.Set(c.prefix+TiedKey, tied)
	}
	if slices.ContainsFunc(classes, func(class any) bool {
		name, _ := class.(string)
		return strings.HasSuffix(name, "ForSequenceClassification")
	}) {
		c.set(poolingKey, poolingRank)
	}
	if !slices.Contains(renamed, arch) {
		return tiling{}, c.err
	}
	return c.quantization(), c.err
}

// architecture returns GGUF's name of the architecture, or "".
func (c *hfConfig) architecture(classes []any) string {
	modelType, _ := c.text("model_type")
	if len(classes) > 0 {
		if class, _ := classes[0].(string); architectures[class] != "" {
			return architectures[class]
		}
	}
	if name, ok := architectures[modelType]; ok {
		return name
	}
	return modelType
}

// shape translates the sizes that most families have.
func (c *hfConfig) shape() {
	c.count("vocab_size", "vocab_size")
	c.count("context_length", "max_position_embeddings")
	c.count("embedding_length", "hidden_size")
	c.count("feed_forward_length", "intermediate_size")
	c.count("attention.head_count", "num_attention_heads")
	c.count("attention.head_count_kv", "num_key_value_heads")
	headDim, ok := c.count("attention.key_length", "head_dim")
	if usual := headDims[c.arch]; !ok && usual > 0 {
		headDim, ok = usual, true
		c.set("attention.key_length", headDim)
	}
	if ok {
		c.set("attention.value_length", headDim)
	}
	if !c.number("attention.layer_norm_rms_epsilon", c.fields, "rms_norm_eps") {
		c.md.Set(c.prefix+"attention.layer_norm_rms_epsilon", float32(1e-6))
	}
	if _, sparse := c.count("expert_count", "num_experts", "num_local_experts", "n_routed_experts"); sparse {
		c.count("expert_used_count", "num_experts_per_tok")
		c.count("expert_feed_forward_length", "moe_intermediate_size")
		normalize, ok := c.flag("norm_topk_prob")
		c.md.Set(c.prefix+"expert_weights_norm", normalize || !ok && slices.Contains(normalizing, c.arch) && !c.isModelType("deepseek_v2"))
	}
}

// headDims are the sizes of heads that configurations may leave out.
var headDims = map[string]uint64{"qwen3": 128, "qwen3moe": 128, "qwen3next": 256, "qwen35": 256, "qwen35moe": 256, "deepseek4": 512}

// normalizing are the architectures whose experts' weights add up to 1 unless norm_topk_prob denies it.
var normalizing = []string{"qwen3next", "qwen35moe", "minimax-m2", "minimax-m3", "deepseek2", "deepseek32", "deepseek4"}

func (c *hfConfig) isModelType(name string) bool { return c.fields["model_type"] == name }

// blocks translates the number of layers. Prediction blocks follow them.
func (c *hfConfig) blocks(predicts bool) {
	layers, ok := c.count("block_count", "num_hidden_layers")
	if layers > maxBlocks {
		c.fail("num_hidden_layers", "is %d, the most is %d", layers, maxBlocks)
		return
	}
	c.numBlocks = layers
	if !ok || !predicts || !slices.Contains(renamed, c.arch) {
		return
	}
	for _, field := range []string{"mtp_num_hidden_layers", "num_nextn_predict_layers"} {
		n, ok := c.integer(c.fields, field)
		switch {
		case !ok || n == 0:
		case n > maxBlocks:
			c.fail(field, "is %d, the most is %d", n, maxBlocks)
			return
		default:
			c.numBlocks = layers + n
			c.set("block_count", c.numBlocks)
			c.set("nextn_predict_layers", n)
			return
		}
	}
}

// rope translates the rotary embedding: rope_theta and rope_scaling, or both in rope_parameters.
func (c *hfConfig) rope() {
	scaling := c.object("rope_parameters")
	if scaling == nil {
		scaling = c.object("rope_scaling")
	}
	base := scaling
	if inner, ok := scaling["compress"].(map[string]any); ok { // DeepSeek-V4's layers have two embeddings
		base, _ = scaling["main"].(map[string]any)
		scaling = inner
	}
	if !c.number("rope.freq_base", c.fields, "rope_theta") {
		c.number("rope.freq_base", base, "rope_theta")
	}
	c.rotated(base)
	c.sections(scaling)
	if scaling == nil {
		return
	}
	kind, ok := scaling["rope_type"].(string)
	if !ok {
		kind, _ = scaling["type"].(string)
	}
	if kind == "" || kind == "default" {
		return
	}
	c.md.Set(c.prefix+"rope.scaling.type", kind)
	c.number("rope.scaling.factor", scaling, "factor")
	c.number("rope.scaling.low_freq_factor", scaling, "low_freq_factor")
	c.number("rope.scaling.high_freq_factor", scaling, "high_freq_factor")
	c.number("rope.scaling.yarn_beta_fast", scaling, "beta_fast")
	c.number("rope.scaling.yarn_beta_slow", scaling, "beta_slow")
	if n, ok := c.integer(scaling, "original_max_position_embeddings"); ok {
		c.set("rope.scaling.original_context_length", n)
	} else {
		c.count("rope.scaling.original_context_length", "original_max_position_embeddings")
	}
	if kind == "yarn" {
		c.yarn(scaling)
	}
}

// yarn translates how YaRN scales attention.
func (c *hfConfig) yarn(scaling map[string]any) {
	if m, ok := c.float(scaling, "attention_factor"); ok && c.arch != "deepseek4" { // GGUF's multiplies YaRN's own, this one replaces it
		if factor, _ := c.float(scaling, "factor"); factor > 0 {
			c.md.Set(c.prefix+"rope.scaling.attn_factor", float32(m/(0.1*math.Log(factor)+1)))
		}
	}
	all, ok := c.float(scaling, "mscale_all_dim")
	if !ok {
		return
	}
	// The embedding is scaled by the ratio of the two, attention by the second.
	if m, ok := c.float(scaling, "mscale"); ok && m != all {
		c.unsupported("rope_scaling.mscale", "is %v, and mscale_all_dim %v; only equal ones are supported", m, all)
	}
	c.md.Set(c.prefix+"rope.scaling.yarn_log_multiplier", float32(0.1*all))
}

// rotated translates how much of a head is rotated.
func (c *hfConfig) rotated(parameters map[string]any) {
	if _, ok := c.count("rope.dimension_count", "rotary_dim", "qk_rope_head_dim"); ok {
		return
	}
	factor, ok := c.float(c.fields, "partial_rotary_factor")
	if !ok {
		factor, ok = c.float(parameters, "partial_rotary_factor")
	}
	if !ok && (&naming{arch: c.arch}).isHybrid() {
		factor, ok = 0.25, true
	}
	if !ok || factor == 1 {
		return
	}
	headDim, ok := c.md.Uint(c.prefix + "attention.key_length")
	if !ok {
		hidden, _ := c.md.Uint(c.prefix + "embedding_length")
		heads, _ := c.md.Uint(c.prefix + "attention.head_count")
		headDim = hidden / max(heads, 1)
	}
	if rotated := float64(headDim) * factor; rotated >= 1 && rotated <= float64(headDim) {
		c.set("rope.dimension_count", uint64(rotated))
	} else {
		c.fail("partial_rotary_factor", "is %v with a head_dim of %d", factor, headDim)
	}
}

// sections translates which pairs turn with which coordinate of an image: as GGUF has them, four numbers.
func (c *hfConfig) sections(scaling map[string]any) {
	values, ok := c.integers(scaling, "mrope_section")
	if !ok && (c.arch == "qwen35" || c.arch == "qwen35moe") {
		values, ok = []int32{11, 11, 10}, true
	}
	if !ok {
		return
	}
	if len(values) > 4 {
		c.fail("mrope_section", "has %d sections, the most is 4", len(values))
		return
	}
	c.md.Set(c.prefix+"rope.dimension_sections", append(values, make([]int32, 4-len(values))...))
}

// readGeneration translates the suggested sampling of a generation_config.json.
func readGeneration(md *Metadata, data []byte) error {
	c := &hfConfig{file: generationFile, prefix: "general.sampling.", md: md}
	if err := c.decode(data); err != nil {
		return err
	}
	c.number("temp", c.fields, "temperature")
	c.number("top_p", c.fields, "top_p")
	c.number("min_p", c.fields, "min_p")
	c.number("penalty_repeat", c.fields, "repetition_penalty")
	c.count("top_k", "top_k")
	return c.err
}

const templateKey = "tokenizer.chat_template"

// ReadTemplates finds the chat templates in a folder: a file of its own, or a field of the tokenizer's configuration,
// which may also be a list of named ones. The default one is under tokenizer.chat_template, others under that and their
// name; the result is empty when there is none.
func ReadTemplates(folder string) (*Metadata, error) {
	md := NewMetadata()
	return md, readTemplates(md, folder)
}

func readTemplates(md *Metadata, folder string) error {
	template, err := readOptional(filepath.Join(folder, templateFile))
	if err != nil {
		return err
	}
	data, err := readOptional(filepath.Join(folder, tokenizerFile))
	if err != nil {
		return err
	}
	if data != nil {
		c := &hfConfig{file: tokenizerFile, md: md}
		if err := c.decode(data); err != nil {
			return err
		}
		if err := c.templates(); err != nil {
			return err
		}
	}
	if template != nil {
		md.Set(templateKey, string(template))
	}
	return nil
}

func (c *hfConfig) templates() error {
	switch value := c.fields["chat_template"].(type) {
	case nil:
	case string:
		c.md.Set(templateKey, value)
	case []any:
		for i, element := range value {
			named, _ := element.(map[string]any)
			name, hasName := named["name"].(string)
			text, hasText := named["template"].(string)
			if !hasName || !hasText {
				return fmt.Errorf("%w: %s: chat_template[%d] has no name or no template", ErrCorrupt, c.file, i)
			}
			key := templateKey
			if name != "default" {
				key += "." + name
			}
			c.md.Set(key, text)
		}
	default:
		c.fail("chat_template", "is neither a string nor a list")
	}
	return c.err
}

// hfConfig reads fields of a JSON object into metadata; the first mistake sticks. A null is a field left out.
type hfConfig struct {
	file      string // for errors
	arch      string
	prefix    string // of the keys
	numBlocks uint64 // layers and prediction blocks
	fields    map[string]any
	md        *Metadata
	err       error
}

func (c *hfConfig) decode(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&c.fields); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, c.file, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: %s: something follows the object", ErrCorrupt, c.file)
	}
	if c.fields == nil {
		c.fields = map[string]any{}
	}
	return nil
}

func (c *hfConfig) fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s: %s %s", ErrCorrupt, c.file, field, fmt.Sprintf(format, args...))
	}
}

// unsupported is fail for what is no mistake, but cannot be run.
func (c *hfConfig) unsupported(field, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s: %s %s", ErrUnsupported, c.file, field, fmt.Sprintf(format, args...))
	}
}

// set stores a count: as uint32, GGUF's usual type, where it fits.
func (c *hfConfig) set(key string, n uint64) {
	if n <= math.MaxUint32 {
		c.md.Set(c.prefix+key, uint32(n))
	} else {
		c.md.Set(c.prefix+key, n)
	}
}

// count translates the first of the fields that is there; it must be a whole number that is not negative.
func (c *hfConfig) count(key string, fields ...string) (uint64, bool) {
	return c.countIn(c.fields, key, fields...)
}

// countIn is count for the fields of an object within the configuration.
func (c *hfConfig) countIn(from map[string]any, key string, fields ...string) (uint64, bool) {
	for _, field := range fields {
		if n, ok := c.integer(from, field); ok {
			c.set(key, n)
			return n, true
		} else if from[field] != nil {
			return 0, false
		}
	}
	return 0, false
}

// integer returns a field that must be a whole number.
func (c *hfConfig) integer(from map[string]any, field string) (uint64, bool) {
	value := from[field]
	if value == nil {
		return 0, false
	}
	number, _ := value.(json.Number)
	n, err := strconv.ParseUint(number.String(), 10, 64)
	if err != nil {
		c.fail(field, "is %s, want a whole number", quote(value))
		return 0, false
	}
	return n, true
}

// integers returns a field that must be a list of whole numbers, nothing longer than layers are many.
func (c *hfConfig) integers(from map[string]any, field string) ([]int32, bool) {
	value := from[field]
	if value == nil {
		return nil, false
	}
	list, ok := value.([]any)
	if !ok || len(list) > maxBlocks {
		c.fail(field, "is %s, want a list of at most %d", quote(value), maxBlocks)
		return nil, false
	}
	numbers := make([]int32, len(list))
	for i, element := range list {
		number, _ := element.(json.Number)
		n, err := strconv.ParseUint(number.String(), 10, 31)
		if err != nil {
			c.fail(field, "has the element %s, want a whole number", quote(element))
			return nil, false
		}
		numbers[i] = int32(n)
	}
	return numbers, true
}

// names returns a field that must be a list of strings.
func (c *hfConfig) names(from map[string]any, field string) ([]string, bool) {
	value := from[field]
	if value == nil {
		return nil, false
	}
	list, ok := value.([]any)
	names := make([]string, len(list))
	for i, element := range list {
		name, isText := element.(string)
		ok = ok && isText
		names[i] = name
	}
	if !ok {
		c.fail(field, "is %s, want a list of strings", quote(value))
		return nil, false
	}
	return names, true
}

// number translates a field that must be a number, as float32, GGUF's usual type.
func (c *hfConfig) number(key string, from map[string]any, field string) bool {
	v, ok := c.float(from, field)
	if ok {
		c.md.Set(c.prefix+key, float32(v))
	}
	return ok
}

func (c *hfConfig) float(from map[string]any, field string) (float64, bool) {
	value := from[field]
	if value == nil {
		return 0, false
	}
	number, _ := value.(json.Number)
	v, err := number.Float64()
	if err != nil {
		c.fail(field, "is %s, want a number", quote(value))
		return 0, false
	}
	return v, true
}

func (c *hfConfig) text(field string) (string, bool) {
	value := c.fields[field]
	s, ok := value.(string)
	if !ok && value != nil {
		c.fail(field, "is %s, want a string", quote(value))
	}
	return s, ok
}

func (c *hfConfig) flag(field string) (value, ok bool) {
	raw := c.fields[field]
	value, ok = raw.(bool)
	if !ok && raw != nil {
		c.fail(field, "is %s, want true or false", quote(raw))
	}
	return value, ok
}

func (c *hfConfig) object(field string) map[string]any {
	raw := c.fields[field]
	value, ok := raw.(map[string]any)
	if !ok && raw != nil {
		c.fail(field, "is %s, want an object", quote(raw))
	}
	return value
}

// quote shows a value of a JSON file, cut to a length that fits an error.
func quote(value any) string {
	if d, ok := value.(json.Delim); ok {
		return d.String()
	}
	text, err := json.Marshal(value)
	if err != nil || len(text) > 60 {
		return fmt.Sprintf("a long %T", value)
	}
	return string(text)
}
