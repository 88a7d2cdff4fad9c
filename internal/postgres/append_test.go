package postgres_test

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// commits appends on the audit's connection, which must work.
func commits(t *testing.T, conn *postgres.AuditConn, a postgres.Append) postgres.Appended {
	t.Helper()
	result, outcome, err := conn.Append(t.Context(), a)
	if outcome != postgres.Committed || err != nil {
		t.Fatalf("outcome %s: %v", outcome, err)
	}
	return result
}

func TestAppend_WritesRecordsInOrderAndMovesTheHead(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	d.Exec(t, "INSERT INTO vault.authz_state (vault_id, epoch, initialised) VALUES (gen_random_uuid(), 42, true)")
	database := open(t, d.URL("sealkeep_api"))
	conn, s := auditConn(t, database), openStream(t, d)

	before := time.Now().Add(-time.Minute)
	a := s.next(3)
	address, name, version, trace := netip.MustParseAddr("192.0.2.7"), "a/b", int64(7), "t"
	a.Records[1] = postgres.Record{
		At: a.Records[1].At, Actor: "token:é", ClientIP: &address, Action: "read", SecretName: &name, Version: &version,
		Outcome: "denied", RequestID: "r-1", TraceID: &trace, Detail: []byte{0, 0xff}, MAC: mac(2),
	}
	result := commits(t, conn, a)
	if result.Epoch != 42 || result.DatabaseTime.Before(before) || result.DatabaseTime.After(before.Add(2*time.Minute)) {
		t.Errorf("the round trip saw %+v", result)
	}
	s.moved(a)
	if got, want := stateOf(t, d, s), (state{3, mac(3), []int64{1, 2, 3}}); !reflect.DeepEqual(got, want) {
		t.Errorf("the database has %v", got)
	}
	rows, err := database.Records(t.Context(), db.RecordsParams{StreamID: s.id, MaxRows: 10})
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d records, error %v", len(rows), err)
	}
	for i, row := range rows {
		got := postgres.Record{
			At: row.At.UTC(), Actor: row.Actor, Action: row.Action, SecretName: row.SecretName, Version: row.Version,
			Outcome: row.Outcome, RequestID: row.RequestID, TraceID: row.TraceID, Detail: row.Detail, MAC: row.Mac,
		}
		want := a.Records[i]
		want.At, want.ClientIP = want.At.UTC(), nil
		if !reflect.DeepEqual(got, want) || row.KeyID != s.key || (row.ClientIP != "") != (i == 1) || i == 1 && !strings.HasPrefix(row.ClientIP, address.String()) {
			t.Errorf("record %d is %+v, want %+v", i+1, row, want)
		}
	}
	if head := pgtest.Query[bool](t, d, `
		SELECT s.head_at = max(l.at) FROM vault.audit_streams s JOIN vault.audit_log l USING (stream_id) GROUP BY s.head_at`); !slices.Equal(head, []bool{true}) {
		t.Error("the head's time is not the last record's")
	}

	t.Run("in a transaction too, and only with it", func(t *testing.T) {
		for _, commit := range []bool{false, true} {
			tx, a := begin(t, database), s.next(2)
			if _, err := tx.Append(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if !commit {
				tx.Rollback(t.Context())
				continue
			}
			if outcome, err := tx.Commit(t.Context()); outcome != postgres.Committed || err != nil {
				t.Fatalf("outcome %s: %v", outcome, err)
			}
			s.moved(a)
		}
		if got, want := stateOf(t, d, s), (state{5, mac(5), []int64{1, 2, 3, 4, 5}}); !reflect.DeepEqual(got, want) {
			t.Errorf("the database has %v", got)
		}
	})
}

func TestI10_AppendToAMovedHeadWritesNothing(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	conn, s := auditConn(t, database), openStream(t, d)
	a := s.next(2)
	commits(t, conn, a)
	s.moved(a)
	closed := openStream(t, d)
	d.Exec(t, "UPDATE vault.audit_streams SET state = 'closed', closed_at = now() WHERE stream_id = $1", closed.id)

	behind, ahead, otherMAC, unknown := s.next(2), s.next(2), s.next(2), s.next(2)
	behind.OldSeq, behind.OldMAC = 0, mac(0)
	ahead.OldSeq = 3
	otherMAC.OldMAC = mac(99)
	unknown.StreamID = uuid.New()
	for name, a := range map[string]postgres.Append{
		"a head that has moved on": behind, "a head that was never there": ahead, "a head with another MAC": otherMAC,
		"a stream that is closed": closed.next(1), "a stream that is unknown": unknown,
	} {
		result, outcome, err := conn.Append(t.Context(), a)
		if outcome != postgres.RolledBack || !errors.Is(err, postgres.ErrStreamMoved) || !reflect.DeepEqual(result, postgres.Appended{}) {
			t.Errorf("%s: outcome %s, %v", name, outcome, err)
		}
		tx := begin(t, database)
		if _, err := tx.Append(t.Context(), a); !errors.Is(err, postgres.ErrStreamMoved) {
			t.Errorf("%s, in a transaction: %v", name, err)
		}
		tx.Rollback(t.Context())
	}
	if n := pgtest.Query[int](t, d, "SELECT count(*) FROM vault.audit_log")[0]; n != 2 {
		t.Errorf("there are %d records", n)
	}
	if got, want := stateOf(t, d, s), (state{2, mac(2), []int64{1, 2}}); !reflect.DeepEqual(got, want) {
		t.Errorf("the database has %v", got)
	}
	// The connection is as good as before.
	commits(t, conn, s.next(1))
}

