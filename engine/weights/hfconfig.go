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
)

// architectures are the model types of Hugging Face whose name differs from GGUF's.
var architectures = map[string]string{"qwen3_moe": "qwen3moe"}

// TiedKey follows the architecture's name in the one key that GGUF has no name for: whether the output head is the
// embedding. A GGUF file says it by leaving the head's tensor out.
const TiedKey = "tie_word_embeddings"

// readConfig translates a config.json to GGUF keys (ggml-org/llama.cpp conversion/base.py). Of a multimodal model
// text_config overrides the rest. A field that the configuration leaves out has the default of Hugging Face's
// configuration classes, where it differs from GGUF's.
func readConfig(md *Metadata, data []byte) error {
	c := &hfConfig{file: configFile, md: md}
	if err := c.decode(data); err != nil {
		return err
	}
	if inner, ok := c.fields["text_config"].(map[string]any); ok {
		for key, value := range inner {
			c.fields[key] = value
		}
	}
	modelType, _ := c.text("model_type")
	arch := modelType
	if name, ok := architectures[modelType]; ok {
		arch = name
	}
	if arch == "" && c.err == nil {
		return fmt.Errorf("%w: %s: model_type is missing", ErrCorrupt, configFile)
	}
	c.prefix = arch + "."
	md.Set("general.architecture", arch)
	if path, ok := c.text("_name_or_path"); ok && path != "" {
		md.Set("general.name", filepath.Base(path))
	}
	c.shape(modelType)
	c.rope()
	if act, ok := c.text("hidden_act"); ok && act != "silu" && act != "swish" && slices.Contains(renamed, arch) {
		c.fail("hidden_act", "is %s, want \"silu\"", quote(act))
	}
	if windows, _ := c.flag("use_sliding_window"); windows {
		c.fail("use_sliding_window", "is true; attention within a window is not supported")
	}
	if tied, ok := c.flag("tie_word_embeddings"); ok {
		md.Set(c.prefix+TiedKey, tied)
	}
	return c.err
}

// shape translates the sizes.
func (c *hfConfig) shape(modelType string) {
	c.count("vocab_size", "vocab_size")
	c.count("context_length", "max_position_embeddings")
	c.count("embedding_length", "hidden_size")
	c.count("block_count", "num_hidden_layers")
	c.count("feed_forward_length", "intermediate_size")
	c.count("attention.head_count", "num_attention_heads")
	c.count("attention.head_count_kv", "num_key_value_heads")
	headDim, ok := c.count("attention.key_length", "head_dim")
	if !ok && (modelType == "qwen3" || modelType == "qwen3_moe") {
		headDim, ok = 128, true
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
		normalize, _ := c.flag("norm_topk_prob")
		c.md.Set(c.prefix+"expert_weights_norm", normalize)
	}
	if factor, ok := c.float(c.fields, "partial_rotary_factor"); ok && factor != 1 {
		if rotated := float64(headDim) * factor; rotated >= 1 && rotated <= float64(headDim) {
			c.set("rope.dimension_count", uint64(rotated))
		} else {
			c.fail("partial_rotary_factor", "is %v with a head_dim of %d", factor, headDim)
		}
	}
}

// rope translates the rotary embedding: rope_theta and rope_scaling, or both in rope_parameters.
func (c *hfConfig) rope() {
	scaling := c.object("rope_parameters")
	if scaling == nil {
		scaling = c.object("rope_scaling")
	}
	if !c.number("rope.freq_base", c.fields, "rope_theta") {
		c.number("rope.freq_base", scaling, "rope_theta")
	}
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
	if m, ok := c.float(scaling, "attention_factor"); ok { // GGUF's multiplies YaRN's own, this one replaces it
		if factor, _ := c.float(scaling, "factor"); kind == "yarn" && factor > 0 {
			c.md.Set(c.prefix+"rope.scaling.attn_factor", float32(m/(0.1*math.Log(factor)+1)))
		}
	}
	const original = "original_max_position_embeddings"
	if scaling[original] != nil {
		c.fields[original] = scaling[original]
	}
	c.count("rope.scaling.original_context_length", original)
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
	file   string // for errors
	prefix string // of the keys
	fields map[string]any
	md     *Metadata
	err    error
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
	for _, field := range fields {
		value := c.fields[field]
		if value == nil {
			continue
		}
		number, _ := value.(json.Number)
		n, err := strconv.ParseUint(number.String(), 10, 64)
		if err != nil {
			c.fail(field, "is %s, want a whole number", quote(value))
			return 0, false
		}
		c.set(key, n)
		return n, true
	}
	return 0, false
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
