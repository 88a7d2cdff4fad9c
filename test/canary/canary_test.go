// Package canary proves I1: whatever a vault is asked, and whatever becomes of it, no plaintext and no key is found
// afterwards in its database, in the files and the WAL that PostgreSQL wrote, in a log, a metric or an error.
//
// Everything that a vault is given, and everything that it makes up, is remembered as a canary: values, user names,
// passwords, attempts at verify, tokens, DEKs, integrity roots and the master key. Then all that stayed behind is searched
// for them. Every search is held against canaries that were planted where they would be, so that finding none means
// something.
package canary

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) {
	kmstest.Serve()
	pgtest.Main(m)
}

// talkative makes PostgreSQL write down all that it is told, and keep its WAL.
var talkative = map[string]string{
	"log_statement":                     "all",
	"log_parameter_max_length":          "-1",
	"log_parameter_max_length_on_error": "-1",
	"log_min_messages":                  "debug1",
	"log_error_verbosity":               "verbose",
	"log_min_error_statement":           "debug1",
	"wal_keep_size":                     "4GB",
}

// unreachable are documented answers that nothing in this release leads to, or nothing that can be asked for.
var unreachable = map[string][]int{
	"deleteSecret":       {http.StatusConflict}, // while a rotation is applied
	"setRolePermissions": {http.StatusConflict},
	"listSecrets":        {http.StatusForbidden}, // any token may list what it may act on
	"listJobs":           {http.StatusForbidden}, // likewise
	"readJob":            {http.StatusForbidden}, // one that may not be seen is as good as none
	"health":             {http.StatusInternalServerError},
	"ready":              {http.StatusInternalServerError},
}

func TestI1_NoPlaintextAndNoKeyStaysAnywhere(t *testing.T) {
	t.Parallel()
	t.Run("with the keys of the environment", func(t *testing.T) {
		t.Parallel()
		nothingStays(t, nil)
	})
	t.Run("with AWS KMS", func(t *testing.T) {
		t.Parallel()
		server := kmstest.Start(t)
		nothingStays(t, server.Environ(server.CreateKey(t, kmsd.CreateKey{})))
	})
}

func nothingStays(t *testing.T, kms map[string]string) {
	server := pgtest.NewServer(t, talkative)
	v := vaulttest.New(t, vaulttest.Config{Database: server.Database, KMS: kms, Options: []sealkeeptest.Option{
		sealkeeptest.WithReadAuth("ip+token"), sealkeeptest.WithAllowedIPs(listed), sealkeeptest.WithTrustProxy("127.0.0.0/8"),
		sealkeeptest.WithUncleanStop(), // its database goes away meanwhile
	}})
	w := &walk{t: t, v: v, needles: newNeedles()}
	w.learn("first token", v.AdminToken)
	w.learn("master key", strings.TrimSpace(v.MasterKey))
	w.needles.add("master key", v.Master(t))
	documented := documentedStatuses(t)

	w.must("createRole", request{http.MethodPost, "/v1/roles", object{"name": "weak", "permissions": []object{{"action": "read", "path": "elsewhere/*"}}}})
	w.weak = w.must("createToken", request{http.MethodPost, "/v1/tokens", object{"name": "weak", "role": "weak"}}).Text("token")
	p := w.plantEarly(server.Database)
	w.shapes()
	for _, o := range operations() {
		w.must(o.id, o.valid(w))
	}
	w.rollsBack()
	w.refusals(documented)
	w.failures(server, documented)
	w.learnKeys()
	w.plant(p, server.Database)
	metrics := scrape(t, v.MetricsURL)
	v.Stop(t)
	v.DB.Exec(t, "CHECKPOINT")
	t.Logf("%d answers, %d pieces of canaries", len(w.answers), len(w.needles.chunks))

	t.Run("every documented answer was given", func(t *testing.T) { w.covers(t, documented) })
	t.Run("no answer that discloses nothing holds any", w.answersHoldNone)
	t.Run("no row of any table holds any", func(t *testing.T) { w.rowsHoldNone(t, p) })
	t.Run("no file of PostgreSQL holds any, nor its WAL and log", func(t *testing.T) { w.filesHoldNone(t, server, p) })
	t.Run("the log at level debug holds none", w.logHoldsNone)
	t.Run("the metrics hold none", func(t *testing.T) { w.metricsHoldNone(t, metrics) })
}

