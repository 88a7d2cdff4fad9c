package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// conclude commits the evidence of what the use case did, if that is still to be done, and returns what the caller is to be
// told: nothing, or an error. A reason says that the answer may not leave although its evidence is committed.
func (a *attempt) conclude(ctx context.Context, err error) (reason string, _ error) {
	switch {
	case err != nil:
		reason, err = a.failed(ctx, postgres.Fault(err))
	case !a.evidenced:
		reason, err = a.commit(ctx, outcomeOK) // without this line values would leave unrecorded
		if err != nil {
			a.vault.metrics.decided(a.op.action, "unrecorded")
		}
	default:
		// The change stands, whatever has become of the token since.
		a.vault.rows.drop(a.op.name)
		a.vault.metrics.decided(a.op.action, a.outcomeOr(outcomeOK))
		return "", nil
	}
	if errors.Is(err, postgres.ErrOutcomeUnknown) {
		return "", err // it is never tried again, whatever has become of the token
	}
	if reason == "" && a.expired(a.vault.trail.DatabaseTime()) {
		reason = withheldExpired
	}
	if reason == "" && err == nil {
		a.vault.metrics.decided(a.op.action, a.outcomeOr(outcomeOK))
	}
	return reason, err
}

// commit commits the evidence in the next round, which also tells whether what the answer rests on still holds.
func (a *attempt) commit(ctx context.Context, outcome string) (reason string, err error) {
	switch err := a.vault.trail.Disclose(ctx, a.basis, a.evidence(outcome)); {
	case errors.Is(err, audit.ErrStale):
		return withheldChanged, nil
	case errors.Is(err, postgres.ErrGrantsMoved):
		return withheldGrants, nil
	default:
		return "", err
	}
}

// failed records an operation that was allowed and didn't succeed. If even that can't be recorded, the answer is 503:
// whether something exists is an answer, too.
func (a *attempt) failed(ctx context.Context, err error) (reason string, _ error) {
	if errors.Is(err, postgres.ErrGrantsMoved) {
		a.rolledBack = true
		return withheldGrants, nil
	}
	kind := fault.KindOf(err)
	outcome := a.outcomeOr(kind.String())
	if errors.Is(err, postgres.ErrOutcomeUnknown) {
		outcome = "unknown"
	}
	a.outcome = outcome
	a.basis.Held = nil // what was read didn't come to be an answer
	if errors.Is(err, postgres.ErrOutcomeUnknown) {
		a.basis = audit.Basis{} // it is never tried again, whatever has become of the grants: it may have moved them itself
	}
	reason, recordErr := a.commit(ctx, outcome)
	if reason != "" {
		return reason, nil
	}
	a.vault.metrics.decided(a.op.action, outcome)
	if recordErr != nil && kind != fault.Internal {
		return "", fault.Wrap(fault.Unavailable, fmt.Errorf("%w (while recording: %w)", recordErr, err), "")
	}
	return "", err
}

// change runs a mutation; its record commits in the same transaction. fn may run twice, each time on a fresh transaction.
func (a *attempt) change(ctx context.Context, fn func(context.Context, *postgres.Tx) error) error {
	err := a.vault.trail.Change(ctx, func(ctx context.Context, tx *postgres.Tx) ([]audit.Record, error) {
		tx.UnderEpoch(a.who.epoch)
		if err := fn(ctx, tx); err != nil {
			return nil, err
		}
		return a.evidence(outcomeOK), nil
	})
	a.evidenced = err == nil
	if err == nil {
		a.vault.grants.raise(a.madeEpoch)
	}
	if err != nil && a.outcome != outcomeUnverifiable {
		// What the change would have made, and shown, never was.
		a.version, a.detail, a.records = 0, nil, nil
	}
	return err
}

func (a *attempt) evidence(outcome string) []audit.Record {
	if a.records != nil {
		return a.records
	}
	a.one[0] = a.record(outcome)
	return a.one[:]
}

func (a *attempt) outcomeOr(outcome string) string {
	if a.outcome != "" {
		return a.outcome
	}
	return outcome
}

func (a *attempt) note(key string, value any) {
	if a.detail == nil {
		a.detail = map[string]any{}
	}
	a.detail[key] = value
}

// noteSecret notes which secret a change left at which revision, and at which version. What the tables hold is compared with it.
func (a *attempt) noteSecret(id uuid.UUID, revision, version int64) {
	a.note("secret_id", id)
	a.note("revision", revision)
	a.version = version
}

// noteRemoved notes how many versions a change removed.
func (a *attempt) noteRemoved(versions int) {
	delete(a.detail, "versions_removed") // a try before this one was given up
	if versions > 0 {
		a.note("versions_removed", versions)
	}
}

func (a *attempt) record(outcome string) audit.Record {
	return a.recordFor(a.op.action, a.op.name, a.version, a.outcomeOr(outcome))
}

func (a *attempt) recordFor(action, name string, version int64, outcome string) audit.Record {
	r := audit.Record{
		Actor: a.who.actor, ClientIP: a.caller.Address, Action: action, SecretName: name, Version: version,
		Outcome: outcome, RequestID: a.caller.RequestID, TraceID: a.caller.TraceID,
	}
	if r.RequestID == "" {
		r.RequestID = "-"
	}
	switch {
	case len(a.detail) > 0:
		detail := make(map[string]any, len(a.detail)+len(a.op.detail))
		maps.Copy(detail, a.op.detail)
		maps.Copy(detail, a.detail)
		r.Detail = encoded(detail)
	case len(a.op.detail) > 0:
		if a.shared == nil {
			a.shared = encoded(a.op.detail)
		}
		r.Detail = a.shared
	}
	return r
}

// encoded gives a detail as JSON. Details hold numbers, booleans and bounded names only; encoding those can't fail.
func encoded(detail map[string]any) []byte {
	text, _ := json.Marshal(detail)
	return text
}

// mayRead tells whether a caller who may do something else may be shown the value as well.
func (a *attempt) mayRead() bool { return a.vault.mayDisclose(a.caller, a.who, a.op.name) }

// validUntil notes that what is being answered is valid only until then.
func (a *attempt) validUntil(t *time.Time) {
	if t != nil && (a.until == nil || t.Before(*a.until)) {
		a.until = t
	}
}

// expired tells whether the answer's validity ended while its evidence was being committed.
func (a *attempt) expired(now time.Time) bool { return a.until != nil && !now.Before(*a.until) }

// withhold records that an answer which had its record did not leave, and forgets what it was made from. The request starts
// over, a bounded number of times.
func (a *attempt) withhold(ctx context.Context, reason string, before int) error {
	a.vault.rows.drop(a.op.name)
	for _, name := range a.batch {
		a.vault.rows.drop(name)
	}
	if reason == withheldGrants {
		a.vault.grants.doubt()
	}
	if !a.rolledBack {
		a.vault.metrics.withheld.WithLabelValues(reason).Inc()
		a.vault.metrics.decided(a.op.action, outcomeWithheld)
		records := a.evidence(outcomeOK)
		for i := range records {
			records[i].Outcome = outcomeWithheld
		}
		if err := a.vault.trail.Append(ctx, records...); err != nil {
			return err
		}
	}
	if before == maxWithheld {
		return fault.Wrap(fault.Unavailable, fmt.Errorf("the answer was withheld several times, the last time because of %s", reason), "")
	}
	return nil
}
