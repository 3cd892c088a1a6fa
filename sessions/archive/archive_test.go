package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

// example is a conversation with blocks of two tokens.
func example() (*Contents, []Block) {
	c := &Contents{
		Manifest: Manifest{
			CreatedAt: 1700000000, CreatedBy: "test",
			Session:  Session{ID: "conv_1", Title: "Cats", Model: "m", CreatedAt: 1600000000, UpdatedAt: 1650000000, Metadata: json.RawMessage(`{"a":"b"}`)},
			Model:    &Model{Architecture: "llama", Name: "M", Quantization: "F32", Digest: "abc"},
			Log:      &Log{TextSHA256: "def"},
			Computed: &Computed{Fingerprint: "xyz"},
		},
		Items:  []json.RawMessage{json.RawMessage(`{"id":"a","text":"é\n"}`), json.RawMessage(`{"id":"b"}`)},
		Tokens: []int32{1, 0, 2147483647, 7, 9},
	}
	return c, []Block{{Tokens: 2, Data: []byte("rows one")}, {Tokens: 2, State: true, Data: []byte("state")}, {Tokens: 4, Data: []byte("rows two")}}
}

func write(t testing.TB, c *Contents, blocks []Block) []byte {
	t.Helper()
	var b bytes.Buffer
	err := Write(&b, c, func(write func(Block) error) error {
		for _, block := range blocks {
			if err := write(block); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read reads a whole archive.
func read(data []byte, limits Limits) (*Contents, []Block, error) {
	a, err := Open(bytes.NewReader(data), limits)
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	return readAll(a)
}

func readAll(a *Reader) (*Contents, []Block, error) {
	var blocks []Block
	for {
		b, err := a.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, ErrFormat) {
			return &a.Contents, blocks, nil
		}
		if err != nil {
			return nil, nil, err
		}
		b.Data = bytes.Clone(b.Data)
		blocks = append(blocks, b)
	}
}

// describe is a form of contents that tests compare.
func describe(c *Contents, blocks []Block) string {
	raw, err := json.Marshal(c.Manifest)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %q %v %v", raw, c.Items, c.Tokens, blocks)
}

func TestRoundTrip(t *testing.T) {
	c, blocks := example()
	data := write(t, c, blocks)
	got, gotBlocks, err := read(data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := *c
	want.Manifest.Format, want.Manifest.Version, want.Manifest.Items = Format, Version, 2
	want.Manifest.Log.Tokens = 5
	if describe(got, gotBlocks) != describe(&want, blocks) {
		t.Errorf("got  %s\nwant %s", describe(got, gotBlocks), describe(&want, blocks))
	}
	if again := write(t, c, blocks); !bytes.Equal(again, data) {
		t.Error("the same contents make another file")
	}
	for _, part := range []*Contents{{}, {Items: c.Items}, {Manifest: Manifest{Log: &Log{}}, Tokens: c.Tokens}} {
		if got, _, err := read(write(t, part, nil), Limits{}); err != nil || len(got.Items) != len(part.Items) || len(got.Tokens) != len(part.Tokens) {
			t.Errorf("%+v becomes %+v, %v", part, got, err)
		}
	}
}

// TestReadableWithoutHearth opens an archive as tar and sha256sum do.
func TestReadableWithoutHearth(t *testing.T) {
	c, blocks := example()
	files := entries(t, write(t, c, blocks))
	names := make([]string, len(files))
	var sums strings.Builder
	for i, f := range files {
		names[i] = f.header.Name
		if i < len(files)-1 {
			fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(f.data), f.header.Name)
		}
	}
	if want := "README.txt archive.json items.jsonl tokens.json computed/0000000002.block computed/0000000002.state computed/0000000004.block checksums.sha256"; strings.Join(names, " ") != want {
		t.Errorf("entries %s, want %s", names, want)
	}
	if last := files[len(files)-1]; string(last.data) != sums.String() {
		t.Errorf("checksums %s, want %s", last.data, &sums)
	}
	if string(files[2].data) != `{"id":"a","text":"é\n"}`+"\n"+`{"id":"b"}`+"\n" || string(files[3].data) != "[1,0,2147483647,7,9]\n" {
		t.Errorf("items %q, tokens %q", files[2].data, files[3].data)
	}
}

// file is an entry of a tar file.
type file struct {
	header tar.Header
	data   []byte
}

func entries(t testing.TB, data []byte) []file {
	t.Helper()
	plain, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var files []file
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{*h, content})
	}
}

// pack makes an archive of entries as they are.
func pack(t testing.TB, files []file, trailing []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	compressed, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(compressed)
	for _, f := range files {
		h := f.header
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(f.data))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), writeAll(compressed, trailing), compressed.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeAll(w io.Writer, data []byte) error {
	_, err := w.Write(data)
	return err
}

// resum sets the checksums of entries that were changed.
func resum(files []file) []file {
	var sums bytes.Buffer
	for i := range files {
		f := &files[i]
		if f.header.Name == nameChecksums {
			f.data = sums.Bytes()
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(f.data), f.header.Name)
	}
	return files
}

// TestHostile changes archives in ways that keep their checksums right, and wants every one refused.
func TestHostile(t *testing.T) {
	c, blocks := example()
	good := entries(t, write(t, c, blocks))
	if _, _, err := read(pack(t, resum(slices.Clone(good)), make([]byte, 4096)), Limits{}); err != nil {
		t.Fatalf("the archive that is changed below: %v", err)
	}
	manifest := func(old, new string) func([]file) []file {
		return func(f []file) []file {
			f[1].data = bytes.Replace(f[1].data, []byte(old), []byte(new), 1)
			return f
		}
	}
	content := func(i int, data string) func([]file) []file {
		return func(f []file) []file { f[i].data = []byte(data); return f }
	}
	name := func(i int, name string) func([]file) []file {
		return func(f []file) []file { f[i].header.Name = name; return f }
	}
	for what, change := range map[string]func([]file) []file{
		"another format":         manifest(`"hearth-session"`, `"other"`),
		"a newer version":        manifest(`"version": 1`, `"version": 2`),
		"no version":             manifest(`"version": 1`, `"version": 0`),
		"a manifest cut short":   content(1, `{"format":"hearth-session"`),
		"blocks without tokens":  manifest(`"log": {`, `"logs": {`),
		"more items":             manifest(`"items": 2`, `"items": 3`),
		"fewer items":            manifest(`"items": 2`, `"items": 1`),
		"negative items":         manifest(`"items": 2`, `"items": -2`),
		"many items":             manifest(`"items": 2`, `"items": 2000000000`),
		"more tokens":            manifest(`"tokens": 5`, `"tokens": 6`),
		"fewer tokens":           manifest(`"tokens": 5`, `"tokens": 4`),
		"many tokens":            manifest(`"tokens": 5`, `"tokens": 2000000000`),
		"unexpected blocks":      manifest(`"computed"`, `"other"`),
		"an item that is none":   content(2, "{}\n7\n"),
		"an item cut short":      content(2, "{}\n{\n"),
		"no last line feed":      content(2, "{}\n{}"),
		"items not in UTF-8":     content(2, "{}\n{\"a\":\"\xff\"}\n"),
		"tokens without bracket": content(3, "1,2,3,4,5"),
		"a negative token":       content(3, "[1,2,3,4,-5]"),
		"a large token":          content(3, "[1,2,3,4,2147483648]"),
		"a token in words":       content(3, "[1,2,3,4,five]"),
		"no tokens":              content(3, "[]"),
		"a path upwards":         name(4, "computed/../../x"),
		"an absolute path":       name(4, "/etc/passwd"),
		"block 0":                name(4, "computed/0000000000.block"),
		"a block beyond":         name(6, "computed/0000000006.block"),
		"a name of few digits":   name(4, "computed/2.block"),
		"a signed name":          name(4, "computed/+000000002.block"),
		"another end":            name(4, "computed/0000000002.exe"),
		"no checksums":           func(f []file) []file { return f[:len(f)-1] },
		"no items":               func(f []file) []file { return slices.Delete(f, 2, 3) },
		"swapped entries":        func(f []file) []file { f[2], f[3] = f[3], f[2]; return f },
		"swapped blocks":         func(f []file) []file { f[4], f[6] = f[6], f[4]; return f },
		"a block twice":          func(f []file) []file { return slices.Insert(f, 4, f[4]) },
		"a state twice":          func(f []file) []file { return slices.Insert(f, 5, f[5]) },
		"a state alone":          func(f []file) []file { return slices.Delete(f, 4, 5) },
		"an entry behind":        func(f []file) []file { return append(f, f[4]) },
		"a link": func(f []file) []file {
			f[4].header.Typeflag, f[4].header.Linkname, f[4].header.Size, f[4].data = tar.TypeSymlink, "/etc/passwd", 0, nil
			return f
		},
		"a folder": func(f []file) []file {
			f[4].header.Typeflag, f[4].header.Name, f[4].header.Size, f[4].data = tar.TypeDir, "computed/", 0, nil
			return f
		},
		"nothing": func(f []file) []file { return nil },
	} {
		files := make([]file, len(good))
		for i, f := range good {
			files[i] = file{f.header, bytes.Clone(f.data)}
		}
		if _, _, err := read(pack(t, resum(change(files)), nil), Limits{}); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range len(good) - 1 {
		wrong := slices.Clone(good)
		wrong[i].data = append(bytes.Clone(wrong[i].data), ' ')
		if _, _, err := read(pack(t, wrong, nil), Limits{}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s with another checksum: %v", wrong[i].header.Name, err)
		}
	}
	if _, _, err := read(pack(t, good, []byte("more")), Limits{}); !errors.Is(err, ErrFormat) {
		t.Errorf("bytes behind the end: %v", err)
	}
	if _, _, err := read(pack(t, good, make([]byte, 2<<20)), Limits{}); !errors.Is(err, ErrFormat) {
		t.Errorf("many zeros behind the end: %v", err)
	}
}

// TestLimits wants an archive to be refused for its size before its bytes are taken.
func TestLimits(t *testing.T) {
	c, blocks := example()
	blocks = append(blocks, Block{Tokens: 5, Data: make([]byte, 1<<20)}) // compresses to nearly nothing
	data := write(t, c, blocks)
	for _, limits := range []Limits{{Items: 1}, {Bytes: 10}, {Tokens: 4}, {Block: 1<<20 - 1}} {
		if _, _, err := read(data, limits); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%+v: %v", limits, err)
		}
	}
	if _, _, err := read(data, Limits{Items: 2, Bytes: 100, Tokens: 5, Block: 1 << 20}); err != nil {
		t.Errorf("within the limits: %v", err)
	}
}

// TestDamage flips each bit's worth of bytes of an archive and cuts it everywhere, and wants an error or the same contents.
func TestDamage(t *testing.T) {
	c, blocks := example()
	data := write(t, c, blocks)
	got, gotBlocks, err := read(data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := describe(got, gotBlocks)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		flipped := bytes.Clone(data)
		flipped[i] ^= byte(1 + rng.IntN(255))
		if c, b, err := read(flipped, Limits{}); err == nil && describe(c, b) != want {
			t.Errorf("byte %d of %d flipped: read as %s", i, len(data), describe(c, b))
		}
		if _, _, err := read(data[:i], Limits{}); err == nil {
			t.Errorf("cut after %d of %d bytes: no error", i, len(data))
		}
	}
}

// TestSourceErrors wants an error of the source not to be taken for a fault of the archive.
func TestSourceErrors(t *testing.T) {
	c, blocks := example()
	for i := range 8 { // more than is read at once
		random := make([]byte, 1<<20)
		rand.NewChaCha8([32]byte{byte(i)}).Read(random)
		blocks = append(blocks, Block{Tokens: 5, Data: random})
		blocks[len(blocks)-1].Tokens = 5 + i
	}
	c.Tokens = make([]int32, 100)
	data := write(t, c, blocks)
	broken := errors.New("broken")
	for _, at := range []int{0, 100, len(data) / 2, len(data) - 10} {
		a, err := Open(io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(broken)), Limits{})
		for err == nil {
			_, err = a.Next()
		}
		if !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
			t.Errorf("broken after %d of %d bytes: %v", at, len(data), err)
		}
		if a != nil {
			a.Close()
		}
	}
}

