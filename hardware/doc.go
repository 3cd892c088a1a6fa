// Package hardware is the contract between models, caches and devices, and the survey of what is in this machine.
//
// A model file records its forward pass once, at load, as a [Program]: weights, streams of the KV cache, and a list of
// operations on views of float32 rows. A [Device] compiles the program into a [Queue], which packs the weights,
// allocates everything and then runs one [Batch] per step. Nothing of the model's Go runs per token, and nothing is
// allocated per step.
//
// # What a device promises
//
//   - Everything a sequence remembers is addressed by absolute position, and writing a position twice overwrites.
//     Taking tokens back is therefore a smaller start in the next batch.
//   - Where [Info.Exact] is set, the outputs and cache bytes of position p are a function of tokens 0..p alone: not of
//     the batch, the cutting of a prompt into spans, the number of workers, preemption or prefix reuse.
//   - A device claims operations and formats. What it does not claim is refused by Load with [ErrUnsupported], naming
//     operation, layer and weight; nothing falls back silently in the middle of a step.
//
// # Blocks
//
// The cache is paged: a block holds [BlockLen] positions of all streams of all layers, in one contiguous region whose
// inner layout is the device's own. Block ids belong to the caller (package kvcache); a queue never allocates or frees
// one. Attention works in tiles of one block counted from position 0, so its arithmetic does not depend on where a
// sequence's blocks lie.
package hardware
