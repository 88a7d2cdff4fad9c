package vault

import (
	"context"
	"errors"
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
	needsAddress                  // an allowlisted address; what else the use case asks for
)

// operation is what a caller asks for, as the gate and the audit trail see it.
type operation struct {
	action string        // as audited
	rule   rule          // what the caller needs
	right  access.Action // for needsRight
	name   string        // the secret's name, or the role's or token's for detail
	detail map[string]any
}

// discloses tells whether the operation is for listed addresses alone.
func (op operation) discloses() bool {
	return op.rule == needsReader || op.rule == needsReaderOfEach || op.rule == needsAddress
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

	kept       bool  // something that it was made from was kept
	refuseKept bool  // it is to be made from what is looked up alone
	freshKeys  bool  // the keyring was read again since the request came
	told       bool  // what doesn't verify was recorded, by who doesn't pass the gate
	evidenced  bool  // the record was committed with the mutation
	madeEpoch  int64 // of the grants, by the mutation; 0 if it changes none
	rolledBack bool  // the mutation was rolled back: there is nothing to be recorded
}

const (
	outcomeOK           = "ok"
	outcomeDenied       = "denied"
	outcomeUnverifiable = "unverifiable"
	outcomeWithheld     = "withheld"
	outcomeUnchanged    = "unchanged"
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
const maxWithheld = 7

// pass is the gate. It authorizes op for the caller, runs use, and commits the evidence; only then does use's result come
// back, and only if what it rests on, the rows and the grants, was still so when the evidence was committed. On any failure the
// result is released and only an error leaves. No use case discloses or changes anything except through here; Init and
// RecoverToken, which serve whoever holds the database and the key keeper and have no caller, write their evidence
// themselves.
func pass[T any](ctx context.Context, v *Vault, c Caller, op operation, use func(context.Context, *attempt) (T, error)) (T, error) {
	var none T
	work := limit.New(ctx, workLimit, v.cfg.Clock)
	defer work.End()
	refuseKept, freshKeys := false, false
	for withheld := 0; ; withheld++ {
		who, err := v.authorize(work, c, op)
		if err != nil {
			return none, v.refuse(ctx, c, op, who, err)
		}
		if !v.trail.Ready() {
			v.metrics.decided(op.action, fault.Unavailable.String())
			return none, fault.Wrap(fault.Unavailable, errNoEvidence, "")
		}
		a := &attempt{vault: v, caller: c, who: who, op: op, refuseKept: refuseKept, freshKeys: freshKeys}
		a.basis.Epoch, a.basis.Held = who.epoch, a.held[:0]
		a.validUntil(who.expires)
		result, err := run(ctx, work, a, use)
		if errors.Is(err, errKeptDamage) {
			release(result)
			refuseKept = true
			continue
		}
		if errors.Is(err, errKeysBehind) {
			release(result)
			if err = v.refreshKeys(work); err == nil {
				refuseKept, freshKeys = true, true
				continue
			}
		}
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
// depends on whether the name exists. Nobody is refused, and no token ignored, on the word of grants that were kept.
func (v *Vault) authorize(ctx context.Context, c Caller, op operation) (*identity, error) {
	who, kept, invalid := v.identify(ctx, c, false)
	err := v.decide(c, op, who, invalid)
	if kept && (err != nil || invalid != nil) {
		who, _, invalid = v.identify(ctx, c, true)
		err = v.decide(c, op, who, invalid)
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
	if op.discloses() && !v.cfg.Allowlist.Contains(c.Address) {
		return denied("the address is not in VAULT_ALLOWED_IPS")
	}
	if op.rule == needsAddress || op.discloses() && v.cfg.ReadAuth == ReadAuthIP {
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
	case needsToken, needsReaderOfEach, needsAddress:
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
