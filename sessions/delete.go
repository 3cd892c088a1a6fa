package sessions

import (
	"context"
	"errors"
	"slices"

	"hearth/sessions/database"
)

// DeleteSession deletes a conversation: its items, the responses that ran in it, its exact tokens, and what was computed of
// them, in memory and on disk, as far as nothing else that is stored needs it. It returns ErrLocked while a turn is running.
func (s *Store) DeleteSession(ctx context.Context, tenant, id string) error {
	return s.change(ctx, tenant, id, func(db *database.DB) ([]database.Freed, error) {
		// What is deleted is what is stored: of a response whose end is not, what was computed would stay.
		if err := s.storeEnds(ctx, func(e tenantEnd) bool { return e.tenant == tenant && e.end.Response.Session == id }); err != nil {
			return nil, err
		}
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
// remembered in them. It goes on after an error, and returns all of them. What it could not drop, the database keeps for
// Sweep to try again.
func (s *Store) Shred(ctx context.Context, freed []database.Freed) error {
	for i := range freed { // other conversations may begin alike, as with one system prompt
		n, err := s.database.Shared(ctx, &freed[i])
		if err != nil {
			return err
		}
		freed[i].Keep = max(freed[i].Keep, n)
	}
	errs := []error{s.forgetAnswers(ctx, freed)}
	var done []database.Freed
	for i := range freed {
		dropped, err := s.forgetComputed(ctx, &freed[i])
		if dropped && err == nil {
			done = append(done, freed[i])
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.database.Forgotten(ctx, done))...)
}

// forgetComputed drops what was computed of freed tokens by the engines that have done it, running or not. Of tokens for which
// that is not known it asks the model that is served under the name of then, and waits for one otherwise. A store without
// models that knows no disk either, as that of a command, leaves all to a server.
func (s *Store) forgetComputed(ctx context.Context, f *database.Freed) (dropped bool, err error) {
	models := s.catalog.List()
	if len(models) == 0 && s.opts.Forget == nil {
		return false, nil
	}
	running := map[string]bool{}
	var errs []error
	for _, m := range models {
		fingerprint := m.Engine.Fingerprint()
		if m.ID == f.Model || slices.Contains(f.Fingerprints, fingerprint) {
			running[fingerprint] = true
			errs = append(errs, m.Engine.Forget(ctx, f.Tenant, f.Tokens, f.Keep))
		}
	}
	for _, fingerprint := range f.Fingerprints {
		if !running[fingerprint] && s.opts.Forget != nil {
			errs = append(errs, s.opts.Forget(fingerprint, f.Tenant, f.Tokens, f.Keep))
		}
	}
	return len(f.Fingerprints) > 0 || len(running) > 0, errors.Join(errs...)
}

// fingerprint names the engine that a model is served by; empty where it is not.
func (s *Store) fingerprint(model string) string {
	m, err := s.catalog.Get(model)
	if err != nil {
		return ""
	}
	return m.Engine.Fingerprint()
}
