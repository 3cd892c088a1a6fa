package engine

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
)

// LogitRows is where the rows of logits of a text come from: a Scorer computes them, a LogitsFile has them.
type LogitRows interface {
	// Reset begins the next window.
	Reset()
	// Feed goes on by some tokens, and keeps the rows of logits at the indices outputs of them, ascending.
	Feed(ctx context.Context, tokens []int32, outputs []int32) error
	// Row returns a row that Feed kept, [VocabSize], valid until the next Feed.
	Row(i int) []float32
	// VocabSize is the length of a row.
	VocabSize() int
	// Most is how many tokens and outputs Feed takes at once.
	Most() (tokens, outputs int)
}

// PerplexityOptions say what is done beside scoring a text.
type PerplexityOptions struct {
	Reference LogitRows               // compared with; nil: nothing
	Save      *LogitsWriter           // gets every row; nil: nobody
	Progress  func(predicted, of int) // called after each piece; nil: nobody asks
}

// PerplexityReport is what Perplexity found.
type PerplexityReport struct {
	Tokens     int         `json:"tokens"`    // of the text, as far as windows reach
	Windows    int         `json:"windows"`   //
	Predicted  int         `json:"predicted"` // tokens that count
	Scores     Scores      `json:"scores"`
	Reference  *Scores     `json:"reference,omitempty"`
	Divergence *Divergence `json:"divergence,omitempty"`
}

// Perplexity runs a model over the windows of a text and says how well it predicts it, and how far it is from a
// reference. The reference is fed piece by piece beside it, so that no more than a piece's rows are in memory.
func Perplexity(ctx context.Context, t *Text, rows LogitRows, opts PerplexityOptions) (*PerplexityReport, error) {
	vocab := rows.VocabSize()
	if opts.Reference != nil && opts.Reference.VocabSize() != vocab {
		return nil, fmt.Errorf("engine: the rows of logits have %d elements, the reference's %d", vocab, opts.Reference.VocabSize())
	}
	for i, token := range t.Tokens {
		if token < 0 || int(token) >= vocab {
			return nil, fmt.Errorf("engine: token %d at position %d is not in the vocabulary of %d", token, i, vocab)
		}
	}
	s := scoring{text: t, rows: rows, opts: opts, list: make([]prediction, 0, t.Predicted())}
	for i := range t.Windows() {
		if err := s.window(ctx, i); err != nil {
			return nil, err
		}
	}
	return s.report(), nil
}

// scoring is one run of Perplexity.
type scoring struct {
	text *Text
	rows LogitRows
	opts PerplexityOptions
	list []prediction // in the order of the text
}

// window feeds a window: what is read in pieces of the usual length, what is predicted in pieces of few rows. The row of
// a token's predecessor predicts it; the last token of a window is never fed.
func (s *scoring) window(ctx context.Context, i int) error {
	s.rows.Reset()
	if s.opts.Reference != nil {
		s.opts.Reference.Reset()
	}
	tokens := s.text.window(i)
	mostTokens, piece := s.most()
	first := len(tokens) - 1 - s.text.PerWindow() // row of the first prediction
	for at := 0; at < first; {
		n := min(mostTokens, first-at)
		if err := s.feed(ctx, tokens[at:at+n], nil); err != nil {
			return err
		}
		at += n
	}
	for at := first; at < len(tokens)-1; {
		n := min(piece, len(tokens)-1-at)
		if err := s.predict(ctx, tokens[at:at+n+1]); err != nil {
			return fmt.Errorf("engine: window %d, position %d: %w", i, at, err)
		}
		at += n
	}
	return nil
}

// most is how many tokens are fed, and how many of them predict, at once.
func (s *scoring) most() (tokens, outputs int) {
	tokens, outputs = s.rows.Most()
	if s.opts.Reference != nil {
		t, o := s.opts.Reference.Most()
		tokens, outputs = min(tokens, t), min(outputs, o)
	}
	return tokens, min(tokens, outputs)
}

// feed gives tokens to the model and the reference.
func (s *scoring) feed(ctx context.Context, tokens []int32, outputs []int32) error {
	if err := s.rows.Feed(ctx, tokens, outputs); err != nil {
		return err
	}
	if s.opts.Reference != nil {
		return s.opts.Reference.Feed(ctx, tokens, outputs)
	}
	return nil
}

// predict feeds all tokens but the last, and scores what is said about all but the first.
func (s *scoring) predict(ctx context.Context, tokens []int32) error {
	n := len(tokens) - 1
	outputs := make([]int32, n)
	for i := range outputs {
		outputs[i] = int32(i)
	}
	if err := s.feed(ctx, tokens[:n], outputs); err != nil {
		return err
	}
	if scorer, ok := s.rows.(*Scorer); ok {
		scorer.Idle() // the processors are needed for the sums
	}
	rows, references := make([][]float32, n), make([][]float32, n)
	for i := range n {
		rows[i] = s.rows.Row(i)
		if s.opts.Reference != nil {
			references[i] = s.opts.Reference.Row(i)
		}
	}
	start := len(s.list)
	s.list = s.list[:start+n]
	var workers sync.WaitGroup
	numWorkers := min(runtime.GOMAXPROCS(0), n)
	for w := range numWorkers {
		workers.Go(func() {
			for i := w; i < n; i += numWorkers {
				s.list[start+i] = predict(rows[i], references[i], tokens[i+1])
			}
		})
	}
	workers.Wait()
	for i, p := range s.list[start:] {
		if math.IsNaN(p.nll) || math.IsNaN(p.reference) || math.IsNaN(p.divergence) {
			return fmt.Errorf("the logits of row %d are not numbers", i)
		}
		if s.opts.Save != nil {
			if err := s.opts.Save.write(rows[i]); err != nil {
				return err
			}
		}
	}
	if s.opts.Progress != nil {
		s.opts.Progress(len(s.list), s.text.Predicted())
	}
	return nil
}

func (s *scoring) report() *PerplexityReport {
	r := &PerplexityReport{Tokens: len(s.text.Tokens), Windows: s.text.Windows(), Predicted: len(s.list)}
	list := s.list
	r.Scores = newScores(len(list), func(i int) float64 { return list[i].nll }, func(i int) bool { return list[i].top })
	if s.opts.Reference != nil {
		reference := newScores(len(list), func(i int) float64 { return list[i].reference }, func(i int) bool { return list[i].referenceTop })
		r.Reference, r.Divergence = &reference, newDivergence(list)
	}
	return r
}
