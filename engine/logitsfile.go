package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
)

// A file of logits keeps what a model said about a text, so that others can be compared with it without running it again.
// All numbers are little-endian.
//
//	0    "HEARTHLR"
//	8    version u32, 1
//	12   elements of a row u32
//	16   tokens of a window u32
//	20   stride u32, 0: without
//	24   tokens u64
//	32   rows u64
//	40   vocabulary sha256 [32]
//	72   length of the name u32 | name, UTF-8: what computed the rows, for people
//	     tokens i32 each
//	     CRC-32C u32 of everything before
//	then for each row: float32 each | CRC-32C u32 of them
//
// Text draws the windows; the rows are those that predict a token, in the order of the text. A file is whole or absent: it
// is written aside and renamed.
const (
	logitsMagic      = "HEARTHLR"
	logitsVersion    = 1
	logitsHeadBytes  = 76
	maxLogitsName    = 1 << 12
	maxLogitsTokens  = 1 << 30
	maxLogitsColumns = 1 << 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrOtherText says that logits are those of another text, or of another vocabulary.
var ErrOtherText = errors.New("the logits are of another text")

// logitsHead is the fixed part of a file of logits.
type logitsHead struct {
	Magic          [8]byte
	Version        uint32
	Columns        uint32
	Window, Stride uint32
	Tokens, Rows   uint64
	Vocabulary     [sha256.Size]byte
	NameBytes      uint32
}

// headOf describes the file that a text's logits are kept in.
func headOf(t *Text, columns, nameBytes int) logitsHead {
	h := logitsHead{
		Version: logitsVersion, Columns: uint32(columns), Window: uint32(t.Window), Stride: uint32(t.Stride),
		Tokens: uint64(len(t.Tokens)), Rows: uint64(t.Predicted()), Vocabulary: t.Vocabulary, NameBytes: uint32(nameBytes),
	}
	copy(h.Magic[:], logitsMagic)
	return h
}

// LogitsWriter writes a file of logits. One goroutine uses it.
type LogitsWriter struct {
	path string
	file *os.File
	out  *bufio.Writer
	row  []byte
	left uint64 // rows to come
}

// CreateLogits begins the file of a text's logits at path, rows of columns elements. The name says what computes them. It
// is at path once Commit was called; Close without it leaves nothing.
func CreateLogits(path, name string, t *Text, columns int) (*LogitsWriter, error) {
	name = name[:min(len(name), maxLogitsName)]
	head, err := binary.Append(nil, binary.LittleEndian, headOf(t, columns, len(name)))
	if err != nil {
		return nil, err
	}
	head, err = binary.Append(append(head, name...), binary.LittleEndian, t.Tokens)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %w", path, err)
	}
	w := &LogitsWriter{path: path, file: f, out: bufio.NewWriterSize(f, 1<<20), row: make([]byte, 4*columns+4), left: uint64(t.Predicted())}
	if _, err := w.out.Write(binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))); err != nil {
		w.Close()
		return nil, fmt.Errorf("engine: %s: %w", path, err)
	}
	return w, nil
}

// write appends a row.
func (w *LogitsWriter) write(row []float32) error {
	if len(w.row) != 4*len(row)+4 || w.left == 0 {
		panic(fmt.Sprintf("engine: LogitsWriter: a row of %d elements, want %d more rows of %d bytes", len(row), w.left, len(w.row)))
	}
	data := w.row[:0]
	for _, v := range row {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	w.left--
	if _, err := w.out.Write(data); err != nil {
		return fmt.Errorf("engine: %s: %w", w.path, err)
	}
	return nil
}

// Commit puts the file at its path. It fails while rows are missing.
func (w *LogitsWriter) Commit() error {
	var err error
	if w.left > 0 {
		err = fmt.Errorf("%d rows are missing", w.left)
	}
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		err = w.file.Chmod(0o644) // temporary files are private
	}
	if closeErr := w.file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(w.file.Name(), w.path)
	}
	if err != nil {
		return fmt.Errorf("engine: %s: %w", w.path, err)
	}
	return nil
}

// Close removes what was not committed.
func (w *LogitsWriter) Close() {
	w.file.Close()
	os.Remove(w.file.Name()) // fails once it is renamed
}

// LogitsFile is an open file of logits: a LogitRows of the text it was written for. One goroutine uses it.
type LogitsFile struct {
	Name string // what computed the rows

	path    string
	file    io.Closer
	size    int64
	in      *bufio.Reader
	columns int
	next    uint64    // row
	rows    []float32 // of the last Feed
	data    []byte    // of a row
}

// IsLogitsFile reports whether a file begins as one of logits.
func IsLogitsFile(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, len(logitsMagic))
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == logitsMagic
}

