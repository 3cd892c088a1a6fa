package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// Limits bound what a reader takes from an archive; zero values stand for the defaults.
type Limits struct {
	Items  int   // number; 0: a million
	Bytes  int64 // of items.jsonl, and of tokens.json; 0: 256 MiB
	Block  int64 // bytes of one block or state; 0: 1 GiB
	Tokens int   // 0: 16 million
}

func (l Limits) withDefaults() Limits {
	if l.Items == 0 {
		l.Items = 1_000_000
	}
	if l.Bytes == 0 {
		l.Bytes = 256 << 20
	}
	if l.Block == 0 {
		l.Block = 1 << 30
	}
	if l.Tokens == 0 {
		l.Tokens = 16 << 20
	}
	return l
}

const (
	maxManifest = 1 << 20
	maxWindow   = 32 << 20 // memory that decompressing takes
	maxTrailing = 1 << 20  // zero bytes behind the last entry, with which tar fills its last record
)

// Reader reads an archive from its beginning to its end, once.
type Reader struct {
	Contents // what comes before the blocks

	limits Limits
	from   *source // nil: it has no errors
	plain  io.Reader
	close  func()
	tar    *tar.Reader
	sums   bytes.Buffer // what checksums.sha256 must be
	next   *tar.Header  // of the entry behind those read; nil: it has not been read
	last   Block        // the block before, without its data
	buf    []byte       // holds the block that Next returned
	err    error        // with which the blocks ended
}

// source remembers with what error its reading ended: that is no fault of the archive.
type source struct {
	io.Reader
	err error
}

// Read reads from the source.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Open reads an archive up to its blocks. Errors are ErrFormat, ErrTooLarge and those of r. The items are well-formed JSON
// objects, and no more is known of them.
func Open(r io.Reader, limits Limits) (*Reader, error) {
	from := &source{Reader: r}
	plain, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	a, err := openPlain(plain, plain.Close, limits)
	if from.err != nil {
		plain.Close()
		return nil, fmt.Errorf("archive: %w", from.err)
	}
	if a != nil {
		a.from = from
	}
	return a, err
}

// openPlain reads a tar archive up to its blocks; close is called at the end.
func openPlain(plain io.Reader, close func(), limits Limits) (*Reader, error) {
	a := &Reader{limits: limits.withDefaults(), plain: plain, close: close, tar: tar.NewReader(plain)}
	if err := a.open(); err != nil {
		close()
		return nil, err
	}
	return a, nil
}

// Close ends reading; the source stays open.
func (a *Reader) Close() { a.close() }

func (a *Reader) open() error {
	if _, err := a.entry(nameReadme, maxManifest); err != nil {
		return err
	}
	raw, err := a.entry(nameManifest, maxManifest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &a.Manifest); err != nil {
		return damaged(nameManifest, err)
	}
	if err := a.Manifest.check(); err != nil {
		return damaged(nameManifest, err)
	}
	if a.Manifest.Items > a.limits.Items {
		return fmt.Errorf("%w: %d items, the most is %d", ErrTooLarge, a.Manifest.Items, a.limits.Items)
	}
	if err := a.readItems(); err != nil {
		return err
	}
	if a.Manifest.Log != nil {
		return a.readTokens()
	}
	return nil
}

func (a *Reader) readItems() error {
	raw, err := a.entry(nameItems, a.limits.Bytes)
	if err != nil {
		return err
	}
	for len(raw) > 0 {
		line, rest, ended := bytes.Cut(raw, []byte("\n"))
		raw = rest
		n := len(a.Items) + 1
		switch {
		case !ended:
			return damaged(nameItems, fmt.Errorf("line %d does not end", n))
		case n > a.Manifest.Items:
			return damaged(nameItems, fmt.Errorf("has more than %d lines", a.Manifest.Items))
		case len(line) == 0 || line[0] != '{' || !utf8.Valid(line) || !json.Valid(line):
			return damaged(nameItems, fmt.Errorf("line %d is no JSON object", n))
		}
		a.Items = append(a.Items, bytes.Clone(line))
	}
	if len(a.Items) != a.Manifest.Items {
		return damaged(nameItems, fmt.Errorf("has %d lines, want %d", len(a.Items), a.Manifest.Items))
	}
	return nil
}

// readTokens reads a JSON array of numbers without keeping it twice.
func (a *Reader) readTokens() error {
	want := a.Manifest.Log.Tokens
	if want > a.limits.Tokens {
		return fmt.Errorf("%w: %d tokens, the most is %d", ErrTooLarge, want, a.limits.Tokens)
	}
	raw, err := a.entry(nameTokens, a.limits.Bytes)
	if err != nil {
		return err
	}
	list, ok := bytes.CutPrefix(bytes.TrimSpace(raw), []byte("["))
	if list, ok = bytes.CutSuffix(list, []byte("]")); !ok {
		return damaged(nameTokens, errors.New("is no JSON array"))
	}
	for number := range bytes.SplitSeq(list, []byte(",")) {
		n, err := strconv.ParseUint(string(bytes.TrimSpace(number)), 10, 31)
		if err != nil || n > math.MaxInt32 {
			return damaged(nameTokens, fmt.Errorf("has %q, which is no token", clip(string(number))))
		}
		if len(a.Tokens) == want {
			return damaged(nameTokens, fmt.Errorf("has more than %d tokens", want))
		}
		a.Tokens = append(a.Tokens, int32(n))
	}
	if len(a.Tokens) != want {
		return damaged(nameTokens, fmt.Errorf("has %d tokens, want %d", len(a.Tokens), want))
	}
	return nil
}

