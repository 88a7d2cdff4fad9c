package tamper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// asked is a request with a token.
type asked struct{ method, path, body, token string }

func (a asked) String() string { return a.method + " " + a.path }

// world is a vault with something of everything, what it answers, and copies of its tables as they are and as they were.
type world struct {
	*vaulttest.Vault
	stray     access.Fingerprint // of a well-formed token that was never issued
	questions []asked
	answers   []string
	held      int // cells
	changes   int // of forged secrets that were tried
	report    strings.Builder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Vault: vaulttest.New(t, vaulttest.Config{Options: []sealkeeptest.Option{sealkeeptest.WithReadAuth("ip+token")}})}
	issue := func(name string, life any) string {
		return w.Do(t, "POST", "/v1/tokens", object{"name": name, "role": "reader", "expires_in_secs": life}).Want(t, http.StatusCreated).Text("token")
	}
	secret := func(name string, more object) {
		body := object{"name": name, "kind": "manual", "value": "the first of " + name, "grace_period_secs": 7200}
		for k, v := range more {
			body[k] = v
		}
		w.Do(t, "POST", "/v1/secrets", body).Want(t, http.StatusCreated)
	}
	w.Do(t, "POST", "/v1/roles", object{"name": "reader", "permissions": []object{{"action": "delete", "path": "a/*"}}}).Want(t, http.StatusCreated)
	reader, former := issue("reader", nil), issue("former", 86400)
	secret("a/one", object{"description": "described", "custom_metadata": object{"k": "v"}})
	secret("a/two", object{"kind": "automatic", "rotation_interval_secs": 86400, "password_policy": object{"length": 40}})
	secret("a/gone", nil)
	secret("a/long-gone", nil)
	w.Do(t, "POST", "/v1/secrets", object{"name": "b/x", "kind": "manual", "username": "b", "password": "x"}).Want(t, http.StatusCreated)
	w.Do(t, "DELETE", "/v1/secrets/a/long-gone", nil).Want(t, http.StatusNoContent)
	w.keep(t, "older")
	w.Do(t, "DELETE", "/v1/tokens/former", nil).Want(t, http.StatusNoContent)
	w.Do(t, "PUT", "/v1/roles/reader/permissions", object{"permissions": []object{{"action": "read", "path": "a/*"}, {"action": "rotate", "path": "b/x"}}}).Want(t, http.StatusOK)
	w.Do(t, "POST", "/v1/roles", object{"name": "later", "description": "x", "permissions": []object{{"action": "read", "path": "c"}}}).Want(t, http.StatusCreated)
	w.Do(t, "PUT", "/v1/secrets/a/one", object{"value": "the second of a/one"}).Want(t, http.StatusOK)
	w.Do(t, "POST", "/v1/secrets/a/two/rotate", nil).Want(t, http.StatusOK)
	w.Do(t, "PUT", "/v1/secrets/a/gone", object{"description": "soon gone"}).Want(t, http.StatusOK)
	w.Do(t, "DELETE", "/v1/secrets/a/gone", nil).Want(t, http.StatusNoContent)
	w.keep(t, "kept")

	text, fingerprint, err := access.NewToken(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(text.Release)
	w.stray = fingerprint
	stray := string(text.Reveal())
	const one = "/v1/secrets/a/one"
	w.questions = []asked{
		{"GET", one, "", reader},
		{"GET", one + "?version=1", "", reader},
		{"POST", one + "/verify", `{"value":"the first of a/one"}`, reader},
		{"GET", "/v1/secrets/a/two", "", reader},
		{"POST", "/v1/batch/secrets", `{"names":["a/one","a/two","a/gone","b/x"]}`, reader},
		{"GET", "/v1/secrets/a/gone", "", reader},
		{"GET", "/v1/secrets/a/stray", "", reader},
		{"GET", "/v1/secrets/b/x", "", reader},
		{"DELETE", one, "", reader},
		{"GET", one, "", former},
		{"GET", one, "", stray},
		{"GET", "/v1/roles", "", stray},
		{"GET", "/v1/roles", "", reader},
		{"GET", one + "/versions", "", w.AdminToken},
		{"GET", "/v1/secrets", "", w.AdminToken},
		{"GET", "/v1/roles", "", w.AdminToken},
		{"GET", "/v1/tokens", "", w.AdminToken},
	}
	for _, q := range w.questions {
		w.answers = append(w.answers, w.ask(t, w.URL, q))
	}
	for i, status := range []int{200, 200, 200, 200, 200, 404, 404, 403, 403, 401, 401, 401, 403, 200, 200, 200, 200} {
		if !strings.HasPrefix(w.answers[i], strconv.Itoa(status)) {
			t.Fatalf("%s answers %s", w.questions[i], w.answers[i])
		}
	}
	return w
}

