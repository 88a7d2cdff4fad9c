package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

const (
	// markPeriod is how often, while requests come, the tables are looked at although the epoch hasn't moved: what somebody writes
	// past the vault moves none. It has no effect on what is kept, and is to be noticed.
	markPeriod = time.Second
	// markShare bounds what looking costs: at most this part of the time, however many rows there are.
	markShare = 100
)

// identity is who the gate found the caller to be. Nobody changes it.
type identity struct {
	actor   string
	rules   access.Rules
	tokenID uuid.UUID  // zero without a valid token
	expires *time.Time // of the token; nil is never
	epoch   int64      // of the grants that the rules are of; 0 without a valid token
}

func (i *identity) hasToken() bool { return i.tokenID != uuid.Nil }

// withoutRights is the same actor for the record of a refusal.
func (i *identity) withoutRights() *identity { return &identity{actor: i.actor} }

// grants keeps the whole set of grants, verified and parsed, so that a request looks nothing up. A set that is kept allows nothing
// by itself: the round trip that commits an operation's records returns the grants' epoch, and an answer that was allowed
// under another one is withheld. Nor does it refuse anybody by itself: before that, the database is asked for its epoch.
type grants struct {
	vault *Vault
	view  atomic.Pointer[grantsView]

	mu      sync.Mutex
	next    *flight // what the next look answers
	running bool
	stopped bool
	flights sync.WaitGroup

	highest atomic.Int64 // the highest epoch that was ever verified or made here
}

// raise notes an epoch that was verified, or made by a change that is committed: what is older is never taken again.
func (g *grants) raise(epoch int64) {
	for known := g.highest.Load(); known < epoch; known = g.highest.Load() {
		if g.highest.CompareAndSwap(known, epoch) {
			return
		}
	}
}

// grantsView is what the last look found. Nobody changes it.
type grantsView struct {
	set *authority // the last one that verified
	// refused says why nothing is granted: the database has another epoch's grants, and they don't verify.
	refused error
	// damage says that the tables aren't what the kept set was read from, without any other epoch. It has no effect but the alarm.
	damage  error
	bad     postgres.GrantsMark // what refused or damage were found in
	suspect bool                // somebody was told of another epoch
	lookAt  time.Time           // when the tables are to be looked at again
}

// flight is one look at the database, for everyone who waits for it. It begins after they came.
type flight struct {
	whole bool // look at the tables, not only at the epoch
	view  *grantsView
	err   error
	done  chan struct{}
}

func newGrants(v *Vault) *grants {
	g := &grants{vault: v}
	g.view.Store(&grantsView{})
	return g
}

// current gives the set that is kept if it is of that epoch or a later one, else nil. Once it is time to look at the tables again,
// one request has that begin, and waits for nothing.
func (g *grants) current(epoch int64, now time.Time) *authority {
	view := g.view.Load()
	if view.set == nil || view.refused != nil || view.suspect || view.set.epoch < epoch || view.set.epoch < g.highest.Load() {
		return nil
	}
	if !now.Before(view.lookAt) {
		later := *view
		later.lookAt = now.Add(markPeriod)
		if g.view.CompareAndSwap(view, &later) {
			g.join(true)
		}
	}
	return view.set
}

// doubt makes the next request ask the database.
func (g *grants) doubt() {
	for view := g.view.Load(); !view.suspect; view = g.view.Load() {
		doubted := *view
		doubted.suspect = true
		if g.view.CompareAndSwap(view, &doubted) {
			return
		}
	}
}

// ask asks the database for its epoch, and reads the grants if it isn't that of the set which is kept. What comes back was so after the
// call.
func (g *grants) ask(ctx context.Context) (*authority, error) {
	view, err := g.wait(ctx, g.join(false))
	if err != nil {
		return nil, err
	}
	return view.set, nil
}

// whole is ask for who is to be told what the tables hold: they must be as they were read, row by row.
func (g *grants) whole(ctx context.Context) (*authority, error) {
	view, err := g.wait(ctx, g.join(true))
	if err != nil {
		return nil, err
	}
	return view.set, view.damage
}

