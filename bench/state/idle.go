package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// residentSessions is how many of the idle sessions RAM has room for.
const residentSessions = 4

// showIdle keeps many sessions on disk, resumes them in random order, and watches the memory.
func showIdle(ctx context.Context, r *run) error {
	c := r.opts.counts
	m, err := r.synth(ctx, "qwen3", "tiny", 32768)
	if err != nil {
		return err
	}
	m.length = c.sessionTokens + 512
	s, err := r.startNew(ctx, m, "idle", "--parallel", "1", "--cache-ram", fmt.Sprint(residentSessions*tinyBytesPerToken*m.length))
	if err != nil {
		return err
	}
	histories := make([][]message, c.sessions)
	var computing []time.Duration
	for i := range histories {
		histories[i] = []message{{"user", prose(uint64(i), c.sessionTokens)}}
		a, err := s.chat(ctx, histories[i], 8, nil)
		if err != nil {
			return err
		}
		computing = append(computing, a.first)
		histories[i] = append(histories[i], message{"assistant", a.text}, secondQuestion)
	}
	firsts := make([]*answer, c.sessions) // the answers of the first time that a session was resumed
	random := rand.New(rand.NewPCG(1, 2))
	var times []time.Duration
	var resident []float64 // in MiB, after each part of the resumes
	cached, prompt, least := 0, 0, 1.0
	const parts = 20
	for i := range c.resumes {
		k := random.IntN(c.sessions)
		a, err := s.chat(ctx, histories[k], 8, nil)
		if err != nil {
			return err
		}
		times = append(times, a.first)
		cached, prompt, least = cached+a.cached, prompt+a.prompt, min(least, float64(a.cached)/float64(a.prompt))
		if firsts[k] == nil {
			firsts[k] = a
		} else if err := sameTokens(a, firsts[k]); err != nil {
			r.require(false, "session %d answers differently the next time: %v", k, err)
		}
		if (i+1)%max(c.resumes/parts, 1) == 0 {
			bytes, err := s.residentBytes()
			if err != nil {
				return err
			}
			resident = append(resident, float64(bytes)/(1<<20))
		}
	}
	if err := r.compareWithComputed(ctx, m, histories, firsts); err != nil {
		return err
	}
	metrics, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	half := len(resident) / 2
	before, after := highest(resident[half/2:half]), highest(resident[half:])
	r.figure(float64(c.sessions), "", "sessions of %d tokens, RAM for %d", c.sessionTokens, residentSessions)
	r.figure(metrics["hearth_disk_bytes"]/(1<<20), "MiB", "on disk")
	r.figure(float64(len(times)), "", "resumes in random order")
	share := float64(cached) / float64(prompt)
	r.figure(100*share, "%", "share of the prompts that was cached")
	r.figure(100*least, "%", "least share of a prompt; the rest was computed since that was faster")
	r.figure(metrics["hearth_restores_abandoned_total"], "", "restores given up because computing was faster")
	r.milliseconds(percentile(computing, .5), "first token, computed: p50")
	r.milliseconds(percentile(times, .5), "first token, resumed: p50")
	r.milliseconds(percentile(times, .99), "first token, resumed: p99")
	r.figure(before, "MiB", "memory of the process (RssAnon), second quarter of the resumes")
	r.figure(after, "MiB", "memory of the process (RssAnon), second half of the resumes")
	r.require(after <= before*1.05+4, "memory grew from %.0f to %.0f MiB", before, after)
	r.requireTime(share >= 0.95, "sessions were resumed with only %.1f%% of their prompts cached", 100*share)
	r.requireTime(percentile(times, .5) <= percentile(computing, .5), "resuming takes longer than computing")
	return s.stop()
}

// tinyBytesPerToken is what a token of qwen3-tiny takes: keys and values of 4 layers, 2 heads of 32 elements in 34 bytes.
const tinyBytesPerToken = 2 * 4 * 2 * 34

// comparedSessions is how many resumed answers are compared with computed ones.
const comparedSessions = 20

// compareWithComputed asks a server that has nothing stored for some of the answers.
func (r *run) compareWithComputed(ctx context.Context, m model, histories [][]message, answers []*answer) error {
	s, err := r.startNew(ctx, m, "computed")
	if err != nil {
		return err
	}
	compared := 0
	for k, a := range answers {
		if a == nil || compared == comparedSessions {
			continue
		}
		compared++
		computed, err := s.chat(ctx, histories[k], 8, nil)
		if err != nil {
			return err
		}
		if err := sameTokens(a, computed); err != nil {
			r.require(false, "session %d: the resumed answer differs from the computed one: %v", k, err)
		}
	}
	r.figure(float64(compared), "", "resumed answers compared with computed ones")
	return s.stop()
}

// highest returns the largest value, 0 of none.
func highest(list []float64) float64 {
	most := 0.0
	for _, v := range list {
		most = max(most, v)
	}
	return most
}
