package canary

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// refusals gets every operation refused in every way, always with canaries in what is refused.
func (w *walk) refusals(documented map[string][]int) {
	w.t.Helper()
	for _, o := range operations() {
		may := func(status int) bool { return slices.Contains(documented[o.id], status) }
		valid := o.valid(w)
		r := valid
		for _, form := range []string{`{"value":[%q]}`, `{"value":%q`, `%q`, `{"value":%q,"value":""}`, `{"value_base64":%q}`} {
			r.body = fmt.Sprintf(form, w.text("body that is refused")+"!")
			w.expect(http.StatusBadRequest, o.id, r)
		}
		if may(http.StatusRequestEntityTooLarge) {
			r.body = `{"value":"` + long(w.text("body that is too long"), 1<<20) + `"}`
			w.expect(http.StatusRequestEntityTooLarge, o.id, r)
		}
		if may(http.StatusUnsupportedMediaType) {
			r.body = w.text("body of another kind")
			w.expect(http.StatusUnsupportedMediaType, o.id, r, sealkeeptest.WithHeader("Content-Type", "text/plain"))
		}
		r = request{http.MethodPatch, valid.path, w.text("body for another method")}
		w.expect(http.StatusMethodNotAllowed, o.id, r)
		if may(http.StatusUnauthorized) {
			for _, token := range []string{"", w.token(), w.text("token that is none"), "svk_" + w.text("token that is none")} {
				w.expect(http.StatusUnauthorized, o.id, valid, sealkeeptest.WithToken(token))
			}
		}
		if may(http.StatusForbidden) && o.id != "listSecrets" && o.id != "listJobs" {
			forbidden := http.StatusForbidden
			if strings.HasSuffix(o.id, "Job") {
				forbidden = http.StatusNotFound // as if there were none
			}
			w.expect(forbidden, o.id, valid, sealkeeptest.WithToken(w.weak), from(foreign))
		}
		for status, fails := range map[int]func(*walk) request{
			http.StatusNotFound: o.missing, http.StatusConflict: o.conflicting, http.StatusPreconditionFailed: o.moved,
		} {
			if fails == nil {
				continue
			}
			var options []sealkeeptest.RequestOption
			if status == http.StatusPreconditionFailed {
				options = append(options, sealkeeptest.WithHeader("If-Match", `"1-00000000-0000-4000-8000-000000000000"`))
			}
			w.expect(status, o.id, fails(w), options...)
		}
	}
}

// failures makes the database fail under every operation.
func (w *walk) failures(server *pgtest.Server, documented map[string][]int) {
	w.t.Helper()
	during := func(status int, ids func(id string) bool, fail, mend func()) {
		w.t.Helper()
		valid := map[string]request{}
		for _, o := range operations() {
			if ids(o.id) && slices.Contains(documented[o.id], status) {
				valid[o.id] = o.valid(w)
			}
		}
		fail()
		for id, r := range valid {
			w.expect(status, id, r)
		}
		mend()
	}
	sql := func(text string) func() { return func() { w.v.DB.Exec(w.t, text) } }
	probe := func(id string) bool { return id == "health" || id == "ready" }

	const refuse = `
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused: %', NEW USING DETAIL = coalesce(OLD::text, '-'); END $$;`
	during(http.StatusInternalServerError, func(id string) bool {
		return slices.Contains([]string{"createSecret", "updateSecret", "deleteSecret", "rotateSecret", "createRole", "createToken"}, id)
	}, func() {
		sql(refuse)()
		for _, table := range []string{"secrets", "secret_versions", "roles", "admin_tokens"} {
			sql("CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON vault." + table + " FOR EACH ROW EXECUTE FUNCTION public.refuse()")()
		}
	}, sql("DROP FUNCTION public.refuse() CASCADE"))
	during(http.StatusInternalServerError, func(id string) bool {
		return slices.Contains([]string{"readSecret", "updateSecret", "rotateSecret", "verifySecret", "listVersions", "readBatch", "fetchValue"}, id)
	}, sql("ALTER TABLE vault.secret_versions RENAME COLUMN nonce TO other; UPDATE vault.secret_versions SET state = state"), // so that no kept row will do
		sql("ALTER TABLE vault.secret_versions RENAME COLUMN other TO nonce"))
	during(http.StatusInternalServerError, func(id string) bool { return !probe(id) && id != "fetchValue" }, // which asks for no grant
		sql("ALTER TABLE vault.admin_tokens RENAME COLUMN token_sha256 TO other; UPDATE vault.authz_state SET epoch = epoch + 1"), // nor any kept grant
		sql("ALTER TABLE vault.admin_tokens RENAME COLUMN other TO token_sha256; UPDATE vault.authz_state SET epoch = epoch - 1"))

	during(http.StatusInternalServerError, func(id string) bool { return id == "fetchValue" },
		sql("UPDATE vault.rotation_fetches SET expires_at = expires_at + interval '1 day'"), func() {})

	// Rows that were damaged, which only verify answers with 503.
	sql(`CREATE TABLE public.kept AS SELECT * FROM vault.secret_versions;
		UPDATE vault.secret_versions SET ciphertext = set_byte(ciphertext, 3, get_byte(ciphertext, 3) # 1)`)()
	w.expect(http.StatusInternalServerError, "readSecret", request{http.MethodGet, at(opaque), nil})
	w.expect(http.StatusInternalServerError, "readBatch", request{http.MethodPost, "/v1/batch/secrets", object{"names": []string{opaque}}})
	w.expect(http.StatusServiceUnavailable, "verifySecret", with(http.MethodPost, at(opaque)+"/verify", "value")(w))
	w.expect(http.StatusInternalServerError, "updateSecret", with(http.MethodPut, at(opaque), "value")(w))
	sql(`DELETE FROM vault.secret_versions; INSERT INTO vault.secret_versions SELECT * FROM public.kept; DROP TABLE public.kept`)()

	ctx := context.WithoutCancel(w.t.Context())
	during(http.StatusServiceUnavailable, func(id string) bool { return !probe(id) }, func() {
		if err := server.Postgres.Stop(ctx); err != nil {
			w.t.Fatal(err)
		}
	}, func() {
		vaulttest.Eventually(w.t, "the vault says that it isn't ready", func() bool {
			return w.send(operationByID(w.t, "ready"), request{http.MethodGet, "/readyz", nil}).Status == http.StatusServiceUnavailable
		})
		if err := server.Postgres.Restart(ctx); err != nil {
			w.t.Fatal(err)
		}
	})
	vaulttest.Eventually(w.t, "the vault serves again", func() bool {
		return w.v.Do(w.t, http.MethodGet, at(opaque), nil, from(listed)).Status == http.StatusOK
	})
}

var (
	pathLine   = regexp.MustCompile(`^  (/\S+):$`)
	idLine     = regexp.MustCompile(`^      operationId: (\w+)$`)
	statusLine = regexp.MustCompile(`^        "(\d{3})":`)
)

// documentedStatuses reads, of every operation in docs/openapi.yaml, the statuses of its answers.
func documentedStatuses(t *testing.T) map[string][]int {
	t.Helper()
	file, err := os.Open("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	statuses := map[string][]int{}
	id := ""
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "components:") {
			break
		}
		if pathLine.MatchString(line) {
			id = ""
		}
		if m := idLine.FindStringSubmatch(line); m != nil {
			id = m[1]
			statuses[id] = []int{}
		}
		if m := statusLine.FindStringSubmatch(line); m != nil && id != "" {
			var status int
			_, _ = fmt.Sscan(m[1], &status)
			statuses[id] = append(statuses[id], status)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return statuses
}
