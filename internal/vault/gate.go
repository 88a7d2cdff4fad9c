package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/limit"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// rule says what an operation asks of its caller.
type rule uint8

const (
	needsAdmin        rule = iota // a token of an admin role
	needsRight                    // a token whose role has the operation's right on its name
	needsAnyRight                 // a token whose role has any right on its name
	needsToken                    // any valid token
	needsReader                   // an allowlisted address, and with ip+token a token that may read the name
	needsReaderOfEach             // as before, but names are decided one by one afterwards
)

// operation is what a caller asks for, as the gate and the audit trail see it.
type operation struct {
	action string        // as audited
	rule   rule          // what the caller needs
	right  access.Action // for needsRight
	name   string        // the secret's name, or the role's or token's for detail
	detail map[string]any
}

// attempt is one operation on its way through the gate. The use case fills in what it learns for the record.
type attempt struct {
	vault  *Vault
	caller Caller
	who    *identity
	op     operation

	version int64          // the version that the record should name
	outcome string         // overrides the outcome that follows from the result
	detail  map[string]any // joins the operation's
	records []audit.Record // replaces the one record of the operation when it speaks of several names
	until   *time.Time     // when what is answered ceases to be valid; nil is never
	basis   audit.Basis    // what the answer rests on
	batch   []string       // the names of the operation when it has several

	one    [1]audit.Record  // room for what most operations need
	held   [1]postgres.Held // likewise
	shared []byte           // the operation's detail, encoded once for all records that have no other

	evidenced  bool // the record was committed with the mutation
	rolledBack bool // the mutation was rolled back: there is nothing to be recorded
}

const (
	outcomeOK           = "ok"
	outcomeDenied       = "denied"
	outcomeUnverifiable = "unverifiable"
	outcomeWithheld     = "withheld"
)

// Why an answer that has its record doesn't leave.
const (
	withheldChanged = "changed" // a row that it was made from changed or expired before the record was committed
	withheldGrants  = "grants"  // the grants changed since they allowed it
	withheldExpired = "expired" // it, or the token, expired on the way
)

// workLimit bounds what is asked of the database and the key keeper before the evidence, which has a limit of its own. It is
// longer than any wait for a row's lock (the sessions' lock_timeout), and short enough that a database that keeps its
// connections open and says nothing means a quick 503.
const workLimit = 4 * time.Second

// maxWithheld bounds how often an answer that may not leave is prepared anew.
const maxWithheld = 3

// pass is the gate. It authorizes op for the caller, runs use, and commits the evidence; only then does use's result come
// back, and only if what it rests on, the rows and the grants, was still so when the evidence was committed. On any failure the
// result is released and only an error leaves. No use case discloses or changes anything except through here; Init and
// RecoverToken, which serve whoever holds the database and the key keeper and have no caller, write their evidence
// themselves.
func pass[T any](ctx context.Context, v *Vault, c Caller, op operation, use func(context.Context, *attempt) (T, error)) (T, error) {
	var none T
	work := limit.New(ctx, workLimit, v.cfg.Clock)
	defer work.End()
	for withheld := 0; ; withheld++ {
		who, err := v.authorize(work, c, op)
		if err != nil {
			return none, v.refuse(ctx, c, op, who, err)
		}
		if !v.trail.Ready() {
			v.metrics.decided(op.action, fault.Unavailable.String())
			return none, fault.Wrap(fault.Unavailable, errNoEvidence, "")
		}
		a := &attempt{vault: v, caller: c, who: who, op: op}
		a.basis.Epoch, a.basis.Held = who.epoch, a.held[:0]
		a.validUntil(who.expires)
		result, err := run(ctx, work, a, use)
		reason, err := a.conclude(ctx, err)
		if reason == "" && err == nil {
			return result, nil
		}
		release(result)
		if reason == "" {
			return none, err
		}
		if a.rolledBack && work.Err() == nil {
			withheld-- // others change grants, too: somebody got on each time
		}
		if err := a.withhold(ctx, reason, withheld); err != nil {
			return none, err
		}
	}
}

var errNoEvidence = errors.New("audit rounds can't run, so nothing is answered")

