package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"hearth/sessions"
)

// secretPrefix begins the one line of a file with a secret; its hexadecimal digits follow.
const secretPrefix = "hearth sessions secret 1 "

// openSecret returns the secret in a file that only its owner may use, and draws one where there is no file.
func openSecret(path string) ([]byte, error) {
	secret, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	secret = make([]byte, sessions.SecretBytes)
	rand.Read(secret) // never fails
	if err := writeSecret(path, secret); err != nil {
		return nil, err
	}
	return readSecret(path) // of two processes that draw one, both take the one that is kept
}

func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	want := len(secretPrefix) + hex.EncodedLen(sessions.SecretBytes) + 1
	switch {
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s may be used by others than its owner, its mode is %#o: make it 0600", path, info.Mode().Perm())
	case !info.Mode().IsRegular() || info.Size() != int64(want):
		return nil, fmt.Errorf("%s holds no secret of sessions: it has %d bytes, want %d", path, info.Size(), want)
	}
	line, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	digits, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), secretPrefix)
	secret, err := hex.DecodeString(digits)
	if !ok || err != nil || len(secret) != sessions.SecretBytes {
		return nil, fmt.Errorf("%s holds no secret of sessions: want %q and %d hexadecimal digits", path, secretPrefix, hex.EncodedLen(sessions.SecretBytes))
	}
	return secret, nil
}

// writeSecret makes the file, whole or not at all, unless there is one by now.
func writeSecret(path string, secret []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = fmt.Fprintf(file, "%s%x\n", secretPrefix, secret)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	err = os.Link(file.Name(), path) // unlike a new name, it never takes the place of another
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return os.Rename(file.Name(), path) // a file system without links
	}
	return nil
}
