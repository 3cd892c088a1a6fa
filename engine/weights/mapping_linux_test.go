package weights

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// TestRelease reads a mapped file in pieces, as loading does, and looks how much of it is in the process's memory: no
// more than the window that the last piece shares with the next, and the bytes are still those of the file.
func TestRelease(t *testing.T) {
	want := make([]byte, 12<<20+1000)
	for i := range want {
		want[i] = byte(i * 7 >> 8)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := openMapping(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	s := &source{files: []*mapping{{}, m}}
	const piece = 1<<20 + 100 // at no page's border
	for start := 0; start < len(want); start += piece {
		part := m.data[start:min(start+piece, len(want))]
		if !bytes.Equal(part, want[start:][:len(part)]) {
			t.Fatalf("the bytes behind %d differ from the file's", start)
		}
		s.Release(part)
	}
	if resident := residentBytes(t, path); resident > 2*windowBytes {
		t.Errorf("%d bytes of %d are resident after all were released", resident, len(want))
	}
	if !bytes.Equal(m.data, want) {
		t.Error("the bytes differ from the file's after they were released")
	}
	if resident := residentBytes(t, path); resident < int64(len(want)) {
		t.Errorf("%d bytes are resident when all of %d were read: the measure is wrong", resident, len(want))
	}
	for _, foreign := range [][]byte{nil, want, m.data[:0]} { // none of the mapping's, or none at all
		s.Release(foreign)
	}
	if !bytes.Equal(m.data, want) {
		t.Error("releasing foreign bytes changed the mapping")
	}
	s.Release(m.data)
	if resident := residentBytes(t, path); resident > 0 {
		t.Errorf("%d bytes are resident after the whole was released", resident)
	}
}

// TestMadeRows reads a tensor that is made of a file's bytes, as loading does: they are given back, and an error says when
// they are no longer there.
func TestMadeRows(t *testing.T) {
	const rows, cols = 1 << 13, 1 << 10
	const name = "model.layers.0.self_attn.q_proj.weight"
	dir := folder(t, object{
		"config.json": object{"model_type": "qwen3"},
		"model.safetensors": safetensors(t, OutTensor{Name: name, DType: "F8_E4M3", Shape: []int{rows, cols}, Data: make([]byte, rows*cols)},
			floats(name+"_scale_inv", 1, rows/128, cols/128)),
	})
	src, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	tensor, err := src.Rows("blk.0.attn_q.weight")
	if err != nil {
		t.Fatal(err)
	}
	const piece = 128
	rowBytes, _ := tensor.Format.RowBytes(cols)
	buf := make([]byte, piece*rowBytes)
	for first := 0; first < rows; first += piece {
		if err := tensor.Read(buf, 0, first, first+piece); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "model.safetensors")
	if resident := residentBytes(t, path); resident > 2*windowBytes {
		t.Errorf("%d bytes of %d are resident after all rows were read", resident, rows*cols)
	}
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := tensor.Read(buf, 0, rows-piece, rows); err == nil || !strings.Contains(err.Error(), "no longer") {
		t.Errorf("rows of a file that was cut off: %v", err)
	}
}

// residentBytes returns how much of a mapped file is in the process's memory (proc(5), smaps).
func residentBytes(t *testing.T, path string) int64 {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	total, inside, found := int64(0), false, false
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 0 && !strings.HasSuffix(fields[0], ":"): // the first line of a mapping
			inside = strings.HasSuffix(lines.Text(), path)
			found = found || inside
		case inside && fields[0] == "Rss:":
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(fmt.Errorf("smaps: %w", err))
			}
			total += n << 10
		}
	}
	if !found {
		t.Fatalf("%s is not mapped", path)
	}
	return total
}
