package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"hearth/engine/tokenizer"
)

// Text is a text that models are scored on: its tokens, cut into windows of one length. Each window is a sequence of its
// own. Its first tokens are there to be read, those after them to be predicted.
//
//	without a stride:  windows follow each other, the second half of each is predicted
//	|---read---|--predict--|
//	                       |---read---|--predict--|
//
//	with a stride:     windows begin every Stride tokens, the last Stride tokens of each are predicted
//	|---read--------|-pred-|
//	       |---read--------|-pred-|
//
// The first is the usual way and makes figures that can be compared; the second gives every token nearly a whole window
// before it, as a long conversation does, and takes Window/Stride times as long.
type Text struct {
	Tokens     []int32 // as many as the windows have
	Window     int     // tokens of a window
	Stride     int     // 0: half a window is predicted
	BOS        int32   // stands in place of the first token of each window; -1: none
	Vocabulary [sha256.Size]byte
}

// TextOptions say how a text is cut.
type TextOptions struct {
	Window     int // at least 4
	Stride     int // 0, or 1 to Window-1
	MaxWindows int // 0: as many as there are
}

// NewText encodes a text and cuts it. What is left behind the last whole window is dropped.
func NewText(tok *tokenizer.Tokenizer, text string, opts TextOptions) (*Text, error) {
	switch {
	case opts.Window < 4:
		return nil, fmt.Errorf("engine: option Window is %d, want at least 4", opts.Window)
	case opts.Stride < 0 || opts.Stride >= opts.Window:
		return nil, fmt.Errorf("engine: option Stride is %d, want less than the window of %d", opts.Stride, opts.Window)
	case opts.MaxWindows < 0:
		return nil, fmt.Errorf("engine: option MaxWindows is %d", opts.MaxWindows)
	}
	t := &Text{
		Tokens: tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true}), Window: opts.Window, Stride: opts.Stride, BOS: -1,
		Vocabulary: vocabularySum(tok),
	}
	if bos, ok := tok.BOS(); ok && tok.AddBOS() {
		t.BOS = bos
	}
	windows := t.Windows()
	if windows < 1 {
		return nil, fmt.Errorf("engine: the text has %d tokens, a window %d", len(t.Tokens), opts.Window)
	}
	if opts.MaxWindows > 0 {
		windows = min(windows, opts.MaxWindows)
	}
	t.Tokens = t.Tokens[:(windows-1)*t.step()+t.Window]
	return t, nil
}

// vocabularySum stands for the texts of all tokens in their order.
func vocabularySum(tok *tokenizer.Tokenizer) (sum [sha256.Size]byte) {
	h := sha256.New()
	var length [4]byte
	for id := range int32(tok.VocabSize()) {
		token, _ := tok.Token(id)
		binary.LittleEndian.PutUint32(length[:], uint32(len(token)))
		h.Write(length[:])
		h.Write([]byte(token))
	}
	h.Sum(sum[:0])
	return sum
}

// Same fails with ErrOtherText when other is not the same text in the same vocabulary and windows.
func (t *Text) Same(other *Text) error {
	head := headOf(other, 0, 0)
	if err := head.compare(headOf(t, 0, 0)); err != nil {
		return err
	}
	if !slices.Equal(t.Tokens, other.Tokens) || t.BOS != other.BOS {
		return fmt.Errorf("%w: its tokens are others", ErrOtherText)
	}
	return nil
}

// step is the distance between the beginnings of two windows.
func (t *Text) step() int {
	if t.Stride > 0 {
		return t.Stride
	}
	return t.Window
}

// Windows is the number of windows.
func (t *Text) Windows() int {
	if len(t.Tokens) < t.Window {
		return 0
	}
	return (len(t.Tokens)-t.Window)/t.step() + 1
}

// PerWindow is the number of tokens of a window that are predicted.
func (t *Text) PerWindow() int {
	if t.Stride > 0 {
		return t.Stride
	}
	return t.Window - t.Window/2 - 1
}

// Predicted is the number of tokens that are predicted, of all windows.
func (t *Text) Predicted() int { return t.Windows() * t.PerWindow() }

// window returns the tokens of a window as models are given them.
func (t *Text) window(i int) []int32 {
	tokens := append([]int32(nil), t.Tokens[i*t.step():][:t.Window]...)
	if t.BOS >= 0 {
		tokens[0] = t.BOS
	}
	return tokens
}
