package rotation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/targetpg"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// long tells whether `make chaos` runs.
func long() bool { return os.Getenv("SEALKEEP_TEST_CHAOS") != "" }

// scale is how much is rotated, by how many, under how much.
type scale struct {
	rotators, secrets, targeted, seconds int
}

func scaleOfThisRun() scale {
	if long() {
		return scale{rotators: 8, secrets: 20_000, targeted: 200, seconds: 300}
	}
	return scale{rotators: 4, secrets: 2000, targeted: 40, seconds: 60}
}

// kinds of targeted secrets
const (
	selfMade    = "single"
	byLogin     = "single, by a login secret"
	alternating = "alternating"
)

// targeted is a secret that is used at the target.
type targeted struct {
	name, kind string
	roles      []string // at the target; the first is the one that version 1 holds
	passwords  []string // as they were before anything was rotated, by role
}

// chaos is a vault in a server that may crash, and all that happens to it.
type chaos struct {
	t        *testing.T
	scale    scale
	server   *pgtest.Server
	vault    *vaulttest.Vault
	target   *targetpg.Server
	targeted []targeted
	due      map[string]time.Time

	crashes, restarts int
	openAfter         int64 // jobs that were open when the faults ended
}

// TestChaos_EveryDueSecretIsRotatedOnceWhoeverDies has many secrets fall due at once, and rotators killed and stopped while they rotate them, and
// the database crashed and restarted under them. What came of it is told by the audit trail and the tables, and by applications that
// use the secrets all the while; never by those who did it.
//
// A rotation is made to take as long as at a busy server, a second or so, so that faults meet rotations under way.
func TestChaos_EveryDueSecretIsRotatedOnceWhoeverDies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills rotators, and crashes a database, for a minute")
	}
	seed := rand.Uint64()
	t.Logf("the faults' seed is %d", seed)
	c := newChaos(t)
	fleet := newFleet(t, c.vault, c.scale.rotators)
	c.drag()
	apps := startApplications(t, c.vault, c.target, c.targeted, 4)
	looks := startLooks(t, &watch{url: c.vault.DB.URL(pgtest.Superuser), target: c.target}, c.targeted)
	fleet.fill()

	var quakes sync.WaitGroup
	quakes.Go(func() { c.quake(time.Duration(c.scale.seconds) * time.Second / 3) })
	fleet.plague(rand.New(rand.NewPCG(seed, 0)), c.scale.seconds)
	quakes.Wait()
	c.openAfter = c.count("vault.rotation_jobs WHERE completed_at IS NULL")
	c.vault.DB.Exec(t, "DROP TRIGGER drag ON vault.secrets")
	c.settle(fleet)
	for i, s := range c.targeted {
		if i%7 == 0 { // the rest are visited anyway
			apps.visit(s)
		}
	}
	apps.end()
	looks.end()
	fleet.end()

	c.judge(fleet, apps, looks)
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{t: t, scale: scaleOfThisRun(), due: map[string]time.Time{}}
	c.server = pgtest.NewServer(t, map[string]string{"fsync": "on", "full_page_writes": "on", "autovacuum": "on"})
	c.vault = vaulttest.New(t, vaulttest.Config{Database: c.server.Database, Options: []sealkeeptest.Option{
		sealkeeptest.WithEnv("VAULT_LOG_LEVEL", "error"), sealkeeptest.WithEnv("VAULT_PG_MAX_CONNS", "16"),
	}})
	c.target = targetpg.Start(t)
	c.makeRoles()
	c.makeSecrets()
	return c
}

// makeRoles makes the roles of the targeted secrets, and the login secret of who may change the passwords of some.
func (c *chaos) makeRoles() {
	var managed []string
	for i := range c.scale.targeted {
		kind := []string{selfMade, byLogin, selfMade, byLogin, alternating}[i%5]
		s := targeted{name: fmt.Sprintf("chaos/db-%d", i), kind: kind, roles: []string{fmt.Sprintf("app_%d", i)}}
		if kind == alternating {
			s.roles = append(s.roles, fmt.Sprintf("app_%d_b", i))
		}
		for _, role := range s.roles {
			s.passwords = append(s.passwords, c.target.Role(c.t, role, ""))
			if kind != selfMade {
				managed = append(managed, role)
			}
		}
		c.targeted = append(c.targeted, s)
	}
	login(c.t, c.vault, c.target, managed...)
}

