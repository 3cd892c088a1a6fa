package hardware

import (
	"path/filepath"
	"testing"
)

func TestFreeDisk(t *testing.T) {
	folder := t.TempDir()
	if FreeDisk(folder) == 0 {
		t.Errorf("nothing is free in %s", folder)
	}
	if n := FreeDisk(filepath.Join(folder, "missing")); n != 0 {
		t.Errorf("%d bytes are free in a folder that is not there", n)
	}
}
