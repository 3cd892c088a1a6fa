// Package embedded holds a small trained model, so that the server answers on a machine that has nothing but the
// binary: stories260K, a Llama of 260,000 parameters that writes simple English stories, by Andrej Karpathy
// (karpathy/tinyllamas on Hugging Face, MIT licence, in LICENSE.stories260K.txt beside the weights).
package embedded

import _ "embed"

// Name is the id that the model is served under.
const Name = "stories260k"

// Model is the GGUF file. The caller does not modify it.
//
//go:embed stories260K-f32.gguf
var Model []byte
