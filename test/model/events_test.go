package model

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// Outcomes as the audit trail names them.
const (
	outcomeOK           = "ok"
	outcomeUnchanged    = "not_modified"
	outcomeMatch        = "match"
	outcomeMismatch     = "mismatch"
	outcomeMissing      = "not_found"
	outcomeDenied       = "denied"
	outcomeUnverifiable = "unverifiable"
	outcomeWithheld     = "withheld"
)

// records are the committed ones of the run, by request.
func (r *run) records() map[string][]vaulttest.Record {
	byRequest := map[string][]vaulttest.Record{}
	for _, one := range r.processes[0].Audit(r.t, r.prefix) {
		byRequest[one.RequestID] = append(byRequest[one.RequestID], one)
	}
	return byRequest
}

// events is all that happened, in the model's terms. A change whose client was told nothing has happened if it has its record,
// with which it commits (I3); when, is anybody's guess from then on.
func (r *run) events(records map[string][]vaulttest.Record) []*event {
	events := slices.Clone(r.byHand)
	for _, one := range r.calls {
		for _, e := range r.eventsOf(one, records[one.id]) {
			if e.by == "" {
				e.by = fmt.Sprintf("%s/%d", strings.TrimPrefix(one.id, r.prefix), one.process)
			}
			if e.end == 0 {
				e.begin, e.end = one.begin, one.end
			}
			events = append(events, e)
		}
	}
	return events
}

func (r *run) eventsOf(one *call, records []vaulttest.Record) []*event {
	switch one.op {
	case opIssue, opRevoke, opPermit, opForbid:
		return grantEvents(one, records)
	case opCreate, opUpdate, opRotate, opDelete:
		return r.changeEvents(one, records)
	case opBatch:
		return append(permissionEvents(one, records), r.batchEvents(one, records)...)
	}
	e := &event{object: one.about.text}
	switch one.op {
	case opVerify:
		e.act, e.value, e.version = actVerify, one.value, one.got.Version
	case opVersion:
		e.act, e.value, e.version = actVersion, one.got.Value, one.version
	default:
		e.act, e.value, e.version = actRead, one.got.Value, one.got.Version
	}
	e.generated = r.isGenerated(e.value)
	switch one.status {
	case http.StatusOK, http.StatusNotModified:
		e.got = shown
		if one.op == opVerify {
			e.got = unmatched
			if one.valid {
				e.got = matched
			}
		}
	case http.StatusNotFound:
		e.got = missing
	case http.StatusInternalServerError:
		e.got = damaged
	case http.StatusServiceUnavailable:
		// Verify says no more than that, also when a version doesn't open. The trail says why.
		if len(records) == 0 || slices.ContainsFunc(records, func(rec vaulttest.Record) bool { return rec.Outcome != outcomeUnverifiable }) {
			return nil
		}
		e.got = damaged
	}
	events := permissionEvents(one, records)
	if e.got != "" {
		events = append(events, e)
	}
	return events
}

// isGenerated tells whether a value is one that no client wrote.
func (r *run) isGenerated(value string) bool { return !strings.HasPrefix(value, r.prefix) }

// took tells whether a change took effect, and from the record which version it made.
func took(one *call, records []vaulttest.Record) (version int64, unknown, ok bool) {
	switch one.status {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		return one.got.Version, false, true
	case http.StatusServiceUnavailable:
		for _, rec := range records {
			if rec.Outcome == outcomeOK && rec.Action == actionOf[one.op] {
				return rec.Version, true, true
			}
		}
	}
	return 0, false, false
}

