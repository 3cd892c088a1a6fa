package main

import (
	"os"
	"path/filepath"

	"hearth/kvcache/disk"
)

// openSecret returns the secret of sessions in a file that only its owner may use, and draws one where there is no file.
func openSecret(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	key, err := disk.KeyFile{Path: path, Prefix: "hearth sessions secret 1 "}.Load()
	if err != nil {
		return nil, err
	}
	return key[:], nil
}
