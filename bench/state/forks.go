package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	// mostForkMemory is how much more memory of the cache forks may take than the session that they share.
	mostForkMemory = 0.02
	// mostForkTime bounds the time to a fork's first token, as a multiple of a prompt's that is in memory.
	mostForkTime = 2
	// memoryHits is how many turns of the session itself the forks are compared with.
	memoryHits = 5
)

// showForks forks a session of each model many times.
func showForks(ctx context.Context, r *run) error { return r.eachSessionModel(ctx, r.forks) }

// fork makes a new session that has the first items of another one.
func (s *server) fork(ctx context.Context, session string, items int) (id string, err error) {
	var forked struct {
		ID string `json:"id"`
	}
	err = s.call(ctx, http.MethodPost, "/v1/sessions/"+session+"/fork", map[string]int{"items": items}, &forked)
	return forked.ID, err
}

// blocks is how many blocks of the cache hold something.
func (s *server) blocks(ctx context.Context) (float64, error) {
	sums, err := s.metrics(ctx)
	return sums["hearth_kv_blocks_used"] + sums["hearth_kv_blocks_cached"], err
}

func (r *run) forks(ctx context.Context, m model) error {
	s, err := r.startNew(ctx, m, m.name)
	if err != nil {
		return err
	}
	session, err := s.converse(ctx)
	if err != nil {
		return err
	}
	if _, err := s.stream(ctx, session, prose(1, r.opts.counts.tokens), turnTokens); err != nil {
		return err
	}
	var own []*answer
	var hits []time.Duration
	for i := range memoryHits {
		a, err := s.stream(ctx, session, forkQuestion(i), turnTokens)
		if err != nil {
			return err
		}
		own, hits = append(own, a), append(hits, a.first)
	}
	before, err := s.blocks(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for range r.opts.counts.forks {
		id, err := s.fork(ctx, session, 2) // behind the first turn
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	forked, err := s.blocks(ctx)
	if err != nil {
		return err
	}
	slowest, hit := time.Duration(0), percentile(hits, .5)
	computed := 0
	for i, id := range ids {
		a, err := s.stream(ctx, id, forkQuestion(i), turnTokens)
		if err != nil {
			return err
		}
		slowest = max(slowest, a.first)
		computed = max(computed, a.prompt-a.cached)
		if i == 0 {
			r.require(a.text == own[0].text, "%s: a fork answers %q, the session itself answered %q", m.name, a.text, own[0].text)
		}
		r.requireTime(a.first <= mostForkTime*hit, "%s: fork %d took %v to its first token, the session itself %v", m.name, i, a.first, hit)
	}
	after, err := s.blocks(ctx)
	if err != nil {
		return err
	}
	share := (forked - before) / before
	r.figure(before, "blocks", "%s: memory of the session", m.name)
	r.figure(100*share, "%", "%s: further memory of %d forks", m.name, len(ids))
	r.figure((after-forked)/float64(len(ids)), "blocks", "%s: of each fork after a turn of its own", m.name)
	r.figure(float64(computed), "tokens", "%s: computed by a fork at most, of prompts of %d", m.name, own[0].prompt)
	r.milliseconds(hit, "%s: first token of the session itself, p50", m.name)
	r.milliseconds(slowest, "%s: first token of a fork, slowest", m.name)
	r.require(share < mostForkMemory, "%s: forks take %.1f%% more memory, want less than %v%%", m.name, 100*share, 100*mostForkMemory)
	// What a fork adds is what it said and heard, which begins within a block and may end within another one.
	r.require((after-forked)/float64(len(ids)) <= 2, "%s: each fork takes %.1f blocks after its turn", m.name, (after-forked)/float64(len(ids)))
	return s.stop()
}

func forkQuestion(i int) string { return fmt.Sprintf("And then, in way %d?", i) }
