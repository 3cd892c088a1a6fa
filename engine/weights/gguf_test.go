package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// allTypes is metadata with a value of every type.
func allTypes() *Metadata {
	md := NewMetadata()
	md.Set("general.architecture", "toy")
	md.Set("u8", uint8(200))
	md.Set("i8", int8(-100))
	md.Set("u16", uint16(60000))
	md.Set("i16", int16(-30000))
	md.Set("u32", uint32(4e9))
	md.Set("i32", int32(-2e9))
	md.Set("f32", float32(0.1))
	md.Set("bool", true)
	md.Set("string", "Grüße")
	md.Set("empty string", "")
	md.Set("u64", uint64(math.MaxUint64))
	md.Set("i64", int64(math.MinInt64))
	md.Set("f64", math.Pi)
	md.Set("[u8]", []uint8{1, 2})
	md.Set("[i8]", []int8{-1, 2})
	md.Set("[u16]", []uint16{1, 65535})
	md.Set("[i16]", []int16{-1, 2})
	md.Set("[u32]", []uint32{1, 2})
	md.Set("[i32]", []int32{-1, 2})
	md.Set("[f32]", []float32{1, -2.5})
	md.Set("[bool]", []bool{true, false})
	md.Set("[string]", []string{"a", "", "ccc"})
	md.Set("[u64]", []uint64{1, math.MaxUint64})
	md.Set("[i64]", []int64{-1, 2})
	md.Set("[f64]", []float64{1, 2})
	md.Set("[]", []string{})
	return md
}

// newTensor is a tensor of random bytes, and the bytes.
func newTensor(name string, typ uint32, seed uint64, shape ...int) (NewTensor, []byte) {
	t := NewTensor{Name: name, Type: typ, Shape: shape}
	size, err := t.Size()
	if err != nil {
		panic(err)
	}
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	t.Write = func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
	return t, data
}

// toyFile is a small GGUF file, and the bytes of its tensors.
func toyFile(t testing.TB) ([]byte, map[string][]byte) {
	t.Helper()
	want := map[string][]byte{}
	var tensors []NewTensor
	for i, spec := range []struct {
		name  string
		typ   uint32
		shape []int
	}{
		{"vector", 0, []int{3}}, {"q4_0", 2, []int{5, 64}}, {"q6_k", 14, []int{2, 3, 256}}, {"i8", 24, []int{7}}, {"f16", 1, []int{1, 1, 2, 2}},
	} {
		tensor, data := newTensor(spec.name, spec.typ, uint64(i), spec.shape...)
		tensors = append(tensors, tensor)
		want[spec.name] = data
	}
	var file bytes.Buffer
	if err := WriteGGUF(&file, allTypes(), tensors); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), want
}

func TestGGUFRoundTrip(t *testing.T) {
	file, want := toyFile(t)
	src, err := OpenBytes("toy.gguf", file)
	if err != nil {
		t.Fatal(err)
	}
	md := allTypes()
	if !slices.Equal(src.Metadata().Keys(), md.Keys()) {
		t.Errorf("keys %v, want %v", src.Metadata().Keys(), md.Keys())
	}
	for _, key := range md.Keys() {
		got, _ := src.Metadata().Get(key)
		want, _ := md.Get(key)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("key %q: %#v, want %#v", key, got, want)
		}
	}
	if names := []string{"vector", "q4_0", "q6_k", "i8", "f16"}; !slices.Equal(src.Names(), names) {
		t.Errorf("names %v, want %v", src.Names(), names)
	}
	for name, data := range want {
		tensor, err := src.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tensor.Data, data) || tensor.Size() != int64(len(data)) {
			t.Errorf("tensor %q: other bytes than were written", name)
		}
	}
	tensor, _ := src.Describe("q6_k")
	if !slices.Equal(tensor.Shape, []int{2, 3, 256}) || tensor.TypeName() != "Q6_K" || tensor.Format == nil || tensor.Data != nil || tensor.Elements() != 1536 {
		t.Errorf("Describe: %+v", tensor)
	}
	if tensor, _ := src.Describe("i8"); tensor.Format != nil || tensor.TypeName() != "I8" {
		t.Errorf("Describe: %+v", tensor)
	}
	if _, err := src.Tensor("absent"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("Tensor of an unknown name: %v", err)
	}
}

