package main

import (
	"fmt"
	"slices"
	"strings"
)

// synthShape is the shape of a published model; its figures are those of its config.json.
type synthShape struct {
	arch, size                     string
	hidden, layers                 int
	heads, kvHeads, headDim        int
	ffn                            int
	experts, chosen, expertFFN     int // 0: dense
	vocab                          int // rows of the embedding; 0: as many as the vocabulary needs
	context                        int
	theta                          float32
	tied                           bool
	llama3Factor                   float64 // of the frequencies; 0: unscaled
	eps                            float32
	attentionBiases, attentionNorm bool
}

// llamaShape, qwen2Shape, qwen3Shape and qwen3MoEShape fill in what the sizes of a family share.
func llamaShape(s synthShape) synthShape {
	s.arch, s.theta, s.eps, s.context = "llama", 500000, 1e-5, 131072
	return s
}

func qwen2Shape(s synthShape) synthShape {
	s.arch, s.theta, s.eps, s.context, s.attentionBiases = "qwen2", 1e6, 1e-6, 32768, true
	return s
}

func qwen3Shape(s synthShape) synthShape {
	s.arch, s.theta, s.eps, s.context, s.attentionNorm = "qwen3", 1e6, 1e-6, 40960, true
	return s
}

func qwen3MoEShape(s synthShape) synthShape {
	s = qwen3Shape(s)
	s.arch = "qwen3moe"
	return s
}

// tinyShape is small enough for tests, and large enough for blocks of 256.
var tinyShape = synthShape{size: "tiny", hidden: 256, layers: 4, heads: 8, kvHeads: 2, headDim: 32, ffn: 512, tied: true}

// tinyMoEShape is tinyShape with experts.
func tinyMoEShape() synthShape {
	s := qwen3MoEShape(tinyShape)
	s.experts, s.chosen, s.expertFFN = 8, 2, 256
	return s
}

// synthShapes are the known shapes: Llama 3.1 and 3.2, Qwen2.5, Qwen3.
var synthShapes = []synthShape{
	llamaShape(tinyShape),
	llamaShape(synthShape{size: "1b", hidden: 2048, layers: 16, heads: 32, kvHeads: 8, headDim: 64, ffn: 8192, vocab: 128256, tied: true, llama3Factor: 32}),
	llamaShape(synthShape{size: "3b", hidden: 3072, layers: 28, heads: 24, kvHeads: 8, headDim: 128, ffn: 8192, vocab: 128256, tied: true, llama3Factor: 32}),
	llamaShape(synthShape{size: "8b", hidden: 4096, layers: 32, heads: 32, kvHeads: 8, headDim: 128, ffn: 14336, vocab: 128256, llama3Factor: 8}),
	qwen2Shape(tinyShape),
	qwen2Shape(synthShape{size: "0.5b", hidden: 896, layers: 24, heads: 14, kvHeads: 2, headDim: 64, ffn: 4864, vocab: 151936, tied: true}),
	qwen2Shape(synthShape{size: "1.5b", hidden: 1536, layers: 28, heads: 12, kvHeads: 2, headDim: 128, ffn: 8960, vocab: 151936, tied: true}),
	qwen2Shape(synthShape{size: "3b", hidden: 2048, layers: 36, heads: 16, kvHeads: 2, headDim: 128, ffn: 11008, vocab: 151936, tied: true}),
	qwen2Shape(synthShape{size: "7b", hidden: 3584, layers: 28, heads: 28, kvHeads: 4, headDim: 128, ffn: 18944, vocab: 152064}),
	qwen3Shape(tinyShape),
	qwen3Shape(synthShape{size: "0.6b", hidden: 1024, layers: 28, heads: 16, kvHeads: 8, headDim: 128, ffn: 3072, vocab: 151936, tied: true}),
	qwen3Shape(synthShape{size: "1.7b", hidden: 2048, layers: 28, heads: 16, kvHeads: 8, headDim: 128, ffn: 6144, vocab: 151936, tied: true}),
	qwen3Shape(synthShape{size: "4b", hidden: 2560, layers: 36, heads: 32, kvHeads: 8, headDim: 128, ffn: 9728, vocab: 151936, tied: true}),
	qwen3Shape(synthShape{size: "8b", hidden: 4096, layers: 36, heads: 32, kvHeads: 8, headDim: 128, ffn: 12288, vocab: 151936}),
	qwen3Shape(synthShape{size: "14b", hidden: 5120, layers: 40, heads: 40, kvHeads: 8, headDim: 128, ffn: 17408, vocab: 151936}),
	qwen3Shape(synthShape{size: "32b", hidden: 5120, layers: 64, heads: 64, kvHeads: 8, headDim: 128, ffn: 25600, vocab: 151936}),
	tinyMoEShape(),
	qwen3MoEShape(synthShape{size: "30b-a3b", hidden: 2048, layers: 48, heads: 32, kvHeads: 4, headDim: 128, ffn: 6144, experts: 128, chosen: 8, expertFFN: 768, vocab: 151936}),
	qwen3MoEShape(synthShape{size: "235b-a22b", hidden: 4096, layers: 94, heads: 64, kvHeads: 4, headDim: 128, ffn: 12288, experts: 128, chosen: 8, expertFFN: 1536, vocab: 151936}),
}

// findShape returns a shape by architecture and size. Sizes of experts are found under "qwen3" too, as they are sold.
func findShape(arch, size string) (synthShape, error) {
	arch, size = strings.ToLower(arch), strings.ToLower(size)
	for _, s := range synthShapes {
		if s.size == size && (s.arch == arch || s.experts > 0 && s.size != "tiny" && arch == "qwen3") {
			return s, nil
		}
	}
	if !slices.Contains(synthArchitectures(), arch) {
		return synthShape{}, fmt.Errorf("--arch: unknown architecture %q; known are %s", arch, strings.Join(synthArchitectures(), ", "))
	}
	return synthShape{}, fmt.Errorf("--size: %s has no size %q; known are %s", arch, size, synthSizes())
}

func synthArchitectures() []string {
	var names []string
	for _, s := range synthShapes {
		if !slices.Contains(names, s.arch) {
			names = append(names, s.arch)
		}
	}
	return names
}

// synthSizes lists the sizes of each architecture.
func synthSizes() string {
	var groups []string
	for _, arch := range synthArchitectures() {
		groups = append(groups, arch+": "+strings.Join(synthSizesOf(arch), " "))
	}
	return strings.Join(groups, "; ")
}

func synthSizesOf(arch string) []string {
	var sizes []string
	for _, s := range synthShapes {
		if s.arch == arch {
			sizes = append(sizes, s.size)
		}
	}
	return sizes
}
