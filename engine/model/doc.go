// Package model holds the architectures, one file each, in the order of their papers.
//
// An architecture reads its hyperparameters from GGUF keys, declares the weights it needs, and records its forward
// pass once, as a hardware.Program. It never asks which device runs it, which format a weight has, or where the cache
// lies. Blocks that families share, such as attention and the gated feed-forward network, are configured by fields.
package model
