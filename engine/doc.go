// Package engine runs models: tokens in, tokens out.
//
// One goroutine, the loop, owns everything that changes while a model runs:
//
//	| what                                   | goroutine          |
//	|----------------------------------------|--------------------|
//	| Submit: checks, sampler, sequence      | the caller's       |
//	| scheduler, block tables, prefix index  | loop               |
//	| copies of sequences' states            | loop               |
//	| batch, queue, sampling, events         | loop               |
//	| kernels                                | loop and the device's workers |
//	| reading events                         | the caller's       |
//
// A step is three calls: the scheduler chooses rows, the queue runs them, and the loop samples one token for every
// sequence that reached its end. Callers reach the loop through a channel of sequences and an atomic flag each for
// cancellation; the loop never waits for a reader.
//
// Where a program remembers more of a sequence than cache blocks, the scheduler also decides where its state is copied
// aside and which copy a sequence goes on from; the loop does the copies between steps, after the readers of a step were
// told.
//
// The invariant that users care about: the same request gives the same tokens and the same log-probabilities, alone or
// in any batch, with any part of its prompt found in the cache, in chunks of any size, preempted or not, with guesses of
// its tokens (package draft) or without. It holds because a row's bits on an exact device depend on its sequence's past
// alone (package hardware), and because the draw of a position depends on the request's seed and that position alone
// (package sample).
package engine
