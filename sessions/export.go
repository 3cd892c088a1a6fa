package sessions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	"hearth/engine"
	"hearth/engine/tokenizer"
	"hearth/sessions/archive"
	"hearth/sessions/database"
)

// ExportOptions say what an archive holds beside the items and the exact tokens.
type ExportOptions struct {
	Computed bool      // what the model computed of the tokens, where it is served and has it
	Now      time.Time // of the archive
	By       string    // who makes it: "hearth 1.2"
}

// Export is a conversation that is ready to be written as one file.
type Export struct {
	contents archive.Contents
	tenant   string
	engine   *engine.Engine // whose blocks are written; nil: none
}

// Export reads a conversation that is to be written. A turn that is running does not wait, and is not part of it.
func (s *Store) Export(ctx context.Context, tenant, id string, opts ExportOptions) (*Export, error) {
	if s.database == nil {
		return nil, ErrNoDatabase
	}
	session, err := s.database.Session(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	rows, _, err := s.database.Items(ctx, tenant, id, database.Page{Limit: database.All})
	if err != nil {
		return nil, err
	}
	e := &Export{tenant: tenant}
	for i := range rows {
		e.contents.Items = append(e.contents.Items, rows[i].JSON)
	}
	ttl := int64((session.TTL + time.Second - 1) / time.Second) // rounded up: 0 is for ever
	m := &e.contents.Manifest
	*m = archive.Manifest{CreatedAt: opts.Now.Unix(), CreatedBy: opts.By, Session: archive.Session{
		ID: session.ID, Title: session.Title, Model: session.Model, CreatedAt: session.Created.Unix(), UpdatedAt: session.Updated.Unix(), TTL: &ttl,
		Metadata: session.Metadata, Parent: session.Parent, ForkedAt: session.ForkedAt,
	}}
	if session.Log == 0 {
		return e, nil
	}
	log, err := s.database.Log(ctx, tenant, session.Log)
	if errors.Is(err, database.ErrNotFound) { // the turn went meanwhile
		return e, nil
	}
	if err != nil {
		return nil, err
	}
	served, err := s.catalog.Get(log.Model)
	if err != nil {
		return e, nil // what the tokens say is known only to their model
	}
	e.contents.Tokens = log.Tokens
	m.Session.Model = log.Model
	m.Model = &archive.Model{Architecture: served.Architecture, Name: served.Name, Quantization: served.Quantization, Digest: served.Digest}
	m.Log = &archive.Log{TextSHA256: textSum(served.Tokenizer, log.Tokens)}
	if opts.Computed {
		m.Computed = &archive.Computed{Fingerprint: served.Engine.Fingerprint()}
		e.engine = served.Engine
	}
	return e, nil
}

// textSum is the SHA-256 of what tokens say, special tokens included, in hex.
func textSum(tok *tokenizer.Tokenizer, tokens []int32) string {
	sum := sha256.Sum256([]byte(tok.Decode(tokens, tokenizer.PieceOptions{Special: true})))
	return hex.EncodeToString(sum[:])
}

// Write writes the archive. What the model computed is written up to where it is kept no longer.
func (e *Export) Write(ctx context.Context, w io.Writer) error {
	return archive.Write(w, &e.contents, func(write func(archive.Block) error) error {
		return e.engine.Export(ctx, e.tenant, e.contents.Tokens, func(b engine.Block) error { return write(archive.Block(b)) })
	})
}

// Items returns the items that are written, in order.
func (e *Export) Items() []json.RawMessage { return e.contents.Items }

// Tokens returns how many exact tokens are written.
func (e *Export) Tokens() int { return len(e.contents.Tokens) }
