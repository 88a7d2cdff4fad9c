package faults

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

var actionOf = map[string]string{
	opRead: "secret.read", opCondition: "secret.read", opMissing: "secret.read", opVerify: "secret.verify",
	opBatch: "secret.read", opCreate: "secret.create", opUpdate: "secret.update", opRotate: "secret.rotate",
	opDelete: "secret.delete",
}

func changes(op string) bool {
	return op == opCreate || op == opUpdate || op == opRotate || op == opDelete
}

// settle stops the clients and waits until nothing is in doubt any more.
func (l *load) settle() {
	l.t.Helper()
	l.end()
	for _, err := range l.failed {
		l.t.Errorf("a request got no answer at all: %v", err)
	}
	vaulttest.Eventually(l.t, "no stream is in doubt", func() bool {
		status, err := l.vault.Try(l.t, http.MethodGet, "/v1/status", nil)
		if err != nil || status.Status != http.StatusOK {
			return false
		}
		trail, _ := status.JSON["audit"].(map[string]any)
		return trail["streams_in_doubt"] == float64(0)
	})
}

// successes are what must have been answered, or nothing was proven of it.
var successes = []string{
	opRead + ": 200", opCondition + ": 304", opMissing + ": 404", opVerify + ": 200", opBatch + ": 200",
	opCreate + ": 201", opUpdate + ": 200", opRotate + ": 200", opDelete + ": 204",
}

// check holds everything that was answered against what is committed.
func (l *load) check() {
	l.t.Helper()
	records := map[string][]vaulttest.Record{}
	for _, r := range l.vault.Audit(l.t, l.prefix) {
		records[r.RequestID] = append(records[r.RequestID], r)
	}
	counts := map[string]int{}
	for _, a := range l.taken() {
		counts[a.String()]++
		if problem := evidence(a, records[a.id]); problem != "" {
			l.t.Errorf("I2: %s of %s%s answered %d (request %s): %s; its records: %v",
				a.op, a.name, strings.Join(a.batch, ","), a.status, a.id, problem, records[a.id])
		}
	}
	l.checkChanges(records)
	lines := make([]string, 0, len(counts))
	for what, n := range counts {
		lines = append(lines, fmt.Sprintf("%s ×%d", what, n))
	}
	slices.Sort(lines)
	l.t.Logf("answers:\n%s", strings.Join(lines, "\n"))
	for _, op := range successes {
		if counts[op] == 0 {
			l.t.Errorf("there was no %s, so nothing was proven of it", op)
		}
	}
}

// standing leaves out what was recorded and then withheld, which a record of its own says.
func standing(records []vaulttest.Record) (stands []vaulttest.Record, problem string) {
	withheld := func(r vaulttest.Record) bool { return r.Outcome == "withheld" }
	stands = slices.DeleteFunc(slices.Clone(records), withheld)
	for _, w := range records {
		if !withheld(w) {
			continue
		}
		i := slices.IndexFunc(stands, func(r vaulttest.Record) bool {
			return r.Action == w.Action && r.Name == w.Name && r.Version == w.Version
		})
		if i < 0 {
			return nil, "something was withheld that no record had said"
		}
		stands = slices.Delete(stands, i, i+1)
	}
	return stands, ""
}

// evidence says what is wrong with the records of a request, given its answer; "" if nothing is.
func evidence(a answer, all []vaulttest.Record) string {
	records, problem := standing(all)
	if problem != "" {
		return problem
	}
	one := func(outcome string, version int64) string {
		if len(records) != 1 {
			return fmt.Sprintf("%d records stand where there must be one", len(records))
		}
		r := records[0]
		if r.Action != actionOf[a.op] || r.Name != a.name || r.Outcome != outcome || r.Version != version {
			return fmt.Sprintf("the record is not %s %s, version %d, of %s", actionOf[a.op], outcome, version, a.name)
		}
		return ""
	}
	switch a.status {
	case http.StatusNotModified:
		return one("not_modified", versionOf(a.etag))
	case http.StatusNotFound:
		return one("not_found", 0)
	case http.StatusConflict:
		if len(records) != 1 || records[0].Outcome != "conflict" {
			return "there is not one record of the conflict"
		}
		return ""
	case http.StatusServiceUnavailable:
		return "" // a record without an answer is allowed; an answer without a record is not
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
	default:
		return "that status can't come of a fault"
	}
	switch a.op {
	case opVerify:
		if a.valid {
			return one("match", a.version)
		}
		return one("mismatch", 0)
	case opDelete:
		return one("ok", 1)
	case opBatch:
		return batchEvidence(a, records)
	}
	return one("ok", a.version)
}

func batchEvidence(a answer, records []vaulttest.Record) string {
	if len(records) != len(a.batch) {
		return fmt.Sprintf("%d records stand for %d names", len(records), len(a.batch))
	}
	for _, name := range a.batch {
		want := vaulttest.Record{Outcome: "not_found"}
		if version, shown := a.shown[name]; shown {
			want = vaulttest.Record{Outcome: "ok", Version: version}
		}
		if !slices.ContainsFunc(records, func(r vaulttest.Record) bool {
			return r.Name == name && r.Outcome == want.Outcome && r.Version == want.Version
		}) {
			return "no record of " + name + " as it was answered"
		}
	}
	return ""
}

func versionOf(etag string) (version int64) {
	_, _ = fmt.Sscanf(etag, `"%d-`, &version)
	return version
}

