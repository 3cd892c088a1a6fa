package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
)

// TestCurrent checks that the table in the tree is what the generator writes.
func TestCurrent(t *testing.T) {
	books, err := parse(source)
	if err != nil {
		t.Fatal(err)
	}
	want, err := generate(books)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", output))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the generator writes; run go generate", output)
	}
}

// TestCodebooks compares codebooks.txt with the codebooks of the reference data.
func TestCodebooks(t *testing.T) {
	var reference map[string]struct {
		Grid [][]int `json:"grid"`
	}
	if err := json.Unmarshal(sharedtest.ReadFile(t, "testdata", "quants", "codebooks.json"), &reference); err != nil {
		t.Fatal(err)
	}
	reference["IQ1"] = reference["IQ1_S"]
	books, err := parse(source)
	if err != nil {
		t.Fatal(err)
	}
	if len(books) != 6 {
		t.Errorf("%d codebooks, want 6", len(books))
	}
	for _, b := range books {
		grid := reference[b.name].Grid
		if len(grid) == 0 || len(b.points) != len(grid) {
			t.Errorf("%s has %d points, want %d", b.name, len(b.points), len(grid))
			continue
		}
		for i, point := range b.points {
			for j, level := range point {
				if len(point) != len(grid[i]) || b.levels[level] != grid[i][j] {
					t.Fatalf("%s: point %d is %v in levels of %v, want %v", b.name, i, point, b.levels, grid[i])
				}
			}
		}
	}
}

func TestParseMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"0101":                  "line 1: points before the first codebook",
		"A levels 1 x":          "line 1: strconv.Atoi",
		"A levels 1 2\n0101 02": `line 2: codebook A: "02" has a digit`,
		"A levels 1 2\n0101 01": `line 2: codebook A: "01" has 2 elements, the points before have 4`,
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%q): error %v, want %q", text, err, want)
		}
	}
}
