package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"hearth/engine"
	"hearth/sessions/archive"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// ImportOptions say what becomes of an archive.
type ImportOptions struct {
	Tenant   string
	ID       string        // of the new conversation; empty: the archive's, which must be free
	Model    string        // id of the served model that goes on; empty: the archive's
	Computed bool          // take what a model computed, too: it is believed without a check
	TTL      time.Duration // how long the conversation is kept where the archive does not say it; 0: for ever
	NewID    func(prefix string) string
	Now      func() time.Time
	Limits   archive.Limits
}

// Imported says what was taken of an archive.
type Imported struct {
	Session  *database.Session
	Items    int
	Tokens   int      // exact tokens of its last turn
	Computed int      // of these, from the beginning, with what was computed of them
	LeftOut  []string // what was not taken, and why
}

// Import makes a conversation of an archive, which it reads twice: nothing is stored unless all of it is whole, and every
// item is one that a client could have sent. Errors are archive.ErrFormat and ErrTooLarge, *items.Error, those of the
// database, and those of r.
//
// Tokens are taken where the model's vocabulary gives them the meaning that they had, and what was computed of them where the
// model is the same and laid out in the same way; Imported says what was left out. Losing either costs time at the next turn
// and changes nothing else.
func (s *Store) Import(ctx context.Context, r io.ReadSeeker, opts *ImportOptions) (*Imported, error) {
	if s.database == nil {
		return nil, ErrNoDatabase
	}
	contents, list, err := check(ctx, r, opts)
	if err != nil {
		return nil, err
	}
	m := &contents.Manifest
	if err := checkSession(&m.Session); err != nil {
		return nil, err
	}
	in := &Imported{Items: len(list)}
	model := opts.Model
	if model == "" {
		model = m.Session.Model
	}
	now := opts.Now()
	session := &database.Session{
		ID: opts.ID, Tenant: opts.Tenant, Model: model, Title: m.Session.Title, Updated: now, TTL: opts.TTL, Metadata: m.Session.Metadata,
		Created: time.Unix(min(max(m.Session.CreatedAt, 0), now.Unix()), 0),
	}
	if session.ID == "" {
		session.ID = m.Session.ID
	}
	if m.Session.TTL != nil {
		session.TTL = time.Duration(*m.Session.TTL) * time.Second
	}
	served, err := s.logModel(model, contents, in)
	if err != nil {
		return nil, err
	}
	if served != nil {
		log := &database.Log{Tenant: opts.Tenant, Model: model, Fingerprint: served.Engine.Fingerprint(), Tokens: contents.Tokens}
		if err := s.database.PutLog(ctx, log); err != nil {
			return nil, err
		}
		session.Log, in.Tokens = log.ID, len(contents.Tokens)
	}
	if err := s.database.CreateSession(ctx, session, Stored(list, session.Created)); err != nil {
		return nil, err
	}
	if served != nil && m.Computed != nil {
		if err := s.takeComputed(ctx, r, opts, served.Engine, in); err != nil {
			return nil, err
		}
	}
	in.Session, err = s.database.Session(ctx, opts.Tenant, session.ID)
	return in, err
}

// check reads an archive to its end and returns its items as the API's own checks accept them.
func check(ctx context.Context, r io.ReadSeeker, opts *ImportOptions) (*archive.Contents, []items.Item, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("sessions: import: %w", err)
	}
	a, err := archive.Open(r, opts.Limits)
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	parser := items.Parser{NewID: opts.NewID}
	var list []items.Item
	seen := map[string]bool{}
	for i, raw := range a.Items {
		field := "items[" + strconv.Itoa(i) + "]"
		one, err := parser.ParseItem(field, raw)
		switch {
		case err != nil:
			return nil, nil, err
		case one.ID == "":
			return nil, nil, &items.Error{Field: field + ".type", Reason: items.Unsupported, Text: "is " + one.Type + ", which no conversation has"}
		case seen[one.ID]:
			return nil, nil, &items.Error{Field: field + ".id", Reason: items.Invalid, Text: "is that of an earlier item"}
		}
		seen[one.ID] = true
		list = append(list, one)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if _, err := a.Next(); err == io.EOF {
			return &a.Contents, list, nil
		} else if err != nil {
			return nil, nil, err
		}
	}
}

