package vault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fixture is an initialised vault on a database of its own, with everything real.
type fixture struct {
	t       testing.TB
	db      *pgtest.Database
	api     *postgres.DB
	trail   *audit.Trail
	keeper  *watchedKeeper
	keyring *integrity.Keyring
	vaultID uuid.UUID
	vault   *vault.Vault
	admin   vault.Caller
	log     *syncBuffer
	metrics *prometheus.Registry
	cfg     vault.Config
}

const processName = "vault-test"

func setup(t testing.TB, tune ...func(*vault.Config)) *fixture {
	t.Helper()
	return setupOn(t, pgtest.New(t), tune...)
}

func setupOn(t testing.TB, db *pgtest.Database, tune ...func(*vault.Config)) *fixture {
	t.Helper()
	ctx := context.Background()
	f := &fixture{t: t, db: db, log: &syncBuffer{}, metrics: prometheus.NewRegistry()}
	f.keeper = &watchedKeeper{Local: newKeeper(t)}

	operator := f.open("sealkeep_operator")
	issued, err := vault.Init(ctx, operator, f.keeper, sensitive.Bytes{}, vault.Config{})
	must(t, err)
	t.Cleanup(issued.Release)

	f.api = f.open("sealkeep_api")
	f.vaultID, _, err = vault.LoadIdentity(ctx, f.api)
	must(t, err)
	f.keyring, err = vault.OpenKeyring(ctx, f.api, f.keeper, f.vaultID, integrity.PurposeRow, integrity.PurposeAudit, integrity.PurposeIdempotency)
	must(t, err)
	t.Cleanup(f.keyring.Close)

	allowlist, err := access.ParseAllowlist("127.0.0.0/8", false)
	must(t, err)
	cfg := vault.Config{
		Allowlist: allowlist, ReadAuth: vault.ReadAuthIPToken, SealedCacheBytes: 16 << 20, Metrics: f.metrics,
		Log: slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, change := range tune {
		change(&cfg)
	}
	f.serve(cfg)
	f.admin = vault.Caller{Address: netip.MustParseAddr("127.0.0.1"), Token: issued.Token, RequestID: "test"}
	eventually(t, "the vault is ready", func() bool { return f.vault.Ready(ctx) == nil })
	return f
}

// serve starts a process on the fixture's database.
func (f *fixture) serve(cfg vault.Config) {
	f.t.Helper()
	ctx := context.Background()
	var err error
	f.trail, err = audit.Open(f.api, f.keyring, f.vaultID, audit.Config{Process: processName, Log: cfg.Log, Metrics: f.metrics})
	must(f.t, err)
	must(f.t, f.trail.Start(ctx))
	for f.trail.Stats().StreamsOpen < 2 && f.t.Context().Err() == nil { // reads' and denials'
		time.Sleep(time.Millisecond)
	}
	f.vault, err = vault.New(f.api, f.trail, f.keeper, f.keyring, cfg)
	must(f.t, err)
	must(f.t, f.vault.Start(ctx))
	f.cfg = cfg
	running, trail := f.vault, f.trail
	f.t.Cleanup(func() {
		stop, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		must(f.t, running.Stop(stop))
		must(f.t, trail.Stop(stop))
	})
}

// other is another process of the same vault, which keeps what it keeps by itself.
func (f *fixture) other() *fixture {
	f.t.Helper()
	o := *f
	o.metrics, o.api = prometheus.NewRegistry(), f.open("sealkeep_api")
	o.keeper = &watchedKeeper{Local: f.keeper.Local}
	cfg := f.cfg
	cfg.Metrics = o.metrics
	o.serve(cfg)
	eventually(f.t, "the other process is ready", func() bool { return o.vault.Ready(context.Background()) == nil })
	return &o
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

func (f *fixture) open(user string) *postgres.DB {
	f.t.Helper()
	database, err := postgres.Open(context.Background(), postgres.Config{ConnString: f.db.URL(user), Process: processName})
	must(f.t, err)
	f.t.Cleanup(database.Close)
	return database
}

// watchedKeeper is the real local keeper, with a look at each call.
type watchedKeeper struct {
	*kms.Local

	mu       sync.Mutex
	decrypts int
	before   func() // runs before each call
	fail     error
}

func (k *watchedKeeper) look(decrypt bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if decrypt {
		k.decrypts++
	}
	if k.before != nil {
		k.before()
	}
	return k.fail
}

func (k *watchedKeeper) set(before func(), fail error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.before, k.fail = before, fail
}

func (k *watchedKeeper) takeDecrypts() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.decrypts
	k.decrypts = 0
	return n
}

func (k *watchedKeeper) GenerateDataKey(ctx context.Context, ec kms.Context) (kms.DataKey, error) {
	if err := k.look(false); err != nil {
		return kms.DataKey{}, err
	}
	return k.Local.GenerateDataKey(ctx, ec)
}

func (k *watchedKeeper) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec kms.Context) (sensitive.Bytes, error) {
	if err := k.look(true); err != nil {
		return sensitive.Bytes{}, err
	}
	return k.Local.Decrypt(ctx, wrapped, keyID, ec)
}