func TestI10_OfConcurrentAppendsToOneHeadOneTakesEffect(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	s := openStream(t, d)
	const writers = 8
	for range 5 {
		var outcomes [writers]postgres.Outcome
		var group sync.WaitGroup
		a := s.next(3)
		for i := range writers {
			conn := auditConn(t, database)
			group.Go(func() {
				var err error
				_, outcomes[i], err = conn.Append(t.Context(), a)
				if (outcomes[i] != postgres.Committed) != errors.Is(err, postgres.ErrStreamMoved) {
					t.Errorf("outcome %s: %v", outcomes[i], err)
				}
			})
		}
		group.Wait()
		if n := count(outcomes[:], postgres.Committed); n != 1 || count(outcomes[:], postgres.RolledBack) != writers-1 {
			t.Fatalf("the outcomes are %v", outcomes)
		}
		s.moved(a)
	}
	if got := stateOf(t, d, s); got.HeadSeq != 15 || len(got.Records) != 15 {
		t.Errorf("the database has %v", got)
	}
}

func count(outcomes []postgres.Outcome, wanted postgres.Outcome) int {
	n := 0
	for _, outcome := range outcomes {
		if outcome == wanted {
			n++
		}
	}
	return n
}

// One record that the database refuses takes its whole round with it, and is known for what it is.
func TestAppend_TellsWrongDataFromAWrongState(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	conn, s := auditConn(t, database), openStream(t, d)
	long := func(n int) *string { text := strings.Repeat("x", n); return &text }
	for name, test := range map[string]struct {
		spoil func(*postgres.Record)
		data  bool
	}{
		"a zero byte in a text":     {func(r *postgres.Record) { r.Actor = "a\x00b" }, true},
		"text that isn't UTF-8":     {func(r *postgres.Record) { r.RequestID = "\xff" }, true},
		"an actor too long":         {func(r *postgres.Record) { r.Actor = *long(257) }, true},
		"a name too long":           {func(r *postgres.Record) { r.SecretName = long(1025) }, true},
		"a MAC too short":           {func(r *postgres.Record) { r.MAC = r.MAC[:31] }, true},
		"detail too long":           {func(r *postgres.Record) { r.Detail = make([]byte, 65537) }, true},
		"a time too far off":        {func(r *postgres.Record) { r.At = r.At.Add(-6 * time.Minute) }, false},
		"a time without partition":  {func(r *postgres.Record) { r.At = r.At.AddDate(1, 0, 0) }, false},
		"a time before partitions":  {func(r *postgres.Record) { r.At = r.At.AddDate(-1, 0, 0) }, false},
		"a MAC too short in detail": {func(r *postgres.Record) { r.MAC = nil }, true},
	} {
		a := s.next(3)
		test.spoil(&a.Records[1])
		_, outcome, err := conn.Append(t.Context(), a)
		if outcome != postgres.RolledBack || err == nil || postgres.IsDataError(err) != test.data {
			t.Errorf("%s: outcome %s, data %v: %v", name, outcome, postgres.IsDataError(err), err)
		}
		want := fault.Unavailable
		if test.data {
			want = fault.Internal
		}
		if kind := fault.KindOf(postgres.Fault(err)); kind != want {
			t.Errorf("%s: %s", name, kind)
		}
		tx := begin(t, database)
		_, err = tx.Append(t.Context(), a)
		if err == nil || postgres.IsDataError(err) != test.data {
			t.Errorf("%s, in a transaction: data %v: %v", name, postgres.IsDataError(err), err)
		}
		if outcome, err := tx.Commit(t.Context()); outcome != postgres.RolledBack || err == nil {
			t.Errorf("%s, committed all the same: outcome %s: %v", name, outcome, err)
		}
		if got, want := stateOf(t, d, s), (state{0, mac(0), []int64{}}); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: the database has %v", name, got)
		}
	}
	commits(t, conn, s.next(1))
}

// A record that didn't get in is noticed even if the database says nothing.
func TestAppend_CountsWhatWasWritten(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	d.Exec(t, `
		CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN IF NEW.actor = 'swallowed' THEN RETURN NULL; END IF; RETURN NEW; END $$;
		CREATE TRIGGER swallow BEFORE INSERT ON vault.audit_log FOR EACH ROW EXECUTE FUNCTION public.swallow()`)
	database := open(t, d.URL("sealkeep_api"))
	conn, s := auditConn(t, database), openStream(t, d)
	a := s.next(3)
	a.Records[1].Actor = "swallowed"
	if _, outcome, err := conn.Append(t.Context(), a); outcome != postgres.Unknown || !errors.Is(err, postgres.ErrOutcomeUnknown) {
		t.Errorf("outcome %s: %v", outcome, err)
	}
	if conn.Alive(t.Context()) {
		t.Error("the connection is still used")
	}
	tx := begin(t, database)
	defer tx.Rollback(t.Context())
	s = openStream(t, d)
	a = s.next(3)
	a.Records[1].Actor = "swallowed"
	if _, err := tx.Append(t.Context(), a); err == nil {
		t.Error("a transaction goes on")
	}
}
