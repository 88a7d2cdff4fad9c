package rotation

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/test/targetpg"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// credential is what an application fetched last.
type credential struct {
	username, password string
	version            int64
}

// fetch asks for a secret as an application does.
func fetch(t *testing.T, v *vaulttest.Vault, name string) (credential, error) {
	answer, err := v.Try(t, http.MethodGet, "/v1/secrets/"+name, nil)
	if err != nil {
		return credential{}, err
	}
	if answer.Status != http.StatusOK {
		return credential{}, fmt.Errorf("status %d: %s", answer.Status, answer.Body)
	}
	return credential{answer.Text("username"), answer.Text("password"), int64(answer.Number("version"))}, nil
}

// applications log in with what they fetched last, again and again, and fetch again when they are refused.
type applications struct {
	t      *testing.T
	vault  *vaulttest.Vault
	target *targetpg.Server
	ctx    context.Context //nolint:containedctx // of all applications
	cancel context.CancelFunc
	crowd  sync.WaitGroup

	mu                    sync.Mutex
	logins, refused, most int
	held                  map[string]credential
}

// Tries are bounded, and so far apart that a rotator which died between the target and the vault has been replaced long before the last.
const (
	maxTries = 900
	again    = 100 * time.Millisecond
)

// startApplications has a few share the targeted secrets. Each has fetched all of its own when this returns.
func startApplications(t *testing.T, v *vaulttest.Vault, target *targetpg.Server, secrets []targeted, few int) *applications {
	t.Helper()
	a := &applications{t: t, vault: v, target: target, held: map[string]credential{}}
	a.ctx, a.cancel = context.WithCancel(context.WithoutCancel(t.Context()))
	for _, s := range secrets {
		var err error
		if a.held[s.name], err = fetch(t, v, s.name); err != nil {
			t.Fatal(err)
		}
	}
	for i := range few {
		a.crowd.Go(func() {
			for n := i; a.pause(again); n = (n + few) % len(secrets) {
				a.visit(secrets[n])
			}
		})
	}
	t.Cleanup(a.end)
	return a
}

func (a *applications) pause(d time.Duration) bool {
	select {
	case <-a.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (a *applications) end() {
	a.cancel()
	a.crowd.Wait()
}

// visit logs in once, and after a refusal goes on until a fresh credential works. With two roles nobody is ever refused: the grace of what
// was handed out is longer than the test.
func (a *applications) visit(s targeted) {
	a.mu.Lock()
	c := a.held[s.name]
	a.mu.Unlock()
	err := a.target.Login(a.ctx, c.username, c.password)
	if a.ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	a.logins++
	a.mu.Unlock()
	if err == nil {
		return
	}
	if s.kind == alternating {
		a.t.Errorf("I9: %s, version %d: refused at the target: %v", s.name, c.version, err)
	}
	for tries := 1; a.pause(again); tries++ {
		fresh, failed := fetch(a.t, a.vault, s.name)
		if failed == nil {
			failed = a.target.Login(a.ctx, fresh.username, fresh.password)
		}
		if a.ctx.Err() != nil {
			return
		}
		if failed == nil {
			a.mu.Lock()
			a.refused++
			a.most = max(a.most, tries)
			a.held[s.name] = fresh
			a.mu.Unlock()
			return
		}
		if tries == maxTries {
			a.t.Errorf("%s: no fresh credential works: %v", s.name, failed)
			return
		}
	}
}

// look is what a target had, and which versions the vault kept at that time.
type look struct {
	name, role, verifier string
	versions             string
}

// looks watches targets from the outside until it is stopped.
type looks struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	seen   map[look]int
}

// startLooks begins to look. What the database can't be asked, while it is away, is no look.
func startLooks(t *testing.T, w *watch, secrets []targeted) *looks {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &looks{cancel: cancel, seen: map[look]int{}}
	l.done.Go(func() {
		defer w.close()
		for n := 0; ctx.Err() == nil; n++ {
			s := secrets[n%len(secrets)]
			for _, role := range s.roles {
				l.take(ctx, t, w, s, role)
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	t.Cleanup(l.end)
	return l
}

// take looks at the target between two looks at the vault. If these are the same, so was the vault when the target was looked at: states
// never come back.
func (l *looks) take(ctx context.Context, t *testing.T, w *watch, s targeted, role string) {
	before, err := w.versions(ctx, s.name)
	if err != nil {
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
		return
	}
	verifier := w.target.Verifier(t, role)
	if after, err := w.versions(ctx, s.name); err != nil || after != before {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[look{s.name, role, verifier, before}]++
}

func (l *looks) end() {
	l.cancel()
	l.done.Wait()
}
