package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is how long a test waits for what must come: long, so that only a defect exceeds it.
const patience = time.Minute

// fixture is a vault's identity and keyring on a database of its own.
type fixture struct {
	t       testing.TB
	db      *pgtest.Database
	api     *postgres.DB
	keys    *integrity.Keyring
	vaultID uuid.UUID
	log     *syncBuffer
	silence time.Duration // the connections' limit; 0 is the default
}

func setup(t testing.TB) *fixture {
	t.Helper()
	return setupOn(t, pgtest.New(t))
}

func setupOn(t testing.TB, database *pgtest.Database) *fixture {
	t.Helper()
	ctx := t.Context()
	f := &fixture{t: t, db: database, vaultID: uuid.New(), log: &syncBuffer{}}
	f.api = f.open("sealkeep_api")

	keeper := newKeeper(t)
	roots, err := integrity.NewRoots(ctx, keeper, f.vaultID, nil)
	must(t, err)
	operator := f.open("sealkeep_operator")
	must(t, operator.InTx(ctx, func(tx *postgres.Tx) error {
		if err := tx.InsertAuthzState(ctx, db.InsertAuthzStateParams{VaultID: f.vaultID, Epoch: 1, Initialised: true}); err != nil {
			return err
		}
		for _, r := range roots {
			err := tx.InsertKey(ctx, db.InsertKeyParams{
				KeyID: r.KeyID, Purpose: string(r.Purpose), WrappedKey: r.Wrapped, PublicKey: r.PublicKey, KmsKeyID: r.KMSKeyID,
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	f.keys, err = integrity.OpenKeyring(ctx, keeper, f.vaultID, roots, integrity.PurposeAudit)
	must(t, err)
	t.Cleanup(f.keys.Close)
	return f
}

func newKeeper(t testing.TB) *kms.Local {
	t.Helper()
	master := make([]byte, 32)
	_, err := rand.Read(master)
	must(t, err)
	keeper, err := kms.NewLocal(sensitive.Take(master), nil)
	must(t, err)
	t.Cleanup(keeper.Close)
	return keeper
}

// open makes a pool of a user's, as a process has one.
func (f *fixture) open(user string) *postgres.DB {
	f.t.Helper()
	database, err := postgres.Open(f.t.Context(), postgres.Config{ConnString: f.db.URL(user), Process: "audit-test", SilenceLimit: f.silence})
	must(f.t, err)
	f.t.Cleanup(database.Close)
	return database
}

// trail makes a Trail on a pool of its own, not started; Stop at the end of the test is seen to.
func (f *fixture) trail(process string, tune ...func(*Config)) *Trail {
	f.t.Helper()
	cfg := Config{
		Process: process, Timeout: patience, Metrics: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, change := range tune {
		change(&cfg)
	}
	trail, err := Open(f.open("sealkeep_api"), f.keys, f.vaultID, cfg)
	must(f.t, err)
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := trail.Stop(ctx); err != nil {
			f.t.Errorf("Stop: %v", err)
		}
		if f.t.Failed() {
			f.t.Logf("log of the process:\n%s", f.log.String())
		}
	})
	return trail
}

// started makes a Trail that is ready on both of its appenders.
func (f *fixture) started(process string, tune ...func(*Config)) *Trail {
	f.t.Helper()
	trail := f.trail(process, tune...)
	must(f.t, trail.Start(f.t.Context()))
	f.awaitReady(trail)
	return trail
}

func (f *fixture) awaitReady(trail *Trail) {
	f.t.Helper()
	eventually(f.t, "the trail is ready", func() bool { return trail.Ready() && trail.denials.ready.Load() })
}

func stop(t testing.TB, trail *Trail) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, trail.Stop(ctx))
}

func (f *fixture) verify() *Report {
	f.t.Helper()
	report, err := Verify(context.Background(), f.api, f.keys, f.vaultID, nil)
	must(f.t, err)
	return report
}

// clean fails the test if verification finds anything.
func (f *fixture) clean() *Report {
	f.t.Helper()
	report := f.verify()
	for _, p := range report.Problems {
		f.t.Errorf("verification found: stream %s, record %d: %s", p.StreamID, p.Seq, p.What)
	}
	return report
}

// where tells on which stream, and under which numbers, the records of a request are, read on another connection.
type location struct {
	Stream uuid.UUID
	Seq    int64
}

func (f *fixture) where(request string) []location {
	f.t.Helper()
	return pgtest.Query[location](f.t, f.db,
		"SELECT stream_id, seq FROM vault.audit_log WHERE request_id = $1 ORDER BY stream_id, seq", request)
}

type streamRow struct {
	ID          uuid.UUID
	Process     string
	Kind        string
	State       string
	HeadSeq     int64
	Predecessor *uuid.UUID
	PredSeq     *int64
}

// streams gives the streams of a kind in the order of their opening.
func (f *fixture) streams(kind string) []streamRow {
	f.t.Helper()
	return pgtest.Query[streamRow](f.t, f.db, `SELECT stream_id, process, kind, state, head_seq, predecessor, predecessor_seq
		FROM vault.audit_streams WHERE kind = $1 ORDER BY opened_at, stream_id`, kind)
}

// one gives the only value that a query yields.
func one[T any](f *fixture, sql string, args ...any) T {
	f.t.Helper()
	values := pgtest.Query[T](f.t, f.db, sql, args...)
	if len(values) != 1 {
		f.t.Fatalf("%s: %d rows", sql, len(values))
	}
	return values[0]
}

// record is one of a read, told apart by its request.
func record(request string) Record {
	return Record{
		Actor: "token:ops", ClientIP: netip.MustParseAddr("192.0.2.7"), Action: "secret.read", SecretName: "payments/db",
		Version: 3, Outcome: "ok", RequestID: request,
	}
}

// addRole is a mutation with its evidence: what Change is called with.
func addRole(name string) func(context.Context, *postgres.Tx) ([]Record, error) {
	return func(ctx context.Context, tx *postgres.Tx) ([]Record, error) {
		err := tx.InsertRole(ctx, db.InsertRoleParams{ID: uuid.New(), Name: name})
		return []Record{record(name)}, postgres.Fault(err)
	}
}

// happened tells whether a change took effect and whether it left evidence.
func (f *fixture) happened(name string) (mutated, recorded bool) {
	f.t.Helper()
	return one[bool](f, "SELECT EXISTS (SELECT FROM vault.roles WHERE name = $1)", name), len(f.where(name)) == 1
}

// lockStream takes a stream's row lock on a session of its own, as a transaction in doubt holds it.
func (f *fixture) lockStream(id uuid.UUID) (release func()) {
	f.t.Helper()
	super := f.db.Super(f.t)
	tx, err := super.Begin(context.Background())
	must(f.t, err)
	_, err = tx.Exec(context.Background(), "SELECT FROM vault.audit_streams WHERE stream_id = $1 FOR UPDATE", id)
	must(f.t, err)
	return sync.OnceFunc(func() { must(f.t, tx.Rollback(context.Background())) })
}

// waitingAppend gives the backend that waits for a row lock with an append in hand.
func (f *fixture) waitingAppend() int32 {
	f.t.Helper()
	var pids []int32
	eventually(f.t, "an append waits", func() bool {
		pids = pgtest.Query[int32](f.t, f.db, `SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%WITH head AS%'`)
		return len(pids) == 1
	})
	return pids[0]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func wantKind(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("the error is %v, not of kind %s", err, kind)
	}
}

func wantIs(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("the error is %v, not %v", err, target)
	}
}

// names makes n different names.
func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%04d", prefix, i)
	}
	return list
}

// gapless fails unless the numbers are from, from+1 and so on.
func gapless(t testing.TB, seqs []int64, from int64) {
	t.Helper()
	slices.Sort(seqs)
	for i, seq := range seqs {
		if seq != from+int64(i) {
			t.Fatalf("number %d stands where %d is due: %v", seq, from+int64(i), seqs)
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (f *fixture) keyID() uuid.UUID {
	f.t.Helper()
	id, ok := f.keys.ActiveKeyID(integrity.PurposeAudit)
	if !ok {
		f.t.Fatal("the keyring has no audit key")
	}
	return id
}
