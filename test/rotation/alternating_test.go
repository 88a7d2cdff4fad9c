package rotation

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/targetpg"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// A secret is due again sooner than the grace of the version before has passed, so that each rotation has to wait for that.
const (
	sideBySide   = 6
	intervalSecs = 1
	graceSecs    = 2
)

// pace is that of an application.
type pace struct{ fetch, login time.Duration }

// One application of each secret holds nothing for long, and one holds what it fetched for most of its grace.
var paces = []pace{{200 * time.Millisecond, 50 * time.Millisecond}, {1500 * time.Millisecond, 250 * time.Millisecond}}

// rotationsOfEach is how often each of the secrets side by side is rotated: 100 times together, or 1,000 times.
func rotationsOfEach() int64 {
	if long() {
		return 1000/sideBySide + 1
	}
	return 100/sideBySide + 1
}

// TestI9_ApplicationsWithTwoRolesNeverFailToLogIn has applications connect anew again and again with whatever they fetched last, while what they
// use is rotated as fast as its grace allows.
func TestI9_ApplicationsWithTwoRolesNeverFailToLogIn(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes 100 rotations, of which each waits for the grace of the one before")
	}
	v := vaulttest.New(t, vaulttest.Config{})
	target := targetpg.Start(t)
	secrets := makeAlternating(t, v, target)
	for range 2 {
		rotator(t, v, "VAULT_ROTATION_POLL_SECS=1", "VAULT_LOG_LEVEL=warn")
	}
	var apps []*application
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var crowd sync.WaitGroup
	t.Cleanup(crowd.Wait)
	t.Cleanup(cancel)
	for _, s := range secrets {
		for _, pace := range paces {
			a := &application{t: t, vault: v, target: target, name: s.name, pace: pace, handedOut: map[int64]string{}}
			apps = append(apps, a)
			crowd.Go(func() { a.run(ctx) })
		}
	}
	awaitLong(t, "every secret has been rotated as often as that", func() bool {
		return pgtest.Query[int64](t, v.DB, "SELECT min(current_version) FROM vault.secrets WHERE name LIKE 'pair/%'")[0] > rotationsOfEach()
	})
	cancel()
	crowd.Wait()

	logins, fetches, late := int64(0), 0, int64(0)
	for _, a := range apps {
		logins, fetches, late = logins+a.logins, fetches+a.fetches, late+a.late
	}
	versions := pgtest.Query[int64](t, v.DB, "SELECT sum(current_version - 1)::bigint FROM vault.secrets WHERE name LIKE 'pair/%'")[0]
	t.Logf("%d rotations; %d logins, after %d fetches; %d with what had passed its grace", versions, logins, fetches, late)
	if late*100 > logins {
		t.Error("applications came to log in too seldom to prove anything")
	}
	passwords := map[string]bool{}
	for _, s := range secrets {
		checkTurns(t, v, s)
	}
	for _, a := range apps {
		for _, password := range a.handedOut {
			passwords[password] = true
		}
	}
	for _, kept := range v.Stored(t, "") {
		if kept.Version > 1 { // the first is made by hand
			passwords[kept.Value] = true
		}
	}
	if int64(len(passwords))*10 < versions*9 {
		t.Errorf("of %d rotated passwords only %d are searched for", versions, len(passwords))
	}
	checkLog(t, target, secrets[0], passwords)
	v.VerifyClean(t)
}

// makeAlternating makes secrets of two roles each.
func makeAlternating(t *testing.T, v *vaulttest.Vault, target *targetpg.Server) []targeted {
	t.Helper()
	var secrets []targeted
	var managed []string
	for i := range sideBySide {
		s := targeted{name: fmt.Sprintf("pair/%d", i), kind: alternating, roles: []string{fmt.Sprintf("pair %d a", i), fmt.Sprintf("pair %d b", i)}}
		for _, role := range s.roles {
			s.passwords = append(s.passwords, target.Role(t, role, ""))
		}
		secrets, managed = append(secrets, s), append(managed, s.roles...)
	}
	login(t, v, target, managed...)
	second := int64(intervalSecs)
	for _, s := range secrets {
		create(t, v, vault.CreateRequest{
			Name: s.name, Kind: "automatic", RotationIntervalSecs: &second, GracePeriodSecs: graceSecs, Given: userpass(s.roles[0], s.passwords[0]),
			Target: &secret.Target{Postgres: &secret.PostgresTarget{
				Hosts: []string{target.Address}, Mode: secret.ModeAlternating, Usernames: s.roles, LoginSecret: loginSecret,
			}},
		})
	}
	return secrets
}

