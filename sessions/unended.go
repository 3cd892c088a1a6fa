package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"sync"

	"hearth/sessions/database"
)

// unended are the ends of responses that could not be stored: the database still says that these are in progress. They are
// kept here until Sweep can store them, or who deletes the response; after the end of the process Recover says that it failed.
// The zero value is ready.
type unended struct {
	mu   sync.Mutex // guards ends
	ends map[string]tenantEnd
}

// tenantEnd is what a tenant's turn leaves behind.
type tenantEnd struct {
	tenant string
	end    *database.TurnEnd
}

// copy is an end to store: that sets what is in it, while others may be storing it, too.
func (e tenantEnd) copy() *database.TurnEnd {
	own, usage := *e.end, *e.end.Usage
	own.Usage = &usage
	if own.Log != nil {
		log := *own.Log
		own.Log = &log
	}
	return &own
}

func anyEnd(tenantEnd) bool { return true }

func (u *unended) add(tenant string, end *database.TurnEnd) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ends == nil {
		u.ends = map[string]tenantEnd{}
	}
	u.ends[runKey(tenant, end.Response.ID)] = tenantEnd{tenant, end}
}

func (u *unended) remove(tenant, id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.ends, runKey(tenant, id))
}

// get returns how a response ended, nil where the database says it.
func (u *unended) get(tenant, id string) *database.TurnEnd {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ends[runKey(tenant, id)].end
}

func (u *unended) all() []tenantEnd {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]tenantEnd, 0, len(u.ends))
	for _, e := range u.ends {
		list = append(list, e)
	}
	return list
}

// storeEnds stores the ends that could not be stored before, of those that which picks. The first error is the end of it: what
// refuses one refuses all.
func (s *Store) storeEnds(ctx context.Context, which func(tenantEnd) bool) error {
	for _, e := range s.unended.all() {
		if !which(e) {
			continue
		}
		err := s.database.FinishTurn(ctx, e.tenant, e.copy())
		if err != nil && !errors.Is(err, database.ErrFinished) && !errors.Is(err, database.ErrNotFound) {
			return err
		}
		s.unended.remove(e.tenant, e.end.Response.ID)
	}
	return nil
}

// storedRow returns a response and its output as the database has them, or as they ended where that could not be stored.
func (s *Store) storedRow(ctx context.Context, tenant, id string) (*database.Response, []json.RawMessage, error) {
	end := s.unended.get(tenant, id) // first: where there is none, the database has it
	row, err := s.database.Response(ctx, tenant, id)
	if err != nil {
		return nil, nil, err
	}
	var output []database.Item
	if end != nil {
		row, output = end.Response, end.Output
	} else if output, err = s.database.OutputItems(ctx, tenant, id); err != nil {
		return nil, nil, err
	}
	list := make([]json.RawMessage, len(output))
	for i := range output {
		list[i] = output[i].JSON
	}
	return row, list, nil
}

// storedEventsOf returns the events of a response that the database has, and those that it could not store yet.
func (s *Store) storedEventsOf(ctx context.Context, tenant, id string) ([]database.Event, error) {
	end := s.unended.get(tenant, id) // first: where there is none, the database has it
	list, err := s.database.Events(ctx, tenant, id, -1, math.MaxInt32)
	if err != nil || end == nil {
		return list, err
	}
	for _, e := range end.Events {
		if e.Sequence == len(list) { // was not stored meanwhile
			list = append(list, e)
		}
	}
	return list, nil
}
