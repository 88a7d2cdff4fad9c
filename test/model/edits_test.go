package model

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// found is a secret as somebody who edits by hand finds it, its row locked.
type found struct {
	id      string
	name    string
	current int64
	graced  []int64 // superseded versions in their grace
	older   bool    // the row of the version before the current one is there
	buried  bool    // there is a row of a deleted secret of this name, of the current version's number
}

// edit is something that is done to a secret's rows past its processes, by who holds the keys of their MACs: without, every edit would be
// refused alike, which test/tamper proves, and nothing would be seen of what is kept. What isn't lasting is undone by putting all rows back.
type edit struct {
	what    string
	lasting bool
	fits    func(found) bool
	do      func(ctx context.Context, c *client, tx pgx.Tx, f found) ([]*event, error)
}

func always(found) bool         { return true }
func hasGraced(f found) bool    { return len(f.graced) > 0 }
func hasOlder(f found) bool     { return f.older }
func hasBuried(f found) bool    { return f.buried }
func (f found) graceful() int64 { return f.graced[len(f.graced)-1] }

// statement is an edit of one statement, whose arguments are the secret's id and a version.
func statement(act act, version func(*client, found) int64, sql ...string) func(context.Context, *client, pgx.Tx, found) ([]*event, error) {
	return func(ctx context.Context, c *client, tx pgx.Tx, f found) ([]*event, error) {
		n := version(c, f)
		_, err := tx.Exec(ctx, sql[c.random.IntN(len(sql))], f.id, n)
		return []*event{{act: act, version: n}}, err
	}
}

func current(_ *client, f found) int64 { return f.current }

func older(_ *client, f found) int64 { return f.current - 1 }

// valid is the current version or one in its grace.
func valid(c *client, f found) int64 {
	if i := c.random.IntN(len(f.graced) + 1); i > 0 {
		return f.graced[i-1]
	}
	return f.current
}

const ofVersion = " WHERE secret_id = $1::uuid AND version = $2"

var edits = []edit{
	{"nothing changes in the secret's row", true, always, nothing("UPDATE vault.secrets SET name = name WHERE id = $1::uuid")},
	{"nothing changes in its versions' rows", true, always, nothing("UPDATE vault.secret_versions SET state = state WHERE secret_id = $1::uuid")},
	{"the description", true, always, nothing("UPDATE vault.secrets SET description = 'edited ' || clock_timestamp() WHERE id = $1::uuid")},
	{"a flipped bit", false, always, statement(
		actBreak, valid,
		"UPDATE vault.secret_versions SET ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1)"+ofVersion,
		"UPDATE vault.secret_versions SET nonce = set_byte(nonce, 23, get_byte(nonce, 23) # 128)"+ofVersion,
		"UPDATE vault.secret_versions SET wrapped_dek = set_byte(wrapped_dek, 20, get_byte(wrapped_dek, 20) # 1)"+ofVersion,
		"UPDATE vault.secret_versions SET version_uid = gen_random_uuid()"+ofVersion,
	)},
	{"swapped versions", false, hasGraced, swap},
	{"an old row in place of the current one", false, hasBuried, statement(actBreak, current, `
		UPDATE vault.secret_versions v SET version_uid = o.version_uid, kms_key_id = o.kms_key_id, wrapped_dek = o.wrapped_dek,
			nonce = o.nonce, ciphertext = o.ciphertext
		FROM (SELECT a.* FROM public.attic a JOIN vault.secrets s ON s.name = a.name
			WHERE s.id = $1::uuid AND a.secret_id <> s.id AND a.version = $2 LIMIT 1) o
		WHERE v.secret_id = $1::uuid AND v.version = $2`)},
	{"another state", false, always, statement(actHide, valid, "UPDATE vault.secret_versions SET state = 'abandoned', expires_at = NULL"+ofVersion)},
	{"a row gone", false, always, statement(actHide, valid, "DELETE FROM vault.secret_versions"+ofVersion)},
	{"the secret points to an old version", false, hasOlder, statement(actPoint, older, "UPDATE vault.secrets SET current_version = $2 WHERE id = $1::uuid")},
	{"the end of a grace", true, hasGraced, endGrace},
	{"an old version is current again", true, hasOlder, rollBack},
}

