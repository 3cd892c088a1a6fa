package sessions

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"hearth/engine"
	"hearth/sessions/database"
)

// pins are the computed prefixes that are pinned on disk for conversations. An engine counts pins and forgets them when it
// ends; what is to be pinned is in the database.
//
// A pin is of the tokens of the last turn at the time: Sweep moves it on when further turns have ended.
type pins struct {
	turn chan struct{} // has room for one: who has sent to it may use held; made by newPins
	held map[string]pinned
}

// pinned is what is pinned for one conversation.
type pinned struct {
	log    int64
	engine *engine.Engine
	tenant string
	tokens []int32
}

func newPins() pins {
	return pins{turn: make(chan struct{}, 1), held: map[string]pinned{}}
}

// update makes the pins of a conversation what the database says of it. Where nothing can be pinned, since nothing is
// computed, its model is not loaded or keeps nothing on disk, it pins nothing.
func (p *pins) update(ctx context.Context, s *Store, session *database.Session) error {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	key := runKey(session.Tenant, session.ID)
	old, held := p.held[key]
	if session.Pinned && held && old.log == session.Log {
		return nil
	}
	var errs []error
	if session.Pinned {
		m, log, err := s.logOf(ctx, session)
		if err == nil {
			err = m.Engine.Pin(ctx, session.Tenant, log.Tokens, true)
		}
		switch {
		case err == nil:
			p.held[key] = pinned{log.ID, m.Engine, session.Tenant, log.Tokens}
		case errors.Is(err, ErrNothingComputed) || errors.Is(err, ErrUnknownModel) || errors.Is(err, ErrLoading) || errors.Is(err, ErrNoDisk):
			delete(p.held, key)
		default:
			return err
		}
	} else {
		delete(p.held, key)
	}
	if held {
		errs = append(errs, old.engine.Pin(ctx, old.tenant, old.tokens, false))
	}
	return errors.Join(errs...)
}

// refresh makes all pins what the database says.
func (p *pins) refresh(ctx context.Context, s *Store) error {
	list, err := s.database.PinnedSessions(ctx)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	var errs []error
	for i := range list {
		wanted[runKey(list[i].Tenant, list[i].ID)] = true
		errs = append(errs, p.update(ctx, s, &list[i]))
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	for key, old := range p.held {
		if !wanted[key] { // its conversation is gone
			errs = append(errs, old.engine.Pin(ctx, old.tenant, old.tokens, false))
			delete(p.held, key)
		}
	}
	return errors.Join(errs...)
}

// sweepBatch is how many rows one transaction of Sweep deletes: others write in between.
const sweepBatch = 50

// Sweep stores the ends of responses that could not be stored; deletes the conversations, responses and chat completions
// whose time has passed, with what was computed of them; drops what earlier deletions could not; and pins what further turns
// of pinned conversations have computed. It is called now and then.
func (s *Store) Sweep(ctx context.Context) error {
	if s.database == nil {
		return nil
	}
	errs := []error{s.storeEnds(ctx, anyEnd), s.expire(ctx)}
	models := []string{""} // and what engines computed that are known whether they run or not
	for _, m := range s.catalog.List() {
		models = append(models, m.ID)
	}
	for _, model := range models {
		freed, err := s.database.Freed(ctx, model, sweepBatch)
		if err == nil {
			err = s.Shred(ctx, freed)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.pins.refresh(ctx, s))...)
}

func (s *Store) expire(ctx context.Context) error {
	for {
		expired, err := s.expireUnlocked(ctx)
		if err != nil {
			return err
		}
		if expired.Sessions+expired.Responses+expired.Completions > 0 {
			s.opts.Logger.Info("deleted what its time has passed", slog.Int("sessions", expired.Sessions), slog.Int("responses", expired.Responses),
				slog.Int("completions", expired.Completions))
		}
		if err := s.Shred(ctx, expired.Freed); err != nil || !expired.More {
			return err
		}
	}
}

// expireUnlocked deletes some of what its time has passed. A conversation that a turn is running of goes the next time: that of
// a response that is not stored is not seen in the database.
func (s *Store) expireUnlocked(ctx context.Context) (database.Expired, error) {
	var claimed []func()
	defer func() {
		for _, unlock := range claimed {
			unlock()
		}
	}()
	return s.database.Expire(ctx, s.opts.Now(), sweepBatch, func(tenant, id string) bool {
		unlock, err := s.Lock(tenant, id)
		if err == nil {
			claimed = append(claimed, unlock)
		}
		return err == nil
	})
}

// KeepSwept calls Sweep now and then until ctx ends, and logs what goes wrong, once until it goes well again.
func (s *Store) KeepSwept(ctx context.Context, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	failing := false
	for {
		err := s.Sweep(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.opts.Logger.Warn("what its time has passed could not be swept", slog.Any("error", err))
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
