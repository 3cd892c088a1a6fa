package weights

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
)

// malformedSeeds returns the files of the malformed set whose name ends in suffix, none where the set is absent: fuzzing
// works without them too.
func malformedSeeds(f *testing.F, suffix string) [][]byte {
	if !sharedtest.Present(f) {
		return nil
	}
	var seeds [][]byte
	for name, data := range malformedFiles(f) {
		if strings.HasSuffix(name, suffix) && len(data) < 1<<16 {
			seeds = append(seeds, data)
		}
	}
	return seeds
}

// malformedFiles returns the files of the malformed set by name.
func malformedFiles(t testing.TB) map[string][]byte {
	t.Helper()
	return sharedtest.ReadArchive(t, "testdata", "malformed", "malformed.tar.gz")
}

// TestMalformed holds the verdicts that need no knowledge of models, and that a small file never costs much memory.
func TestMalformed(t *testing.T) {
	var manifest []struct{ File, Defect, Expect, Stage string }
	if err := json.Unmarshal(sharedtest.ReadFile(t, "testdata", "malformed", "manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	files := malformedFiles(t)
	for _, c := range manifest {
		path := filepath.Join(t.TempDir(), c.File)
		if err := os.WriteFile(path, files[c.File], 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		src, err := Open(path)
		runtime.ReadMemStats(&after)
		if src != nil {
			src.Close()
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 2<<20 {
			t.Errorf("%s (%s): %d bytes were allocated for a file of %d", c.File, c.Defect, allocated, len(files[c.File]))
		}
		switch {
		case c.Expect == "reject" && c.Stage == "parse" && err == nil:
			t.Errorf("%s (%s) was opened", c.File, c.Defect)
		case c.Expect == "accept" && err != nil:
			t.Errorf("%s (%s): %v", c.File, c.Defect, err)
		case testing.Verbose():
			t.Logf("%s: %v", c.File, err)
		}
	}
}
