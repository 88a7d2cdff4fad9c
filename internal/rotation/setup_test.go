package rotation_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/rotation"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fixture is a vault that serves, and what a rotator works with on its database.
type fixture struct {
	*sealkeeptest.Vault
	t     *testing.T
	admin vault.Caller
	log   *lines
}

func setup(t *testing.T) *fixture {
	t.Helper()
	v := sealkeeptest.New(t)
	return &fixture{Vault: v, t: t, log: &lines{}, admin: vault.Caller{
		Address: netip.MustParseAddr("127.0.0.1"), Token: sensitive.CopyString(v.AdminToken), RequestID: "test",
	}}
}

// rotations is what a rotator works with.
func (f *fixture) rotations() *vault.Rotations {
	f.t.Helper()
	ctx := context.WithoutCancel(f.t.Context())
	environ := f.OfflineEnviron()
	environ["VAULT_DATABASE_URL"] = f.DB.URL("sealkeep_rotator")
	cfg, err := boot.LoadOffline(environ)
	must(f.t, err)
	defer cfg.Release()
	log := slog.New(slog.NewJSONHandler(f.log, nil))
	database, keeper, release, err := boot.OpenOffline(ctx, cfg, log)
	must(f.t, err)
	f.t.Cleanup(release)
	id := pgtest.Query[uuid.UUID](f.t, f.DB, "SELECT vault_id FROM vault.authz_state")[0]
	keys, err := vault.OpenKeyring(ctx, database, keeper, id, integrity.PurposeRow, integrity.PurposeAudit)
	must(f.t, err)
	f.t.Cleanup(keys.Close)
	trail, err := audit.Open(database, keys, id, audit.Config{Process: "rotator-" + uuid.NewString(), Log: log})
	must(f.t, err)
	r, err := vault.NewRotations(database, trail, keeper, keys, vault.Config{Log: log})
	must(f.t, err)
	must(f.t, trail.Start(ctx))
	must(f.t, r.Start(ctx))
	f.t.Cleanup(func() {
		stop, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		must(f.t, r.Stop(stop))
		must(f.t, trail.Stop(stop))
	})
	f.eventually("the rotator's vault is ready", func() bool { return r.Ready(ctx) == nil })
	return r
}

// start runs a rotator until the test ends.
func (f *fixture) start(targets rotation.Targets, cfg rotation.Config) *rotation.Rotator {
	f.t.Helper()
	cfg.Log = slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := rotation.New(f.rotations(), targets, cfg)
	must(f.t, err)
	must(f.t, r.Start(f.t.Context()))
	f.t.Cleanup(func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(f.t.Context()), 30*time.Second)
		defer cancel()
		must(f.t, r.Stop(stop))
		if f.t.Failed() {
			f.t.Logf("the rotator's log:\n%s", f.log.String())
		}
	})
	return r
}

// due makes a secret that is due; with a target if asked.
func (f *fixture) due(name string, targeted bool) {
	f.t.Helper()
	year := int64(365 * 24 * 3600)
	request := vault.CreateRequest{Name: name, Kind: "automatic", RotationIntervalSecs: &year, RotateOnCreate: true}
	if targeted {
		request.Given = vault.Given{Username: sensitive.CopyString("app"), Password: sensitive.CopyString("first")}
		request.Target = &secret.Target{Postgres: &secret.PostgresTarget{Hosts: []string{"127.0.0.1:1"}, Mode: secret.ModeSingle}}
	}
	s, err := f.Process.Vault().Create(f.t.Context(), f.admin, request)
	must(f.t, err)
	s.Release()
}

type jobRow struct {
	Outcome, Class, Error string
	Step                  string
	Attempt               int
	Dead                  bool
}

func (f *fixture) job(name string) jobRow {
	f.t.Helper()
	rows := pgtest.Query[jobRow](f.t, f.DB, `SELECT coalesce(j.outcome, ''), coalesce(j.class, ''), coalesce(j.error, ''), j.step, j.attempt, j.dead_at IS NOT NULL
		FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id WHERE s.name = $1 ORDER BY j.enqueued_at DESC LIMIT 1`, name)
	if len(rows) == 0 {
		return jobRow{}
	}
	return rows[0]
}

func (f *fixture) version(name string) int {
	f.t.Helper()
	return pgtest.Query[int](f.t, f.DB, "SELECT current_version FROM vault.secrets WHERE name = $1", name)[0]
}

// now has whatever waits run at once, as time would.
func (f *fixture) now(r *rotation.Rotator) {
	f.t.Helper()
	f.DB.Exec(f.t, "UPDATE vault.rotation_jobs SET run_at = now() WHERE completed_at IS NULL AND dead_at IS NULL AND claim_id IS NULL")
	r.Wake()
}

// eventually waits until condition holds. No assertion rests on its patience.
func (f *fixture) eventually(what string, condition func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			f.t.Fatalf("it does not come to this: %s\n%s", what, f.log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// scripted is a target that answers as the test says.
type scripted struct {
	apply, test func(ctx context.Context, d *vault.Delivery) error
	try         func(ctx context.Context, d *vault.Delivery) (bool, error)
}

func (s scripted) Apply(ctx context.Context, d *vault.Delivery) error {
	if s.apply == nil {
		return nil
	}
	return s.apply(ctx, d)
}

func (s scripted) Test(ctx context.Context, d *vault.Delivery) error {
	if s.test == nil {
		return nil
	}
	return s.test(ctx, d)
}

func (s scripted) Try(ctx context.Context, d *vault.Delivery) (bool, error) {
	if s.try == nil {
		return false, nil
	}
	return s.try(ctx, d)
}