// plants are canaries that are put where they are to be found: of each form, in which column of scratch.planted.
type plants map[string]string

func (w *walk) add(form string) []byte {
	content := []byte(rand.Text() + rand.Text())
	w.needles.add(planted+form, content)
	return content
}

// plantEarly plants what is found only if nothing was lost since.
func (w *walk) plantEarly(d *pgtest.Database) plants {
	w.t.Helper()
	d.Exec(w.t, `CREATE SCHEMA scratch; CREATE TABLE scratch.planted (form text, t text, b bytea, j jsonb, a text[])`)
	d.Exec(w.t, "INSERT INTO scratch.planted (form, t) VALUES ($1, $2)", "early", string(w.add("early")))
	return plants{"early": "t"}
}

// plant writes canaries to the database by hand, and has the vault itself write one to its log and an error body.
func (w *walk) plant(p plants, d *pgtest.Database) {
	w.t.Helper()
	for form, row := range map[string]func(content []byte) (string, any){
		"raw":    func(c []byte) (string, any) { return "t", string(c) },
		"base64": func(c []byte) (string, any) { return "t", base64.StdEncoding.EncodeToString(append([]byte("x"), c...)) },
		"base64url": func(c []byte) (string, any) {
			return "t", base64.RawURLEncoding.EncodeToString(append([]byte("xy"), c...))
		},
		"hex":   func(c []byte) (string, any) { return "t", hex.EncodeToString(c) },
		"bytea": func(c []byte) (string, any) { return "b", c },
		"json":  func(c []byte) (string, any) { return "j", fmt.Sprintf(`{"a": [%q]}`, c) },
		"array": func(c []byte) (string, any) { return "a", []string{"", string(c)} },
	} {
		column, content := row(w.add(form))
		d.Exec(w.t, fmt.Sprintf("INSERT INTO scratch.planted (form, %s) VALUES ($1, $2)", column), form, content)
		p[form] = column
	}
	// What is stored of plaintext: where its ciphertext is, it would be.
	s := w.v.Stored(w.t, opaque)
	w.needles.add(planted+"ciphertext", s[len(s)-1].Ciphertext)
	fingerprint := sha256.Sum256([]byte(w.weak))
	w.needles.add(planted+"fingerprint", fingerprint[:])
	w.send(operationByID(w.t, "readSecret"), get("/v1/secrets/canary/missing")(w), sealkeeptest.WithHeader("X-Request-Id", string(w.add("request id"))))
}

// covers fails the test if a documented answer was never given, so that the walk stays whole.
func (w *walk) covers(t *testing.T, documented map[string][]int) {
	seen := map[string][]int{}
	for _, a := range w.answers {
		seen[a.operation] = append(seen[a.operation], a.status)
	}
	if len(documented) < 20 || len(operations()) != len(documented) {
		t.Errorf("%d operations are documented, and %d are exercised", len(documented), len(operations()))
	}
	for id, statuses := range documented {
		for _, status := range statuses {
			given, excused := slices.Contains(seen[id], status), slices.Contains(unreachable[id], status)
			if given == excused && status != http.StatusTooManyRequests { // which this release never says
				t.Errorf("%s: %d was given: %v; listed as unreachable: %v", id, status, given, excused)
			}
		}
	}
}

