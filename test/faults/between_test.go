package faults

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/pgproxy"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// pair is two processes of one vault: one behind a proxy that breaks its connections, and one that goes on changing things.
type pair struct {
	*vaulttest.Vault
	proxy *pgproxy.Proxy
	other *vaulttest.Vault
	n     int
}

func newPair(t *testing.T) *pair {
	t.Helper()
	proxy := pgproxy.New(t, vaulttest.Classify)
	v := vaulttest.New(t, vaulttest.Config{Proxy: proxy, Options: hasty})
	return &pair{Vault: v, proxy: proxy, other: v.Another(t, vaulttest.Config{Options: hasty})}
}

func (p *pair) create(t *testing.T, name, value string) {
	t.Helper()
	p.other.Do(t, http.MethodPost, "/v1/secrets", map[string]any{"name": name, "kind": "manual", "value": value}).Want(t, http.StatusCreated)
}

// serves waits until the process answers, and fails the test if anything but a refusal comes before the value.
func (p *pair) serves(t *testing.T, name, value string) {
	t.Helper()
	vaulttest.Eventually(t, "the process serves "+name, func() bool { return p.fresh(t, name, value) })
}

// fresh reads, and fails the test if what comes is neither the value nor a refusal.
func (p *pair) fresh(t *testing.T, name, value string) bool {
	t.Helper()
	p.n++
	id := fmt.Sprintf("fresh-%d-%d", p.n, len(value))
	switch a := p.Do(t, http.MethodGet, "/v1/secrets/"+name, nil, sealkeeptest.WithHeader("X-Request-Id", id)); {
	case a.Status == http.StatusServiceUnavailable:
		return false
	case a.Status != http.StatusOK || a.Text("value") != value:
		t.Fatalf("%s was answered with %d %s, and holds %q", name, a.Status, a.Body, value)
	}
	records := p.Audit(t, id)
	if len(records) == 0 || records[len(records)-1].Outcome != "ok" {
		t.Errorf("I2: request %s was answered, and its records are %v", id, records)
	}
	return true
}

// questions are all that discloses.
func questions(name, etag, value string) map[string]func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response {
	path := "/v1/secrets/" + name
	return map[string]func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response{
		"read": func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response {
			return v.Do(t, http.MethodGet, path, nil)
		},
		"read of a version": func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response {
			return v.Do(t, http.MethodGet, path+"?version=1", nil)
		},
		"conditional read": func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response {
			return v.Do(t, http.MethodGet, path, nil, sealkeeptest.WithHeader("If-None-Match", etag))
		},
		"verify": func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response {
			return v.Do(t, http.MethodPost, path+"/verify", map[string]any{"value": value})
		},
		"batch": func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response {
			return v.Do(t, http.MethodPost, "/v1/batch/secrets", map[string]any{"names": []string{name}})
		},
		"read of what isn't there": func(v *vaulttest.Vault, t *testing.T) *sealkeeptest.Response {
			return v.Do(t, http.MethodGet, path+"-not", nil)
		},
	}
}

// TestI2_NothingIsServedUntilRoundsRunAgain takes the connection of the audit rounds away and lets none succeed, while all
// else of the database is there. Meanwhile what was served before is changed.
func TestI2_NothingIsServedUntilRoundsRunAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for i, c := range []struct {
		how    string
		change func(t *testing.T, name string) (now string)
	}{
		{"another process", func(t *testing.T, name string) string {
			p.other.Do(t, http.MethodPut, "/v1/secrets/"+name, map[string]any{"value": "changed elsewhere"}).Want(t, http.StatusOK)
			return "changed elsewhere"
		}},
		{"another process, which makes it anew", func(t *testing.T, name string) string {
			p.other.Do(t, http.MethodDelete, "/v1/secrets/"+name, nil).Want(t, http.StatusNoContent)
			p.create(t, name, "made anew")
			return "made anew"
		}},
		{"the superuser, who puts an old row back", func(t *testing.T, name string) string {
			p.Made(t, fmt.Sprintf(`
				WITH gone AS (DELETE FROM vault.secret_versions v USING vault.secrets s WHERE s.id = v.secret_id AND s.name = '%[1]s' AND v.version = 2 RETURNING v.secret_id)
				UPDATE vault.secrets SET current_version = 1 FROM gone WHERE id = secret_id;
				UPDATE vault.secret_versions v SET state = 'current', expires_at = NULL FROM vault.secrets s WHERE s.id = v.secret_id AND s.name = '%[1]s'`, name))
			return "first"
		}},
		{"nobody", func(*testing.T, string) string { return "second" }},
	} {
		t.Run("changed by "+c.how, func(t *testing.T) {
			name := fmt.Sprintf("cut/%d", i)
			p.create(t, name, "first")
			etag := p.other.Do(t, http.MethodPut, "/v1/secrets/"+name, map[string]any{"value": "second"}).Want(t, http.StatusOK).Header.Get("ETag")
			for range 3 {
				p.serves(t, name, "second")
			}

			none := p.proxy.Inject(pgproxy.Fault{Kind: kindRound, Side: pgproxy.Client, Action: pgproxy.CutBefore, Times: -1})
			defer none.Withdraw()
			if p.proxy.CutThose(kindRound) == 0 {
				t.Fatal("there is no connection for audit rounds")
			}
			now := c.change(t, name)
			for range 4 {
				for what, ask := range questions(name, etag, now) {
					a := ask(p.Vault, t)
					if a.Status != http.StatusServiceUnavailable || a.Header.Get("ETag") != "" || strings.Contains(string(a.Body), now) {
						t.Errorf("I2: without audit rounds %s was answered %d %s", what, a.Status, a.Body)
					}
				}
			}
			none.Withdraw()
			p.serves(t, name, now)
			for what, ask := range questions(name, etag, now) {
				vaulttest.Eventually(t, what+" is answered", func() bool { return ask(p.Vault, t).Status != http.StatusServiceUnavailable })
			}
		})
	}
	p.VerifyClean(t)
}

