package tamper

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// leastChanges is how many changes of forged secrets a walk through all cells comes to at least: fewer mean that they are no longer tried.
const leastChanges = 200

const (
	oneRow  = "the table has one row"
	oneRoot = "one row root made all MACs"
	oneKey  = "one master key wrapped all data keys"
	noneYet = "no secret has a target in this release"
)

// pointless says why a cell changes nothing that is stored. Every other one must, or it proves nothing.
var pointless = map[string]string{
	"authz_state/singleton: of another row":      oneRow,
	"authz_state/vault_id: of another row":       oneRow,
	"authz_state/epoch: of another row":          oneRow,
	"authz_state/initialised: of another row":    oneRow,
	"authz_state/mac: of another row":            oneRow,
	"authz_state/key_id: of another row":         oneRow,
	"roles/key_id: of another row":               oneRoot,
	"role_permissions/key_id: of another row":    oneRoot,
	"admin_tokens/key_id: of another row":        oneRoot,
	"secrets/key_id: of another row":             oneRoot,
	"secret_versions/key_id: of another row":     oneRoot,
	"deleted_secrets/key_id: of another row":     oneRoot,
	"secret_versions/kms_key_id: of another row": oneKey,
	"secrets/target: of another row":             noneYet,
	"secrets/target: NULL":                       noneYet,
}

// touched counts the rows that aren't as they were kept.
func (w *world) touched(t *testing.T) (n int64) {
	t.Helper()
	for _, table := range authority {
		n += pgtest.Query[int64](t, w.DB, fmt.Sprintf(`SELECT
			(SELECT count(*) FROM (SELECT t::text FROM vault.%[1]s t EXCEPT ALL SELECT k::text FROM public.kept_%[1]s k) AS now)
			+ (SELECT count(*) FROM (SELECT k::text FROM public.kept_%[1]s k EXCEPT ALL SELECT t::text FROM vault.%[1]s t) AS gone)`, table))[0]
	}
	return n
}

// content is all that the tables hold.
func (w *world) content(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, table := range authority {
		all.WriteString(strings.Join(pgtest.Query[string](t, w.DB, fmt.Sprintf("SELECT t::text FROM vault.%s t ORDER BY 1", table)), "\n") + "\n")
	}
	return all.String()
}

// forged tells whether some row of a secret isn't as it was kept.
func (w *world) forged(t *testing.T, name string) bool {
	t.Helper()
	rows := func(schema, prefix string) string {
		return fmt.Sprintf(`SELECT 's', s::text FROM %[1]s.%[2]ssecrets s WHERE s.name = $1 OR s.id = (SELECT id FROM public.kept_secrets WHERE name = $1)
			UNION ALL SELECT 'v', v::text FROM %[1]s.%[2]ssecret_versions v WHERE v.secret_id = (SELECT id FROM public.kept_secrets WHERE name = $1)
			UNION ALL SELECT 'd', d::text FROM %[1]s.%[2]sdeleted_secrets d WHERE d.secret_id = (SELECT id FROM public.kept_secrets WHERE name = $1)`, schema, prefix)
	}
	now, kept := rows("vault", ""), rows("public", "kept_")
	return pgtest.Query[bool](t, w.DB, fmt.Sprintf("SELECT EXISTS ((%[1]s) EXCEPT ALL (%[2]s)) OR EXISTS ((%[2]s) EXCEPT ALL (%[1]s))", now, kept), name)[0]
}

// refusesChanges tries to change each secret of which something was forged: that is refused with an alarm, whatever was forged, and
// leaves every row as it is, so that nothing forged comes to be vouched for.
func (w *world) refusesChanges(t *testing.T, url, metrics string) {
	t.Helper()
	for name, changes := range map[string][]asked{
		"a/one": {{"PUT", path("a/one"), `{"description":"changed"}`, w.AdminToken}, {"PUT", path("a/one"), `{"value":"the third of a/one"}`, w.AdminToken}},
		"a/two": {{"POST", path("a/two") + "/rotate", "", w.AdminToken}},
	} {
		if !w.forged(t, name) {
			continue
		}
		for _, q := range changes {
			before, alarms := w.content(t), w.alarms(t, metrics)
			got := w.ask(t, url, q)
			if !strings.HasPrefix(got, fmt.Sprint(http.StatusInternalServerError)) && !strings.HasPrefix(got, fmt.Sprint(http.StatusServiceUnavailable)) {
				t.Errorf("I6: %s on forged rows answers %s", q, got)
			}
			if w.content(t) != before {
				t.Errorf("I6: %s on forged rows changes some", q)
			}
			// Grants that don't verify are 503 for everybody, and alarmed of once.
			if strings.HasPrefix(got, fmt.Sprint(http.StatusInternalServerError)) && w.alarms(t, metrics) == alarms {
				t.Errorf("%s on forged rows raises no alarm", q)
			}
			w.changes++
		}
	}
}
