package model

import (
	"fmt"
	"math"

	"hearth/engine/weights"
	"hearth/hardware/quant"
)

// Config holds the hyperparameters, named as in Hugging Face's config.json. Key names and defaults of the GGUF form
// are those of its converters (ggml-org/llama.cpp, gguf-py/gguf/constants.py).
type Config struct {
	Architecture  string
	Name          string // general.name, may be empty
	VocabSize     int
	ContextLength int // positions the model was trained for
	HiddenSize    int
	NumLayers     int
	NumHeads      int
	NumKVHeads    int
	HeadDim       int
	FFNSize       int
	RMSNormEps    float32
	Rope          RopeConfig

	TieWordEmbeddings bool // the head is the embedding, unless there is a tensor of its own for it

	NumExperts       int // 0: dense
	NumExpertsPerTok int
	ExpertFFNSize    int
	ExpertScale      float32 // multiplies the experts' weights
	NormTopKProb     bool    // divide the chosen weights by their sum
}

// limits that no real model comes near; beyond them a file is damaged or hostile.
const (
	maxLayers  = 1 << 12
	maxWidth   = 1 << 20
	maxVocab   = 1 << 24
	maxContext = 1 << 24
	maxExperts = 1 << 16
)

// softmaxGating is the value of expert_gating_func for softmax over all experts.
const softmaxGating = 1

// architecture returns the name of a model's architecture.
func architecture(md *weights.Metadata) (string, error) {
	const key = "general.architecture"
	if _, ok := md.Get(key); !ok {
		return "", fmt.Errorf("%w: key %s is missing", weights.ErrCorrupt, key)
	}
	name, ok := md.String(key)
	if !ok || name == "" {
		return "", fmt.Errorf("%w: key %s is not the name of one", weights.ErrCorrupt, key)
	}
	return name, nil
}

// ReadConfig reads and checks the hyperparameters that the supported architectures share.
func ReadConfig(md *weights.Metadata) (*Config, error) {
	name, err := architecture(md)
	if err != nil {
		return nil, err
	}
	k := &keys{md: md, arch: name}
	c := &Config{Architecture: name}
	c.Name = k.text("general.name", "")
	c.NumLayers = k.count("block_count", 0, maxLayers)
	c.ContextLength = k.count("context_length", 0, maxContext)
	c.HiddenSize = k.count("embedding_length", 0, maxWidth)
	c.NumHeads = k.count("attention.head_count", 0, maxWidth)
	c.NumKVHeads = k.count("attention.head_count_kv", c.NumHeads, maxWidth)
	if k.err != nil {
		return nil, k.err
	}
	if !k.has(k.arch+".attention.key_length") && c.HiddenSize%c.NumHeads != 0 {
		k.fail(k.arch+".attention.head_count", "is %d, which does not divide embedding_length %d", c.NumHeads, c.HiddenSize)
	}
	c.HeadDim = k.count("attention.key_length", c.HiddenSize/c.NumHeads, maxWidth)
	valueDim := k.count("attention.value_length", c.HeadDim, maxWidth)
	c.RMSNormEps = float32(k.number("attention.layer_norm_rms_epsilon", math.NaN()))
	c.NumExperts = k.optionalCount("expert_count", 0, maxExperts)
	if c.NumExperts > 0 {
		c.NumExpertsPerTok = k.count("expert_used_count", 0, c.NumExperts)
		c.ExpertFFNSize = k.count("expert_feed_forward_length", 0, maxWidth)
		c.ExpertScale = float32(k.number("expert_weights_scale", 1))
		c.NormTopKProb = k.flag("expert_weights_norm", true)
		c.FFNSize = k.optionalCount("feed_forward_length", 0, maxWidth)
		if c.ExpertScale == 0 { // converters write 0 for "no scaling"
			c.ExpertScale = 1
		}
		if gating := k.optionalCount("expert_gating_func", softmaxGating, maxExperts); gating != softmaxGating && gating != 0 {
			k.fail(k.arch+".expert_gating_func", "is %d, this architecture routes with softmax, %d", gating, softmaxGating)
		}
	} else {
		c.FFNSize = k.count("feed_forward_length", 0, maxWidth)
	}
	c.VocabSize = k.vocabSize()
	c.TieWordEmbeddings = k.flag(weights.TiedKey, true)
	c.Rope = k.rope(c)
	if k.err != nil {
		return nil, k.err
	}
	return c, c.check(valueDim)
}