func nothing(sql string) func(context.Context, *client, pgx.Tx, found) ([]*event, error) {
	return func(ctx context.Context, _ *client, tx pgx.Tx, f found) ([]*event, error) {
		_, err := tx.Exec(ctx, sql, f.id)
		return nil, err
	}
}

// swap exchanges what is sealed between the current version and one in its grace.
func swap(ctx context.Context, c *client, tx pgx.Tx, f found) ([]*event, error) {
	columns := []string{
		"ciphertext = o.ciphertext", "wrapped_dek = o.wrapped_dek",
		"wrapped_dek = o.wrapped_dek, nonce = o.nonce, ciphertext = o.ciphertext",
	}
	_, err := tx.Exec(ctx, "UPDATE vault.secret_versions v SET "+columns[c.random.IntN(len(columns))]+` FROM vault.secret_versions o
		WHERE v.secret_id = $1::uuid AND o.secret_id = v.secret_id AND v.version <> o.version AND v.version IN ($2, $3) AND o.version IN ($2, $3)`,
		f.id, f.current, f.graceful())
	return []*event{{act: actBreak, version: f.current, also: f.graceful()}}, err
}

// endGrace moves the end of a version's grace: into the past, to in a moment, or far ahead.
func endGrace(ctx context.Context, c *client, tx pgx.Tx, f found) ([]*event, error) {
	e := &event{act: actGrace, version: f.graceful(), grace: hasEnded}
	events := []*event{e}
	left := []time.Duration{-time.Second, 60 * time.Millisecond, time.Hour}[c.random.IntN(3)]
	before := c.run.since()
	_, err := tx.Exec(ctx, "UPDATE vault.secret_versions SET expires_at = clock_timestamp() + make_interval(secs => $3)"+ofVersion,
		f.id, e.version, left.Seconds())
	if left > 0 {
		e.grace = int(c.run.graces.Add(1))
		if left < time.Hour {
			events = append(events, passes(e.grace, left, before, c.run.since()))
		}
	}
	return events, err
}

// rollBack makes an old version the current one again, and forgets the one that was.
func rollBack(ctx context.Context, _ *client, tx pgx.Tx, f found) ([]*event, error) {
	for _, sql := range []string{
		"DELETE FROM vault.secret_versions WHERE secret_id = $1::uuid AND version > $2",
		"UPDATE vault.secret_versions SET state = 'current', expires_at = NULL" + ofVersion,
		"UPDATE vault.secrets SET current_version = $2 WHERE id = $1::uuid",
	} {
		if _, err := tx.Exec(ctx, sql, f.id, f.current-1); err != nil {
			return nil, err
		}
	}
	return []*event{{act: actRollBack, version: f.current - 1}}, nil
}

// undone is what putting the rows back means.
func undone(e *event, f found) *event {
	back := *e
	switch e.act {
	case actBreak:
		back.act = actMend
	case actHide:
		back.act = actShow
	case actPoint:
		back.version = f.current
	case actAway:
		back.act = actBack
	default:
	}
	back.begin, back.end = 0, 0
	return &back
}

// drift is how far the database's clock, and what a process takes it for, may stray from the monotonic one while a grace passes.
const drift = 20 * time.Millisecond

// byTime is who does what nobody does.
const byTime = "by time"

// passes is the end of a grace that began between from and to.
func passes(grace int, length, from, to time.Duration) *event {
	e := &event{act: actPass, got: done, grace: grace, by: byTime, begin: max(0, from+length-drift), end: never}
	if to != never {
		e.end = to + length + drift
	}
	return e
}
