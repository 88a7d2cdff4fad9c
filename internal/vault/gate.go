package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
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

// identity is who the gate found the caller to be.
type identity struct {
	actor   string
	rules   access.Rules
	tokenID uuid.UUID // zero without a valid token
}

func (i identity) hasToken() bool { return i.tokenID != uuid.Nil }

// attempt is one operation on its way through the gate. The use case fills in what it learns for the record.
type attempt struct {
	vault  *Vault
	caller Caller
	who    identity
	op     operation

	version int64          // the version that the record should name
	outcome string         // overrides the outcome that follows from the result
	detail  map[string]any // joins the operation's
	records []audit.Record // replaces the one record of the operation when it speaks of several names
	until   *time.Time     // when what is answered ceases to be valid; nil is never

	evidenced bool // the record was committed with the mutation
}

const (
	outcomeOK           = "ok"
	outcomeDenied       = "denied"
	outcomeUnverifiable = "unverifiable"
	outcomeWithheld     = "withheld"
)

// workLimit bounds what is asked of the database and the key keeper before the evidence, which has a limit of its own. It is
// longer than any wait for a row's lock (the sessions' lock_timeout), and short enough that a database that keeps its
// connections open and says nothing means a quick 503.
const workLimit = 4 * time.Second

// maxWithheld bounds how often an answer that expired on its way is prepared anew.
const maxWithheld = 3

// pass is the gate. It authorizes op for the caller, runs use, and commits the evidence; only then does use's result come
// back. On any failure the result is released and only an error leaves. No use case discloses or changes anything except
// through here; Init and RecoverToken, which serve whoever holds the database and the key keeper and have no caller, write
// their evidence themselves.
func pass[T any](ctx context.Context, v *Vault, c Caller, op operation, use func(context.Context, *attempt) (T, error)) (T, error) {
	var none T
	work, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	who, err := v.authorize(work, c, op)
	if err != nil {
		return none, v.refuse(ctx, c, op, who, err)
	}
	for withheld := 0; ; withheld++ {
		a := &attempt{vault: v, caller: c, who: who, op: op}
		result, err := run(ctx, work, a, use)
		if err != nil {
			release(result)
			return none, a.failed(ctx, postgres.Fault(err))
		}
		if !a.evidenced {
			if err := v.trail.Append(ctx, a.evidence(outcomeOK)...); err != nil { // without this line values would leave unrecorded
				release(result)
				v.metrics.decisions.WithLabelValues(op.action, "unrecorded").Inc()
				return none, err
			}
		}
		if a.expired(v.trail.DatabaseTime()) {
			release(result)
			if err := a.withhold(ctx, withheld); err != nil {
				return none, err
			}
			continue
		}
		v.metrics.decisions.WithLabelValues(op.action, a.outcomeOr(outcomeOK)).Inc()
		return result, nil
	}
}

