package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// Change runs a mutation and its evidence in one transaction (I3). fn does the mutation's statements and returns the records that
// speak of them; it may run a second time, on a fresh transaction, when the first was rolled back for the lane's sake, so
// it must leave nothing behind outside the transaction.
//
// An error from fn rolls back and comes back as it is. When the outcome of the commit is unknown, or isn't known in
// time, the error is of kind Unavailable and wraps postgres.ErrOutcomeUnknown; the mutation is never tried again here.
func (t *Trail) Change(ctx context.Context, fn func(ctx context.Context, tx *postgres.Tx) ([]Record, error)) error {
	t.activity.Add(1)
	err := t.changeOnce(ctx, fn)
	if errors.Is(err, postgres.ErrStreamMoved) {
		err = t.changeOnce(ctx, fn)
	}
	return err
}

func (t *Trail) changeOnce(ctx context.Context, fn func(ctx context.Context, tx *postgres.Tx) ([]Record, error)) error {
	l, err := t.changes.take(ctx)
	if err != nil {
		return err
	}
	tx, err := t.db.Begin(ctx)
	if err != nil {
		t.changes.giveBack(l)
		return postgres.Fault(err)
	}
	next, records, err := t.appendOrRollBack(ctx, tx, l, fn)
	if err != nil {
		return err
	}

	// The commit runs to its answer whatever becomes of the request, and the lane waits for it.
	done := make(chan error, 1)
	go func() {
		began := t.cfg.Clock()
		outcome, err := tx.Commit(ctx)
		t.metrics.round(kindChange, outcome, records, t.cfg.Clock().Sub(began))
		switch outcome {
		case postgres.Committed:
			l.head = next
			l.chain.forget()
			t.epoch.Store(l.epoch)
			t.changes.giveBack(l)
		case postgres.RolledBack:
			t.changes.giveBack(l)
		case postgres.Unknown:
			t.changes.retire(l, err)
		}
		done <- err
	}()

	timer := time.NewTimer(t.cfg.Timeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return postgres.Fault(err)
	case <-timer.C:
		return unavailable(fmt.Errorf("%w: no answer in time", postgres.ErrOutcomeUnknown))
	}
}

// appendOrRollBack runs the mutation and its append. Unless it succeeds, also when fn panics, the transaction is over and
// the lane is out of the caller's hands.
func (t *Trail) appendOrRollBack(ctx context.Context, tx *postgres.Tx, l *lane, fn func(context.Context, *postgres.Tx) ([]Record, error)) (next head, records int, err error) {
	appended := false
	defer func() {
		if appended {
			return
		}
		// No commit was asked for, so whatever happened to the connection, nothing of this takes effect.
		tx.Rollback(ctx)
		if errors.Is(err, postgres.ErrStreamMoved) {
			// What befell this stream may have befallen all: the idle ones are replaced rather than tried one by one.
			t.changes.retireAll(err)
			t.changes.retire(l, err)
		} else {
			t.changes.giveBack(l)
		}
	}()
	next, records, err = t.appendIn(ctx, tx, l, fn)
	appended = err == nil
	return next, records, err
}

// appendIn runs the mutation's statements and the append, and returns where the lane's head will be if this commits.
func (t *Trail) appendIn(ctx context.Context, tx *postgres.Tx, l *lane, fn func(context.Context, *postgres.Tx) ([]Record, error)) (head, int, error) {
	records, err := fn(ctx, tx)
	if err != nil {
		return head{}, 0, err
	}
	if len(records) == 0 {
		return head{}, 0, fault.Wrap(fault.Internal, errors.New("a mutation came without its audit record"), "")
	}
	if err := checkDetails(records); err != nil {
		return head{}, 0, err
	}
	request, next := l.append(t.clock, records)
	sent := t.cfg.Clock()
	result, err := tx.Append(ctx, request)
	if postgres.IsDataError(err) {
		return head{}, 0, fault.Wrap(fault.Internal, err, "")
	}
	if err != nil {
		return head{}, 0, unavailable(err)
	}
	t.clock.observe(result.DatabaseTime, sent)
	l.epoch = result.Epoch
	return next, len(records), nil
}

// openLane opens a stream of its own transaction. An opening whose outcome is unknown goes to the resolver; an error means
// that there is no lane.
func (t *Trail) openLane(ctx context.Context, kind string, before *predecessor) (*lane, error) {
	openCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tx, err := t.db.Begin(openCtx)
	if err != nil {
		return nil, err
	}
	sent := t.cfg.Clock()
	server, err := tx.ServerIdentity(openCtx)
	if err != nil {
		tx.Rollback(ctx)
		return nil, fmt.Errorf("asking the server for its identity: %w", err)
	}
	t.clock.meet(server, sent)
	t.changes.retireOff(server)
	l, row, err := newLane(t.keys, t.vaultID, t.cfg.Process, kind, server, before, t.cfg.Random)
	if err != nil {
		tx.Rollback(ctx)
		return nil, err
	}
	if err := tx.OpenStream(openCtx, row); err != nil {
		tx.Rollback(ctx)
		l.release()
		return nil, fmt.Errorf("opening an audit stream: %w", err)
	}
	switch outcome, err := tx.Commit(openCtx); outcome {
	case postgres.Committed:
		return l, nil
	case postgres.RolledBack:
		l.release()
		return nil, err
	default:
		t.resolver.resolveOpening(l, err)
		return nil, err
	}
}
