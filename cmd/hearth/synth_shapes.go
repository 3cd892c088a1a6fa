package main

import (
	"fmt"
	"slices"
	"strings"
)

// synthShape is the shape of a published model; its figures are those of its config.json. What families differ in beside
// numbers is in mixer.
type synthShape struct {
	arch, size              string
	family                  string // the name that the architectures of one series are also found under; "": arch
	hidden, layers          int
	heads, kvHeads, headDim int
	rotated                 int // elements of a head that are rotated; 0: all
	ffn                     int
	experts                 synthExperts
	vocab                   int // rows of the embedding; 0: as many as the vocabulary needs
	context                 int
	theta, eps              float32
	tied                    bool
	llama3Factor            float64 // of the frequencies; 0: unscaled
	ffnNorm                 string  // name of the norm before the feed-forward half; "": ffn_norm
	predicts                bool    // the published model has a block that predicts further tokens
	blocks                  int     // of these, behind the layers
	mixer                   synthMixer
}

// synthMixer is the part of a family outside feed-forward networks.
type synthMixer interface {
	// keys sets the metadata that the family has beside the common one.
	keys(s *synthShape, set func(name string, value any))
	// layer adds the tensors of layer i that are neither norms of its halves nor of its feed-forward network.
	layer(s *synthShape, i int, add func(name string, shape ...int))
	// outer adds tensors outside the layers.
	outer(s *synthShape, add func(name string, shape ...int))
}

// synthExperts are the experts of a shape.
type synthExperts struct {
	count, chosen, ffn int // 0: dense
	shared, sharedFFN  int // number of shared experts, and rows of all of them together
	sharedGate         bool
	dense              int     // leading layers without experts
	hash               int     // leading layers whose experts the token chooses
	groups, usedGroups int     // 0: no groups
	scoring            int     // expert_gating_func; 0: the architecture's
	unnormalized       bool    // chosen weights keep their sum
	scale              float32 // 0: 1
	bias               bool    // for the choice of experts
	limit              float32 // of gate and up; 0: none
}

// softmaxScoring, sigmoidScoring and rootScoring are values of expert_gating_func.
const (
	softmaxScoring = 1
	sigmoidScoring = 2
	rootScoring    = 4
)

// synthShapes are the known shapes.
var synthShapes = slices.Concat(groupedShapes, hybridShapes, deepSeekShapes)

// findShape returns a shape by architecture or series, and size.
func findShape(arch, size string) (synthShape, error) {
	arch, size = strings.ToLower(arch), strings.ToLower(size)
	for _, s := range synthShapes {
		if s.size == size && (s.arch == arch || s.family == arch && size != "tiny") {
			return s, nil
		}
	}
	if !slices.ContainsFunc(synthShapes, func(s synthShape) bool { return s.arch == arch || s.family == arch }) {
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
		if s.arch == arch || s.family == arch && s.size != "tiny" {
			sizes = append(sizes, s.size)
		}
	}
	return sizes
}

// sized returns shapes of one architecture.
func sized(common func(s synthShape) synthShape, shapes ...synthShape) []synthShape {
	for i := range shapes {
		shapes[i] = common(shapes[i])
	}
	return shapes
}