func (g *grants) wait(ctx context.Context, one *flight) (*grantsView, error) {
	if one == nil {
		return nil, fault.Wrap(fault.Unavailable, errLookupsStopped, "")
	}
	select {
	case <-one.done:
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "")
	}
	if one.err != nil {
		return nil, one.err
	}
	if one.view.refused != nil {
		return nil, fault.Wrap(fault.Unavailable, one.view.refused, "")
	}
	return one.view, nil
}

// join takes part in the next look; nil means that there are no more.
func (g *grants) join(whole bool) *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil
	}
	if g.next == nil {
		g.next = &flight{done: make(chan struct{})}
	}
	g.next.whole = g.next.whole || whole
	if !g.running {
		g.running = true
		g.flights.Add(1)
		go g.fly()
	}
	return g.next
}

// fly looks as long as somebody waits. A client that leaves doesn't end it: others wait, too.
func (g *grants) fly() {
	defer g.flights.Done()
	for {
		g.mu.Lock()
		one := g.next
		g.next, g.running = nil, one != nil
		g.mu.Unlock()
		if one == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), workLimit)
		one.view, one.err = g.look(ctx, one.whole)
		cancel()
		close(one.done)
	}
}

// stop refuses looks from now on, and waits for the one under way as long as ctx lets it. That one ends by itself, by its own limit.
func (g *grants) stop(ctx context.Context) error {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		g.flights.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a look at the grants is still under way: %w", context.Cause(ctx))
	}
}

// look compares what is kept with the database.
func (g *grants) look(ctx context.Context, whole bool) (*grantsView, error) {
	v, before := g.vault, g.view.Load()
	// What becomes known while the tables are read may be newer than they.
	floor := g.highest.Load()
	if before.set != nil && before.refused == nil && !whole {
		state, err := v.db.AuthzState(ctx)
		if err == nil && state.Epoch == before.set.epoch && state.Epoch >= floor {
			return g.settle(before, *before), nil
		}
		if err != nil && !postgres.IsNotFound(err) {
			return nil, postgres.Fault(err)
		}
	}
	began := v.cfg.Clock()
	mark, err := v.db.GrantsMark(ctx)
	if err != nil && !postgres.IsNotFound(err) {
		return nil, postgres.Fault(err)
	}
	now := v.cfg.Clock()
	lookAt := now.Add(max(markPeriod, markShare*now.Sub(began)))
	switch {
	case before.set != nil && before.refused == nil && mark == before.set.mark() && before.set.epoch >= floor:
		return g.settle(before, grantsView{set: before.set, lookAt: lookAt}), nil
	case (before.refused != nil || before.damage != nil) && mark == before.bad:
		after := *before
		after.lookAt = lookAt
		return g.settle(before, after), nil
	}
	rows, err := v.db.Grants(ctx)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	set, err := verifyAuthority(v.keys, rows, 0)
	if errors.Is(err, integrity.ErrUnknownKey) {
		if err := v.refreshKeys(ctx); err != nil {
			return nil, err
		}
		set, err = verifyAuthority(v.keys, rows, 0)
	}
	v.keys.RefreshSoon() // another epoch may mean that a root was retired
	after := g.judge(before, set, err, rows, floor)
	after.lookAt = lookAt
	return g.settle(before, after), nil
}

// settle makes what was found the view. A doubt that came while it was being found stays.
func (g *grants) settle(before *grantsView, after grantsView) *grantsView {
	after.suspect = false
	if !g.view.CompareAndSwap(before, &after) {
		after.suspect = g.view.Load().suspect && !before.suspect
		g.view.Store(&after)
	}
	return &after
}

var (
	errEpochBack = fmt.Errorf("%w: the grants' epoch went back: an older state was put back", errDamaged)
	errForked    = fmt.Errorf("%w: other grants than before bear the same epoch: an older state was put back and changed", errDamaged)
)