// keepRemoved keeps what changes remove of versions that ended long ago, so that every one can be held against what was answered.
const keepRemoved = `
	CREATE TABLE public.removed (LIKE vault.secret_versions);
	CREATE FUNCTION public.keep_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
		$$ BEGIN INSERT INTO public.removed SELECT OLD.*; RETURN OLD; END $$;
	CREATE TRIGGER keep_removed BEFORE DELETE ON vault.secret_versions FOR EACH ROW EXECUTE FUNCTION public.keep_removed()`

type stored struct {
	Name    string
	Version int64
	UID     string
	State   string
	Current int64
}

// checkChanges holds what is stored against the records of changes (I3), in both directions, and against what was answered.
func (l *load) checkChanges(records map[string][]vaulttest.Record) {
	l.t.Helper()
	versions := map[string]stored{}
	for _, s := range pgtest.Query[stored](l.t, l.vault.DB, `
		SELECT s.name, v.version, v.version_uid::text, v.state, s.current_version
		FROM vault.secrets s LEFT JOIN (
			SELECT secret_id, version, version_uid, state FROM vault.secret_versions
			UNION ALL SELECT secret_id, version, version_uid, state FROM public.removed
		) v ON v.secret_id = s.id ORDER BY 1, 2`) {
		versions[fmt.Sprintf("%s@%d", s.Name, s.Version)] = s
	}
	deleted := map[string]bool{}
	recorded := map[string]vaulttest.Record{} // changes, by what they made
	for _, list := range records {
		for _, r := range list {
			switch {
			case r.Outcome != "ok":
			case r.Action == "secret.delete":
				deleted[r.Name] = true
			case r.Action == "secret.create", r.Action == "secret.update", r.Action == "secret.rotate":
				made := fmt.Sprintf("%s@%d", r.Name, r.Version)
				if _, twice := recorded[made]; twice {
					l.t.Errorf("I3: two records claim to have made %s", made)
				}
				recorded[made] = r
			}
		}
	}
	for made, s := range versions {
		if _, ok := recorded[made]; !ok {
			l.t.Errorf("I3: %s exists, and no record of its making", made)
		}
		if deleted[s.Name] {
			l.t.Errorf("I3: %s exists, and a record says that it was deleted", made)
		}
		if (s.State == "current") != (s.Version == s.Current) {
			l.t.Errorf("%s is %s, and version %d the current one", made, s.State, s.Current)
		}
		for n := int64(1); n <= s.Current; n++ {
			if _, ok := versions[fmt.Sprintf("%s@%d", s.Name, n)]; !ok {
				l.t.Errorf("%s has no version %d of %d", s.Name, n, s.Current)
			}
		}
	}
	for made, r := range recorded {
		if _, ok := versions[made]; !ok && !deleted[r.Name] {
			l.t.Errorf("I3: a record says that %s was made (request %s), and it isn't there", made, r.RequestID)
		}
	}
	l.checkAcknowledged(versions, recorded, deleted)
}

// checkAcknowledged looks for every change as its client was told of it, and for none that was refused for good.
func (l *load) checkAcknowledged(versions map[string]stored, recorded map[string]vaulttest.Record, deleted map[string]bool) {
	l.t.Helper()
	byRequest := map[string]vaulttest.Record{}
	for _, r := range recorded {
		byRequest[r.RequestID] = r
	}
	for _, a := range l.taken() {
		if !changes(a.op) {
			continue
		}
		switch a.status {
		case http.StatusOK, http.StatusCreated:
			s, ok := versions[fmt.Sprintf("%s@%d", a.name, a.version)]
			if deleted[a.name] {
				continue
			}
			if !ok || a.etag != fmt.Sprintf(`"%d-%s"`, a.version, s.UID) {
				l.t.Errorf("I13: %s of %s was acknowledged as version %s, and is not there", a.op, a.name, a.etag)
			}
		case http.StatusNoContent:
			if !deleted[a.name] {
				l.t.Errorf("I3: the deletion of %s was acknowledged, and has no record", a.name)
			}
		case http.StatusServiceUnavailable:
		default:
			if r, ok := byRequest[a.id]; ok {
				l.t.Errorf("%s of %s was refused with %d, and took effect: %v", a.op, a.name, a.status, r)
			}
		}
	}
	// The current values are those of the requests that the records name.
	for i := range hotSecrets {
		read := l.vault.Do(l.t, http.MethodGet, "/v1/secrets/"+hot(i), nil).Want(l.t, http.StatusOK)
		r := recorded[fmt.Sprintf("%s@%.0f", hot(i), read.Number("version"))]
		if want := r.RequestID; read.Text("value") != want && !(r.Version == 1 && read.Text("value") == "first") {
			l.t.Errorf("%s holds %q, and its record names request %s", hot(i), read.Text("value"), want)
		}
	}
}

// latencies says how long the answers of one status took.
func (l *load) latencies(t testing.TB, what string, since func(answer) bool) {
	t.Helper()
	byStatus := map[int][]answer{}
	for _, a := range l.taken() {
		if since(a) {
			byStatus[a.status] = append(byStatus[a.status], a)
		}
	}
	for status, answers := range byStatus {
		slices.SortFunc(answers, func(a, b answer) int { return int(a.took - b.took) })
		n := len(answers)
		t.Logf("%s: %d ×%d, half within %v, the slowest %v", what, status, n, answers[n/2].took, answers[n-1].took)
	}
}
