package sessions

import (
	"context"
	"errors"

	"hearth/sessions/database"
)

// DeleteSession deletes a conversation: its items, the responses that ran in it, its exact tokens, and what was computed of
// them, in memory and on disk, as far as nothing else that is stored needs it. It returns ErrLocked while a turn is running.
func (s *Store) DeleteSession(ctx context.Context, tenant, id string) error {
	return s.change(ctx, tenant, id, func(db *database.DB) ([]database.Freed, error) {
		return db.DeleteSession(ctx, tenant, id)
	})
}

// DeleteItem takes an item out of a conversation. The tokens of the turns that ended with it go too, and what was computed
// of them. It returns ErrLocked while a turn is running.
func (s *Store) DeleteItem(ctx context.Context, tenant, session, item string) error {
	return s.change(ctx, tenant, session, func(db *database.DB) ([]database.Freed, error) {
		return db.DeleteItem(ctx, tenant, session, item)
	})
}

// Rewind takes the items behind a place out of a conversation, as DeleteItem does.
func (s *Store) Rewind(ctx context.Context, tenant, session string, to Place) error {
	return s.change(ctx, tenant, session, func(db *database.DB) ([]database.Freed, error) {
		n, err := s.itemsUpTo(ctx, tenant, session, to)
		if err != nil {
			return nil, err
		}
		return db.RewindSession(ctx, tenant, session, n)
	})
}

// change lets remove take things out of a conversation that no turn is using, and shreds what that frees.
func (s *Store) change(ctx context.Context, tenant, session string, remove func(*database.DB) ([]database.Freed, error)) error {
	if s.database == nil {
		return ErrNoDatabase
	}
	unlock, err := s.Lock(tenant, session)
	if err != nil {
		return err
	}
	defer unlock()
	freed, err := remove(s.database)
	if err != nil {
		return err
	}
	return s.Shred(ctx, freed)
}

// Shred drops what was computed of tokens that nothing stored needs any more, in memory and on disk, and the answers that are
// remembered in them. It goes on after an error, and returns all of them. What it could not drop, also because its model is
// not loaded, the database keeps for Sweep to try again.
func (s *Store) Shred(ctx context.Context, freed []database.Freed) error {
	errs := []error{s.forgetAnswers(ctx, freed)}
	var done []database.Freed
	for _, f := range freed {
		m, err := s.catalog.Get(f.Model)
		if errors.Is(err, ErrUnknownModel) || errors.Is(err, ErrLoading) {
			continue
		}
		if err == nil {
			err = m.Engine.Forget(ctx, f.Tenant, f.Tokens, f.Keep)
		}
		if err == nil {
			done = append(done, f)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.database.Forgotten(ctx, done))...)
}
