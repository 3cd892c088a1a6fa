package model

import (
	"fmt"
	"math"

	"hearth/engine/weights"
	"hearth/hardware"
)

// Config holds the hyperparameters that architectures share, named as in Hugging Face's config.json. Key names and
// defaults of the GGUF form are those of its converters (ggml-org/llama.cpp, gguf-py/gguf/constants.py). What one family
// alone has is read by its own file.
type Config struct {
	Architecture   string
	Name           string // general.name, may be empty
	VocabSize      int
	ContextLength  int // positions the model was trained for
	HiddenSize     int
	NumLayers      int // without those that predict further tokens
	NumNextNLayers int // blocks behind the layers that predict further tokens, 0: none
	NumHeads       int
	NumKVHeads     int
	HeadDim        int // of queries and keys
	ValueHeadDim   int
	FFNSize        int // 0: every layer has experts
	RMSNormEps     float32
	Rope           RopeConfig

	Pooling           Pooling // what the model makes of a whole text
	TieWordEmbeddings bool    // the head is the embedding, unless there is a tensor of its own for it

	NumExperts          int // 0: dense
	NumExpertsPerTok    int
	ExpertFFNSize       int
	SharedExpertFFNSize int                 // of all shared experts together, 0: none
	FirstKDenseReplace  int                 // leading layers without experts
	ScoringFunc         hardware.RouteScore // how router logits become scores
	NumGroups           int                 // that the experts are cut into; 1: no groups
	TopKGroups          int                 // groups that a token may choose from
	RoutedScalingFactor float32             // multiplies the experts' weights
	NormTopKProb        bool                // divide the chosen weights by their sum
}

// Defaults are the values of keys that files of an architecture may leave out.
type Defaults struct {
	ScoringFunc  hardware.RouteScore
	NormTopKProb bool
}

// limits that no real model comes near; beyond them a file is damaged or hostile.
const (
	maxLayers  = 1 << 12
	maxWidth   = 1 << 20
	maxVocab   = 1 << 24
	maxExperts = 1 << 16
)

// MaxContext bounds the context length and other counts of positions.
const MaxContext = 1 << 24

// architecture returns the name of a model's architecture.
func architecture(src weights.Source) (string, error) {
	const key = "general.architecture"
	md := src.Metadata()
	if _, ok := md.Get(key); !ok {
		if src.Origin() == weights.HuggingFace {
			return "", fmt.Errorf("%w: config.json is missing, which says what the weights are for", weights.ErrCorrupt)
		}
		return "", fmt.Errorf("%w: key %s is missing", weights.ErrCorrupt, key)
	}
	name, ok := md.String(key)
	if !ok || name == "" {
		return "", fmt.Errorf("%w: key %s is not the name of one", weights.ErrCorrupt, key)
	}
	return name, nil
}

// ReadConfig reads and checks the hyperparameters that architectures share. It fails with ErrUnsupported for an
// architecture that is not known here, whose keys may mean anything.
func ReadConfig(src weights.Source) (*Config, error) {
	arch, k, err := openKeys(src)
	if err != nil {
		return nil, err
	}
	c := readConfig(k, arch.Defaults)
	// Some converters leave blocks that predict further tokens out, and count layers alone, but keep the number.
	if c.NumNextNLayers > 0 && !src.Has(blockPrefix(c.NumLayers)+"nextn.eh_proj.weight") {
		c.NumLayers += c.NumNextNLayers
		c.NumNextNLayers = 0
	}
	return c, k.err
}

// openKeys finds a model's architecture and returns what reads its keys.
func openKeys(src weights.Source) (*Arch, *keys, error) {
	name, err := architecture(src)
	if err != nil {
		return nil, nil, err
	}
	arch, err := lookup(name)
	if err != nil {
		return nil, nil, err
	}
	return arch, &keys{mistake: &mistake{}, md: src.Metadata(), arch: name}, nil
}

// readConfig reads the shared keys; mistakes stick in k.
func readConfig(k *keys, defaults Defaults) *Config {
	c := &Config{Architecture: k.arch}
	const name = "general.name"
	if _, ok := k.md.Get(name); ok {
		if c.Name, ok = k.md.String(name); !ok {
			k.wrongKey(name, "is not a string")
		}
	}
	c.NumLayers = k.count("block_count", 0, maxLayers)
	c.NumNextNLayers = k.optionalCount("nextn_predict_layers", 0, maxLayers)
	c.ContextLength = k.count("context_length", 0, MaxContext)
	c.HiddenSize = k.count("embedding_length", 0, maxWidth)
	c.NumHeads = k.count("attention.head_count", 0, maxWidth)
	c.NumKVHeads = k.count("attention.head_count_kv", c.NumHeads, maxWidth)
	if k.err != nil {
		return c
	}
	if c.NumNextNLayers >= c.NumLayers {
		k.wrong("nextn_predict_layers", "is %d, of %d blocks in all", c.NumNextNLayers, c.NumLayers)
	}
	c.NumLayers -= c.NumNextNLayers
	if !k.has("attention.key_length") && c.HiddenSize%c.NumHeads != 0 {
		k.wrong("attention.head_count", "is %d, which does not divide embedding_length %d", c.NumHeads, c.HiddenSize)
	}
	c.HeadDim = k.count("attention.key_length", c.HiddenSize/c.NumHeads, maxWidth)
	c.ValueHeadDim = k.count("attention.value_length", c.HeadDim, maxWidth)
	c.RMSNormEps = float32(k.number("attention.layer_norm_rms_epsilon", math.NaN()))
	if c.NumExperts = k.optionalCount("expert_count", 0, maxExperts); c.NumExperts > 0 {
		c.FFNSize = k.optionalCount("feed_forward_length", 0, maxWidth)
		c.readExperts(k, defaults)
	} else {
		c.FFNSize = k.count("feed_forward_length", 0, maxWidth)
	}
	c.VocabSize = k.vocabSize()
	c.TieWordEmbeddings = k.flag(weights.TiedKey, true)
	c.Pooling = k.pooling()
	c.Rope = k.rope(c)
	if k.err == nil {
		c.check(k)
	}
	return c
}