// Next returns the next block, whose data may change at the next call. It returns io.EOF after the last one, which says that
// the archive was read to its end and is whole: until then, what was read may be damaged.
func (a *Reader) Next() (Block, error) {
	if a.err != nil {
		return Block{}, a.err
	}
	b, err := a.block()
	if a.from != nil && a.from.err != nil {
		b, err = Block{}, fmt.Errorf("archive: %w", a.from.err)
	}
	a.err = err
	return b, err
}

func (a *Reader) block() (Block, error) {
	h, err := a.header()
	if err != nil {
		return Block{}, err
	}
	if h.Name == nameChecksums {
		return Block{}, a.end()
	}
	b, err := parseBlock(h.Name)
	switch {
	case err != nil || a.Manifest.Computed == nil:
		return Block{}, damaged(h.Name, errors.New("is not expected here"))
	case b.Tokens > len(a.Tokens):
		return Block{}, damaged(h.Name, fmt.Errorf("is of more than %d tokens", len(a.Tokens)))
	case b.State && (b.Tokens != a.last.Tokens || a.last.State), !b.State && b.Tokens <= a.last.Tokens:
		return Block{}, damaged(h.Name, errors.New("is out of order"))
	}
	a.last = b
	if b.Data, err = a.entry(h.Name, a.limits.Block); err != nil {
		return Block{}, err
	}
	a.buf = b.Data
	return b, nil
}

// parseBlock reads the name of a block's entry.
func parseBlock(name string) (Block, error) {
	var b Block
	digits, ok := strings.CutPrefix(name, "computed/")
	if !ok {
		return b, errors.New("is no block")
	}
	if digits, ok = strings.CutSuffix(digits, ".state"); ok {
		b.State = true
	} else if digits, ok = strings.CutSuffix(digits, ".block"); !ok {
		return b, errors.New("is no block")
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	b.Tokens = int(n)
	if err != nil || n == 0 || b.name() != name {
		return b, errors.New("is no block")
	}
	return b, nil
}

// end reads the checksums and what is behind them. It returns io.EOF if all is well.
func (a *Reader) end() error {
	want := bytes.Clone(a.sums.Bytes())
	got, err := a.entry(nameChecksums, int64(len(want)))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return damaged(nameChecksums, errors.New("is not that of the entries"))
	}
	if h, err := a.tar.Next(); err == nil {
		return damaged(h.Name, errors.New("comes behind the last entry"))
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: at its end: %w", ErrFormat, err)
	}
	rest, err := io.ReadAll(io.LimitReader(a.plain, maxTrailing+1))
	if err != nil {
		return fmt.Errorf("%w: at its end: %w", ErrFormat, err)
	}
	if len(rest) > maxTrailing || len(bytes.Trim(rest, "\x00")) > 0 {
		return fmt.Errorf("%w: something comes behind its end", ErrFormat)
	}
	return io.EOF
}

// header returns the header of the entry behind those read.
func (a *Reader) header() (*tar.Header, error) {
	if a.next != nil {
		return a.next, nil
	}
	h, err := a.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it ends too early: %w", ErrFormat, io.ErrUnexpectedEOF)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	case h.Typeflag != tar.TypeReg:
		return nil, damaged(h.Name, errors.New("is no plain file"))
	}
	a.next = h
	return h, nil
}

// entry reads the next entry, which must have this name and at most so many bytes. Memory grows with what
// comes, whatever the header claims. A buffer of an earlier block is used again.
func (a *Reader) entry(name string, most int64) ([]byte, error) {
	h, err := a.header()
	if err != nil {
		return nil, err
	}
	if h.Name != name {
		return nil, damaged(h.Name, fmt.Errorf("%s is expected here", name))
	}
	if h.Size > most {
		return nil, fmt.Errorf("%w: %s has %d bytes, the most is %d", ErrTooLarge, name, h.Size, most)
	}
	a.next = nil
	data := bytes.NewBuffer(a.buf[:0])
	if _, err := io.Copy(data, io.LimitReader(a.tar, most)); err != nil {
		return nil, damaged(name, err)
	}
	if int64(data.Len()) != h.Size {
		return nil, damaged(name, io.ErrUnexpectedEOF)
	}
	fmt.Fprintf(&a.sums, "%x  %s\n", sha256.Sum256(data.Bytes()), name)
	return data.Bytes(), nil
}

func damaged(name string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrFormat, clip(strconv.QuoteToGraphic(name)), err)
}
