// Package rotation drives rotators, their clocks and their crashes through the real SQL of a vault, with a PostgreSQL of its own as the target.
//
// Invariants:
//   - I7: a due rotation takes effect once, whoever dies or wakes up late, and wherever.
//   - The target never has a password that the vault doesn't keep.
//   - I9: with two roles, whoever fetched a credential logs in with it.
package rotation

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/rotation"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/pgproxy"
	"github.com/sealkeep/sealkeep/test/targetpg"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	n := *checks
	if n == 0 {
		n = 40
		if testing.Short() {
			n = 8
		}
	}
	// Before any test runs, as they run side by side and all read them.
	for name, value := range map[string]string{"rapid.checks": fmt.Sprint(n), "rapid.steps": "60"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	pgtest.Main(m)
}

var checks = flag.Int("checks", 0, "how many histories the property is tried on; 0 is 40, or 8 with -short")

// world is a vault, a target, and rotators whose connections to the vault's database can be cut at any statement.
type world struct {
	t        *testing.T
	vault    *vaulttest.Vault
	keys     *integrity.Keyring
	target   *targetpg.Server
	targets  rotation.Targets
	conn     *pgx.Conn // the superuser's, to the vault's database
	workers  []*worker
	made     int // secrets so far
	hasAdmin bool
}

// worker is a rotator's hands: it holds a job, and goes on with it or doesn't.
type worker struct {
	rotations *vault.Rotations
	points    *points
	job       *vault.Job
	delivery  *vault.Delivery
	stage     stage
}

type stage int

const (
	prepare stage = iota
	begin
	apply
	test
	promote
)

var stageNames = [...]string{"prepare", "begin", "apply", "test", "promote"}

func (s stage) String() string { return stageNames[s] }

func newWorld(t *testing.T, workers int) *world {
	w := &world{t: t, vault: vaulttest.New(t, vaulttest.Config{}), target: targetpg.Start(t), targets: rotation.NewTargets(rotation.Reach{})}
	w.keys = w.vault.Keys(t)
	var err error
	if w.conn, err = pgx.Connect(t.Context(), w.vault.DB.URL(pgtest.Superuser)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close(context.Background()) })
	for i := range workers {
		w.workers = append(w.workers, w.newWorker(i))
	}
	return w
}