// makeSecrets makes what is due, the targeted ones here and there among the others.
func (c *chaos) makeSecrets() {
	year := int64(365 * 24 * 3600)
	every := c.scale.secrets / c.scale.targeted
	var next atomic.Int64
	var makers sync.WaitGroup
	for range 8 {
		makers.Go(func() {
			for i := int(next.Add(1)) - 1; i < c.scale.secrets; i = int(next.Add(1)) - 1 {
				r := vault.CreateRequest{
					Name: fmt.Sprintf("chaos/app-%d", i), Kind: "automatic", RotationIntervalSecs: &year, RotateOnCreate: true, GracePeriodSecs: 24 * 3600,
				}
				if i%every == 0 {
					c.aim(&r, &c.targeted[i/every])
				}
				create(c.t, c.vault, r)
			}
		})
	}
	makers.Wait()
	type row struct {
		Name string
		Due  *time.Time
	}
	for _, r := range pgtest.Query[row](c.t, c.vault.DB, "SELECT name, next_rotation_at FROM vault.secrets WHERE name LIKE 'chaos/%' AND next_rotation_at <= now()") {
		c.due[r.Name] = *r.Due
	}
	if len(c.due) != c.scale.secrets {
		c.t.Fatalf("%d of %d secrets are due", len(c.due), c.scale.secrets)
	}
}

// aim makes a request one for a targeted secret.
func (c *chaos) aim(r *vault.CreateRequest, s *targeted) {
	r.Name = s.name
	r.Given = userpass(s.roles[0], s.passwords[0])
	at := &secret.PostgresTarget{Hosts: []string{c.target.Address}, Mode: secret.ModeSingle, ProbeSecs: secret.MinProbeSecs}
	switch s.kind {
	case alternating:
		at.Mode, at.Usernames, at.LoginSecret = secret.ModeAlternating, s.roles, loginSecret
	case byLogin:
		at.LoginSecret = loginSecret
	}
	if s.kind != alternating {
		r.GracePeriodSecs = 0
	}
	r.Target = &secret.Target{Postgres: at}
}

// drag has each change of a secret take up to a second.
func (c *chaos) drag() {
	c.vault.DB.Exec(c.t, `CREATE FUNCTION public.drag() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(random()); RETURN NEW; END';
		CREATE TRIGGER drag BEFORE UPDATE ON vault.secrets FOR EACH ROW EXECUTE FUNCTION public.drag()`)
}

// quake takes the database away twice: by a crash, and by a restart that ends all sessions.
func (c *chaos) quake(apart time.Duration) {
	for _, how := range []func() error{c.server.Postgres.Kill, func() error { return nil }} {
		select {
		case <-time.After(apart):
		case <-c.t.Context().Done():
			return
		}
		if err := errors.Join(how(), c.server.Postgres.Restart(context.Background())); err != nil {
			c.t.Errorf("the database doesn't come back: %v", err)
			return
		}
		if c.crashes == 0 {
			c.crashes++
		} else {
			c.restarts++
		}
	}
}

func (c *chaos) count(of string) int64 {
	c.t.Helper()
	return pgtest.Query[int64](c.t, c.vault.DB, "SELECT count(*) FROM "+of)[0]
}

// settle waits until nothing is left to be done.
func (c *chaos) settle(f *fleet) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	const open = `(SELECT FROM vault.rotation_jobs WHERE completed_at IS NULL AND dead_at IS NULL
		UNION ALL SELECT FROM vault.secrets s WHERE next_rotation_at <= now() AND NOT EXISTS (SELECT FROM vault.rotation_jobs j WHERE j.secret_id = s.id AND dead_at IS NOT NULL)) o`
	for c.count(open) > 0 {
		f.fill()
		select {
		case <-ctx.Done():
			c.t.Fatalf("%d jobs don't come to an end", c.count(open))
		case <-tick.C:
		}
	}
}

// watch asks the vault's database past the vault, and may be cut off any time.
type watch struct {
	url    string
	target *targetpg.Server
	conn   *pgx.Conn
}

func (w *watch) close() {
	if w.conn != nil {
		_ = w.conn.Close(context.Background())
	}
}

// versions are the versions of a secret and their states.
func (w *watch) versions(ctx context.Context, name string) (text string, err error) {
	if w.conn == nil || w.conn.IsClosed() {
		if w.conn, err = pgx.Connect(ctx, w.url); err != nil {
			return "", err
		}
	}
	err = w.conn.QueryRow(ctx, `SELECT string_agg(v.version || ' ' || v.state, ',' ORDER BY v.version)
		FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = $1`, name).Scan(&text)
	return text, err
}
