package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"hearth/engine/api"
	"hearth/sessions"
)

// generator answers conversations with one model.
type generator struct {
	store   *sessions.Store
	model   sessions.Model
	closers []io.Closer // in the order they close
}

func (g *generator) close() error {
	var errs []error
	for _, c := range g.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// answer is what a model said and how it came about.
type answer struct {
	text   string
	seed   uint64
	finish sessions.Finish
}

func (a *answer) cancelled() bool { return a.finish.Reason == api.FinishCancelled }

// contextFull reports whether the answer ended because no token more fits.
func (a *answer) contextFull(contextLength int) bool {
	u := a.finish.Usage
	return a.finish.Reason == api.FinishLength && u.PromptTokens+u.GeneratedTokens >= contextLength
}

// generate writes an answer to the messages while it is drawn. The answer holds what was written also when ctx ended
// or there is an error: those of sessions.Store.Run, of the engine while it ran, and of out.
func (g *generator) generate(ctx context.Context, messages []message, s *settings, seed uint64, out io.Writer) (answer, error) {
	a := answer{seed: seed}
	turn := &sessions.Turn{
		Model: g.model.ID, Messages: encodeMessages(messages), MaxTokens: s.maxTokens, Sampling: s.sampling, Logprobs: -1,
		Tenant: sessions.DefaultTenant, Now: time.Now(),
	}
	turn.Sampling.Seed = seed
	stream, err := g.store.Run(ctx, turn)
	if long := (*api.TooLongError)(nil); errors.As(err, &long) && long.Prompt < long.Context {
		turn.MaxTokens = 0 // max_tokens is the most that is wanted: what room there is will do
		stream, err = g.store.Run(ctx, turn)
	}
	if err != nil {
		return a, err
	}
	defer stream.Close()
	var text strings.Builder
	for {
		delta, ok := stream.Next()
		if !ok {
			break
		}
		text.WriteString(delta.Text)
		a.text = text.String()
		if delta.Text != "" {
			if _, err := io.WriteString(out, delta.Text); err != nil {
				return a, err
			}
		}
		if delta.Finish != nil {
			a.finish = *delta.Finish
		}
	}
	if a.finish.Reason == api.FinishError {
		return a, a.finish.Err
	}
	return a, nil
}

// summary is one line about counts and speed.
func (a *answer) summary() string {
	u, t := a.finish.Usage, a.finish.Timing
	return fmt.Sprintf("[prompt %d tokens, %d of them cached; answer %d tokens, the first after %s, then %s]",
		u.PromptTokens, u.CachedTokens, u.GeneratedTokens, roundTime(t.Queued+t.Prefill), a.speed())
}

// speed is the tokens per second after the first token, which belongs to the prompt's time.
func (a *answer) speed() string {
	intervals, took := a.finish.Usage.GeneratedTokens-1, a.finish.Timing.Decode
	if intervals < 1 || took <= 0 {
		return "- tokens/s"
	}
	return fmt.Sprintf("%.1f tokens/s", float64(intervals)/took.Seconds())
}

// roundTime leaves three or four digits.
func roundTime(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
