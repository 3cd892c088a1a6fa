package archive

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Errors that callers decide on; test with errors.Is.
var (
	// ErrFormat says that a file is no archive, or a damaged one.
	ErrFormat = errors.New("archive: not a whole session archive")
	// ErrTooLarge says that an archive holds more than its reader takes.
	ErrTooLarge = errors.New("archive: too large")
)

// Format and Version are what a manifest says of its file. A reader takes files of its own version and older ones.
const (
	Format  = "hearth-session"
	Version = 1
)

// The names of entries.
const (
	nameReadme    = "README.txt"
	nameManifest  = "archive.json"
	nameItems     = "items.jsonl"
	nameTokens    = "tokens.json"
	nameChecksums = "checksums.sha256"
)

// Manifest describes an archive.
type Manifest struct {
	Format    string    `json:"format"`
	Version   int       `json:"version"`
	CreatedAt int64     `json:"created_at"` // of the archive, in seconds since 1970
	CreatedBy string    `json:"created_by"`
	Session   Session   `json:"session"`
	Model     *Model    `json:"model"` // of the last turn; null before the first, and where it is not known
	Items     int       `json:"items"`
	Log       *Log      `json:"log"`      // null: there is no tokens.json
	Computed  *Computed `json:"computed"` // null: there are no blocks
}

// Session is the conversation.
type Session struct {
	ID        string          `json:"id"`
	Title     string          `json:"title"`
	Model     string          `json:"model"` // id under which its model was served
	CreatedAt int64           `json:"created_at"`
	UpdatedAt int64           `json:"updated_at"`
	TTL       *int64          `json:"ttl,omitempty"` // seconds for which it is kept after its last change, 0: for ever; nil: not known
	Metadata  json.RawMessage `json:"metadata"`      // an object of strings
	Parent    string          `json:"parent,omitempty"`
	ForkedAt  int             `json:"forked_at,omitempty"` // items shared with the parent
}

// Model is the model of the last turn, for people; what has to be equal is said by Log and Computed.
type Model struct {
	Architecture string `json:"architecture"`
	Name         string `json:"name"`
	Quantization string `json:"quantization"`
	Digest       string `json:"digest"`
}

// Log describes the tokens. Another vocabulary has other meanings for them, so they come with what they say: the SHA-256 of
// their text, special tokens included.
type Log struct {
	Tokens     int    `json:"tokens"`
	TextSHA256 string `json:"text_sha256"`
}

// Computed describes the blocks: they are of use to a model of the same fingerprint only.
type Computed struct {
	Fingerprint string `json:"fingerprint"`
}

// check reports what makes a manifest unusable.
func (m *Manifest) check() error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("format is %q, want %q", clip(m.Format), Format)
	case m.Version < 1 || m.Version > Version:
		return fmt.Errorf("version is %d, this reader knows up to %d", m.Version, Version)
	case m.Items < 0 || m.Log != nil && m.Log.Tokens < 1:
		return errors.New("a count is out of range")
	case m.Computed != nil && m.Log == nil:
		return errors.New("there are blocks without their tokens")
	}
	return nil
}

// clip keeps complaints short.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// Block is a part of what was computed of the tokens.
type Block struct {
	Tokens int  // length of the prefix that it ends
	State  bool // what is remembered after the last token, rather than a block of its own
	Data   []byte
}

// name is the name of a block's entry.
func (b *Block) name() string {
	if b.State {
		return fmt.Sprintf("computed/%010d.state", b.Tokens)
	}
	return fmt.Sprintf("computed/%010d.block", b.Tokens)
}