// varying is what differs from answer to answer.
var varying = regexp.MustCompile(`"(request_id|last_used_at)":("[^"]*"|null),?`)

// ask gives the status and body of an answer.
func (w *world) ask(t *testing.T, url string, q asked) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), q.method, url+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+q.token)
	if q.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(answer.StatusCode, " ", varying.ReplaceAllString(string(body), ""))
}

// alarms counts a process's alarms so far.
func (w *world) alarms(t *testing.T, url string) (total float64) {
	t.Helper()
	for line := range strings.Lines(w.ask(t, url, asked{method: "GET"})) {
		if strings.HasPrefix(line, "sealkeep_vault_integrity_failures_total{") {
			n, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
	}
	return total
}

func (w *world) keep(t *testing.T, as string) {
	t.Helper()
	for _, table := range authority {
		w.DB.Exec(t, fmt.Sprintf("CREATE TABLE public.%s_%s AS SELECT * FROM vault.%[2]s", as, table))
	}
}

// tamper runs SQL as the superuser with foreign keys and triggers out of the way. It says why if PostgreSQL refuses even so.
func (w *world) tamper(t *testing.T, sql string) (refused string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := w.DB.Super(t).Exec(ctx, "BEGIN; SET LOCAL session_replication_role = replica; "+sql+"; COMMIT")
	if err == nil {
		return ""
	}
	var known *pgconn.PgError
	if !errors.As(err, &known) || !strings.HasPrefix(known.Code, "23") {
		t.Fatalf("%s: %v", sql, err)
	}
	if _, err := w.DB.Super(t).Exec(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	return known.Message
}

func (w *world) putBack(t *testing.T) {
	t.Helper()
	var sql []string
	for _, table := range authority {
		sql = append(sql, fmt.Sprintf("DELETE FROM vault.%[1]s; INSERT INTO vault.%[1]s SELECT * FROM public.kept_%[1]s", table))
	}
	if refused := w.tamper(t, strings.Join(sql, "; ")); refused != "" {
		t.Fatal(refused)
	}
}

// starting starts a process on the database as it is, lets use look at it, and stops it. One that refuses to start says so.
func (w *world) starting(t *testing.T, use func(url, metrics string) string) string {
	t.Helper()
	cfg, err := boot.LoadAPI(map[string]string{
		"VAULT_API_LISTEN": "127.0.0.1:0", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0", "VAULT_ALLOWED_IPS": "127.0.0.0/8", "VAULT_READ_AUTH": "ip+token",
		"VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": w.MasterKey, "VAULT_PG_MAX_CONNS": "4", "VAULT_DRAIN_SECS": "10",
		"VAULT_DATABASE_URL": w.DB.URL("sealkeep_api"),
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := boot.NewAPI(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "refuses to start"
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the process stopped with errors: %v", err)
		}
	}()
	vaulttest.Eventually(t, "the process is ready", func() bool { return p.Vault().Ready(ctx) == nil })
	return use("http://"+p.Addr().String(), "http://"+p.TelemetryAddr().String()+"/metrics")
}
