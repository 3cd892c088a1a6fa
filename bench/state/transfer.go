package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/klauspost/compress/zstd"
)

// archiveType is the media type of an exported session.
const archiveType = "application/zstd"

// showTransfer moves a session from one server to another by its file, and reads the file without either.
func showTransfer(ctx context.Context, r *run) error {
	m, err := r.synth(ctx, "qwen3", "tiny", r.opts.counts.tokens+1024)
	if err != nil {
		return err
	}
	models := []model{m}
	for _, arch := range r.opts.counts.architectures {
		m, err := r.synth(ctx, arch, "tiny", r.opts.counts.tokens+1024)
		if err != nil {
			return err
		}
		models = append(models, m)
	}
	for _, m := range models {
		if err := r.transfer(ctx, m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

func (r *run) transfer(ctx context.Context, m model) error {
	s, err := r.startNew(ctx, m, m.name+"-from")
	if err != nil {
		return err
	}
	id, err := s.converse(ctx)
	if err != nil {
		return err
	}
	first, err := s.stream(ctx, id, prose(1, r.opts.counts.tokens), turnTokens)
	if err != nil {
		return err
	}
	begun := time.Now()
	file, err := s.get(ctx, "/v1/sessions/"+id+"/export")
	if err != nil {
		return err
	}
	exported := time.Since(begun)
	stayed, err := s.stream(ctx, id, secondQuestion.Content, turnTokens)
	if err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}
	items, err := readArchive(file)
	if err != nil {
		return fmt.Errorf("the file cannot be read without a server: %w", err)
	}
	r.require(items == 2, "%s: the file has %d items, want the question and the answer", m.name, items)

	if s, err = r.startNew(ctx, m, m.name+"-to"); err != nil {
		return err
	}
	var imported struct {
		ID string `json:"id"`
	}
	begun = time.Now()
	if err := s.call(ctx, http.MethodPost, "/v1/sessions/import", file, &imported); err != nil {
		return err
	}
	took := time.Since(begun)
	moved, err := s.stream(ctx, imported.ID, secondQuestion.Content, turnTokens)
	if err != nil {
		return err
	}
	share := float64(moved.cached) / float64(moved.prompt)
	r.figure(float64(len(file))/(1<<20), "MiB", "%s: file of a session of %d tokens", m.name, moved.prompt)
	r.milliseconds(exported, "%s: export", m.name)
	r.milliseconds(took, "%s: import", m.name)
	r.figure(100*share, "%", "%s: of the next prompt cached on the other server", m.name)
	r.milliseconds(moved.first, "%s: first token there", m.name)
	r.milliseconds(first.first, "%s: first token, computed", m.name)
	r.require(share >= leastCached, "%s: %d of %d tokens were cached on the other server", m.name, moved.cached, moved.prompt)
	r.require(moved.text == stayed.text, "%s: the other server answers %q, the first one %q", m.name, moved.text, stayed.text)
	return s.stop()
}

// readArchive counts the items of an exported session with nothing but the formats that it is made of.
func readArchive(file []byte) (items int, err error) {
	stream, err := zstd.NewReader(bytes.NewReader(file))
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	entries := tar.NewReader(stream)
	for {
		header, err := entries.Next()
		if err == io.EOF {
			return items, nil
		}
		if err != nil {
			return items, err
		}
		if header.Name != "items.jsonl" {
			continue
		}
		for decoder := json.NewDecoder(entries); decoder.More(); items++ {
			var i item
			if err := decoder.Decode(&i); err != nil {
				return items, err
			}
		}
	}
}