// TestI2_CutsBetweenRounds ends the connection of the audit rounds just when one has been answered and before the next is
// sent, again and again, and changes the value in that gap.
func TestI2_CutsBetweenRounds(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	const name = "gap"
	value := "first"
	p.create(t, name, value)
	served := 0
	for i := range 25 {
		p.serves(t, name, value)
		cut := p.proxy.Inject(pgproxy.Fault{Kind: kindRound, Side: pgproxy.Server, Message: pgproxy.ReadyForQuery, Action: pgproxy.CutAfter})
		if p.fresh(t, name, value) {
			served++
		}
		<-cut.Struck() // by that read, or by a heartbeat
		value = fmt.Sprintf("value %d", i)
		p.other.Do(t, http.MethodPut, "/v1/secrets/"+name, map[string]any{"value": value}).Want(t, http.StatusOK)
		p.fresh(t, name, value)
		cut.Withdraw()
	}
	p.serves(t, name, value)
	t.Logf("%d reads were answered just before their connection was cut", served)
	p.VerifyClean(t)
}

// TestLookupsCutInTheMiddle asks for many secrets at once that the process has never seen, and cuts the connection on which
// their rows arrive.
func TestLookupsCutInTheMiddle(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	const rounds, each = 6, 16
	refused := 0
	for round := range rounds {
		names := make([]string, each)
		for i := range names {
			names[i] = fmt.Sprintf("cold/%d/%d", round, i)
			p.create(t, names[i], "the value of "+names[i])
		}
		within := []pgproxy.Action{pgproxy.CutBefore, pgproxy.CutWithin, pgproxy.CutAfter}[round%3]
		cut := p.proxy.Inject(pgproxy.Fault{Kind: kindLookup, Side: pgproxy.Server, Message: pgproxy.DataRow, Action: within, Times: 2})
		answers, errs := make([]*sealkeeptest.Response, each+1), make([]error, each+1)
		var crowd sync.WaitGroup
		for i, name := range names {
			crowd.Go(func() { answers[i], errs[i] = p.Try(t, http.MethodGet, "/v1/secrets/"+name, nil) })
		}
		crowd.Go(func() {
			answers[each], errs[each] = p.Try(t, http.MethodPost, "/v1/batch/secrets", map[string]any{"names": names})
		})
		crowd.Wait()
		<-cut.Struck()
		cut.Withdraw()
		for i, a := range answers {
			switch {
			case errs[i] != nil:
				t.Errorf("no answer at all: %v", errs[i])
			case a.Status == http.StatusServiceUnavailable:
				refused++
			case a.Status != http.StatusOK || i < each && a.Text("value") != "the value of "+names[i]:
				t.Errorf("answered %d %s", a.Status, a.Body)
			case i == each:
				checkBatch(t, a, names)
			}
		}
		for _, name := range names {
			p.serves(t, name, "the value of "+name)
		}
	}
	if refused == 0 {
		t.Log("every lookup that was cut was made again")
	}
	if n := len(pgtest.Query[int64](t, p.DB, "SELECT 1 FROM vault.audit_log WHERE outcome = 'unverifiable'")); n != 0 {
		t.Errorf("rows that didn't arrive were taken for damaged, %d times", n)
	}
	p.VerifyClean(t)
}

func checkBatch(t *testing.T, a *sealkeeptest.Response, names []string) {
	t.Helper()
	var items []struct{ Name, Value string }
	a.Decode(t, &items)
	if len(items) != len(names) {
		t.Errorf("a batch of %d was answered with %d: missing rows were taken for missing secrets", len(names), len(items))
	}
	for _, item := range items {
		if item.Value != "the value of "+item.Name {
			t.Errorf("%s came with %q", item.Name, item.Value)
		}
	}
}
