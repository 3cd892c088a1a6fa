package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestLoadProgressLines checks that a load that nobody watches is logged every few seconds with its rate, and a short one
// not at all.
func TestLoadProgressLines(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1000, 0)
	p := newLoadProgress("m.gguf", slog.New(slog.NewTextHandler(&log, nil)))
	p.bar.width, p.now, p.start, p.logged = 0, func() time.Time { return now }, now, now
	p.report(1<<20, 1<<30)
	now = now.Add(logEvery - time.Millisecond)
	p.report(50<<20, 1<<30)
	if log.Len() > 0 {
		t.Errorf("a line after less than %v: %s", logEvery, log.String())
	}
	now = now.Add(time.Millisecond)
	p.report(500<<20, 1<<30)
	now = now.Add(time.Second)
	p.report(600<<20, 1<<30)
	if got := strings.Count(log.String(), "\n"); got != 1 {
		t.Fatalf("%d lines after %v and a second: %s", got, logEvery, log.String())
	}
	for _, want := range []string{"model=m.gguf", "done=500MiB", "of=1.00GiB", "per_second=100MiB"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the line %q lacks %s", log.String(), want)
		}
	}
}

// TestLoadProgressBar checks that the bar shows bytes and a rate, leaves no trace, and stays out of a log of JSON.
func TestLoadProgressBar(t *testing.T) {
	var screen bytes.Buffer
	p := newLoadProgress("m.gguf", slog.New(slog.NewTextHandler(io.Discard, nil)))
	p.bar.width, p.bar.out, p.bar.start = 80, &screen, time.Now().Add(-2*time.Second)
	p.report(512<<20, 1<<30)
	p.end()
	for _, want := range []string{"loading m.gguf", " 50%", "512 MiB of 1.00 GiB", "MiB/s"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("the bar %q lacks %q", screen.String(), want)
		}
	}
	if !strings.HasSuffix(screen.String(), "\r\x1b[K") {
		t.Errorf("%q stays on the screen", screen.String())
	}
	if p := newLoadProgress("m.gguf", slog.New(slog.NewJSONHandler(io.Discard, nil))); p.bar.width != 0 {
		t.Error("a bar between lines of JSON")
	}
}