func (w *walk) answersHoldNone(t *testing.T) {
	errors, disclosing := 0, 0
	found := finds{}
	for _, a := range w.answers {
		what := w.needles.find(a.text)
		if a.discloses {
			if disclosing++; len(what) == 0 && a.status == http.StatusOK {
				t.Errorf("%s discloses nothing: the search would find nothing in others either", a.operation)
			}
			continue
		}
		if a.status >= http.StatusBadRequest {
			errors++
		}
		found.add(fmt.Sprintf("an answer of %s with %d", a.operation, a.status), what)
	}
	found.none(t)
	if !found.in("request id", "an answer of readSecret with 404") {
		t.Error("what was planted in an error is not found")
	}
	t.Logf("%d answers disclose; %d others, %d of them errors, hold nothing", disclosing, len(w.answers)-disclosing, errors)
}

func (w *walk) rowsHoldNone(t *testing.T, p plants) {
	found, rows := searchRows(t, w.v.DB, w.needles)
	found.none(t)
	for form := range p {
		if !found.in(form, "scratch.planted") {
			t.Errorf("what was planted as %s is not found", form)
		}
	}
	for what, where := range map[string]string{
		"ciphertext": "vault.secret_versions", "fingerprint": "vault.admin_tokens", "request id": "vault.audit_log",
	} {
		if !found.in(what, where) {
			t.Errorf("the %s is not found in %s", what, where)
		}
	}
	for _, table := range []string{"secrets", "secret_versions", "admin_tokens", "roles", "keyring", "audit_streams", "audit_log", "token_uses"} {
		if rows["vault."+table] == 0 {
			t.Errorf("vault.%s is empty, or wasn't searched", table)
		}
	}
	t.Logf("searched: %v", rows)
}

func (w *walk) filesHoldNone(t *testing.T, server *pgtest.Server, p plants) {
	found, size := searchFiles(t, server.Postgres.DataDir(), w.needles)
	log, err := os.ReadFile(server.Postgres.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	found.add("log", w.needles.find(log))
	found.none(t)
	for form := range p {
		for _, where := range []string{"base/", "pg_wal/", "log"} {
			if !found.in(form, where) {
				t.Errorf("what was planted as %s is not found in %s", form, where)
			}
		}
	}
	for _, what := range []string{"ciphertext", "fingerprint", "request id"} {
		for _, where := range []string{"base/", "pg_wal/", "log"} {
			if !found.in(what, where) {
				t.Errorf("the %s is not found in %s", what, where)
			}
		}
	}
	t.Logf("searched %d MiB of tables, %d MiB of WAL, %d MiB of log", size["base"]>>20, size["pg_wal"]>>20, len(log)>>20)
}

func (w *walk) logHoldsNone(t *testing.T) {
	log := w.v.Log.String()
	found := finds{}
	for line := range strings.Lines(log) {
		found.add(strings.TrimSpace(line), w.needles.find([]byte(line)))
	}
	found.none(t)
	if !found.in("request id", "{") {
		t.Error("what was planted in the log is not found")
	}
	for _, what := range []string{`"level":"DEBUG"`, `"level":"ERROR"`, "integrity alarm", "refused: "} {
		if !strings.Contains(log, what) {
			t.Errorf("the log holds no %s: it is not the log that was meant", what)
		}
	}
	t.Logf("searched %d KiB", len(log)>>10)
}

func (w *walk) metricsHoldNone(t *testing.T, metrics []byte) {
	w.needles.addWord(planted+"name", "sealkeep_vault_operations_total")
	found := finds{}
	found.add("/metrics", w.needles.find(metrics))
	found.none(t)
	if !found.in("name", "/metrics") || !bytes.Contains(metrics, []byte(`action="secret.verify"`)) {
		t.Error("these are not the vault's metrics")
	}
	for _, none := range []string{"sealkeep_dek_cache_entries 0", `sealkeep_dek_cache_lookups_total{result="hit"} 0`} {
		if bytes.Contains(metrics, []byte("\n"+none+"\n")) || !bytes.Contains(metrics, []byte("\n"+none[:len(none)-1])) {
			t.Errorf("%s: no DEK that was cached is among what is searched for", none)
		}
	}
}

func scrape(t *testing.T, url string) []byte {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
