// Package webhooks rotates with receivers of webhooks from end to end: a vault that serves, a rotator beside it, and a receiver over TLS that
// does what docs/webhooks.md asks and fetches over HTTP what it is told of.
//
// Invariants:
//   - I1: what is on the way to a receiver is not in an event unless the target says so.
//   - I2: each fetch that was answered has its record.
//   - I7: each attempt has a generation of its own, newer than any before it.
package webhooks

import (
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type object = map[string]any

const (
	signing = "hooks/key"
	key     = "the first key, of more than thirty-two bytes"
)

// world is a vault with a signing secret.
type world struct {
	*sealkeeptest.Vault
	t *testing.T
}

func newWorld(t *testing.T) *world {
	w := &world{sealkeeptest.New(t), t}
	w.do(http.StatusCreated, http.MethodPost, "/v1/secrets", object{"name": signing, "kind": "manual", "value": key})
	return w
}

// rotator starts one that may reach receivers on this machine, and says where to fetch.
func (w *world) rotator() *sealkeeptest.Rotator {
	return w.StartRotator(w.t, "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS=127.0.0.0/8", "VAULT_PUBLIC_URL="+w.URL)
}

func (w *world) do(status int, method, path string, body any) *sealkeeptest.Response {
	w.t.Helper()
	return w.Do(w.t, method, path, body).Want(w.t, status)
}

// with returns the world for a subtest.
func (w *world) with(t *testing.T) *world { return &world{w.Vault, t} }

// create makes a secret that is rotated at once, with the receiver as its target.
func (w *world) create(name string, r *receiver, changes object) {
	w.t.Helper()
	target := object{"type": "webhook", "url": r.url, "ca": r.ca, "signing_secret": signing}
	body := object{"name": name, "kind": "automatic", "rotation_interval_secs": 86400, "rotate_on_create": true, "target": target}
	for field, value := range changes {
		if field == "send_value" {
			target[field] = value
			continue
		}
		body[field] = value
	}
	w.do(http.StatusCreated, http.MethodPost, "/v1/secrets", body)
}

// hurry has jobs run now that wait for another attempt, as time would.
func (w *world) hurry() {
	w.t.Helper()
	w.DB.Exec(w.t, "UPDATE vault.rotation_jobs SET run_at = now() WHERE run_at > now() AND completed_at IS NULL AND dead_at IS NULL AND claim_id IS NULL")
	w.DB.Exec(w.t, "SELECT pg_notify('vault_rotation', '')")
}

type secretAnswer struct {
	material
	Version int64 `json:"version"`
}

// becomes waits until that is the current version, and gives what the vault then answers.
func (w *world) becomes(name string, version int64) (s secretAnswer) {
	w.t.Helper()
	vaulttest.Eventually(w.t, name+" is rotated", func() bool {
		w.hurry()
		if dead := pgtest.Query[string](w.t, w.DB, "SELECT class || ': ' || error FROM vault.rotation_jobs WHERE dead_at IS NOT NULL"); len(dead) > 0 {
			w.t.Fatalf("a job is dead: %s", dead)
		}
		return pgtest.Query[int64](w.t, w.DB, "SELECT current_version FROM vault.secrets WHERE name = $1", name)[0] >= version
	})
	w.do(http.StatusOK, http.MethodGet, "/v1/secrets/"+name, nil).Decode(w.t, &s)
	if s.Version != version {
		w.t.Errorf("version %d became the current one, want %d", s.Version, version)
	}
	return s
}

// rotate has a secret rotated and waits for it.
func (w *world) rotate(name string) {
	w.t.Helper()
	if job := w.do(http.StatusOK, http.MethodPost, "/v1/secrets/"+name+"/rotate?wait=60", nil); job.Text("outcome") != "rotated" {
		w.t.Fatalf("the job: %s", job.Body)
	}
}

// failures gives the classes of the failures that were recorded.
func (w *world) failures(name string) []string {
	w.t.Helper()
	return pgtest.Query[string](w.t, w.DB, "SELECT outcome FROM vault.audit_log WHERE action = 'rotation.fail' AND secret_name = $1 ORDER BY stream_id, seq", name)
}

// dead waits until the secret's job is dead, and gives it.
func (w *world) dead(name string) object {
	w.t.Helper()
	var jobs struct{ Items []object }
	vaulttest.Eventually(w.t, "the job is dead", func() bool {
		w.do(http.StatusOK, http.MethodGet, "/v1/secrets/"+name+"/jobs?state=dead", nil).Decode(w.t, &jobs)
		return len(jobs.Items) == 1
	})
	return jobs.Items[0]
}
