package model

import (
	"fmt"

	"hearth/engine/weights"
	"hearth/hardware"
)

// Pooling says what a model makes of a whole text, beside or instead of its continuation.
type Pooling uint8

// The poolings, numbered as in GGUF files (ggml-org/llama.cpp, include/llama.h).
const (
	PoolNone  Pooling = iota // nothing: the model continues texts
	PoolMean                 // the mean of all tokens' hidden rows
	PoolFirst                // the hidden row of the first token
	PoolLast                 // the hidden row of the last token, after the final norm
	PoolRank                 // class scores of the last token's hidden row
)

// String returns the pooling's name.
func (p Pooling) String() string { return [...]string{"none", "mean", "first", "last", "rank"}[p] }

// NumClasses is how many scores PoolRank gives: how well "yes" and "no" answer whether a document is relevant.
const NumClasses = 2

// pooling reads what kind of pooling the model was trained for.
func (k *keys) pooling() Pooling {
	p := k.optionalCount("pooling_type", int(PoolNone), 1<<16)
	if p > int(PoolRank) {
		k.wrong("pooling_type", "is %d, known are 0 to %d", p, PoolRank)
		return PoolNone
	}
	return Pooling(p)
}

// pool records what the model's pooling gives for rows whose outputs are asked for, and reports whether it can be had from
// the last token alone.
func (l *Loader) pool(hidden hardware.Tensor) (pooled hardware.Tensor, ok bool) {
	switch l.Config.Pooling {
	case PoolLast:
		return hidden, true
	case PoolRank:
		const name = "cls.output"
		if t, err := l.src.Describe(name + ".weight"); err == nil && (len(t.Shape) != 2 || t.Shape[0] != NumClasses) {
			l.fail(fmt.Errorf("%w: tensor %q has the shape %v, want [%d, %d]", weights.ErrCorrupt, t.Name, t.Shape, NumClasses, l.Config.HiddenSize))
			return hidden, false
		}
		return l.program.MatMul(hidden, l.Matrix(name, NumClasses, l.Config.HiddenSize)), true
	}
	return hidden, false
}
