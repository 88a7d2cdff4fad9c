package model

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// at makes an event of the name "n" between two milliseconds; version and value as answered or written.
func at(begin, end int, a act, got result, version int64, value string) *event {
	e := &event{object: "n", begin: time.Duration(begin) * time.Millisecond, end: time.Duration(end) * time.Millisecond, act: a, got: got, version: version, value: value}
	if end == 0 {
		e.end = never
	}
	return e
}

func graceful(e *event, grace int) *event { e.grace = grace; return e }

func madeUp(e *event) *event { e.generated = true; return e }

func of(object string, e *event) *event { e.object = object; return e }

// TestChecker_Order gives the checker histories that are right and, each time, one answer that isn't.
func TestChecker_Order(t *testing.T) {
	t.Parallel()
	made := at(0, 10, actCreate, done, 1, "a")
	changed := graceful(at(20, 30, actUpdate, done, 2, "b"), hasEnded)
	kept := graceful(at(20, 30, actUpdate, done, 2, "b"), 1)
	passes := graceful(at(50, 60, actPass, done, 0, ""), 1)
	broken, mended := at(20, 30, actBreak, done, 1, ""), at(60, 70, actMend, done, 1, "")
	hidden := at(20, 30, actHide, done, 1, "")
	token, gone := of(tokenObject+"t", at(0, 10, actOn, done, 0, "")), of(tokenObject+"t", at(20, 30, actOff, done, 0, ""))
	role := func(e *event) *event { return of(roleObject+"r", e) }
	for name, c := range map[string]struct {
		right []*event
		wrong *event
	}{
		"a value that was replaced before the read began": {
			[]*event{made, changed, at(25, 40, actRead, shown, 1, "a"), at(15, 35, actRead, shown, 2, "b"), at(31, 40, actRead, shown, 2, "b")},
			at(31, 40, actRead, shown, 1, "a"),
		},
		"an old value after a new one, both while it changes": {
			[]*event{made, graceful(at(20, 90, actUpdate, done, 2, "b"), hasEnded), at(30, 40, actRead, shown, 2, "b"), at(35, 60, actRead, shown, 1, "a")},
			at(41, 50, actRead, shown, 1, "a"),
		},
		"a value before it was written": {
			[]*event{made, changed, at(15, 20, actRead, shown, 2, "b")},
			at(11, 19, actRead, shown, 2, "b"),
		},
		"a value that nobody wrote":         {[]*event{made}, at(20, 30, actRead, shown, 1, "b")},
		"a value under another's version":   {[]*event{made, changed}, at(40, 50, actRead, shown, 1, "b")},
		"a version that two writers got":    {[]*event{made, changed}, at(40, 50, actUpdate, done, 2, "c")},
		"a secret that is there as missing": {[]*event{made}, at(20, 30, actRead, missing, 0, "")},
		"a secret that was deleted": {
			[]*event{made, at(20, 30, actDelete, done, 1, ""), at(25, 40, actRead, shown, 1, "a"), at(31, 40, actRead, missing, 0, "")},
			at(31, 40, actRead, shown, 1, "a"),
		},
		"the value of a deleted secret of the same name": {
			[]*event{made, at(20, 30, actDelete, done, 1, ""), at(40, 50, actCreate, done, 1, "b"), at(60, 70, actRead, shown, 1, "b")},
			at(60, 70, actRead, shown, 1, "a"),
		},
		"an old value once the outcome that was unknown has shown": {
			[]*event{made, graceful(at(20, 0, actUpdate, done, 2, "b"), hasEnded), at(50, 60, actRead, shown, 1, "a"), at(70, 80, actRead, shown, 2, "b")},
			at(90, 95, actRead, shown, 1, "a"),
		},
		"a second value of a version whose value was lost": {
			[]*event{made, graceful(at(20, 0, actUpdate, done, 2, ""), hasEnded), madeUp(at(50, 60, actRead, shown, 2, "x")), madeUp(at(50, 60, actVerify, matched, 2, "x"))},
			madeUp(at(70, 80, actRead, shown, 2, "y")),
		},
		"a client's value as that of a version that was generated": {
			[]*event{made, graceful(at(20, 0, actUpdate, done, 2, ""), hasEnded)}, at(50, 60, actRead, shown, 2, "x"),
		},
		"a superseded version without a grace": {
			[]*event{made, changed, at(25, 40, actVersion, shown, 1, "a"), at(35, 40, actVersion, missing, 1, "")},
			at(31, 40, actVersion, shown, 1, "a"),
		},
		"a mismatch within the grace": {
			[]*event{made, kept, passes, at(31, 49, actVerify, matched, 1, "a"), at(31, 55, actVerify, unmatched, 0, "a")},
			at(31, 49, actVerify, unmatched, 0, "a"),
		},
		"a match after the grace": {
			[]*event{made, kept, passes, at(31, 70, actVerify, matched, 1, "a"), at(61, 70, actVerify, unmatched, 0, "a"), at(61, 70, actVerify, matched, 2, "b")},
			at(61, 70, actVerify, matched, 1, "a"),
		},
		"a version within its grace as missing": {[]*event{made, kept, passes}, at(31, 49, actVersion, missing, 1, "")},
		"a version after its grace":             {[]*event{made, kept, passes}, at(61, 70, actVersion, shown, 1, "a")},
		"a grace that was over although it had been prolonged": {
			[]*event{made, kept, passes, graceful(at(40, 45, actGrace, done, 1, ""), 2), at(61, 70, actVerify, matched, 1, "a")},
			at(61, 70, actVerify, unmatched, 0, "a"),
		},
		"a current value as unmatched": {[]*event{made}, at(20, 30, actVerify, unmatched, 0, "a")},
		"another value as matched":     {[]*event{made}, at(20, 30, actVerify, matched, 1, "b")},
		"a broken version": {
			[]*event{made, broken, mended, at(25, 40, actRead, shown, 1, "a"), at(31, 40, actRead, damaged, 0, ""), at(31, 65, actRead, shown, 1, "a")},
			at(31, 59, actRead, shown, 1, "a"),
		},
		"a broken version by number":    {[]*event{made, broken, mended, at(31, 40, actVersion, damaged, 1, "")}, at(31, 59, actVersion, shown, 1, "a")},
		"a verdict on a broken version": {[]*event{made, broken, mended, at(31, 40, actVerify, damaged, 0, "")}, at(31, 59, actVerify, unmatched, 0, "x")},
		"a match on a broken version":   {[]*event{made, broken, mended}, at(31, 59, actVerify, matched, 1, "a")},
		"a version whose row is gone":   {[]*event{made, hidden, at(31, 40, actVersion, missing, 1, ""), at(31, 40, actRead, damaged, 0, "")}, at(31, 40, actRead, shown, 1, "a")},
		"damage where there is none":    {[]*event{made, broken, mended, at(65, 90, actRead, damaged, 0, "")}, at(71, 90, actRead, damaged, 0, "")},
		"no verdict although all opens": {[]*event{made}, at(20, 30, actVerify, damaged, 0, "")},
		"the new value of what was put back": {
			[]*event{made, changed, at(40, 50, actRollBack, done, 1, ""), at(60, 70, actRead, shown, 1, "a"), graceful(at(80, 90, actUpdate, done, 2, "c"), hasEnded), at(95, 99, actRead, shown, 2, "c")},
			at(60, 70, actRead, shown, 2, "b"),
		},
		"what another version's number points to": {
			[]*event{made, kept, at(40, 45, actPoint, done, 1, ""), at(46, 48, actRead, damaged, 0, ""), at(46, 48, actVersion, shown, 2, "b")},
			at(46, 48, actRead, shown, 2, "b"),
		},
		"a secret under a name that it no longer has": {
			[]*event{made, at(20, 30, actAway, done, 1, ""), at(40, 50, actRead, missing, 0, ""), at(60, 70, actBack, done, 1, ""), at(80, 90, actRead, shown, 1, "a")},
			at(40, 50, actRead, shown, 1, "a"),
		},
		"too many versions of one":           {[]*event{made}, at(20, 30, actUpdate, tooMany, 0, "")},
		"a create of what exists":            {[]*event{made, at(20, 30, actCreate, exists, 0, "")}, at(20, 30, actCreate, done, 1, "b")},
		"an answer under a revoked token":    {[]*event{token, gone, of(tokenObject+"t", at(25, 40, actAsk, allowed, 0, ""))}, of(tokenObject+"t", at(31, 40, actAsk, allowed, 0, ""))},
		"a refusal of a token that is valid": {[]*event{token, gone, of(tokenObject+"t", at(15, 25, actAsk, refused, 0, ""))}, of(tokenObject+"t", at(12, 19, actAsk, refused, 0, ""))},
		"an answer without the permission": {
			[]*event{role(at(0, 10, actOn, done, 0, "")), role(at(20, 30, actOff, done, 0, "")), role(at(50, 60, actOn, done, 0, "")), role(at(55, 70, actAsk, allowed, 0, ""))},
			role(at(35, 45, actAsk, allowed, 0, "")),
		},
		"a refusal in spite of the permission": {
			[]*event{role(at(0, 10, actOn, done, 0, "")), role(at(20, 30, actOff, done, 0, "")), role(at(50, 60, actOn, done, 0, ""))},
			role(at(61, 70, actAsk, refused, 0, "")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if problems := disorders(c.right); len(problems) > 0 {
				t.Errorf("what is right is reported: %s", problems)
			}
			if problems := disorders(append(c.right[:len(c.right):len(c.right)], c.wrong)); len(problems) != 1 {
				t.Errorf("%d problems are reported in place of one", len(problems))
			}
		})
	}
}