// awaitLong waits for what takes long.
func awaitLong(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if t.Failed() {
			t.Fatalf("given up before this: %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("it does not come to this: %s", what)
		case <-tick.C:
		}
	}
}

// application logs in with what it fetched last.
type application struct {
	t             *testing.T
	vault         *vaulttest.Vault
	target        *targetpg.Server
	name          string
	pace          pace
	fetches       int
	logins, late  int64
	handedOut     map[int64]string // passwords by version, but for the first
	lastFetchedAt time.Time
}

func (a *application) run(ctx context.Context) {
	tick := time.NewTicker(a.pace.login)
	defer tick.Stop()
	var held credential
	for {
		if time.Since(a.lastFetchedAt) >= a.pace.fetch {
			a.lastFetchedAt = time.Now()
			fresh, err := fetch(a.t, a.vault, a.name)
			if err != nil {
				if ctx.Err() == nil && a.t.Context().Err() == nil {
					a.t.Errorf("fetching %s: %v", a.name, err)
				}
				return
			}
			a.fetches++
			if held = fresh; held.version > 1 {
				a.handedOut[held.version] = held.password
			}
		}
		err := a.target.Login(ctx, held.username, held.password)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			a.logins++
		case a.expired(held.version):
			a.late++
		default:
			a.t.Errorf("I9: %s, version %d, which is valid, is refused at the target: %v", a.name, held.version, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// expired tells whether a version's grace is over, by the database's clock. An application that the machine has stand still for so long has no
// claim to log in with it.
func (a *application) expired(version int64) bool {
	return len(pgtest.Query[int](a.t, a.vault.DB, `SELECT 1 FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
		WHERE s.name = $1 AND v.version = $2 AND (v.state = 'current' OR v.expires_at > clock_timestamp())`, a.name, version)) == 0
}

// checkTurns holds the trail: one record of each version, in order, the roles in turn.
func checkTurns(t *testing.T, v *vaulttest.Vault, s targeted) {
	t.Helper()
	versions := pgtest.Query[int64](t, v.DB, `SELECT version FROM vault.audit_log WHERE secret_name = $1 AND action = 'secret.rotate' AND outcome = 'ok'
		ORDER BY version`, s.name)
	for i, version := range versions {
		if version != int64(i)+2 {
			t.Fatalf("%s: the records' versions are %v", s.name, versions)
		}
	}
	if int64(len(versions)) < rotationsOfEach() {
		t.Errorf("%s: the trail has %d rotations", s.name, len(versions))
	}
	for _, kept := range v.Stored(t, s.name) {
		if want := s.roles[(kept.Version-1)%2]; kept.Username != want {
			t.Errorf("%s: version %d is of the role %q", s.name, kept.Version, kept.Username)
		}
	}
}

// checkLog searches the target's log, which has every statement, for what was set there.
func checkLog(t *testing.T, target *targetpg.Server, s targeted, passwords map[string]bool) {
	t.Helper()
	const byHand = "Zu8mQ4 set by hand"
	target.Set(t, s.roles[0], byHand)
	log := target.Log(t)
	if n := bytes.Count(log, []byte("ALTER ROLE")); n < len(passwords) || !bytes.Contains(log, []byte(byHand)) || !bytes.Contains(log, []byte(s.passwords[0])) {
		t.Errorf("the target's log doesn't hold what was done there: %d changes of roles", n)
	}
	for password := range passwords {
		if bytes.Contains(log, []byte(password)) {
			t.Error("I1: the target's log holds a password that a rotation set")
		}
	}
}
