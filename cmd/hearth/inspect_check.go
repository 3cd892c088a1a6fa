package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"hearth/engine"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware/quant"
)

// checkModel verifies everything about a model that serving it relies on, and returns the first thing that is wrong:
// hyperparameters, tensors, tokenizer, chat template, weights. The note says what there was not to check.
func checkModel(ctx context.Context, src weights.Source) (note string, err error) {
	m, err := model.Load(src)
	if err != nil {
		return "", err
	}
	if mayLackTokenizer(src) {
		note = "there is no tokenizer with it: it computes logits, but cannot be served"
	} else if err := checkTokenizer(src, m.Config.VocabSize); err != nil {
		return "", err
	}
	return note, checkFinite(ctx, src)
}

// checkTokenizer reads the tokenizer and the chat template.
func checkTokenizer(src weights.Source, vocabSize int) error {
	tok, err := engine.OpenTokenizer(src)
	if err != nil {
		return err
	}
	if tok.VocabSize() > vocabSize {
		return fmt.Errorf("%w: the tokenizer has %d tokens, the model %d rows", weights.ErrCorrupt, tok.VocabSize(), vocabSize)
	}
	_, err = engine.OpenTemplate(src, tok)
	return err
}

// mayLackTokenizer reports whether a model has no vocabulary, and is of a kind that need not have one: a GGUF file of
// weights alone, or one file of weights. A folder or a config.json is a whole model.
func mayLackTokenizer(src weights.Source) bool {
	if src.Origin() == weights.GGUF {
		_, tokens := src.Metadata().Get("tokenizer.ggml.tokens")
		_, kind := src.Metadata().Get("tokenizer.ggml.model")
		return !tokens && !kind
	}
	path := src.Path()
	if filepath.Ext(path) != ".safetensors" {
		return false
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return false
	}
	_, err := os.Stat(filepath.Join(filepath.Dir(path), "tokenizer.json"))
	return errors.Is(err, fs.ErrNotExist)
}

// checkChunk is the number of elements that are looked at together: whole blocks of every format, and small enough for
// a core's cache.
const checkChunk = 1 << 15

// chunk is a piece of a tensor's bytes.
type chunk struct {
	format *quant.Format
	data   []byte
	first  int // element of the tensor that it begins with
}

// chunksOf cuts a tensor, each of its parts by itself.
func chunksOf(t weights.Tensor) []chunk {
	var chunks []chunk
	size, first := checkChunk/t.Format.BlockLen*t.Format.BlockBytes, 0
	for _, part := range t.Parts() {
		for data := range slices.Chunk(part, size) {
			c := chunk{t.Format, data, first}
			chunks = append(chunks, c)
			first += c.elements()
		}
	}
	return chunks
}

// checkFinite reads every weight. Of several that are not finite it names the first.
func checkFinite(ctx context.Context, src weights.Source) error {
	var total int64
	for _, name := range src.Names() {
		t, err := src.Describe(name)
		if err != nil {
			return err
		}
		total += t.Size()
	}
	bar := newProgressBar("checking", total)
	defer bar.clear()
	for _, name := range src.Names() { // one tensor at a time, all processors on it
		t, err := src.Tensor(name)
		if err != nil {
			return err
		}
		if t.Format == nil { // integers are finite; what else has no format is not a weight of a model that loads
			bar.add(t.Size())
			continue
		}
		if err := checkTensor(ctx, t, bar); err != nil {
			return err
		}
	}
	return nil
}

// checkTensor dequantizes a tensor in pieces, on all processors.
func checkTensor(ctx context.Context, t weights.Tensor, bar *progressBar) error {
	chunks := chunksOf(t)
	bad := make([]int, len(chunks)) // first element of each piece that is not finite, plus one
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(chunks)) {
		workers.Go(func() {
			values := make([]float32, checkChunk)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(chunks) {
					return
				}
				bad[i] = chunks[i].firstInfinite(values)
				bar.add(int64(len(chunks[i].data)))
			}
		})
	}
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, element := range bad {
		if element > 0 {
			at, columns := chunks[i].first+element-1, 1 // of a tensor without dimensions
			if len(t.Shape) > 0 {
				columns = t.Shape[len(t.Shape)-1]
			}
			return fmt.Errorf("%w: tensor %q: the weight in row %d, column %d is not finite", weights.ErrCorrupt, t.Name, at/columns, at%columns)
		}
	}
	return nil
}

func (c *chunk) elements() int { return len(c.data) / c.format.BlockBytes * c.format.BlockLen }

// firstInfinite returns the first element of the piece that is not finite, counted from 1; 0 when all are.
func (c *chunk) firstInfinite(values []float32) int {
	values = values[:c.elements()]
	c.format.Dequantize(values, c.data)
	const exponent = 0x7f800000
	for i, v := range values {
		if math.Float32bits(v)&exponent == exponent {
			return i + 1
		}
	}
	return 0
}
