package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGenerated checks that what is in the tree is what this program writes.
func TestGenerated(t *testing.T) {
	for name, want := range generate() {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not current: run go generate ./hardware/cpu", name)
		}
	}
}