// Limits of what people may attach to a conversation (OpenAI's API reference), and of names.
const (
	maxMetadata, maxMetadataKey, maxMetadataValue = 16, 64, 512
	maxName                                       = 512

	maxTTL = int64(math.MaxInt64 / time.Second) // as far as a time.Duration goes
)

// conversationID is the form of the ids that servers give.
var conversationID = regexp.MustCompile(`^conv_[A-Za-z0-9_-]{1,64}$`)

// checkSession checks what an archive says of its conversation, and brings its metadata to their form.
func checkSession(s *archive.Session) error {
	if !conversationID.MatchString(s.ID) {
		return fmt.Errorf("%w: the session's id is no conversation's", archive.ErrFormat)
	}
	if utf8.RuneCountInString(s.Title) > maxName || utf8.RuneCountInString(s.Model) > maxName {
		return fmt.Errorf("%w: the session's title or model has more than %d characters", archive.ErrFormat, maxName)
	}
	if s.TTL != nil && (*s.TTL < 0 || *s.TTL > maxTTL) {
		return fmt.Errorf("%w: the session's ttl is %d, want 0 to %d seconds", archive.ErrFormat, *s.TTL, maxTTL)
	}
	var metadata map[string]string
	if len(s.Metadata) > 0 {
		if err := json.Unmarshal(s.Metadata, &metadata); err != nil || len(metadata) > maxMetadata {
			return fmt.Errorf("%w: the session's metadata are no object of at most %d strings", archive.ErrFormat, maxMetadata)
		}
	}
	for key, value := range metadata {
		if utf8.RuneCountInString(key) > maxMetadataKey || utf8.RuneCountInString(value) > maxMetadataValue {
			return fmt.Errorf("%w: the session's metadata have an entry of more than %d and %d characters", archive.ErrFormat, maxMetadataKey, maxMetadataValue)
		}
	}
	if metadata == nil {
		metadata = map[string]string{}
	}
	raw, err := json.Marshal(metadata)
	s.Metadata = raw
	return err
}

// logModel returns the served model for which the tokens of an archive have the meaning that they had, nil where there is
// none.
func (s *Store) logModel(id string, c *archive.Contents, in *Imported) (*engine.Served, error) {
	if c.Manifest.Log == nil || len(c.Items) == 0 {
		return nil, nil
	}
	served, err := s.catalog.Get(id)
	switch {
	case errors.Is(err, ErrUnknownModel):
		in.LeftOut = append(in.LeftOut, fmt.Sprintf("tokens: no model %q is served", id))
		return nil, nil
	case err != nil:
		return nil, err
	}
	if checkTokens(served.Tokenizer, c.Tokens) != nil || textSum(served.Tokenizer, c.Tokens) != c.Manifest.Log.TextSHA256 {
		in.LeftOut = append(in.LeftOut, fmt.Sprintf("tokens: the model %q has another vocabulary", id))
		return nil, nil
	}
	return served, nil
}

// takeComputed gives an engine the blocks of an archive, which was checked before.
func (s *Store) takeComputed(ctx context.Context, r io.ReadSeeker, opts *ImportOptions, e *engine.Engine, in *Imported) error {
	if !opts.Computed {
		return nil
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("sessions: import: %w", err)
	}
	a, err := archive.Open(r, opts.Limits)
	if err != nil {
		return err
	}
	defer a.Close()
	if a.Manifest.Computed.Fingerprint != e.Fingerprint() {
		in.LeftOut = append(in.LeftOut, "computed: it is of another model, or of another format of its cache")
		return nil
	}
	var read error // what reading the archive ended with, if it ended
	in.Computed, err = e.Import(ctx, opts.Tenant, a.Tokens, func() (engine.Block, error) {
		b, err := a.Next()
		read = err
		return engine.Block(b), err
	})
	switch {
	case read != nil && read != io.EOF:
		return read
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.opts.Logger.Warn("computed blocks of an archive were not taken", slog.Int("tokens", in.Computed), slog.Any("error", err))
		in.LeftOut = append(in.LeftOut, fmt.Sprintf("computed: the cache could not take more than that of %d tokens", in.Computed))
	case read == nil:
		in.LeftOut = append(in.LeftOut, fmt.Sprintf("computed: the cache has room for that of %d tokens", in.Computed))
	}
	return nil
}