func (w *world) newWorker(n int) *worker {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	made := &worker{points: &points{}}
	made.points.proxy = pgproxy.New(w.t, made.points.classify)
	url, err := made.points.proxy.Through(w.vault.DB.TCPURL("sealkeep_rotator"))
	if err != nil {
		w.t.Fatal(err)
	}
	environ := w.vault.OfflineEnviron()
	environ["VAULT_DATABASE_URL"] = url
	cfg, err := boot.LoadOffline(environ)
	if err != nil {
		w.t.Fatal(err)
	}
	defer cfg.Release()
	log := slog.New(slog.DiscardHandler)
	database, keeper, release, err := boot.OpenOffline(ctx, cfg, log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(release)
	id := w.vault.ID(w.t)
	keys, err := vault.OpenKeyring(ctx, database, keeper, id, integrity.PurposeRow, integrity.PurposeAudit)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(keys.Close)
	trail, err := audit.Open(database, keys, id, audit.Config{Process: fmt.Sprintf("worker-%d-%s", n, uuid.NewString()), Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	if made.rotations, err = vault.NewRotations(database, trail, keeper, keys, vault.Config{Log: log}); err != nil {
		w.t.Fatal(err)
	}
	for _, start := range []func(context.Context) error{trail.Start, made.rotations.Start} {
		if err := start(ctx); err != nil {
			w.t.Fatal(err)
		}
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		made.drop()
		_ = made.rotations.Stop(ctx)
		_ = trail.Stop(ctx)
	})
	vaulttest.Eventually(w.t, "a worker is ready", func() bool { return made.rotations.Ready(ctx) == nil })
	return made
}

// drop is a crash: what the worker knew is gone, and nobody is told.
func (w *worker) drop() {
	w.delivery.Release()
	w.job, w.delivery, w.stage = nil, nil, prepare
}

// points cuts a worker's connection at one of the statements of the transactions that it makes.
type points struct {
	proxy *pgproxy.Proxy

	mu    sync.Mutex
	armed bool
	left  int
	hit   string
}

const strike = "strike"

// classify counts the statements of transactions, their beginnings and ends among them, and those by which jobs are found. What audit rounds and
// lookups send is none of them.
func (p *points) classify(sql string, tx pgproxy.Transaction) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := tx.Open || strings.EqualFold(strings.TrimSpace(sql), "begin") || strings.HasPrefix(sql, "-- name: ")
	if !ours || !p.armed {
		return ""
	}
	if p.left > 0 {
		p.left--
		return ""
	}
	p.armed, p.hit = false, sql
	return strike
}

// arm has the connection cut at the nth statement from now on, before it arrives or once it has taken effect and nobody knows.
func (p *points) arm(n int, lost bool) *pgproxy.Injection {
	p.mu.Lock()
	p.armed, p.left, p.hit = true, n, ""
	p.mu.Unlock()
	fault := pgproxy.Fault{Kind: strike, Side: pgproxy.Client, Action: pgproxy.CutBefore}
	if lost {
		fault.Side, fault.Message = pgproxy.Server, pgproxy.ReadyForQuery
	}
	return p.proxy.Inject(fault)
}

// disarm tells at which statement the connection was cut, if at any.
func (p *points) disarm(i *pgproxy.Injection) string {
	i.Withdraw()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
	return p.hit
}

// stored is what the database says of one secret.
type stored struct {
	Current  int64
	Revision int64
	Job      string // the open one: id, claim, step
	Dead     bool
	Applying bool
	Claim    string
}

type version struct {
	UID     uuid.UUID
	Version int64
	State   string
}

func one[T any](w *world, sql string, args ...any) T {
	w.t.Helper()
	rows, err := w.conn.Query(context.WithoutCancel(w.t.Context()), sql, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[T])
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func (w *world) stored(id uuid.UUID) stored {
	w.t.Helper()
	return one[stored](w, `SELECT s.current_version, s.revision, coalesce(j.id::text || ' ' || coalesce(j.claim_id::text, '') || ' ' || j.step || ' ' || j.attempt, ''),
		coalesce(j.dead_at IS NOT NULL, false), coalesce(j.step = 'applying', false), coalesce(j.claim_id::text, '')
		FROM vault.secrets s LEFT JOIN vault.rotation_jobs j ON j.secret_id = s.id AND j.completed_at IS NULL WHERE s.id = $1`, id)
}

func (w *world) versions(id uuid.UUID) []version {
	w.t.Helper()
	rows, err := w.conn.Query(context.WithoutCancel(w.t.Context()), "SELECT version_uid, version, state FROM vault.secret_versions WHERE secret_id = $1 ORDER BY version", id)
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[version])
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.conn.Exec(context.WithoutCancel(w.t.Context()), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// due makes a secret due now, as time would.
func (w *world) due(id uuid.UUID) {
	w.t.Helper()
	w.exec("UPDATE vault.secrets SET next_rotation_at = now() WHERE id = $1", id)
	if err := sealkeeptest.ResealSecret(context.WithoutCancel(w.t.Context()), w.conn, w.keys, id, 1); err != nil {
		w.t.Fatal(err)
	}
}

// lapse ends all leases, as time would.
func (w *world) lapse() {
	w.t.Helper()
	w.exec("UPDATE vault.rotation_jobs SET run_at = now(), lease_expires_at = CASE WHEN claim_id IS NOT NULL THEN now() END WHERE completed_at IS NULL AND dead_at IS NULL")
}
