package engine

import (
	"context"
	"fmt"
	"math"

	"hearth/engine/api"
	"hearth/engine/model"
)

// Embedding is the vector of a text.
type Embedding struct {
	Vector []float32 // of length 1
	Usage  api.Usage
}

// Embed returns the embedding of each text: the last token's hidden row, its first dimensions where these are not 0
// (Matryoshka representations, arXiv 2205.13147), divided by its length. Texts are computed in batches, with whatever else
// runs, and their vectors do not depend on it. It fails with ErrInvalid for a model that is not trained for embeddings, and
// with the error of the first text that cannot be computed.
func (e *Engine) Embed(ctx context.Context, texts [][]int32, dimensions int, salt string) ([]Embedding, error) {
	config := &e.loop.model.Config
	if config.Pooling != model.PoolLast {
		return nil, &api.FieldError{Field: "model", Reason: fmt.Sprintf("must give embeddings; its pooling is %s", config.Pooling)}
	}
	if dimensions < 0 || dimensions > config.HiddenSize {
		return nil, &api.FieldError{Field: "dimensions", Reason: fmt.Sprintf("must be between 1 and %d, got %d", config.HiddenSize, dimensions)}
	}
	if dimensions == 0 {
		dimensions = config.HiddenSize
	}
	embeddings := make([]Embedding, len(texts))
	err := e.each(ctx, texts, api.Request{Pooled: true, Salt: salt}, func(i int, done *api.Done) error {
		vector := done.Values[:dimensions]
		if err := normalize(vector); err != nil {
			return err
		}
		embeddings[i] = Embedding{Vector: vector, Usage: done.Usage}
		return nil
	})
	return embeddings, err
}

// Score is how well a prompt's question is answered by yes.
type Score struct {
	Probability float32
	Usage       api.Usage
}

// Score returns for each prompt the probability of yes against no (Qwen3-Reranker, arXiv 2506.05176 §2): of the two
// classes of a model that is trained for ranking, and otherwise of the tokens yes and no as the prompt's continuation.
// Prompts are computed as Embed does.
func (e *Engine) Score(ctx context.Context, prompts [][]int32, yes, no int32, salt string) ([]Score, error) {
	request := api.Request{LogitsOf: []int32{yes, no}, Salt: salt}
	if e.loop.model.Config.Pooling == model.PoolRank {
		request = api.Request{Pooled: true, Salt: salt}
	}
	scores := make([]Score, len(prompts))
	err := e.each(ctx, prompts, request, func(i int, done *api.Done) error {
		p := 1 / (1 + math.Exp(float64(done.Values[1])-float64(done.Values[0])))
		if math.IsNaN(p) {
			return fmt.Errorf("%w: scores of %v", api.ErrInternal, done.Values)
		}
		scores[i] = Score{Probability: float32(p), Usage: done.Usage}
		return nil
	})
	return scores, err
}

// each submits a request without tokens for every prompt, as many at once as the engine runs, and gives take the results
// in order. The first error ends it, and those that still run.
func (e *Engine) each(ctx context.Context, prompts [][]int32, request api.Request, take func(i int, done *api.Done) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request.MaxTokens, request.Logprobs = api.NoTokens, -1
	running := make([]<-chan api.Event, 0, len(prompts))
	for i := range prompts {
		for len(running) < min(len(prompts), i+e.limits.Spans) {
			r := request
			r.Prompt = prompts[len(running)]
			events, err := e.Submit(ctx, &r)
			if err != nil {
				return fmt.Errorf("engine: text %d: %w", len(running), err)
			}
			running = append(running, events)
		}
		var done *api.Done
		for event := range running[i] {
			done = event.Done
		}
		switch {
		case done.Reason == api.FinishCancelled:
			return context.Cause(ctx)
		case done.Err != nil:
			return fmt.Errorf("engine: text %d: %w", i, done.Err)
		}
		if err := take(i, done); err != nil {
			return fmt.Errorf("engine: text %d: %w", i, err)
		}
	}
	return nil
}

// normalize divides a vector by its length.
func normalize(vector []float32) error {
	sum := 0.0
	for _, x := range vector {
		sum += float64(x) * float64(x)
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return fmt.Errorf("%w: an embedding whose squared length is %v", api.ErrInternal, sum)
	}
	for i := range vector {
		vector[i] = float32(float64(vector[i]) / math.Sqrt(sum))
	}
	return nil
}