// OpenLogits opens the logits of a text. It fails with ErrOtherText when they are of another text, of other windows or of
// another vocabulary, and says which. The caller closes the file.
func OpenLogits(path string, t *Text) (*LogitsFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		l := &LogitsFile{path: path, file: f, size: info.Size(), in: bufio.NewReaderSize(f, 1<<20)}
		if err = l.readHead(t); err == nil {
			return l, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("engine: %s: %w", path, err)
}

// readHead reads everything before the rows.
func (l *LogitsFile) readHead(t *Text) error {
	fixed := make([]byte, logitsHeadBytes)
	if _, err := io.ReadFull(l.in, fixed); err != nil {
		return fmt.Errorf("the head is cut off: %w", err)
	}
	var h logitsHead
	if _, err := binary.Decode(fixed, binary.LittleEndian, &h); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	rest := make([]byte, int64(h.NameBytes))
	if _, err := io.ReadFull(l.in, rest); err != nil {
		return fmt.Errorf("the name is cut off: %w", err)
	}
	l.Name, l.columns = string(rest), int(h.Columns)
	if err := h.compare(headOf(t, l.columns, len(l.Name))); err != nil {
		return err
	}
	tokens, err := binary.Append(nil, binary.LittleEndian, t.Tokens)
	if err != nil {
		return err
	}
	kept := make([]byte, len(tokens)+4) // as many as the text has
	if _, err := io.ReadFull(l.in, kept); err != nil {
		return fmt.Errorf("the tokens are cut off: %w", err)
	}
	kept, sum := kept[:len(tokens)], binary.LittleEndian.Uint32(kept[len(tokens):])
	if crc32.Update(crc32.Checksum(append(fixed, rest...), castagnoli), castagnoli, kept) != sum {
		return errors.New("the head is damaged")
	}
	if !bytes.Equal(kept, tokens) {
		return fmt.Errorf("%w: its tokens are others", ErrOtherText)
	}
	rowBytes := int64(4*l.columns + 4)
	if want := int64(len(fixed)+len(rest)+len(tokens)+4) + int64(h.Rows)*rowBytes; l.size != want {
		return fmt.Errorf("the file has %d bytes, %d rows need %d", l.size, h.Rows, want)
	}
	l.data = make([]byte, rowBytes)
	return nil
}

// check refuses what no writer wrote, before anything is allocated for it.
func (h *logitsHead) check() error {
	switch {
	case string(h.Magic[:]) != logitsMagic:
		return fmt.Errorf("it starts with %q, which no file of logits does", h.Magic)
	case h.Version != logitsVersion:
		return fmt.Errorf("version %d of the format; version %d is read", h.Version, logitsVersion)
	case h.NameBytes > maxLogitsName || h.Tokens > maxLogitsTokens || h.Rows > h.Tokens*uint64(max(h.Window, 1)) || h.Columns == 0 || h.Columns > maxLogitsColumns:
		return fmt.Errorf("the head is damaged: %d rows of %d for %d tokens, a name of %d bytes", h.Rows, h.Columns, h.Tokens, h.NameBytes)
	}
	return nil
}

// compare says in what a file differs from what is wanted.
func (h *logitsHead) compare(want logitsHead) error {
	switch {
	case h.Vocabulary != want.Vocabulary:
		return fmt.Errorf("%w: its vocabulary is another", ErrOtherText)
	case h.Window != want.Window || h.Stride != want.Stride:
		return fmt.Errorf("%w: it was cut into windows of %d with a stride of %d, want %d and %d", ErrOtherText, h.Window, h.Stride, want.Window, want.Stride)
	case h.Tokens != want.Tokens || h.Rows != want.Rows:
		return fmt.Errorf("%w: it has %d tokens, want %d", ErrOtherText, h.Tokens, want.Tokens)
	}
	return nil
}

// Reset begins the next window: its rows follow.
func (l *LogitsFile) Reset() {}

// VocabSize is the length of a row.
func (l *LogitsFile) VocabSize() int { return l.columns }

// Most is how many tokens and outputs Feed takes at once.
func (l *LogitsFile) Most() (tokens, outputs int) { return math.MaxInt, rowsAtOnce(l.columns) }

// Feed reads the next rows, as many as outputs are asked for.
func (l *LogitsFile) Feed(ctx context.Context, _ []int32, outputs []int32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.rows = l.rows[:0]
	for range outputs {
		if _, err := io.ReadFull(l.in, l.data); err != nil {
			return fmt.Errorf("%s: row %d: %w", l.path, l.next, err)
		}
		data, sum := l.data[:4*l.columns], binary.LittleEndian.Uint32(l.data[4*l.columns:])
		if crc32.Checksum(data, castagnoli) != sum {
			return fmt.Errorf("%s: row %d is damaged", l.path, l.next)
		}
		for i := 0; i < len(data); i += 4 {
			l.rows = append(l.rows, math.Float32frombits(binary.LittleEndian.Uint32(data[i:])))
		}
		l.next++
	}
	return nil
}

// Row returns a row that Feed read.
func (l *LogitsFile) Row(i int) []float32 { return l.rows[i*l.columns:][:l.columns] }

// Close closes the file.
func (l *LogitsFile) Close() error { return l.file.Close() }
