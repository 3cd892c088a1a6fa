package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// window is how far back compression looks, and the memory that it takes on both sides: blocks repeat nothing over long
// distances.
const window = 1 << 20

// readme is for whoever opens an archive without knowing what it is.
const readme = `This is a conversation with a language model, saved by Hearth.

archive.json      what this file is, and what the conversation is called
items.jsonl       what was said: one JSON object a line, in the form of OpenAI's Responses API
tokens.json       the same as the numbers that the model saw
computed/         what the model computed of these numbers, so that it need not do it again; raw memory, of use to the
                  same model only
checksums.sha256  for sha256sum -c checksums.sha256

hearth sessions import FILE goes on with it.
`

// Contents are an archive apart from its blocks.
type Contents struct {
	Manifest Manifest // Format, Version, Items and the count of Log are set by writing
	Items    []json.RawMessage
	Tokens   []int32
}

// Write writes an archive. Where the manifest has Computed, blocks is called once with a function that writes a block; the
// block's data may change when that returns.
func Write(w io.Writer, c *Contents, blocks func(write func(Block) error) error) error {
	compressed, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	a := writer{tar: tar.NewWriter(compressed), modified: time.Unix(c.Manifest.CreatedAt, 0)}
	if err := a.write(c, blocks); err != nil { // the stream stays without its end
		return fmt.Errorf("archive: %w", err)
	}
	if err := compressed.Close(); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// writer writes entries and remembers their checksums.
type writer struct {
	tar      *tar.Writer
	modified time.Time
	sums     bytes.Buffer
}

func (a *writer) write(c *Contents, blocks func(write func(Block) error) error) error {
	m := c.Manifest
	m.Format, m.Version, m.Items = Format, Version, len(c.Items)
	if m.Log != nil {
		m.Log = &Log{Tokens: len(c.Tokens), TextSHA256: m.Log.TextSHA256}
	}
	if len(m.Session.Metadata) == 0 {
		m.Session.Metadata = json.RawMessage("{}")
	}
	if err := m.check(); err != nil {
		return err
	}
	manifest, err := json.MarshalIndent(&m, "", "  ")
	if err != nil {
		return err
	}
	var items bytes.Buffer
	for i, item := range c.Items {
		if err := json.Compact(&items, item); err != nil { // an item has no line feeds that way
			return fmt.Errorf("item %d: %w", i, err)
		}
		items.WriteByte('\n')
	}
	for _, e := range []struct {
		name string
		data []byte
	}{{nameReadme, []byte(readme)}, {nameManifest, append(manifest, '\n')}, {nameItems, items.Bytes()}} {
		if err := a.entry(e.name, e.data); err != nil {
			return err
		}
	}
	if m.Log != nil {
		tokens, err := json.Marshal(c.Tokens)
		if err != nil {
			return err
		}
		if err := a.entry(nameTokens, append(tokens, '\n')); err != nil {
			return err
		}
	}
	if m.Computed != nil {
		if err := blocks(func(b Block) error { return a.entry(b.name(), b.Data) }); err != nil {
			return err
		}
	}
	if err := a.entry(nameChecksums, a.sums.Bytes()); err != nil {
		return err
	}
	return a.tar.Close()
}

func (a *writer) entry(name string, data []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: a.modified, Format: tar.FormatUSTAR}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	if _, err := a.tar.Write(data); err != nil {
		return err
	}
	fmt.Fprintf(&a.sums, "%x  %s\n", sha256.Sum256(data), name)
	return nil
}
