package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"hearth/engine/embedded"
)

// TestServeCommand starts the server on a free port, waits for its banner and interrupts it.
func TestServeCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	root := newRootCommand()
	root.SetOut(writer)
	root.SetArgs([]string{"serve", "tiny=" + embedded.Name, "--addr", "127.0.0.1:0", "--data-dir", t.TempDir(), "--log-level", "error", "--cache-ram", "8MiB"})
	done := make(chan error, 1)
	go func() {
		done <- root.ExecuteContext(ctx)
		writer.Close()
	}()
	var banner bytes.Buffer
	buf := make([]byte, 4096)
	for !strings.Contains(banner.String(), "-d '") {
		n, err := reader.Read(buf)
		if err != nil {
			t.Fatalf("no banner: %v, %v", err, <-done)
		}
		banner.Write(buf[:n])
	}
	if !strings.Contains(banner.String(), `"model": "tiny"`) || !strings.Contains(banner.String(), "http://127.0.0.1:") {
		t.Errorf("banner %s", &banner)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// TestServeInterruptedWhileLoading checks that this is an end like any other: no error, and no banner.
func TestServeInterruptedWhileLoading(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetArgs([]string{"serve", "--addr", "127.0.0.1:0", "--data-dir", t.TempDir(), "--log-level", "error", "--cache-ram", "8MiB"})
	if err := root.ExecuteContext(ctx); err != nil || out.Len() > 0 {
		t.Errorf("serve = %v, and wrote %q", err, &out)
	}
}

func TestServeFlags(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // where the data folder is by default
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--addr", "0.0.0.0:0"}, "--insecure"},
		{[]string{"--addr", "0.0.0.0:0"}, apiKeyVariable},
		{[]string{"--addr", "nowhere"}, "--addr"},
		{[]string{"--kv-type", "q9"}, "--kv-type"},
		{[]string{"--kv-type", "q4_0"}, "f32, f16, bf16, q8_0"},
		{[]string{"x="}, "NAME=PATH"},
		{[]string{"--port", "1"}, "--addr HOST:PORT; see 'hearth serve --help'"},
		{[]string{"--threads", "-1"}, "--threads"},
		{[]string{"--ctx", "100000", "--addr", "127.0.0.1:0", "--log-level", "error"}, "--ctx"},
		{[]string{"--cache-ram", "lots"}, "--cache-ram"},
		{[]string{"--quota-sessions", "-1"}, "--quota-sessions"},
		{[]string{"--no-store", "--data-dir", "x"}, "--data-dir has no use: nothing is kept there with --no-store"},
		{[]string{"--no-store", "--data-dir", defaultDataDir()}, "--data-dir has no use: nothing is kept there with --no-store"},
		{[]string{"--no-store", "--cache-dir", "x"}, "--cache-dir has no use: nothing is kept there with --no-store"},
		{[]string{"--no-store", "--cache-key-file", "x", "--cache-disk", "off"}, "--cache-key-file has no use: nothing is kept there with --no-store"},
		{[]string{"--no-store", "--cache-disk", "1GiB"}, "--cache-disk has no use: nothing is kept there with --no-store"},
		{[]string{"--cache-disk", "off", "--cache-dir", "x"}, "--cache-dir has no use: nothing is kept there with --cache-disk off"},
		{[]string{"--cache-disk", "off", "--cache-key-file", "x"}, "--cache-key-file has no use: nothing is kept there with --cache-disk off"},
		{[]string{"--insecure", "--addr", ":0", "--api-key", "k"}, "--insecure has no use: clients need a key with --api-key"},
		{[]string{"--insecure", "--addr", ":0", "--tenant", "a=k"}, "--insecure has no use: clients need a key with --tenant"},
		{[]string{"--insecure", "--addr", "localhost:0"}, "--insecure has no use: this machine alone reaches --addr localhost:0"},
		{[]string{"--cors-origin", "*", "--cors-origin", "https://a.example"}, "beside --cors-origin '*'"},
		{[]string{"--session-ttl", "0d"}, "--session-ttl"},
		{[]string{"--response-ttl", "month"}, "want a time such as 12h or 90d, or off"},
		{[]string{"--request-timeout", "0"}, "--request-timeout: 0"},
		{[]string{"--speculate", "off", "--max-draft", "4", "--addr", "127.0.0.1:0", "--no-store"}, "--max-draft has no use: no tokens are guessed with --speculate off"},
		{[]string{"--cache-disk", "much"}, "--cache-disk"},
		{[]string{"--cache-disk", "1"}, "--cache-disk"},
		{[]string{"--tenant", "acme"}, "NAME=KEY"},
		{[]string{"--tenant", "a b=key"}, "--tenant"},
		{[]string{"--max-draft", "0"}, "--max-draft"},
		{[]string{"--draft", "d.gguf", "--speculate", "ngram"}, "--draft: a draft model is not used with --speculate ngram"},
		{[]string{"--log-level", "loud"}, "--log-level"},
		{[]string{"--data-dir", "/dev/null"}, "--data-dir"},
		{[]string{"--cors-origin", "evil"}, "--cors-origin"},
		{[]string{"--ctx", "-1"}, "--ctx"},
		{[]string{"/no/such/model.gguf", "--addr", "127.0.0.1:0"}, "no such file"},
	} {
		root := newRootCommand()
		root.SetArgs(append([]string{"serve"}, c.args...))
		root.SetErr(&bytes.Buffer{})
		if err := root.ExecuteContext(context.Background()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("serve %q: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestByteCount(t *testing.T) {
	for text, want := range map[string]byteCount{"512": 512, "1k": 1 << 10, "2GiB": 2 << 30, "1.5 MB": 1500000, "3g": 3 << 30} {
		var b byteCount
		if err := b.Set(text); err != nil || b != want {
			t.Errorf("%q = %d, %v, want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "0", "1e30", "NaN", "inf"} {
		var b byteCount
		if err := b.Set(text); err == nil {
			t.Errorf("%q = %d, want an error", text, b)
		}
	}
}

func TestLifetime(t *testing.T) {
	for text, want := range map[string]time.Duration{"off": 0, "90s": 90 * time.Second, "12h": 12 * time.Hour, "30d": 30 * oneDay, "36500d": maxLifetime} {
		var l lifetime
		if err := l.Set(text); err != nil || time.Duration(l) != want {
			t.Errorf("%q = %v, %v, want %v", text, time.Duration(l), err, want)
		}
		if again := l; want != 0 && (again.Set(l.String()) != nil || again != l) {
			t.Errorf("%q is written %q", text, l.String())
		}
	}
	for _, text := range []string{"", "d", "30", "-1d", "-1h", "0s", "1ms", "36501d", "9999999999999d", "1.5d", "900000h"} {
		var l lifetime
		if err := l.Set(text); err == nil {
			t.Errorf("%q = %v, want an error", text, time.Duration(l))
		}
	}
}

func TestParseModels(t *testing.T) {
	got, err := parseModels([]string{"a.gguf", "name=b.gguf"})
	if err != nil || len(got) != 2 || got[0] != (modelArg{"", "a.gguf"}) || got[1] != (modelArg{"name", "b.gguf"}) {
		t.Errorf("%+v", got)
	}
	if got, err := parseModels(nil); err != nil || len(got) != 1 || got[0] != (modelArg{}) {
		t.Errorf("%+v", got)
	}
}

// TestServeKeepsItsData starts a server twice on one folder, in which everything is for its owner alone.
func TestServeKeepsItsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	for range 2 {
		data, err := (&dataFlags{dir: dir}).open(t.Context(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := data.database.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := data.Close(); err != nil {
			t.Error(err)
		}
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, databaseFile), []byte("something else, and long enough to be read as a header of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&dataFlags{dir: dir}).open(t.Context(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), databaseFile) {
		t.Errorf("a damaged database: %v", err)
	}
}

// TestServeFolderInUse checks that two servers do not use one folder at the same time, wherever the cache is.
func TestServeFolderInUse(t *testing.T) {
	dir, logger := t.TempDir(), slog.New(slog.DiscardHandler)
	flags := &dataFlags{dir: dir}
	data, err := flags.open(t.Context(), logger)
	if err != nil {
		t.Fatal(err)
	}
	for name, cache := range map[string]cacheFlags{"the same": {}, "another": {dir: t.TempDir()}, "none": {budget: diskBudget{off: true}}} {
		_, err := (&dataFlags{dir: dir, cache: cache}).open(t.Context(), logger)
		if err == nil || !strings.Contains(err.Error(), "--data-dir") || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a second server on the folder, whose cache is %s: %v", name, err)
		}
	}
	if err := data.Close(); err != nil {
		t.Error(err)
	}
}

// TestServeStoresNothing checks that there is no folder afterwards.
func TestServeStoresNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	data, err := (&dataFlags{dir: dir, noStore: true}).open(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := data.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
}
