// Package sharedtest finds the reference data that tests compare against.
//
// The data is not part of the repository: it lies beside the checkout, or where HEARTH_SHARED says. Tests that need it
// skip with a message where it is absent, unless HEARTH_SHARED_REQUIRED is set, as continuous integration does.
// It imports nothing of the project, so that tests of every layer may use it.
package sharedtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root returns the folder of the reference data; it skips or fails t when there is none.
func Root(t testing.TB) string {
	t.Helper()
	root, present := find(t)
	if !present {
		if os.Getenv("HEARTH_SHARED_REQUIRED") != "" {
			t.Fatalf("sharedtest: reference data not found at %s, and HEARTH_SHARED_REQUIRED is set", root)
		}
		t.Skipf("sharedtest: reference data not found at %s; set HEARTH_SHARED to its folder to run this test", root)
	}
	return root
}

// Present reports whether there is reference data, for tests that also do something without it.
func Present(t testing.TB) bool {
	t.Helper()
	_, present := find(t)
	return present
}

func find(t testing.TB) (root string, present bool) {
	t.Helper()
	root = os.Getenv("HEARTH_SHARED")
	if root == "" {
		root = filepath.Join(moduleRoot(t), "..", "shared")
	}
	info, err := os.Stat(root)
	return root, err == nil && info.IsDir()
}

// Path returns the path of a file or folder of the reference data; it skips or fails t as Root does.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	return filepath.Join(append([]string{Root(t)}, elem...)...)
}

// ReadFile returns the bytes of one file of the reference data. A name ending in ".gz" is decompressed.
func ReadFile(t testing.TB, elem ...string) []byte {
	t.Helper()
	path := Path(t, elem...)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("sharedtest: %v", err)
	}
	if !strings.HasSuffix(path, ".gz") {
		return data
	}
	unzip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("sharedtest: %s: %v", path, err)
	}
	plain, err := io.ReadAll(unzip)
	if err != nil {
		t.Fatalf("sharedtest: %s: %v", path, err)
	}
	return plain
}

// ReadArchive returns the files of a compressed tar archive of the reference data by name.
func ReadArchive(t testing.TB, elem ...string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	archive := tar.NewReader(bytes.NewReader(ReadFile(t, elem...)))
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err == nil {
			files[header.Name], err = io.ReadAll(archive)
		}
		if err != nil {
			t.Fatalf("sharedtest: %s: %v", filepath.Join(elem...), err)
		}
	}
}

// moduleRoot walks up from the test's folder to the folder that holds go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("sharedtest: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatalf("sharedtest: no go.mod above the test's folder")
		}
		dir = parent
	}
}