// TestChecker_Evidence gives the checker answers with their records, right and wrong.
func TestChecker_Evidence(t *testing.T) {
	t.Parallel()
	n := &name{text: "n"}
	someone, admin := &reader{name: "t", role: "r"}, &reader{}
	const read, verified = "secret.read", "secret.verify"
	rec := func(action, outcome string, version int64) vaulttest.Record {
		return vaulttest.Record{Action: action, Outcome: outcome, Version: version, Name: "n"}
	}
	on := func(name string, r vaulttest.Record) vaulttest.Record { r.Name = name; return r }
	answered := call{op: opRead, about: n, reader: admin, status: http.StatusOK, got: item{Version: 2}}
	unchanged := call{op: opCondition, about: n, reader: admin, status: http.StatusNotModified, got: item{Version: 2}}
	match := call{op: opVerify, about: n, reader: admin, status: http.StatusOK, valid: true, got: item{Version: 2}}
	mismatch := call{op: opVerify, about: n, reader: admin, status: http.StatusOK}
	absent := call{op: opRead, about: n, reader: admin, status: http.StatusNotFound}
	denied := call{op: opRead, about: n, reader: someone, status: http.StatusForbidden}
	refused := call{op: opRead, about: n, reader: admin, status: http.StatusServiceUnavailable}
	failed := call{op: opRead, about: n, reader: admin, status: http.StatusInternalServerError}
	batch := call{op: opBatch, names: []string{"n", "m", "n"}, reader: admin, status: http.StatusOK, items: []item{{Name: "n", Version: 2}}}
	stranger := call{op: opBatch, names: []string{outside}, reader: someone, status: http.StatusOK, items: []item{{Name: outside, Version: 1}}}
	update := call{op: opUpdate, about: n, reader: admin, status: http.StatusOK, got: item{Version: 3}}
	conflict := call{op: opUpdate, about: n, reader: admin, status: http.StatusConflict}
	unknown := call{op: opUpdate, about: n, reader: admin, status: http.StatusServiceUnavailable}
	ok2, withheld1, ok1 := rec(read, outcomeOK, 2), rec(read, outcomeWithheld, 1), rec(read, outcomeOK, 1)
	withheld2 := rec(read, outcomeWithheld, 2)
	notFound := rec(read, outcomeMissing, 0)
	type records []vaulttest.Record
	for name, c := range map[string]struct {
		answer call
		trail  records
		wrong  string // what is reported; "" is nothing
	}{
		"a read":                                   {answered, records{ok2}, ""},
		"a read at the second try":                 {answered, records{ok1, withheld1, ok2}, ""},
		"a read at the second try, same version":   {answered, records{ok2, withheld2, ok2}, ""},
		"a read without a record":                  {answered, nil, "no record of version 2"},
		"a read with another version's record":     {answered, records{ok1}, "no record of version 2"},
		"a read with two records":                  {answered, records{ok2, ok2}, "1 answers left"},
		"a read whose first try isn't marked":      {answered, records{ok1, ok2}, "0 answers left"},
		"a read that is marked as withheld":        {answered, records{ok2, withheld2}, "1 answers left"},
		"a read with a record of a verify":         {answered, records{rec(verified, outcomeMatch, 2)}, "the record of a secret.verify"},
		"a read with a record of another name":     {answered, records{on("m", ok2)}, "a record of m"},
		"a read with the record of a 304":          {answered, records{rec(read, outcomeUnchanged, 2)}, "says ok"},
		"a 304":                                    {unchanged, records{rec(read, outcomeUnchanged, 2)}, ""},
		"a 304 without a record":                   {unchanged, nil, "no record of version 2"},
		"a 304 with the record of a read":          {unchanged, records{ok2}, "says not_modified"},
		"a match":                                  {match, records{rec(verified, outcomeMatch, 2)}, ""},
		"a match without a record":                 {match, nil, "no record of version 2"},
		"a mismatch":                               {mismatch, records{rec(verified, outcomeMismatch, 0)}, ""},
		"a mismatch without a record":              {mismatch, nil, "no record of version 0"},
		"a mismatch after a match that was marked": {mismatch, records{rec(verified, outcomeMatch, 2), rec(verified, outcomeWithheld, 2), rec(verified, outcomeMismatch, 0)}, ""},
		"a mismatch after one that isn't":          {mismatch, records{rec(verified, outcomeMatch, 2), rec(verified, outcomeMismatch, 0)}, "0 answers left"},
		"what isn't there":                         {absent, records{notFound}, ""},
		"what isn't there any more":                {absent, records{ok2, withheld2, notFound}, ""},
		"what wasn't there, at first":              {answered, records{notFound, rec(read, outcomeWithheld, 0), ok2}, ""},
		"what isn't there, without a record":       {absent, nil, "not found"},
		"what isn't there, disclosed in the trail": {absent, records{ok2, notFound}, "0 answers left"},
		"a denial":                                {denied, records{rec(read, outcomeDenied, 0)}, ""},
		"a denial that was only counted":          {denied, nil, ""},
		"a denial at the second try":              {denied, records{ok2, withheld2, rec(read, outcomeDenied, 0)}, ""},
		"a denial with a disclosure in the trail": {denied, records{ok2}, "0 answers left"},
		"damage":                                    {failed, records{rec(read, outcomeUnverifiable, 2)}, ""},
		"damage with a disclosure in the trail":     {failed, records{ok2}, "0 answers left"},
		"no answer":                                 {refused, nil, ""},
		"no answer and more evidence":               {refused, records{ok2}, ""},
		"no answer after several tries":             {refused, records{ok2, withheld2, ok2, withheld2}, ""},
		"no answer, and more withheld than said":    {refused, records{ok2, withheld2, withheld2}, "withheld 2 times"},
		"a batch":                                   {batch, records{ok2, on("m", notFound)}, ""},
		"a batch at the second try":                 {batch, records{ok2, on("m", notFound), withheld2, on("m", rec(read, outcomeWithheld, 0)), ok2, on("m", notFound)}, ""},
		"a batch without one's record":              {batch, records{on("m", notFound)}, "no record of version 2"},
		"a batch without the record of what isn't":  {batch, records{ok2}, "not found or denied"},
		"a batch that discloses more in the trail":  {batch, records{ok2, on("m", ok1)}, "0 answers left"},
		"a batch to whom may not":                   {stranger, records{on(outside, ok1)}, "nobody but an administrator"},
		"an update":                                 {update, records{rec("secret.update", outcomeOK, 3)}, ""},
		"an update without a record":                {update, nil, "0 records say that it was done"},
		"an update with two":                        {update, records{rec("secret.update", outcomeOK, 3), rec("secret.update", outcomeOK, 3)}, "2 records say"},
		"an update with another version's":          {update, records{rec("secret.update", outcomeOK, 2)}, "another version"},
		"a conflict":                                {conflict, records{rec("secret.update", "conflict", 0)}, ""},
		"a conflict that took effect":               {conflict, records{rec("secret.update", outcomeOK, 3)}, "1 records say"},
		"an unknown outcome that took effect":       {unknown, records{rec("secret.update", outcomeOK, 3)}, ""},
		"an unknown outcome that took effect twice": {unknown, records{rec("secret.update", outcomeOK, 3), rec("secret.update", outcomeOK, 4)}, "2 records say"},
		"a status that nothing has":                 {call{op: opRead, about: n, reader: admin, status: http.StatusTeapot}, nil, "that status"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problem := evidence(&c.answer, c.trail)
			if (problem == "") != (c.wrong == "") || !strings.Contains(problem, c.wrong) {
				t.Errorf("reported is %q, and should be %q", problem, c.wrong)
			}
		})
	}
}