// check verifies what the keys must be to each other.
func (c *Config) check(valueDim int) error {
	bad := func(key, format string, args ...any) error {
		return fmt.Errorf("%w: key %s.%s %s", weights.ErrCorrupt, c.Architecture, key, fmt.Sprintf(format, args...))
	}
	switch {
	case c.NumHeads%c.NumKVHeads != 0:
		return bad("attention.head_count_kv", "is %d, which does not divide head_count %d", c.NumKVHeads, c.NumHeads)
	case c.HeadDim*c.NumHeads > maxWidth:
		return bad("attention.key_length", "is %d, with %d heads too wide", c.HeadDim, c.NumHeads)
	case valueDim != c.HeadDim:
		return bad("attention.value_length", "is %d, but key_length is %d", valueDim, c.HeadDim)
	case c.Rope.Dim > c.HeadDim || c.Rope.Dim%2 != 0:
		return bad("rope.dimension_count", "is %d, want an even number up to the head's %d", c.Rope.Dim, c.HeadDim)
	case !(c.RMSNormEps > 0) || c.RMSNormEps > 1:
		return bad("attention.layer_norm_rms_epsilon", "is %v, want a small positive number", c.RMSNormEps)
	case !(c.Rope.Theta > 1) || math.IsInf(c.Rope.Theta, 0):
		return bad("rope.freq_base", "is %v, want a number above 1", c.Rope.Theta)
	case c.NumExperts > 0 && !isFinite(float64(c.ExpertScale)):
		return bad("expert_weights_scale", "is %v", c.ExpertScale)
	}
	return nil
}

// KVBytesPerToken returns the bytes that one position takes in the cache, keys and values of all layers, with rows of a
// format. It is what the streams of the recorded program add up to.
func (c *Config) KVBytesPerToken(f *quant.Format) int64 {
	blocks := (c.HeadDim + f.BlockLen - 1) / f.BlockLen
	return 2 * int64(c.NumLayers) * int64(c.NumKVHeads) * int64(blocks) * int64(f.BlockBytes)
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// keys reads GGUF keys; the first mistake sticks.
type keys struct {
	md   *weights.Metadata
	arch string
	err  error
}

func (k *keys) fail(key, format string, args ...any) {
	if k.err == nil {
		k.err = fmt.Errorf("%w: key %s %s", weights.ErrCorrupt, key, fmt.Sprintf(format, args...))
	}
}

func (k *keys) has(key string) bool {
	_, ok := k.md.Get(key)
	return ok
}

func (k *keys) text(key, missing string) string {
	if !k.has(key) {
		return missing
	}
	v, ok := k.md.String(key)
	if !ok {
		k.fail(key, "is not a string")
	}
	return v
}

// count reads a positive integer; missing is its default, 0 when the key is required. Keys that some files give per
// layer are accepted when all layers agree.
func (k *keys) count(name string, missing, most int) int {
	v := k.optionalCount(name, missing, most)
	if v == 0 && k.err == nil {
		if k.has(k.arch + "." + name) {
			k.fail(k.arch+"."+name, "is 0")
		} else {
			k.fail(k.arch+"."+name, "is missing")
		}
	}
	return v
}

// optionalCount is count for a number that may be zero.
func (k *keys) optionalCount(name string, missing, most int) int {
	key := k.arch + "." + name
	if !k.has(key) {
		return missing
	}
	if v, ok := k.md.Uint(key); ok {
		if v > uint64(most) {
			k.fail(key, "is %d, the most is %d", v, most)
			return 0
		}
		return int(v)
	}
	perLayer, ok := k.md.Ints(key)
	if !ok || len(perLayer) == 0 {
		k.fail(key, "is not a non-negative integer")
		return 0
	}
	for i, v := range perLayer {
		if v != perLayer[0] {
			k.fail(key, "differs between layers (%d in layer 0, %d in layer %d), which this architecture cannot run", perLayer[0], v, i)
			return 0
		}
	}
	if perLayer[0] < 0 || perLayer[0] > most {
		k.fail(key, "is %d, want 0 to %d", perLayer[0], most)
		return 0
	}
	return perLayer[0]
}

// number reads a float; a missing NaN says that the key is required.
func (k *keys) number(name string, missing float64) float64 {
	key := k.arch + "." + name
	if !k.has(key) {
		if math.IsNaN(missing) {
			k.fail(key, "is missing")
		}
		return missing
	}
	v, ok := k.md.Float(key)
	if !ok {
		k.fail(key, "is not a number")
	}
	return v
}

func (k *keys) flag(name string, missing bool) bool {
	key := k.arch + "." + name
	if !k.has(key) {
		return missing
	}
	v, ok := k.md.Bool(key)
	if !ok {
		k.fail(key, "is not a boolean")
	}
	return v
}

// vocabSize is the key, or the number of tokens of the vocabulary.
func (k *keys) vocabSize() int {
	if k.has(k.arch + ".vocab_size") {
		return k.count("vocab_size", 0, maxVocab)
	}
	tokens, ok := k.md.Strings("tokenizer.ggml.tokens")
	if !ok || len(tokens) == 0 {
		k.fail(k.arch+".vocab_size", "is missing, and there is no tokenizer.ggml.tokens to count")
	}
	return len(tokens)
}
