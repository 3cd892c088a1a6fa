package database

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestSharedBeginnings compares freed logs with stored ones that begin alike, with every way to store them.
func TestSharedBeginnings(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	random := rand.New(rand.NewPCG(5, 6))
	var stored []*Log
	// fresh makes tokens that begin like one of the stored logs, or like none.
	fresh := func() (tokens []int32, parent *Log, shared int) {
		if len(stored) > 0 && random.IntN(4) > 0 {
			parent = stored[random.IntN(len(stored))]
			shared = random.IntN(len(parent.Tokens) + 1)
			tokens = append(tokens, parent.Tokens[:shared]...)
		}
		for range random.IntN(40) {
			tokens = append(tokens, random.Int32N(2)) // so that unrelated ones are alike, too
		}
		return tokens, parent, shared
	}
	for i := range 60 {
		tokens, parent, shared := fresh()
		l := &Log{Tenant: "a", Model: "m", Tokens: tokens}
		if parent != nil && i%2 == 0 {
			l.Parent, l.Shared = parent.ID, shared
		}
		check(t, d.PutLog(ctx, l))
		stored = append(stored, l)
		check(t, d.PutLog(ctx, &Log{Tenant: "b", Model: "m", Tokens: append(tokens, 7, 7, 7)}))
	}
	for i := range 100 {
		tokens, _, _ := fresh()
		want := 0
		for _, l := range stored {
			n := 0
			for ; n < len(tokens) && n < len(l.Tokens) && tokens[n] == l.Tokens[n]; n++ {
			}
			want = max(want, n)
		}
		if want < headTokens {
			want = 0
		}
		if got, err := d.Shared(ctx, &Freed{Tenant: "a", Model: "m", Tokens: tokens}); err != nil || got != want {
			t.Fatalf("log %d: %d tokens are shared, want %d, %v: %v", i, got, want, err, tokens)
		}
	}
	if got, err := d.Shared(ctx, &Freed{Tenant: "a", Model: "other", Tokens: stored[0].Tokens}); err != nil || got != 0 {
		t.Errorf("of another model %d, %v", got, err)
	}
}

// BenchmarkShared deletes one of a thousand conversations with one system prompt.
func BenchmarkShared(b *testing.B) {
	d, err := Open(b.Context(), Memory, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	tokens := make([]int32, 8000)
	for i := range 1000 {
		for j := 2000; j < len(tokens); j++ {
			tokens[j] = int32(i + j)
		}
		if err := d.PutLog(b.Context(), &Log{Tenant: "a", Model: "m", Tokens: tokens}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1000, "logs")
	for b.Loop() {
		if n, err := d.Shared(b.Context(), &Freed{Tenant: "a", Model: "m", Tokens: tokens}); err != nil || n != len(tokens) {
			b.Fatal(n, err, fmt.Sprint(len(tokens)))
		}
	}
}
