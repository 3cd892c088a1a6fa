//go:build linux && !race

package cpu_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// TestLoadFromShrunkenFile cuts a mapped file off behind the first of its weights: loading names a weight whose bytes are
// gone, and gives everything back.
func TestLoadFromShrunkenFile(t *testing.T) {
	const size = 8 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "weights"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	rest := mapped
	p := wideProgram(func(name string, f *quant.Format, out, in int) hardware.WeightInfo {
		w := hardware.WeightInfo{Name: name, Format: f, Out: out, In: in}
		w.Data, rest = rest[:w.Bytes():w.Bytes()], rest[w.Bytes():]
		return w
	})
	if err := f.Truncate(int64(p.WeightAt(0).Bytes() / 2)); err != nil {
		t.Fatal(err)
	}
	const free = 1 << 30
	d := openWith(cpu.Options{Threads: 2, FreeBytes: free})(t)
	defer d.Close()
	if _, err := d.Load(context.Background(), p, wideLimits()); err == nil || !strings.Contains(err.Error(), "can no longer be read") {
		t.Errorf("Load = %v, want that bytes cannot be read", err)
	} else if !strings.Contains(err.Error(), `"table"`) && !strings.Contains(err.Error(), `"matrix"`) && !strings.Contains(err.Error(), `"norm"`) {
		t.Errorf("Load = %v, which names no weight", err)
	}
	if n := d.Info().FreeBytes; n != free {
		t.Errorf("%d bytes are free afterwards, want %d", n, free)
	}
}
