package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hearth/sessions"
)

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "sessions.key")
	first, err := openSecret(path)
	if err != nil || len(first) != sessions.SecretBytes {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if again, err := openSecret(path); err != nil || !bytes.Equal(again, first) {
		t.Errorf("read again it is another one, %v", err)
	}
	if files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(files) != 1 {
		t.Errorf("the folder has %q, %v", files, err)
	}
	line, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"empty": "", "cut": string(line[:40]), "another file": strings.Repeat("x", len(line)), "no digit": string(line[:len(line)-2]) + "g\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openSecret(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names %s", name, err, path)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.WriteFile(path, line, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openSecret(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("readable by others: %v", err)
	}
}