func TestMetadataConversions(t *testing.T) {
	md := allTypes()
	if v, ok := md.Uint("u64"); !ok || v != math.MaxUint64 {
		t.Errorf("Uint(u64) = %d, %v", v, ok)
	}
	if v, ok := md.Int("u64"); ok {
		t.Errorf("Int(u64) = %d, want none", v)
	}
	if v, ok := md.Uint("i8"); ok {
		t.Errorf("Uint(i8) = %d, want none", v)
	}
	if v, ok := md.Int("i8"); !ok || v != -100 {
		t.Errorf("Int(i8) = %d, %v", v, ok)
	}
	if v, ok := md.Float("u8"); !ok || v != 200 {
		t.Errorf("Float(u8) = %v, %v", v, ok)
	}
	if v, ok := md.Ints("[i16]"); !ok || !slices.Equal(v, []int{-1, 2}) {
		t.Errorf("Ints([i16]) = %v, %v", v, ok)
	}
	if v, ok := md.Ints("[u64]"); ok {
		t.Errorf("Ints([u64]) = %v, want none", v)
	}
	if v, ok := md.Floats("[i32]"); !ok || !slices.Equal(v, []float32{-1, 2}) {
		t.Errorf("Floats([i32]) = %v, %v", v, ok)
	}
	for _, key := range []string{"absent", "string", "[string]"} {
		if _, ok := md.Uint(key); ok {
			t.Errorf("Uint(%s) is there", key)
		}
		if _, ok := md.Ints(key); ok {
			t.Errorf("Ints(%s) is there", key)
		}
		if _, ok := md.Float(key); ok {
			t.Errorf("Float(%s) is there", key)
		}
	}
	md.Delete("u8")
	if _, ok := md.Get("u8"); ok || slices.Contains(md.Keys(), "u8") {
		t.Error("a deleted key is still there")
	}
}