// run runs the use case. An attempt that panics is recorded like any that fails; the panic goes on to the edge.
func run[T any](ctx, work context.Context, a *attempt, use func(context.Context, *attempt) (T, error)) (T, error) {
	returned := false
	defer func() {
		if !returned {
			_, _ = a.failed(ctx, fault.Wrap(fault.Internal, errors.New("panic"), ""))
		}
	}()
	result, err := use(work, a)
	returned = true
	return result, err
}

func release(result any) {
	if r, ok := result.(interface{ Release() }); ok {
		r.Release()
	}
}

// authorize decides. It fails closed: what can't be looked up is unavailable, what isn't allowed is denied, and neither
// depends on whether the name exists. Nobody is refused on the word of a grant that was kept.
func (v *Vault) authorize(ctx context.Context, c Caller, op operation) (*identity, error) {
	who, kept, err := v.identify(ctx, c, false)
	err = v.decide(c, op, who, err)
	if err != nil && kept {
		who, _, err = v.identify(ctx, c, true)
		err = v.decide(c, op, who, err)
	}
	if err == nil && !who.hasToken() && !c.Token.IsZero() {
		return anonymous(c), nil // a token that is ignored is not the actor
	}
	return who, err
}

// decide tells whether who, of whom identify said invalid, may do op.
func (v *Vault) decide(c Caller, op operation, who *identity, invalid error) error {
	if !c.Address.IsValid() {
		return denied("the client's address is unknown")
	}
	disclosure := op.rule == needsReader || op.rule == needsReaderOfEach
	if disclosure && !v.cfg.Allowlist.Contains(c.Address) {
		return denied("the address is not in VAULT_ALLOWED_IPS")
	}
	if disclosure && v.cfg.ReadAuth == ReadAuthIP {
		// Here a token names the actor if it is valid, and is ignored otherwise.
		if invalid != nil && fault.KindOf(invalid) == fault.Unauthenticated {
			return nil
		}
		return invalid
	}
	switch {
	case invalid != nil:
		return invalid
	case !who.hasToken():
		return fault.New(fault.Unauthenticated, "a token is needed: send it as Authorization: Bearer svk_…")
	}
	allowed := false
	switch op.rule {
	case needsAdmin:
		allowed = who.rules.IsAdmin()
	case needsRight:
		allowed = who.rules.Allows(op.right, op.name)
	case needsAnyRight:
		allowed = who.rules.AllowsAny(op.name)
	case needsToken, needsReaderOfEach:
		allowed = true
	case needsReader:
		allowed = v.mayDisclose(c, who, op.name)
	}
	if !allowed {
		return denied("the token's role doesn't allow it")
	}
	return nil
}

// mayDisclose is the rule of reading: an allowlisted address, and with ip+token a token whose role may read the name.
func (v *Vault) mayDisclose(c Caller, who *identity, name string) bool {
	return v.cfg.Allowlist.Contains(c.Address) && (v.cfg.ReadAuth == ReadAuthIP || who.rules.Allows(access.Read, name))
}

// denied keeps the reason for the record and the log; the caller learns only that it may not.
func denied(reason string) error {
	return fault.Wrap(fault.Denied, errors.New(reason), "not allowed")
}

// refuse records a denial and gives the caller its error. An infrastructure failure is no denial: it is only counted.
func (v *Vault) refuse(ctx context.Context, c Caller, op operation, who *identity, err error) error {
	kind := fault.KindOf(err)
	v.metrics.decided(op.action, kind.String())
	if kind != fault.Denied && kind != fault.Unauthenticated {
		return err
	}
	reason := ""
	if cause := errors.Unwrap(err); cause != nil {
		reason = cause.Error()
	}
	a := &attempt{vault: v, caller: c, who: who, op: op, outcome: kind.String()}
	if reason != "" {
		a.detail = map[string]any{"reason": reason}
	}
	v.trail.Deny(ctx, a.record(outcomeDenied))
	return err
}

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
	a.vault.metrics.withheld.WithLabelValues(reason).Inc()
	a.vault.metrics.decided(a.op.action, outcomeWithheld)
	a.vault.rows.drop(a.op.name)
	for _, name := range a.batch {
		a.vault.rows.drop(name)
	}
	if reason == withheldGrants && !a.caller.Token.IsZero() {
		if fingerprint, err := access.ParseToken(a.caller.Token.Reveal()); err == nil {
			a.vault.grants.drop(fingerprint)
		}
	}
	if !a.rolledBack {
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
