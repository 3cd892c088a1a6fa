package sessions

import (
	"context"
	"errors"

	"hearth/engine"
	"hearth/sessions/database"
)

// Computed is where the computed state of a conversation is.
type Computed = engine.Residence

// Tier is a place for computed state.
type Tier = engine.Tier

// The tiers, from the slowest.
const (
	TierNone   = engine.TierNone
	TierDisk   = engine.TierDisk
	TierMemory = engine.TierMemory
)

// ErrNoDisk says that a model keeps nothing of what it computes on disk.
var ErrNoDisk = engine.ErrNoDisk

// ErrNothingComputed says that a conversation had no turn yet whose tokens are kept.
var ErrNothingComputed = errors.New("sessions: no turn of this session has ended")

// ParseTier returns the tier of a name: "none", "disk" or "memory".
func ParseTier(name string) (Tier, error) { return engine.ParseTier(name) }

// Computed says where the computed state of a conversation is; nil where it has none, or its model is not loaded.
func (s *Store) Computed(ctx context.Context, session *database.Session) (*Computed, error) {
	m, log, err := s.logOf(ctx, session)
	if errors.Is(err, ErrNothingComputed) || errors.Is(err, ErrUnknownModel) || errors.Is(err, ErrLoading) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	computed, err := m.Engine.Residence(ctx, session.Tenant, log.Tokens)
	if err != nil {
		return nil, err
	}
	return &computed, nil
}

// logOf returns the tokens of a conversation's last turn and the model that they are of.
func (s *Store) logOf(ctx context.Context, session *database.Session) (*engine.Served, *database.Log, error) {
	if session.Log == 0 {
		return nil, nil, ErrNothingComputed
	}
	log, err := s.database.Log(ctx, session.Tenant, session.Log)
	if errors.Is(err, database.ErrNotFound) {
		err = ErrNothingComputed // the turn was taken out meanwhile
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := s.catalog.Get(log.Model)
	return m, log, err
}

// Evict takes the computed state of a conversation out of the tiers above one, as far as nothing that runs holds it: to
// TierDisk it is written there first, to TierNone it has to be computed again. Where nothing is computed there is nothing to do.
func (s *Store) Evict(ctx context.Context, tenant, id string, to Tier) error {
	if s.database == nil {
		return ErrNoDatabase
	}
	session, err := s.database.Session(ctx, tenant, id)
	if err != nil {
		return err
	}
	m, log, err := s.logOf(ctx, session)
	if errors.Is(err, ErrNothingComputed) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.Engine.Evict(ctx, tenant, log.Tokens, to)
}

// Pin keeps a conversation from being deleted when its time has passed, and its computed state on disk from giving way to
// others; or ends that. It returns the conversation.
func (s *Store) Pin(ctx context.Context, tenant, id string, on bool) (*database.Session, error) {
	if s.database == nil {
		return nil, ErrNoDatabase
	}
	session, err := s.database.UpdateSession(ctx, tenant, id, func(session *database.Session) error {
		session.Pinned = on
		return nil
	})
	if err != nil {
		return nil, err
	}
	return session, s.pins.update(ctx, s, session)
}
