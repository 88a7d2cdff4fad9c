package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

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
