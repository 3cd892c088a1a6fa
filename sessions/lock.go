package sessions

import (
	"errors"
	"sync"
)

// ErrLocked says that a turn of the conversation is running: there is one at a time.
var ErrLocked = errors.New("sessions: another turn of this conversation is running")

// locks are the conversations that a turn is running of. The zero value is ready.
type locks struct {
	mu   sync.Mutex
	held map[string]bool
}

// Lock claims a conversation for one turn, or for a change that no turn may see half done. It returns ErrLocked at once
// where another one has it. The caller calls unlock, which may be done more than once.
func (s *Store) Lock(tenant, conversation string) (unlock func(), err error) {
	l, name := &s.locks, tenant+"\x00"+conversation
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] {
		return nil, ErrLocked
	}
	if l.held == nil {
		l.held = map[string]bool{}
	}
	l.held[name] = true
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, name)
	}), nil
}
