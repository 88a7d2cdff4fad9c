package model

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// checkEvidence holds every answer against its records.
func (r *run) checkEvidence(records map[string][]vaulttest.Record) {
	r.t.Helper()
	asked := map[string]bool{}
	for _, one := range r.calls {
		asked[one.id] = true
		if problem := evidence(one, records[one.id]); problem != "" {
			r.t.Errorf("I2: %s of %s%s was answered with %d (request %s): %s; its records: %v",
				one.op, one.on(), strings.Join(one.names, ","), one.status, one.id, problem, records[one.id])
		}
	}
	for id := range records {
		if !asked[id] && !strings.HasSuffix(id, "-none") {
			r.t.Errorf("request %s has records, and nobody asked", id)
		}
	}
}

// tally is what the trail says of one name in one version, for one request.
type tally struct {
	disclosed int // statements that something of it was disclosed
	withheld  int // statements that it didn't leave
	others    int
}

// disclosures are the outcomes of what a client learns from.
var disclosures = []string{outcomeOK, outcomeUnchanged, outcomeMatch, outcomeMismatch}

// evidence says what is wrong with a request's records, given its answer; "" if nothing is.
func evidence(one *call, records []vaulttest.Record) string {
	for _, rec := range records {
		if rec.Action != actionOf[one.op] {
			return "the record of a " + rec.Action
		}
	}
	switch one.op {
	case opCreate, opUpdate, opRotate, opDelete, opIssue, opRevoke, opPermit, opForbid:
		return changeEvidence(one, records)
	case opBatch:
		return batchEvidence(one, records)
	}
	names := []string{one.about.text}
	if stray := strays(names, records); stray != "" {
		return stray
	}
	switch one.status {
	case http.StatusOK, http.StatusNotModified:
		version, outcome := one.got.Version, outcomeOK
		switch {
		case one.status == http.StatusNotModified:
			outcome = outcomeUnchanged
		case one.op == opVerify && one.valid:
			outcome = outcomeMatch
		case one.op == opVerify:
			version, outcome = 0, outcomeMismatch
		}
		return backed(names[0], version, outcome, records)
	case http.StatusServiceUnavailable:
		return surplus(names[0], records)
	case http.StatusNotFound:
		if count(records, names[0], func(rec vaulttest.Record) bool { return rec.Outcome == outcomeMissing }) == 0 {
			return "no record says that it was not found"
		}
	case http.StatusForbidden, http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusInternalServerError:
	default:
		return "that status can't come of anything that was done"
	}
	return backed(names[0], 0, "", records)
}

// strays finds records of what wasn't asked for.
func strays(names []string, records []vaulttest.Record) string {
	for _, rec := range records {
		if !slices.Contains(names, rec.Name) && rec.Name != "" {
			return "a record of " + rec.Name
		}
	}
	return ""
}

func count(records []vaulttest.Record, name string, is func(vaulttest.Record) bool) int {
	n := 0
	for _, rec := range records {
		if rec.Name == name && is(rec) {
			n++
		}
	}
	return n
}

// tallies counts what the trail says of one name, by version.
func tallies(name string, records []vaulttest.Record) map[int64]tally {
	byVersion := map[int64]tally{}
	for _, rec := range records {
		if rec.Name != name {
			continue
		}
		t := byVersion[rec.Version]
		switch {
		case rec.Outcome == outcomeWithheld:
			t.withheld++
		case slices.Contains(disclosures, rec.Outcome):
			t.disclosed++
		default:
			t.others++
		}
		byVersion[rec.Version] = t
	}
	return byVersion
}

// backed requires that what the trail says was disclosed of a name, less what it says was withheld, is the one answer that left:
// of that version and outcome, or none if outcome is empty.
func backed(name string, version int64, outcome string, records []vaulttest.Record) string {
	byVersion := tallies(name, records)
	if _, any := byVersion[version]; !any && outcome != "" {
		return fmt.Sprintf("no record of version %d", version)
	}
	for v, t := range byVersion {
		left := 0
		if v == version && outcome != "" {
			left = 1
		}
		// A withheld record speaks of a disclosure, or of another statement about the same version that didn't leave either.
		most, least := t.disclosed-max(0, t.withheld-t.others), t.disclosed-t.withheld
		if left < least || left > most {
			return fmt.Sprintf("of version %d %d answers left, and the trail has %d disclosures of it and %d that were withheld", v, left, t.disclosed, t.withheld)
		}
	}
	if outcome != "" && count(records, name, func(rec vaulttest.Record) bool { return rec.Version == version && rec.Outcome == outcome }) == 0 {
		return fmt.Sprintf("no record of version %d says %s", version, outcome)
	}
	return ""
}

// surplus requires of an answer that never came only that what was withheld had been recorded before.
func surplus(name string, records []vaulttest.Record) string {
	for v, t := range tallies(name, records) {
		if t.withheld > t.disclosed+t.others {
			return fmt.Sprintf("version %d was withheld %d times, and said to be disclosed %d times", v, t.withheld, t.disclosed)
		}
	}
	return ""
}

func batchEvidence(one *call, records []vaulttest.Record) string {
	names := distinct(one.names)
	if stray := strays(names, records); stray != "" {
		return stray
	}
	for _, name := range names {
		problem := ""
		i := slices.IndexFunc(one.items, func(i item) bool { return i.Name == name })
		switch {
		case one.status == http.StatusServiceUnavailable:
			problem = surplus(name, records)
		case i < 0:
			problem = backed(name, 0, "", records)
			if none := func(rec vaulttest.Record) bool {
				return rec.Outcome == outcomeMissing || rec.Outcome == outcomeDenied
			}; problem == "" && one.status == http.StatusOK && count(records, name, none) == 0 {
				problem = "no record says that it was not found or denied"
			}
		case name == outside && one.reader.name != "":
			problem = "nobody but an administrator may read it"
		default:
			problem = backed(name, one.items[i].Version, outcomeOK, records)
		}
		if problem != "" {
			return name + ": " + problem
		}
	}
	return ""
}

func changeEvidence(one *call, records []vaulttest.Record) string {
	changed := 0
	for _, rec := range records {
		if rec.Outcome == outcomeOK {
			changed++
			if rec.Name != one.on() {
				return "the record is of " + rec.Name
			}
		}
	}
	want := 0
	switch one.status {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		want = 1
		if i := slices.IndexFunc(records, func(rec vaulttest.Record) bool { return rec.Outcome == outcomeOK }); i >= 0 &&
			one.op != opDelete && records[i].Version != one.got.Version {
			return "the record is of another version"
		}
	case http.StatusServiceUnavailable:
		want = min(changed, 1)
	case http.StatusNotFound, http.StatusConflict:
	default:
		return "that status can't come of anything that was done"
	}
	if changed != want {
		return fmt.Sprintf("I3: %d records say that it was done", changed)
	}
	return ""
}
