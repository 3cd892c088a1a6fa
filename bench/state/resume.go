package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// turnTokens is how long the answers of a session are.
	turnTokens = 24
	// leastCached is the share of a restored prompt that must not be computed, and leastGain bounds the time to the first
	// token.
	leastCached = 0.99
	// leastRestored is that share on a machine so busy that computing seems faster to the server at times.
	leastRestored = 0.5
	leastGain     = 20
)

// showResume interrupts a session of each model by kill -9 in the middle of its second turn.
func showResume(ctx context.Context, r *run) error { return r.eachSessionModel(ctx, r.resume) }

// eachSessionModel shows something of each of the sessionModels.
func (r *run) eachSessionModel(ctx context.Context, show func(context.Context, model) error) error {
	models, err := r.sessionModels(ctx)
	if err != nil {
		return err
	}
	for _, m := range models {
		if err := show(ctx, m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// sessionModels are the models of the points that need one long session.
func (r *run) sessionModels(ctx context.Context) ([]model, error) {
	length := r.opts.counts.tokens + 1024
	first, err := r.synth(ctx, "qwen3", "tiny", length)
	if err != nil {
		return nil, err
	}
	models := []model{first}
	for _, arch := range r.opts.counts.architectures {
		m, err := r.synth(ctx, arch, "tiny", length)
		if err != nil {
			return nil, err
		}
		models = append(models, m)
	}
	if size := r.opts.counts.size; size != "" {
		m, err := r.synth(ctx, "qwen3", size, length)
		if err != nil {
			return nil, err
		}
		models = append(models, m)
	}
	return models, nil
}

// resume shows one model. The first server runs the session undisturbed; the second one is killed in its second turn, and
// the third one goes on from what the second one left.
func (r *run) resume(ctx context.Context, m model) error {
	undisturbed, err := r.undisturbed(ctx, m)
	if err != nil {
		return err
	}
	data, err := r.folder(m.name)
	if err != nil {
		return err
	}
	s, err := r.start(ctx, m, data)
	if err != nil {
		return err
	}
	history := []message{{"user", prose(1, r.opts.counts.tokens)}}
	first, err := s.chat(ctx, history, turnTokens, nil)
	if err != nil {
		return err
	}
	if err := sameTokens(first, undisturbed.turns[0]); err != nil {
		return fmt.Errorf("two servers differ before anything happened: %w", err)
	}
	history = append(history, message{"assistant", first.text}, secondQuestion)
	if err := s.settle(ctx); err != nil {
		return err
	}
	records, err := s.metric(ctx, "hearth_disk_records")
	if err != nil {
		return err
	}
	begun := false
	_, err = s.chat(ctx, history, 500, func(a *answer) bool {
		if !begun && len(a.tokens) > 2 {
			begun = true
			s.kill()
		}
		return false
	})
	if err == nil || !begun {
		return fmt.Errorf("the turn was not interrupted: %w", errors.Join(err))
	}
	if s, err = r.start(ctx, m, data); err != nil {
		return err
	}
	found, err := s.metric(ctx, "hearth_disk_records")
	if err != nil {
		return err
	}
	again, err := s.chat(ctx, history, turnTokens, nil)
	if err != nil {
		return err
	}
	recomputed := min(first.first, undisturbed.turns[0].first)
	share := float64(again.cached) / float64(again.prompt)
	gain := recomputed.Seconds() / again.first.Seconds()
	r.figure(float64(again.prompt), "tokens", "%s: prompt of the turn after the crash", m.name)
	r.figure(100*share, "%", "%s: of it cached", m.name)
	r.milliseconds(s.ready, "%s: start of the server", m.name)
	r.milliseconds(again.first, "%s: first token, restored from disk", m.name)
	r.milliseconds(undisturbed.turns[1].first, "%s: first token, undisturbed (from RAM)", m.name)
	r.milliseconds(recomputed, "%s: first token, computed", m.name)
	r.figure(gain, "times", "%s: restoring is faster than computing", m.name)
	r.require(found >= records, "%s: %v records are there after the crash, %v were before", m.name, found, records)
	r.require(share >= leastRestored, "%s: only %d of %d tokens were cached", m.name, again.cached, again.prompt)
	r.requireTime(share >= leastCached, "%s: %d of %d tokens were cached, want %v of them", m.name, again.cached, again.prompt, leastCached)
	if err := sameTokens(again, undisturbed.turns[1]); err != nil {
		r.require(false, "%s: the answer after the crash differs from the undisturbed one: %v", m.name, err)
	}
	if m.name == "qwen3-"+r.opts.counts.size {
		r.requireTime(gain >= leastGain, "%s: restoring is %.1f times faster than computing, want %d", m.name, gain, leastGain)
	}
	return s.stop()
}

// secondQuestion is short: nearly all of the second turn's prompt is what was there before.
var secondQuestion = message{"user", "And then?"}

// session is a conversation of two turns and their answers.
type session struct {
	history []message // with the second answer
	turns   [2]*answer
}

// undisturbed runs both turns on a server of its own, which it stops.
func (r *run) undisturbed(ctx context.Context, m model) (*session, error) {
	s, err := r.startNew(ctx, m, m.name+"-undisturbed")
	if err != nil {
		return nil, err
	}
	result, err := s.twoTurns(ctx, r.opts.counts.tokens)
	return result, errors.Join(err, s.stop())
}

// twoTurns asks for a text of so many tokens, and once more.
func (s *server) twoTurns(ctx context.Context, tokens int) (*session, error) {
	result := &session{history: []message{{"user", prose(1, tokens)}}}
	for i := range result.turns {
		if i > 0 {
			result.history = append(result.history, secondQuestion)
		}
		a, err := s.chat(ctx, result.history, turnTokens, nil)
		if err != nil {
			return nil, err
		}
		result.turns[i] = a
		result.history = append(result.history, message{"assistant", a.text})
	}
	return result, nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