// record is an audit record as the tests look at it.
type record struct {
	Actor   string
	Action  string
	Name    *string
	Version *int64
	Outcome string
	Request string
}

// records gives the committed records of a request.
func (f *fixture) records(request string) []record {
	f.t.Helper()
	return pgtest.Query[record](f.t, f.db,
		"SELECT actor, action, secret_name, version, outcome, request_id FROM vault.audit_log l WHERE request_id = $1 ORDER BY (SELECT kind = 'denial' FROM vault.audit_streams s WHERE s.stream_id = l.stream_id), at, stream_id, seq", request)
}

// outcomes gives "action outcome" of each record of a request.
func (f *fixture) outcomes(request string) []string {
	f.t.Helper()
	var out []string
	for _, r := range f.records(request) {
		out = append(out, r.Action+" "+r.Outcome)
	}
	return out
}

// as gives the admin's caller another request id.
func (f *fixture) as(request string) vault.Caller {
	c := f.admin
	c.RequestID = request
	return c
}

// token issues a token of a new role with the given permissions and gives its caller.
func (f *fixture) token(name string, permissions ...access.Permission) vault.Caller {
	f.t.Helper()
	_, err := f.vault.CreateRole(context.Background(), f.admin, vault.RoleRequest{Name: name, Permissions: permissions})
	must(f.t, err)
	issued, err := f.vault.CreateToken(context.Background(), f.admin, vault.TokenRequest{Name: name, Role: name})
	must(f.t, err)
	f.t.Cleanup(issued.Release)
	c := f.admin
	c.Token, c.RequestID = issued.Token, name
	return c
}

// put creates a manual secret with a value.
func (f *fixture) put(name, value string) {
	f.t.Helper()
	s, err := f.vault.Create(context.Background(), f.admin, vault.CreateRequest{Name: name, Kind: "manual", Given: text(value)})
	must(f.t, err)
	s.Release()
}

// automatic creates a generated secret and gives its first value.
func (f *fixture) automatic(name string, graceSecs int64) string {
	f.t.Helper()
	interval := int64(3600)
	s, err := f.vault.Create(context.Background(), f.admin, vault.CreateRequest{
		Name: name, Kind: "automatic", RotationIntervalSecs: &interval, GracePeriodSecs: graceSecs,
	})
	must(f.t, err)
	defer s.Release()
	return string(s.Material.Value.Reveal())
}

func (f *fixture) read(name string) string {
	f.t.Helper()
	s, err := f.vault.Read(context.Background(), f.admin, vault.ReadRequest{Name: name})
	must(f.t, err)
	defer s.Release()
	return string(s.Material.Value.Reveal())
}

// made makes an edit by hand count as the vault's own: see sealkeeptest.Reseal.
func (f *fixture) made(sql string, args ...any) {
	f.t.Helper()
	f.db.Exec(f.t, sql, args...)
	sealkeeptest.Reseal(f.t, f.db, f.keyring)
}

func (f *fixture) verifyTrail() *audit.Report {
	f.t.Helper()
	report, err := audit.Verify(context.Background(), f.open("sealkeep_operator"), f.keyring, f.vaultID, nil)
	must(f.t, err)
	return report
}

func text(s string) vault.Given { return vault.Given{Value: sensitive.CopyString(s)} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind asks for an error of a kind.
func wantKind(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want kind %s", kind)
	}
	if got := fault.KindOf(err); got != kind {
		t.Fatalf("kind %s, want %s: %v", got, kind, err)
	}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != code {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

// eventually waits for a condition, long enough that only a hang fails.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("it never came that %s", what)
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
