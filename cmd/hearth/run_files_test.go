package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestConversationFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "talk.json")
	talk := conversation{system: "Be <brief> & kind.", messages: []message{{roleUser, "a\n\u2028b"}, {roleAssistant, ""}, {roleUser, "\x1b ü"}}}
	for range 2 { // the second time over the first
		if err := talk.save(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readConversation(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.all(), talk.all()) {
		t.Errorf("got %q, want %q", got.all(), talk.all())
	}
	checkPrivate(t, path)
	if err := (&conversation{}).save(path); err != nil {
		t.Fatal(err)
	}
	if got, err := readConversation(path); err != nil || len(got.all()) != 0 {
		t.Errorf("the empty conversation came back as %v, error %v", got, err)
	}
	if _, err := readConversation(path + ".none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there gives %v", err)
	}
}

// checkPrivate checks that a file is for its owner alone, where files have such permissions.
func checkPrivate(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode != 0o600 {
		t.Errorf("%s has mode %v", path, mode)
	}
}

func TestConversationFileRefused(t *testing.T) {
	folder := t.TempDir()
	for _, c := range []struct{ data, want string }{
		{``, "want an array"},
		{`{"messages":[]}`, "want an array"},
		{`[] []`, "something after"},
		{`[{"role":"user"}]`, "message 0: want role and content"},
		{`[{"role":"user","content":"a"},{"role":"user","content":null}]`, "message 1: want role and content"},
		{`[{"role":"user","content":"a"},{"role":"system","content":"b"}]`, "message 1: a system message must be the first"},
		{`[{"role":"tool","content":"a"}]`, `message 0: role is "tool"`},
		{`[{"role":"user","content":"a","name":"x"}]`, "name"},
		{`[3]`, "message 0"},
	} {
		path := filepath.Join(folder, "other")
		if err := os.WriteFile(path, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readConversation(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.data, err, c.want)
		}
		err := (&conversation{}).save(path)
		if data, _ := os.ReadFile(path); err == nil || string(data) != c.data {
			t.Errorf("%s: overwritten with %s, error %v", c.data, data, err)
		}
	}
	if err := (&conversation{}).save(folder); err == nil {
		t.Error("saved over a folder")
	}
}

func FuzzConversation(f *testing.F) {
	f.Add([]byte(`[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]`))
	f.Add([]byte(`[{"role":"user"}] x`))
	f.Add([]byte(`[{"role":"system","content":""}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConversation(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(append([]message{}, c.all()...))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := parseConversation(again); err != nil || !slices.Equal(d.all(), c.all()) {
			t.Errorf("%q became %q, then %v, error %v", data, again, d, err)
		}
	})
}

func TestHistoryFile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data", "hearth")
	noWarning := func(err error) { t.Error(err) }
	h, err := openHistory(folder, noWarning)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one", "one", " ", "two\x1b[31m", "three"} {
		h.add(line)
	}
	path := filepath.Join(folder, "history")
	checkPrivate(t, path)
	data, err := os.ReadFile(path)
	if want := "one\ntwo[31m\nthree\n"; err != nil || string(data) != want {
		t.Errorf("the file has %q, error %v, want %q", data, err, want)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	h, err = openHistory(folder, noWarning)
	if err != nil || h.Len() != 3 || h.At(0) != "three" || h.At(2) != "one" {
		t.Errorf("read %q, error %v", h.lines, err)
	}
	checkPrivate(t, path)
}

func TestHistoryFileTooLong(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "history")
	long := strings.Repeat("a line of thirty-two bytes, all\nanother one\n", maxHistoryBytes/40)
	if err := os.WriteFile(path, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := openHistory(folder, func(err error) { t.Error(err) })
	if err != nil || h.Len() != maxHistoryLines || h.At(0) != "another one" {
		t.Errorf("%d lines, error %v", h.Len(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 32*maxHistoryLines {
		t.Errorf("the file has %d bytes, error %v", info.Size(), err)
	}
	checkPrivate(t, path)
}

// TestHistoryUnusable: without a file, lines are remembered, and there is one warning.
func TestHistoryUnusable(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "history"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{file, folder} {
		h, err := openHistory(place, func(err error) { t.Error(err) })
		if err == nil {
			t.Errorf("%s: no error", place)
		}
		if h.add("line"); h.Len() != 1 {
			t.Errorf("%s: %d lines", place, h.Len())
		}
	}
	warnings := 0
	h := &lineHistory{path: filepath.Join(file, "history"), warn: func(error) { warnings++ }}
	h.add("one")
	h.add("two")
	if warnings != 1 || h.Len() != 2 {
		t.Errorf("%d warnings, lines %q", warnings, h.lines)
	}
}
