package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// tamper runs statements as a superuser who has switched the triggers off.
func (f *fixture) tamper(statements ...string) {
	f.t.Helper()
	f.db.Exec(f.t, "ALTER TABLE vault.audit_log DISABLE TRIGGER append_only; ALTER TABLE vault.audit_streams DISABLE TRIGGER kept")
	for _, leaf := range one[[]string](f, "SELECT array_agg(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'vault.audit_log'::regclass") {
		f.db.Exec(f.t, "ALTER TABLE "+leaf+" DISABLE TRIGGER append_only")
	}
	for _, s := range statements {
		f.db.Exec(f.t, s)
	}
}

// ended leaves the evidence of a process that did its work and stopped in order.
func (f *fixture) ended(process string) {
	f.t.Helper()
	trail := f.trail(process)
	must(f.t, trail.Start(f.t.Context()))
	f.awaitReady(trail)
	must(f.t, trail.Append(f.t.Context(), record("seen by "+process)))
	must(f.t, trail.Change(f.t.Context(), addRole("made by "+process)))
	must(f.t, trail.Stop(f.t.Context()))
}

func TestI10_WhatAnEndedProcessDidIsWitnessedByTheNext(t *testing.T) {
	t.Parallel()
	for name, statements := range map[string][]string{
		"all of it removed": {
			"DELETE FROM vault.audit_log WHERE stream_id IN (SELECT stream_id FROM vault.audit_streams WHERE process = 'ended')",
			"DELETE FROM vault.audit_streams WHERE process = 'ended'",
		},
		"its tails cut off and its streams opened again": {
			"DELETE FROM vault.audit_log l USING vault.audit_streams s WHERE l.stream_id = s.stream_id AND s.process = 'ended' AND l.seq > 1",
			`UPDATE vault.audit_streams s SET state = 'open', closed_at = NULL, head_seq = 1, head_at = l.at, head_mac = l.mac
				FROM vault.audit_log l WHERE l.stream_id = s.stream_id AND s.process = 'ended'`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.ended("ended")
			next := f.beating("next")
			next.beat(t.Context(), &pulse{})
			f.clean()
			f.tamper(statements...)
			if report := f.verify(); len(report.Problems) == 0 {
				t.Error("nothing was found")
			}
		})
	}
}

func TestI10_FalseRecordsHideNoTrueAlteration(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.beating("busy")
	for range 5 {
		must(t, trail.Append(t.Context(), record("read")))
	}
	stream := f.where("read")[0].Stream
	// What the API's own login may do: a second record under a number, and streams of its invention.
	f.db.Exec(t, `INSERT INTO vault.audit_log (stream_id, seq, at, actor, action, outcome, request_id, mac, key_id)
		SELECT stream_id, 1, at - interval '1 microsecond', 'x', 'x', 'x', 'x', sha256('x'), key_id FROM vault.audit_log WHERE stream_id = $1 AND seq = 1`, stream)
	f.db.Exec(t, `INSERT INTO vault.audit_streams (stream_id, process, kind, opened_at, head_mac, head_at, system_id, timeline, key_id)
		SELECT gen_random_uuid(), 'invented', 'read', now(), sha256('x'), now(), '', 1, key_id
		FROM vault.keyring, generate_series(1, 1500) WHERE purpose = 'audit'`)
	f.tamper("UPDATE vault.audit_log SET actor = 'somebody else' WHERE seq = 4 AND stream_id = '" + stream.String() + "'")
	report := f.verify()
	found := func(id uuid.UUID, seq int64) bool {
		for _, p := range report.Problems {
			if p.StreamID == id && p.Seq == seq {
				return true
			}
		}
		return false
	}
	if !found(stream, 1) || !found(stream, 4) {
		t.Errorf("%d problems, and not each of records 1 and 4", len(report.Problems))
	}
	if len(report.Problems) != maxProblems || report.Found < 1502 {
		t.Errorf("%d problems are listed of %d", len(report.Problems), report.Found)
	}
	if report.Records < 4 {
		t.Errorf("only %d records were proven", report.Records)
	}
}

func TestI10_AnIdleProcessWitnessesWhatOthersDid(t *testing.T) {
	t.Parallel()
	f := setup(t)
	clock := newHandClock()
	idle := f.beating("idle", func(c *Config) { c.Clock = clock.read })
	var last pulse
	idle.beat(t.Context(), &last)
	f.ended("other")
	f.pass(idle, clock, restEvery+time.Second)
	idle.beat(t.Context(), &last)
	beats := f.beats("idle")
	seen := beats[len(beats)-1].heads(t)
	for _, kind := range []string{kindRead, kindChange} {
		for _, s := range f.streams(kind) {
			if _, ok := seen[s.ID.String()]; s.Process == "other" && !ok {
				t.Errorf("the %s stream of the other process is not witnessed", kind)
			}
		}
	}
	if strings.Contains(f.log.String(), "not one that this vault wrote") {
		t.Error("there was a false alarm")
	}
}
