package audit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// run is the appender's loop. Each turn makes sure of a connection and a lane, then runs one round.
func (a *appender) run(ctx context.Context) {
	defer a.shutdown(ctx)
	backoff := 20 * time.Millisecond
	for ctx.Err() == nil {
		if err := a.prepare(ctx); err != nil {
			a.ready.Store(false)
			a.refuseQueued(err)
			a.trail.log.Warn("audit rounds can't run", "stream", a.kind, "error", err)
			if !sleep(ctx, backoff/2+rand.N(backoff/2)) { //nolint:gosec // jitter, not a secret
				return
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = 20 * time.Millisecond
		a.ready.Store(true)

		entries := a.take()
		if len(entries) == 0 {
			a.idle(ctx)
			continue
		}
		a.round(ctx, entries)
	}
}

// prepare makes sure of a live connection to the server that the lane is bound to, and of a lane.
func (a *appender) prepare(ctx context.Context) error {
	if a.conn == nil {
		connectCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		conn, err := a.trail.db.AuditConn(connectCtx)
		if err != nil {
			return err
		}
		sent := a.trail.cfg.Clock()
		server, err := conn.ServerIdentity(connectCtx)
		if err != nil {
			conn.Close(ctx)
			return err
		}
		a.conn = conn
		a.connection.Add(1)
		a.trail.clock.meet(server, sent)
		if a.lane != nil && !a.lane.on(server) {
			a.abandonLane(errServerChanged)
		}
		a.trail.changes.retireOff(server)
	}
	if a.lane != nil && a.lane.ahead(a.trail.clock) {
		a.abandonLane(errClockSetBack)
	}
	if a.lane != nil && !a.lane.current(a.trail.keys) {
		a.before = &predecessor{id: a.lane.id, head: a.lane.head}
		a.trail.resolver.closeCleanly(a.lane)
		a.lane = nil
	}
	if a.lane != nil {
		return nil
	}
	lane, err := a.trail.openLane(ctx, a.kind, a.before)
	if err != nil {
		return err
	}
	a.lane, a.before = lane, nil
	return nil
}

// idle waits for work, and between looks whether the connection still stands.
func (a *appender) idle(ctx context.Context) {
	timer := time.NewTimer(aliveEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-a.wake:
	case <-timer.C:
		pingCtx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if !a.conn.Alive(pingCtx) && ctx.Err() == nil {
			a.ready.Store(false)
			a.dropConn(ctx)
		}
	}
}

func (a *appender) dropConn(ctx context.Context) {
	if a.conn != nil {
		a.conn.Close(ctx)
		a.conn = nil
	}
}

// round commits the entries' records in one statement and answers them. When the database refuses the data of a round,
// it is halved until the offender is alone, so that nobody else's read fails with it.
func (a *appender) round(ctx context.Context, entries []*entry) {
	for attempt := 0; ; attempt++ {
		request, next := a.request(entries)
		began := a.trail.cfg.Clock()
		a.stall.Reset(a.trail.cfg.Timeout)
		result, outcome, err := a.conn.Append(ctx, request)
		a.stall.Stop()
		a.trail.metrics.round(a.kind, outcome, len(request.Records), a.trail.cfg.Clock().Sub(began))

		switch {
		case outcome == postgres.Committed:
			a.trail.clock.observe(result.DatabaseTime, began)
			a.trail.epoch.Store(result.Epoch)
			a.lane.head = next
			a.lane.chain.forget()
			a.settle(entries, &result)
			return

		case outcome == postgres.Unknown:
			// The records may be there or not: nothing is disclosed, and this lane is never written again.
			a.ready.Store(false)
			a.refuse(entries, unavailable(err))
			a.abandonLane(err)
			a.dropConn(ctx)
			return

		case errors.Is(err, postgres.ErrStreamMoved) && attempt == 0:
			a.abandonLane(err)
			a.trail.changes.retireAll(err)
			if err := a.prepare(ctx); err != nil {
				a.ready.Store(false)
				a.refuse(entries, unavailable(err))
				return
			}

		case postgres.IsDataError(err) && len(entries) > 1:
			a.round(ctx, entries[:len(entries)/2])
			entries, attempt = entries[len(entries)/2:], -1
			if a.lane == nil || a.conn == nil {
				a.refuse(entries, unavailable(err))
				return
			}

		case postgres.IsDataError(err):
			a.trail.log.Error("the database refused an audit record", "stream_id", a.lane.id, "error", err)
			answer(entries, fault.Wrap(fault.Internal, err, ""))
			return

		default:
			a.trail.log.Error("an audit round failed", "stream_id", a.lane.id, "error", err)
			a.refuse(entries, unavailable(err))
			// The clock may have gone wrong, or the server: find out anew. Nothing is in doubt.
			a.ready.Store(false)
			a.dropConn(ctx)
			return
		}
	}
}

// request makes one append of the entries' records, and of the rows that their answers rest on.
func (a *appender) request(entries []*entry) (postgres.Append, head) {
	a.held = a.held[:0]
	a.lane.begin(a.trail.clock.read())
	for _, e := range entries {
		for i := range e.records {
			a.lane.chain.add(&e.records[i])
		}
		a.held = append(a.held, e.basis.Held...)
	}
	request, next := a.lane.request()
	request.Held = a.held
	return request, next
}

// settle answers entries whose records are committed: with nil only those whose basis held.
func (a *appender) settle(entries []*entry, result *postgres.Appended) {
	connection, first := a.connection.Load(), 0
	for _, e := range entries {
		held := len(e.basis.Held) // once it is answered the entry is another's
		e.done <- e.basis.judge(result, connection, first)
		first += held
	}
}

// abandonLane gives the lane to the resolver; the next one names it as its predecessor.
func (a *appender) abandonLane(reason error) {
	if a.lane == nil {
		return
	}
	a.before = &predecessor{id: a.lane.id, head: a.lane.head}
	a.trail.resolver.resolve(a.lane, reason)
	a.lane = nil
}

// shutdown refuses what is still queued and hands the lane over to be closed.
func (a *appender) shutdown(ctx context.Context) {
	a.ready.Store(false)
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	a.refuseQueued(errNotReady)
	a.dropConn(ctx)
	if a.lane != nil {
		a.trail.resolver.closeCleanly(a.lane)
		a.lane = nil
	}
}

// sleep waits for d; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
