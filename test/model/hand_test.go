package model

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// prepareEdits makes what edits by hand need: a place for the rows of what is deleted, and one for those to be put back.
func (r *run) prepareEdits() {
	r.t.Helper()
	r.keys = r.processes[0].Keys(r.t)
	for _, sql := range []string{
		"CREATE TABLE public.attic (LIKE vault.secret_versions, name text, PRIMARY KEY (version_uid))",
		"CREATE TEMPORARY TABLE kept (LIKE vault.secret_versions)",
	} {
		if _, err := r.super.Exec(r.t.Context(), sql); err != nil {
			r.t.Fatal(err)
		}
	}
}

// exec runs SQL by hand.
func (r *run) exec(sql string, args ...any) { r.processes[0].DB.Exec(r.t, sql, args...) }

// archive keeps the rows of a secret that is about to be deleted.
func (r *run) archive(n *name) {
	r.exec(`INSERT INTO public.attic SELECT v.*, s.name FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
		WHERE s.name = $1 ON CONFLICT DO NOTHING`, n.text)
}

// editByHand edits a secret's rows, looks at what both processes make of it, undoes the edit unless it is lasting, and looks
// again. Nobody else changes the secret meanwhile.
func (c *client) editByHand(n *name) *call {
	r := c.run
	n.lock.Lock()
	defer n.lock.Unlock()
	r.editing.Lock()
	defer r.editing.Unlock()
	// Whatever becomes of the test, rows are put back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), time.Minute)
	defer cancel()

	var (
		f      found
		chosen edit
		events []*event
	)
	err := r.byHandIn(ctx, n, &events, func(tx pgx.Tx) (err error) {
		if f, err = look(ctx, tx, n); err != nil {
			return err
		}
		for chosen = edits[c.random.IntN(len(edits))]; !chosen.fits(f); chosen = edits[c.random.IntN(len(edits))] {
		}
		if events, err = chosen.do(ctx, c, tx, f); err != nil {
			return err
		}
		return r.reseal(ctx, tx, f)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows): // it is deleted just now
		return c.create(n)
	case err != nil:
		r.t.Errorf("editing %s by hand, %s: %v", n.text, chosen.what, err)
		return nil
	}
	r.hit("edit: " + chosen.what)
	last := c.lookAround(n, f, events)
	if chosen.lasting {
		return last
	}
	time.Sleep(time.Duration(c.random.IntN(12)) * time.Millisecond)
	var back []*event
	for _, e := range events {
		back = append(back, undone(e, f))
	}
	if err := r.byHandIn(ctx, n, &back, func(tx pgx.Tx) error {
		return errors.Join(putBack(ctx, tx, f, events), r.reseal(ctx, tx, f))
	}); err != nil {
		r.t.Errorf("undoing an edit of %s by hand, %s: %v", n.text, chosen.what, err)
		return nil
	}
	return c.lookAround(n, f, events)
}

// reseal makes the edited rows' MACs, as who holds the keys would: a state of another revision, or it would be refused as a fork.
func (r *run) reseal(ctx context.Context, tx pgx.Tx, f found) error {
	return sealkeeptest.ResealSecret(ctx, tx, r.keys, uuid.MustParse(f.id), 1)
}

// lookAround asks both processes for what was just edited.
func (c *client) lookAround(n *name, f found, events []*event) (last *call) {
	version := f.current
	if len(events) > 0 {
		version = events[0].version
	}
	for process := range c.run.processes {
		c.read(process, n, c.run.admin())
		c.verifyValue(process, n, c.run.admin(), n.of(version))
		last = c.readThat(process, n, c.run.admin(), version)
	}
	return last
}

// byHandIn runs do in a transaction, and notes the events as having happened while it committed, unless they say when.
func (r *run) byHandIn(ctx context.Context, n *name, events *[]*event, do func(pgx.Tx) error) error {
	tx, err := r.super.Begin(ctx)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	begin := r.since()
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	end := r.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range *events {
		e.object, e.got, e.by = n.text, done, cmp.Or(e.by, "by hand")
		if e.end == 0 {
			e.begin, e.end = begin, end
		}
		r.byHand = append(r.byHand, e)
	}
	return nil
}

// look locks a secret's row, so that a change that is still in doubt ends first, and copies its versions' rows.
func look(ctx context.Context, tx pgx.Tx, n *name) (f found, err error) {
	f.name = n.text
	err = tx.QueryRow(ctx, "SELECT id::text, current_version FROM vault.secrets WHERE name = $1 FOR UPDATE", n.text).Scan(&f.id, &f.current)
	if err != nil {
		return f, err
	}
	err = tx.QueryRow(ctx, `
		SELECT coalesce(array_agg(version ORDER BY version) FILTER (WHERE state = 'superseded' AND expires_at > clock_timestamp()), '{}'),
			coalesce(bool_or(version = $2 - 1), false),
			EXISTS (SELECT FROM public.attic a WHERE a.name = $3 AND a.secret_id <> $1::uuid AND a.version = $2)
		FROM vault.secret_versions WHERE secret_id = $1::uuid`, f.id, f.current, n.text).Scan(&f.graced, &f.older, &f.buried)
	if err != nil {
		return f, err
	}
	if _, err = tx.Exec(ctx, "DELETE FROM kept"); err != nil {
		return f, err
	}
	_, err = tx.Exec(ctx, "INSERT INTO kept SELECT * FROM vault.secret_versions WHERE secret_id = $1::uuid", f.id)
	return f, err
}

// putBack restores the rows that were edited, and touches no other: nothing else tells a process of it.
func putBack(ctx context.Context, tx pgx.Tx, f found, events []*event) error {
	for _, e := range events {
		switch e.act {
		case actPoint, actAway:
			if _, err := tx.Exec(ctx, "UPDATE vault.secrets SET name = $2, current_version = $3 WHERE id = $1::uuid", f.id, f.name, f.current); err != nil {
				return err
			}
		default:
			versions := []int64{e.version, e.also}
			if _, err := tx.Exec(ctx, "DELETE FROM vault.secret_versions WHERE secret_id = $1::uuid AND version = ANY ($2)", f.id, versions); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO vault.secret_versions SELECT * FROM kept WHERE version = ANY ($1)", versions); err != nil {
				return err
			}
		}
	}
	return nil
}
