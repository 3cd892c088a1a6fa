package main

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/engine/weights"
)

// readLogits opens a file that the command logits wrote, and returns what is in it.
func readLogits(t *testing.T, path string) (logits [][]float32, tokens, positions []int32) {
	t.Helper()
	src, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	numbers := func(name, dtype string) ([]uint32, []int) {
		tensor, err := src.Tensor(name)
		if err != nil || tensor.TypeName() != dtype {
			t.Fatalf("tensor %s is %s, %v, want %s", name, tensor.TypeName(), err, dtype)
		}
		values := make([]uint32, tensor.Elements())
		for i := range values {
			values[i] = binary.LittleEndian.Uint32(tensor.Data[4*i:])
		}
		return values, tensor.Shape
	}
	ids := func(name string) (list []int32) {
		values, _ := numbers(name, "I32")
		for _, v := range values {
			list = append(list, int32(v))
		}
		return list
	}
	values, shape := numbers("logits", "F32")
	if len(shape) != 2 || len(src.Names()) != 3 {
		t.Fatalf("tensors %v, logits of shape %v", src.Names(), shape)
	}
	for row := range slices.Chunk(values, shape[1]) {
		var floats []float32
		for _, bits := range row {
			floats = append(floats, math.Float32frombits(bits))
		}
		logits = append(logits, floats)
	}
	return logits, ids("tokens"), ids("positions")
}

// TestLogits runs the command on the embedded model: which rows are written does not change them, nor do chunks.
func TestLogits(t *testing.T) {
	folder := t.TempDir()
	run := func(args ...string) ([][]float32, []int32) {
		out := filepath.Join(folder, "out.safetensors")
		if text, err := execute(t, append([]string{"logits", "--tokens", "1, 403,407,261,378", "--out", out}, args...)...); err != nil || text != "" {
			t.Fatalf("%v: prints %q, %v", args, text, err)
		}
		rows, tokens, positions := readLogits(t, out)
		if !slices.Equal(tokens, []int32{1, 403, 407, 261, 378}) || len(rows) != len(positions) || len(rows[0]) != 512 {
			t.Fatalf("%v: tokens %v, positions %v, %d rows of %d", args, tokens, positions, len(rows), len(rows[0]))
		}
		return rows, positions
	}
	all, positions := run()
	if !slices.Equal(positions, []int32{0, 1, 2, 3, 4}) {
		t.Errorf("by default the positions are %v, want all", positions)
	}
	for _, c := range []struct {
		args []string
		want []int32
	}{
		{[]string{"--positions", "all", "--chunk", "2"}, []int32{0, 1, 2, 3, 4}},
		{[]string{"--positions", "last"}, []int32{4}},
		{[]string{"--positions", "0, 3"}, []int32{0, 3}},
		{[]string{"--positions", "-2,-1"}, []int32{3, 4}},
	} {
		rows, positions := run(c.args...)
		if !slices.Equal(positions, c.want) {
			t.Errorf("%v: positions %v, want %v", c.args, positions, c.want)
			continue
		}
		for i, p := range positions {
			if !slices.Equal(rows[i], all[p]) {
				t.Errorf("%v: the logits of position %d are other ones", c.args, p)
			}
		}
	}
	for _, kv := range []string{"f16", "bf16"} {
		rows, _ := run("--kv-type", kv)
		if d := distance(rows[4], all[4]); !(d > 0 && d < 1e-3) {
			t.Errorf("a cache of %s changes the logits by %v", kv, d)
		}
	}
	rows, _ := run("--device", "gorgonia", "--positions", "last")
	if d := distance(rows[0], all[4]); !(d < 1e-9) {
		t.Errorf("the independent device's logits differ by %v", d)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v, want one", entries, err)
	}
}

// distance is the normalised mean squared error.
func distance(got, want []float32) float64 {
	var sum, power float64
	for i := range want {
		sum += math.Pow(float64(got[i]-want[i]), 2)
		power += math.Pow(float64(want[i]), 2)
	}
	return sum / power
}

func TestLogitsRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.safetensors")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--tokens", ""}, `--tokens: "" is not a number`},
		{[]string{"--tokens", "1,x"}, `--tokens: "x" is not a number`},
		{[]string{"--tokens", "1,512"}, "token 512 at position 1 is not in the vocabulary of 512"},
		{[]string{"--tokens", "-1"}, "token -1 at position 0"},
		{[]string{"--positions", "first"}, `--positions: want all, last, or a list of numbers: "first"`},
		{[]string{"--positions", "2"}, "position 2"},
		{[]string{"--positions", "1,0"}, "position 0: want ascending"},
		{[]string{"--positions", "-3"}, "position -1"},
		{[]string{"--kv-type", "f8"}, `--kv-type: unknown format "f8"`},
		{[]string{"--kv-type", "q4_k"}, "Q4_K"},
		{[]string{"--chunk", "-1"}, "--chunk: -1"},
		{[]string{"--device", "abacus"}, `unknown device "abacus"`},
		{[]string{"--model", "absent.gguf"}, "absent.gguf"},
		{[]string{"--out", ""}, "--out is missing"},
		{[]string{"--out", filepath.Join(out, "under", "a", "file")}, "weights: "},
	} {
		_, err := execute(t, append([]string{"logits", "--tokens", "1,2", "--threads", "1", "--out", out}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want an error with %q", c.args, err, c.want)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused command wrote its file")
	}
}