// readExperts reads the keys of a mixture of experts.
func (c *Config) readExperts(k *keys, defaults Defaults) {
	c.NumExpertsPerTok = k.count("expert_used_count", 0, c.NumExperts)
	c.ExpertFFNSize = k.count("expert_feed_forward_length", 0, maxWidth)
	shared := k.optionalCount("expert_shared_count", 0, maxExperts)
	c.SharedExpertFFNSize = k.optionalCount("expert_shared_feed_forward_length", shared*c.ExpertFFNSize, maxWidth)
	c.FirstKDenseReplace = k.optionalCount("leading_dense_block_count", 0, c.NumLayers)
	if gating := k.optionalCount("expert_gating_func", 0, maxExperts); gating == 0 {
		c.ScoringFunc = defaults.ScoringFunc
	} else if c.ScoringFunc = hardware.RouteScore(gating - 1); gating > int(hardware.ScoreSqrtSoftplus)+1 {
		k.wrong("expert_gating_func", "is %d, known are 1 to %d", gating, hardware.ScoreSqrtSoftplus+1)
	}
	c.NumGroups = max(1, k.optionalCount("expert_group_count", 1, c.NumExperts))
	c.TopKGroups = k.optionalCount("expert_group_used_count", c.NumGroups, c.NumExperts)
	c.RoutedScalingFactor = float32(k.number("expert_weights_scale", 1))
	c.NormTopKProb = k.flag("expert_weights_norm", defaults.NormTopKProb)
	if c.RoutedScalingFactor == 0 { // converters write 0 for "no scaling"
		c.RoutedScalingFactor = 1
	}
	if c.NumGroups == 1 {
		c.TopKGroups = 1
	}
}

// check verifies what the keys must be to each other.
func (c *Config) check(k *keys) {
	switch {
	case c.NumHeads%c.NumKVHeads != 0:
		k.wrong("attention.head_count_kv", "is %d, which does not divide head_count %d", c.NumKVHeads, c.NumHeads)
	case c.HeadDim*c.NumHeads > maxWidth:
		k.wrong("attention.key_length", "is %d, with %d heads too wide", c.HeadDim, c.NumHeads)
	case c.ValueHeadDim*c.NumHeads > maxWidth:
		k.wrong("attention.value_length", "is %d, with %d heads too wide", c.ValueHeadDim, c.NumHeads)
	case c.Rope.Dim > c.HeadDim || c.Rope.Dim%2 != 0:
		k.wrong("rope.dimension_count", "is %d, want an even number up to the head's %d", c.Rope.Dim, c.HeadDim)
	case !(c.RMSNormEps > 0) || c.RMSNormEps > 1:
		k.wrong("attention.layer_norm_rms_epsilon", "is %v, want a small positive number", c.RMSNormEps)
	case !(c.Rope.Theta > 1) || math.IsInf(c.Rope.Theta, 0):
		k.wrong("rope.freq_base", "is %v, want a number above 1", c.Rope.Theta)
	case c.NumExperts > 0 && !isFinite(float64(c.RoutedScalingFactor)):
		k.wrong("expert_weights_scale", "is %v", c.RoutedScalingFactor)
	case c.NumExperts > 0 && c.NumExperts%c.NumGroups != 0:
		k.wrong("expert_group_count", "is %d, which does not divide expert_count %d", c.NumGroups, c.NumExperts)
	case c.NumExperts > 0 && (c.TopKGroups == 0 || c.TopKGroups > c.NumGroups || c.NumExpertsPerTok > c.NumExperts/c.NumGroups*c.TopKGroups):
		k.wrong("expert_group_used_count", "is %d, for %d of %d experts in %d groups", c.TopKGroups, c.NumExpertsPerTok, c.NumExperts, c.NumGroups)
	}
}

// vocabSize is the key, or the number of tokens of the vocabulary.
func (k *keys) vocabSize() int {
	if k.has("vocab_size") {
		return k.count("vocab_size", 0, maxVocab)
	}
	tokens, ok := k.md.Strings("tokenizer.ggml.tokens")
	if !ok || len(tokens) == 0 {
		k.wrong("vocab_size", "is missing, and there is no tokenizer.ggml.tokens to count")
	}
	return len(tokens)
}