// TestGGUFPrefixes cuts a file at every byte: none of the pieces is whole, and none crashes the reader.
func TestGGUFPrefixes(t *testing.T) {
	file, _ := toyFile(t)
	tensors, err := parseGGUF(file)
	if err != nil {
		t.Fatal(err)
	}
	last := tensors.tensors["f16"].parts[0]
	whole := bytes.LastIndex(file, last) + len(last) // what follows is padding
	for n := range whole {
		if _, err := parseGGUF(file[:n:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("the first %d of %d bytes: %v, want ErrCorrupt", n, whole, err)
		}
	}
	if _, err := parseGGUF(file[:whole:whole]); err != nil {
		t.Errorf("without the last padding: %v", err)
	}
}

func TestGGUFVersions(t *testing.T) {
	file, _ := toyFile(t)
	for _, c := range []struct {
		version uint32
		want    string
	}{{2, ""}, {3, ""}, {0, "version 0"}, {1, "version 1"}, {4, "version 4"}, {3 << 24, "big-endian"}, {2 << 24, "big-endian"}} {
		changed := bytes.Clone(file)
		binary.LittleEndian.PutUint32(changed[4:], c.version)
		_, err := OpenBytes("toy.gguf", changed)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("version %d: %v", c.version, err)
		case c.want != "" && (!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("version %d: %v, want ErrUnsupported with %q", c.version, err, c.want)
		}
	}
}

func TestWriteGGUFRefuses(t *testing.T) {
	good, _ := newTensor("a", 0, 1, 4)
	short := good
	short.Write = func(io.Writer) error { return nil }
	odd := good
	odd.Type, odd.Shape = 2, []int{33}
	removed := good
	removed.Type = 4
	empty := good
	empty.Shape = []int{2, 0}
	long := good
	long.Name = strings.Repeat("n", 64)
	for name, tensors := range map[string][]NewTensor{
		"too few bytes": {short}, "twice": {good, good}, "half a block": {odd}, "removed type": {removed}, "long name": {long}, "no elements": {empty},
	} {
		path := filepath.Join(t.TempDir(), "out.gguf")
		if err := SaveGGUF(path, NewMetadata(), tensors); err == nil || !strings.HasPrefix(err.Error(), "weights: "+path+": tensor ") {
			t.Errorf("%s: %v, want an error that names file and tensor", name, err)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
			t.Errorf("%s: %v was left behind", name, entries)
		}
	}
}

// writeParts writes a model of three tensors in three parts and returns the path of the first.
func writeParts(t *testing.T, change func(part int, md *Metadata)) string {
	t.Helper()
	folder := t.TempDir()
	for i := range 3 {
		md := NewMetadata()
		if i == 0 {
			md.Set("general.architecture", "toy")
		}
		md.Set("split.no", uint16(i))
		md.Set("split.count", uint16(3))
		md.Set("split.tensors.count", int32(3))
		if change != nil {
			change(i, md)
		}
		tensor, _ := newTensor(string(rune('a'+i)), 0, uint64(i), 8)
		if err := SaveGGUF(partPath(filepath.Join(folder, "toy"), uint64(i+1), 3), md, []NewTensor{tensor}); err != nil {
			t.Fatal(err)
		}
	}
	return partPath(filepath.Join(folder, "toy"), 1, 3)
}

func TestSplit(t *testing.T) {
	path := writeParts(t, nil)
	for _, open := range []string{path, filepath.Dir(path)} {
		src, err := Open(open)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(src.Names(), []string{"a", "b", "c"}) {
			t.Errorf("names %v", src.Names())
		}
		_, want := newTensor("c", 0, 2, 8)
		if tensor, err := src.Tensor("c"); err != nil || !bytes.Equal(tensor.Data, want) {
			t.Errorf("tensor c: %v, %v", tensor, err)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(strings.Replace(path, "00001-of", "00002-of", 1)); err == nil || !strings.Contains(err.Error(), "toy-00001-of-00003.gguf") {
		t.Errorf("opening the second part: %v", err)
	}
}

func TestSplitRefuses(t *testing.T) {
	for name, change := range map[string]func(part int, md *Metadata){
		"wrong number": func(part int, md *Metadata) {
			if part == 2 {
				md.Set("split.no", uint16(1))
			}
		},
		"wrong count": func(part int, md *Metadata) {
			if part == 1 {
				md.Set("split.count", uint16(4))
			}
		},
		"huge count":    func(_ int, md *Metadata) { md.Set("split.count", uint64(math.MaxUint64)) },
		"wrong tensors": func(_ int, md *Metadata) { md.Set("split.tensors.count", int32(4)) },
	} {
		if _, err := Open(writeParts(t, change)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	path := writeParts(t, nil)
	if err := os.Remove(strings.Replace(path, "00001-of", "00003-of", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the third part: %v", err)
	}
	renamed := filepath.Join(filepath.Dir(path), "renamed.gguf")
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(renamed); !errors.Is(err, ErrUnsupported) {
		t.Errorf("renamed: %v", err)
	}
}

func FuzzGGUF(f *testing.F) {
	file, _ := toyFile(f)
	f.Add(file)
	for _, seed := range malformedSeeds(f, ".gguf") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseGGUF(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		checkSource(t, s, len(data))
	})
}

// checkSource verifies what every source that opened must keep: each tensor has the bytes that it announces.
func checkSource(t *testing.T, s *source, fileBytes int) {
	total := int64(0)
	for _, name := range s.Names() {
		tensor, err := s.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(tensor.Data)) != tensor.Size() {
			t.Errorf("tensor %q announces %d bytes and has %d", name, tensor.Size(), len(tensor.Data))
		}
		total += tensor.Size()
	}
	if total > int64(fileBytes) {
		t.Errorf("the tensors have %d bytes, the file %d", total, fileBytes)
	}
}