func (r *run) changeEvents(one *call, records []vaulttest.Record) []*event {
	e := &event{object: one.about.text, got: done, value: one.value}
	switch one.op {
	case opCreate:
		e.act = actCreate
	case opDelete:
		e.act = actDelete
	default:
		e.act = actUpdate
		e.grace = hasEnded
		if one.op == opRotate {
			e.value = one.got.Value
		}
	}
	switch {
	case one.status == http.StatusNotFound:
		e.got = missing
		return []*event{e}
	case one.status == http.StatusConflict && one.op == opCreate:
		e.got = exists
		return []*event{e}
	case one.status == http.StatusConflict && one.code == "too_many_versions":
		e.got = tooMany
		if one.about.grace > 0 {
			e.grace = 0
		}
		return []*event{e}
	}
	version, unknown, ok := took(one, records)
	if !ok {
		return nil
	}
	e.version, e.begin, e.end = version, one.begin, one.end
	if unknown {
		e.end = never
	}
	events := []*event{e}
	if e.act == actUpdate && one.about.grace > 0 {
		e.grace = int(r.graces.Add(1))
		if one.about.grace < time.Hour {
			events = append(events, passes(e.grace, one.about.grace, e.begin, e.end))
			events[1].object = e.object
		}
	}
	return events
}

func grantEvents(one *call, records []vaulttest.Record) []*event {
	_, unknown, ok := took(one, records)
	if !ok {
		return nil
	}
	e := &event{object: tokenObject + one.grant.name, act: actOff, got: done, begin: one.begin, end: one.end}
	if unknown {
		e.end = never
	}
	switch one.op {
	case opPermit:
		e.object, e.act = roleObject+one.grant.role, actOn
	case opForbid:
		e.object = roleObject + one.grant.role
	case opIssue:
		e.act = actOn
		if one.life > 0 {
			ends := passes(0, one.life, e.begin, e.end)
			ends.object, ends.act = e.object, actOff
			return []*event{e, ends}
		}
	}
	return []*event{e}
}

// permissionEvents is what an answer tells of the token that asked, and of its role.
func permissionEvents(one *call, records []vaulttest.Record) []*event {
	if one.reader.name == "" || one.status == http.StatusServiceUnavailable {
		return nil
	}
	token := &event{object: tokenObject + one.reader.name, act: actAsk, got: allowed}
	role := &event{object: roleObject + one.reader.role, act: actAsk, got: allowed}
	switch {
	case one.status == http.StatusUnauthorized:
		token.got = refused
		return []*event{token}
	case one.op == opBatch:
		return append([]*event{token}, batchPermission(one, records)...)
	case one.status == http.StatusForbidden:
		role.got = refused
	}
	return []*event{token, role}
}

// batchPermission tells what a batch's answer says of its reader's role: it could read the secrets that it was shown, or none
// if its denials were recorded. Records of a try that was withheld say nothing of the answer.
func batchPermission(one *call, records []vaulttest.Record) []*event {
	got := result("")
	switch {
	case one.status != http.StatusOK:
	case len(one.items) > 0:
		got = allowed
	case !slices.ContainsFunc(records, isWithheld) && slices.ContainsFunc(records, func(rec vaulttest.Record) bool {
		return rec.Outcome == outcomeDenied && rec.Name != outside
	}):
		got = refused
	}
	if got == "" {
		return nil
	}
	return []*event{{object: roleObject + one.reader.role, act: actAsk, got: got}}
}

func isWithheld(rec vaulttest.Record) bool { return rec.Outcome == outcomeWithheld }

// batchEvents tells, for each name of a batch, what was said of it.
func (r *run) batchEvents(one *call, records []vaulttest.Record) []*event {
	var events []*event
	switch one.status {
	case http.StatusInternalServerError:
		for _, rec := range records {
			if rec.Outcome == outcomeUnverifiable {
				events = append(events, &event{object: rec.Name, act: actRead, got: damaged})
			}
		}
		return events
	case http.StatusOK:
	default:
		return nil
	}
	for _, name := range distinct(one.names) {
		if i := slices.IndexFunc(one.items, func(i item) bool { return i.Name == name }); i >= 0 {
			it := one.items[i]
			events = append(events, &event{object: name, act: actRead, got: shown, version: it.Version, value: it.Value, generated: r.isGenerated(it.Value)})
			continue
		}
		// Missing and denied names are left out alike. Only the trail tells them apart; who was denied wasn't told of the secret.
		denied := func(rec vaulttest.Record) bool { return rec.Name == name && rec.Outcome == outcomeDenied }
		if !slices.ContainsFunc(records, denied) {
			events = append(events, &event{object: name, act: actRead, got: missing})
		}
	}
	return events
}

func distinct(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