// judge decides what is granted after the tables were read.
func (g *grants) judge(before *grantsView, set *authority, err error, rows []postgres.GrantRow, floor int64) grantsView {
	mark := markOf(rows)
	if err == nil {
		switch {
		case set.epoch < floor:
			err = errEpochBack
		case before.set != nil && set.epoch == before.set.epoch && !set.same(before.set):
			err = errForked
		default:
			g.raise(set.epoch)
			g.vault.metrics.grantsVerified.Set(1)
			return grantsView{set: set}
		}
	} else if before.set != nil && before.refused == nil && mark.Epoch == before.set.epoch && before.set.epoch >= floor && !before.set.lacks(g.vault.keys, rows) {
		g.alarm(err, "has no effect here")
		return grantsView{set: before.set, damage: err, bad: mark}
	}
	g.alarm(err, "nothing is granted to any token until they verify")
	return grantsView{set: before.set, refused: err, bad: mark}
}

// alarm tells of grants that don't verify, once for each state of the tables.
func (g *grants) alarm(err error, effect string) {
	v := g.vault
	v.metrics.grantsVerified.Set(0)
	v.metrics.integrity.WithLabelValues(ActionGrants).Inc()
	v.log.Error("integrity alarm: the grants in the database don't verify", "effect", effect, "error", err)
	// On the denials' stream, which delays nobody's read.
	g.flights.Add(1)
	go func() {
		defer g.flights.Done()
		v.trail.Deny(context.Background(), audit.Record{
			Actor: v.trail.Actor(), Action: ActionGrants, Outcome: outcomeUnverifiable, RequestID: "-",
			Detail: encoded(map[string]any{"reason": bounded(err.Error())}),
		})
	}()
}

// maxReason bounds what a record tells of a row that doesn't verify, which holds whatever somebody put there.
const maxReason = 512

func bounded(text string) string {
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

func (a *authority) mark() postgres.GrantsMark {
	return postgres.GrantsMark{Epoch: a.epoch, Tuples: a.tuples}
}

func markOf(rows []postgres.GrantRow) postgres.GrantsMark {
	for i := range rows {
		if rows[i].Kind == "state" {
			return postgres.GrantsMark{Epoch: rows[i].Epoch, Tuples: rows[i].Tuples}
		}
	}
	return postgres.GrantsMark{}
}

// registerGrants exports whether the grants verify.
func (m *metrics) registerGrants(registerer prometheus.Registerer) {
	m.grantsVerified = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "sealkeep", Subsystem: "vault", Name: "grants_verified",
		Help: "1 while the roles, permissions and tokens in the database are those of their snapshot; 0 is an alarm.",
	})
	if registerer != nil {
		registerer.MustRegister(m.grantsVerified)
	}
}

// anonymous is a caller without a valid token.
func anonymous(c Caller) *identity {
	if c.Address.IsValid() {
		return &identity{actor: string(c.Address.AppendTo(append(make([]byte, 0, 64), "address:"...)))}
	}
	return &identity{actor: "anonymous"}
}

// identify finds out whose token this is. Without a token the caller is only an address. fresh asks the database whatever is
// kept; kept tells that it was not asked.
func (v *Vault) identify(ctx context.Context, c Caller, fresh bool) (who *identity, kept bool, err error) {
	if c.Token.IsZero() {
		return anonymous(c), false, nil
	}
	fingerprint, err := access.ParseToken(c.Token.Reveal())
	if err != nil {
		return anonymous(c), false, invalidToken("the token is malformed")
	}
	var set *authority
	if !fresh {
		set = v.grants.current(v.trail.Epoch(), v.cfg.Clock())
		kept = set != nil
	}
	if set == nil {
		if set, err = v.grants.ask(ctx); err != nil {
			return anonymous(c), false, err
		}
	}
	at := v.trail.DatabaseTime()
	who, err = set.bearer(fingerprint, at)
	if who == nil {
		who = anonymous(c)
	}
	if err == nil {
		v.uses.touch(who.tokenID, at)
	}
	return who, kept, err
}

func invalidToken(reason string) error {
	return fault.Wrap(fault.Unauthenticated, errors.New(reason), "the token is not valid")
}
