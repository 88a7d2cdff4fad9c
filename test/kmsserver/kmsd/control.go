package kmsd

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"time"
)

// Fault is what the server does to every call, until it is told otherwise.
type Fault struct {
	Throttle  *float64 `json:"throttle,omitempty"`  // calls a second that are taken; the others are throttled
	Stall     bool     `json:"stall,omitempty"`     // take calls and say nothing
	Drop      bool     `json:"drop,omitempty"`      // cut their connections
	Fail      bool     `json:"fail,omitempty"`      // 500, as KMS names it
	Anonymous bool     `json:"anonymous,omitempty"` // 503 with a page, as a broken proxy has it
	Lie       bool     `json:"lie,omitempty"`       // answer, and name another key
}

func (s *server) count(operation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[operation]++
}

// misbehave does what the server was told to do instead of answering, if anything.
func (s *server) misbehave(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	fault, changed := s.fault, s.changed
	throttled := fault.Throttle != nil && !s.take(*fault.Throttle)
	s.mu.Unlock()
	switch {
	case fault.Stall:
		select {
		case <-changed: // what came before it was told to go on is lost
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case fault.Drop:
		panic(http.ErrAbortHandler)
	case fault.Fail:
		fail(w, http.StatusInternalServerError, &apiError{"KMSInternalException", "The request was rejected because an internal exception occurred."})
	case fault.Anonymous:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "<html>no upstream</html>")
	case throttled:
		fail(w, http.StatusBadRequest, &apiError{"ThrottlingException", "Rate exceeded"})
	default:
		return false
	}
	return true
}

// take takes a token from a bucket that holds those of a second. The server is locked.
func (s *server) take(rate float64) bool {
	now := time.Now()
	s.tokens = min(max(rate, 0), s.tokens+rate*now.Sub(s.filled).Seconds())
	s.filled = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

// Change names a key and what to do to it.
type Change struct {
	ARN    string `json:"arn"`
	State  string `json:"state,omitempty"`
	Action string `json:"action,omitempty"` // to deny, or to allow again
	Allow  bool   `json:"allow,omitempty"`
	Alias  string `json:"alias,omitempty"` // to point at the key
	Region string `json:"region,omitempty"`
	// AgoSecs is how long ago a rotation is said to have been.
	AgoSecs int64 `json:"ago_secs,omitempty"`
}

// controls are the commands: JSON in, JSON out.
func (s *server) controls() http.Handler {
	mux := http.NewServeMux()
	handle(mux, "create", func(c CreateKey) (any, error) {
		arn, err := s.store.create(c)
		return Change{ARN: arn}, err
	})
	handle(mux, "replicate", func(c Change) (any, error) {
		var made *replica
		err := s.store.change(c.ARN, func(r *replica, _ *material) error {
			made = &replica{ID: r.ID, Region: c.Region, State: Enabled, Denied: map[string]bool{}}
			s.store.Replicas[made.arn()] = made
			return nil
		})
		if err != nil {
			return nil, err
		}
		return Change{ARN: made.arn()}, nil
	})
	handle(mux, "alias", func(c Change) (any, error) {
		return nil, s.store.change(c.ARN, func(r *replica, _ *material) error {
			s.store.Aliases[r.Region+"/"+c.Alias] = r.ID
			return nil
		})
	})
	handle(mux, "state", func(c Change) (any, error) {
		return nil, s.store.change(c.ARN, func(r *replica, _ *material) error { r.State = c.State; return nil })
	})
	handle(mux, "permit", func(c Change) (any, error) {
		return nil, s.store.change(c.ARN, func(r *replica, _ *material) error { r.Denied[c.Action] = !c.Allow; return nil })
	})
	handle(mux, "rotate", func(c Change) (any, error) {
		return nil, s.store.change(c.ARN, func(_ *replica, m *material) error {
			m.Backing, m.Rotations = append(m.Backing, newBacking()), append(m.Rotations, time.Now().Add(-time.Duration(c.AgoSecs)*time.Second))
			return nil
		})
	})
	handle(mux, "fault", func(f Fault) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.changed)
		s.fault, s.changed, s.tokens, s.filled = f, make(chan struct{}), 0, time.Now()
		return nil, nil
	})
	handle(mux, "calls", func(struct{}) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return maps.Clone(s.calls), nil
	})
	handle(mux, "die", func(struct{}) (any, error) {
		os.Exit(137)
		return nil, nil
	})
	return mux
}

func handle[In any](mux *http.ServeMux, name string, do func(In) (any, error)) {
	mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
		var in In
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := do(in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
}