// run runs the use case. An attempt that panics is recorded like any that fails; the panic goes on to the edge.
func run[T any](ctx, work context.Context, a *attempt, use func(context.Context, *attempt) (T, error)) (T, error) {
	returned := false
	defer func() {
		if !returned {
			_ = a.failed(ctx, fault.Wrap(fault.Internal, errors.New("panic"), ""))
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
// depends on whether the name exists.
func (v *Vault) authorize(ctx context.Context, c Caller, op operation) (identity, error) {
	who, err := v.identify(ctx, c)
	if !c.Address.IsValid() {
		return who, denied("the client's address is unknown")
	}
	disclosure := op.rule == needsReader || op.rule == needsReaderOfEach
	if disclosure && !v.cfg.Allowlist.Contains(c.Address) {
		return who, denied("the address is not in VAULT_ALLOWED_IPS")
	}
	if disclosure && v.cfg.ReadAuth == ReadAuthIP {
		// Here a token names the actor if it is valid, and is ignored otherwise.
		if err != nil && fault.KindOf(err) == fault.Unauthenticated {
			return anonymous(c), nil
		}
		return who, err
	}
	switch {
	case err != nil:
		return who, err
	case !who.hasToken():
		return who, fault.New(fault.Unauthenticated, "a token is needed: send it as Authorization: Bearer svk_…")
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
		return who, denied("the token's role doesn't allow it")
	}
	return who, nil
}

// mayDisclose is the rule of reading: an allowlisted address, and with ip+token a token whose role may read the name.
func (v *Vault) mayDisclose(c Caller, who identity, name string) bool {
	return v.cfg.Allowlist.Contains(c.Address) && (v.cfg.ReadAuth == ReadAuthIP || who.rules.Allows(access.Read, name))
}

// anonymous is a caller without a valid token.
func anonymous(c Caller) identity {
	if c.Address.IsValid() {
		return identity{actor: "address:" + c.Address.String()}
	}
	return identity{actor: "anonymous"}
}

// denied keeps the reason for the record and the log; the caller learns only that it may not.
func denied(reason string) error {
	return fault.Wrap(fault.Denied, errors.New(reason), "not allowed")
}

// identify finds out whose token this is. Without a token the caller is only an address.
func (v *Vault) identify(ctx context.Context, c Caller) (identity, error) {
	who := anonymous(c)
	if c.Token.IsZero() {
		return who, nil
	}
	invalid := func(reason string) error {
		return fault.Wrap(fault.Unauthenticated, errors.New(reason), "the token is not valid")
	}
	fingerprint, err := access.ParseToken(c.Token.Reveal())
	if err != nil {
		return who, invalid("the token is malformed")
	}
	grant, err := v.db.Grant(ctx, fingerprint[:])
	if postgres.IsNotFound(err) {
		return who, invalid("the token is unknown")
	}
	if err != nil {
		return who, postgres.Fault(err)
	}
	var stored access.Fingerprint
	if copy(stored[:], grant.TokenSha256) != len(stored) || !stored.Equal(fingerprint) {
		return who, invalid("the token is unknown")
	}
	who.actor = "token:" + grant.Name
	switch {
	case grant.RevokedAt != nil:
		return who, invalid("the token was revoked")
	case grant.ExpiresAt != nil && !grant.ReadAt.Before(*grant.ExpiresAt):
		return who, invalid("the token has expired")
	}
	permissions := make([]access.Permission, 0, len(grant.Actions))
	for i, action := range grant.Actions {
		if i < len(grant.Paths) {
			permissions = append(permissions, access.Permission{Action: access.Action(action), Path: access.Pattern(grant.Paths[i])})
		}
	}
	who.rules = access.NewRules(grant.IsAdmin, permissions)
	who.tokenID = grant.ID
	v.uses.touch(grant.ID, grant.ReadAt)
	return who, nil
}

// refuse records a denial and gives the caller its error. An infrastructure failure is no denial: it is only counted.
func (v *Vault) refuse(ctx context.Context, c Caller, op operation, who identity, err error) error {
	kind := fault.KindOf(err)
	v.metrics.decisions.WithLabelValues(op.action, kind.String()).Inc()
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

// failed records an operation that was allowed and didn't succeed. If even that can't be recorded, the answer is 503:
// whether something exists is an answer, too.
func (a *attempt) failed(ctx context.Context, err error) error {
	kind := fault.KindOf(err)
	outcome := a.outcomeOr(kind.String())
	if errors.Is(err, postgres.ErrOutcomeUnknown) {
		outcome = "unknown"
	}
	a.vault.metrics.decisions.WithLabelValues(a.op.action, outcome).Inc()
	a.outcome = outcome
	if recordErr := a.vault.trail.Append(ctx, a.evidence(outcome)...); recordErr != nil && kind != fault.Internal {
		return fault.Wrap(fault.Unavailable, fmt.Errorf("%w (while recording: %w)", recordErr, err), "")
	}
	return err
}

// change runs a mutation; its record commits in the same transaction. fn may run twice, each time on a fresh transaction.
func (a *attempt) change(ctx context.Context, fn func(context.Context, *postgres.Tx) error) error {
	err := a.vault.trail.Change(ctx, func(ctx context.Context, tx *postgres.Tx) ([]audit.Record, error) {
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
	return []audit.Record{a.record(outcome)}
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
	if len(a.detail)+len(a.op.detail) > 0 {
		detail := make(map[string]any, len(a.detail)+len(a.op.detail))
		for k, val := range a.op.detail {
			detail[k] = val
		}
		for k, val := range a.detail {
			detail[k] = val
		}
		// Details hold numbers, booleans and bounded names only; encoding those can't fail.
		r.Detail, _ = json.Marshal(detail)
	}
	return r
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

// withhold records that an answer which had its record did not leave. The request starts over, a bounded number of times.
func (a *attempt) withhold(ctx context.Context, before int) error {
	a.vault.metrics.decisions.WithLabelValues(a.op.action, outcomeWithheld).Inc()
	records := a.evidence(outcomeOK)
	for i := range records {
		records[i].Outcome = outcomeWithheld
	}
	if err := a.vault.trail.Append(ctx, records...); err != nil {
		return err
	}
	if before == maxWithheld {
		return fault.Wrap(fault.Unavailable, errors.New("the answer expired on its way, several times"), "")
	}
	return nil
}