func TestWriteErrors(t *testing.T) {
	c, blocks := example()
	broken := errors.New("broken")
	if err := Write(io.Discard, c, func(func(Block) error) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("blocks that cannot be had: %v", err)
	}
	size := len(write(t, c, blocks))
	for room := 0; room < size; room += 97 {
		var b bytes.Buffer
		err := Write(&short{&b, room}, c, func(write func(Block) error) error {
			for _, block := range blocks {
				if err := write(block); err != nil {
					return err
				}
			}
			return nil
		})
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("room for %d bytes of %d: %v", room, size, err)
		}
		if _, _, err := read(b.Bytes(), Limits{}); err == nil {
			t.Errorf("room for %d bytes of %d: what was written is read as whole", room, size)
		}
	}
	c.Items[0] = json.RawMessage(`{`)
	if err := Write(io.Discard, c, nil); err == nil {
		t.Error("an item that is no JSON is written")
	}
}

// short takes so many bytes.
type short struct {
	w    io.Writer
	room int
}

func (s *short) Write(p []byte) (int, error) {
	n := min(len(p), s.room)
	s.room -= n
	if n, err := s.w.Write(p[:n]); err != nil {
		return n, err
	}
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// FuzzRead reads what is no archive, or nearly one: the tar file, since what is changed in a compressed one does not get
// beyond its checksum.
func FuzzRead(f *testing.F) {
	c, blocks := example()
	for _, data := range [][]byte{write(f, c, blocks), write(f, &Contents{}, nil)} {
		plain, err := zstd.NewReader(bytes.NewReader(data))
		if err != nil {
			f.Fatal(err)
		}
		archived, err := io.ReadAll(plain)
		if err != nil {
			f.Fatal(err)
		}
		plain.Close()
		f.Add(archived)
	}
	limits := Limits{Items: 100, Bytes: 1 << 16, Block: 1 << 16, Tokens: 1000}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := openPlain(bytes.NewReader(data), func() {}, limits)
		if err != nil {
			return
		}
		c, blocks, err := readAll(a)
		if err != nil {
			return
		}
		if got, b, err := read(write(t, c, blocks), limits); err != nil || describe(got, b) != describe(c, blocks) {
			t.Errorf("%s becomes %v", describe(c, blocks), err)
		}
	})
}
