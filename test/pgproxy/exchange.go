package pgproxy

import (
	"sync"
	"sync/atomic"
)

// Startup is the kind of everything up to a session's first ReadyForQuery. Other is that of statements that no
// Classifier claims.
const (
	Startup = "startup"
	Other   = "other"
)

// Transaction is what a session has done since it was last outside a transaction.
type Transaction struct {
	Open bool
	Seen map[string]bool // kinds of the statements sent
}

// Classifier names the kind of a statement from its SQL; "" leaves it Other.
type Classifier func(sql string, tx Transaction) string

// exchange is what a client sends up to and including a Sync or a simple query, and the server's answers up to
// ReadyForQuery.
type exchange struct {
	kind string
	// exposed is set when its Sync was replaced by Flush: what becomes of it once the command is complete.
	exposed atomic.Pointer[Injection]
}

// session follows one connection's protocol state, so that a message can be told by the statement that it belongs to.
type session struct {
	classify Classifier

	mu         sync.Mutex
	statements map[string]string // prepared ones, by name
	filling    *exchange         // gets the client's next messages
	waiting    []*exchange       // for answers, in order
	tx         Transaction
	ran        map[string]bool // kinds of all statements ever sent
}

func newSession(classify Classifier) *session {
	return &session{
		classify: classify, statements: map[string]string{}, waiting: []*exchange{{kind: Startup}},
		tx: Transaction{Seen: map[string]bool{}}, ran: map[string]bool{},
	}
}

// sent takes note of a client's message and says which exchange it belongs to; nil for one that belongs to none.
func (s *session) sent(m message) *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.kind == terminate {
		return nil
	}
	if len(s.waiting) > 0 && s.waiting[0].kind == Startup {
		return s.waiting[0] // a password or the like
	}
	if s.filling == nil {
		s.filling = &exchange{kind: Other}
		s.waiting = append(s.waiting, s.filling)
	}
	e := s.filling
	switch m.kind {
	case Parse:
		name, rest := cString(m.body())
		s.statements[name], _ = cString(rest)
	case Bind:
		_, rest := cString(m.body()) // the portal
		name, _ := cString(rest)
		s.name(e, s.statements[name])
	case Query:
		sql, _ := cString(m.body())
		s.name(e, sql)
		s.filling = nil
	case Sync:
		s.filling = nil
	}
	return e
}

func (s *session) name(e *exchange, sql string) {
	if kind := s.classify(sql, s.tx); kind != "" {
		e.kind = kind
	}
	s.tx.Seen[e.kind] = true
	s.ran[e.kind] = true
}

// hasRun tells whether a statement of that kind was ever sent.
func (s *session) hasRun(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ran[kind]
}

// answered takes note of a server's message and says which exchange it belongs to; nil for one that was not asked for.
func (s *session) answered(m message) *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return nil
	}
	e := s.waiting[0]
	if m.kind == ReadyForQuery {
		s.waiting = s.waiting[1:]
		if body := m.body(); len(body) == 1 {
			s.tx.Open = body[0] != 'I'
		}
		if !s.tx.Open {
			s.tx.Seen = map[string]bool{}
		}
	}
	return e
}
