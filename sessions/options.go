package sessions

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"
)

// SecretBytes is the length of a store's secret.
const SecretBytes = 32

// Options configure a store. The zero value works.
type Options struct {
	// Secret is what the store seals with whatever it hands to clients to keep, and what it keeps of them beside
	// conversations. Nil: one is drawn, and means nothing after the end of the process.
	Secret []byte
	// Forget drops from disk what an engine of a fingerprint, which is not running, computed of a tenant's tokens behind the first
	// keep ones. Nil: nothing that was computed outlives its engine.
	Forget func(fingerprint, tenant string, tokens []int32, keep int) error
	// SessionTTL is how long a conversation is kept after its last change where its maker does not say it; 0: for ever.
	SessionTTL time.Duration
	// ResponseTTL is how long stored responses and chat completions are kept that belong to no conversation; 0: for ever. A
	// response stays as long as another one that goes on from it, and is kept anew where it is gone on from.
	ResponseTTL time.Duration
	Logger      *slog.Logger     // nil: slog.Default
	Now         func() time.Time // nil: time.Now

	passing bool // the secret was drawn
}

// Validate names the option that is out of range.
func (o *Options) Validate() error {
	if o.Secret != nil && len(o.Secret) != SecretBytes {
		return fmt.Errorf("sessions: Secret: has %d bytes, want %d", len(o.Secret), SecretBytes)
	}
	if o.SessionTTL < 0 {
		return fmt.Errorf("sessions: SessionTTL: is %v, want at least 0", o.SessionTTL)
	}
	if o.ResponseTTL < 0 {
		return fmt.Errorf("sessions: ResponseTTL: is %v, want at least 0", o.ResponseTTL)
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Secret == nil {
		o.Secret = make([]byte, SecretBytes)
		rand.Read(o.Secret) // never fails
		o.passing = true
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// SessionTTL returns how long a conversation is kept after its last change where its maker does not say it; 0: for ever.
func (s *Store) SessionTTL() time.Duration { return s.opts.SessionTTL }

// Expiry returns until when a response or a chat completion is kept that belongs to no conversation; zero: for ever.
func (s *Store) Expiry(created time.Time) time.Time {
	if s.opts.ResponseTTL == 0 {
		return time.Time{}
	}
	return created.Add(s.opts.ResponseTTL)
}

// Configure sets a store's options, before its first use.
func (s *Store) Configure(opts Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	s.opts = opts.withDefaults()
	return nil
}
