package vault_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// breakable is the system's source of randomness until it breaks.
type breakable struct {
	mu    sync.Mutex
	sound int // draws left until it breaks; below 0 it never does
	how   func(p []byte) (int, error)
}

func (b *breakable) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sound == 0 {
		return b.how(p)
	}
	b.sound--
	return rand.Read(p)
}

func (b *breakable) breakAfter(draws int, how func([]byte) (int, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sound, b.how = draws, how
}

// brokenSources are the ways in which a source breaks.
var brokenSources = map[string]func(p []byte) (int, error){
	"failing": func([]byte) (int, error) { return 0, errors.New("no randomness") },
	"short":   func(p []byte) (int, error) { n, _ := rand.Read(p[:len(p)-1]); return n, io.EOF },
	"constant": func(p []byte) (int, error) {
		for i := range p {
			p[i] = 0x5a
		}
		return len(p), nil
	},
}

// written counts the rows of what a change writes. A refusal leaves a record in the audit log, and reads move streams.
const written = `SELECT (SELECT count(*) FROM vault.secrets) + (SELECT count(*) FROM vault.secret_versions) + (SELECT count(*) FROM vault.roles)
	+ (SELECT count(*) FROM vault.role_permissions) + (SELECT count(*) FROM vault.admin_tokens) + (SELECT count(*) FROM vault.keyring)
	+ (SELECT count(*) FROM vault.authz_state) + (SELECT sum(current_version) FROM vault.secrets)`

// Each use case is tried with a source that breaks before its first draw, before its second, and so on until it has as many
// as it needs: so no place that draws is left out.
func TestI4_NothingIsMadeOfBrokenRandomness(t *testing.T) {
	t.Parallel()
	source := &breakable{sound: -1}
	f := setup(t, func(c *vault.Config) { c.Random = source })
	ctx := context.Background()
	text := func(s string) vault.Given { return vault.Given{Value: sensitive.CopyString(s)} }
	hour := int64(3600)
	create := func(r vault.CreateRequest) error {
		s, err := f.vault.Create(ctx, f.admin, r)
		if err == nil {
			s.Release()
		}
		return err
	}
	must(t, create(vault.CreateRequest{Name: "kept", Kind: "manual", Given: text("a")}))
	must(t, create(vault.CreateRequest{Name: "rotated", Kind: "automatic", RotationIntervalSecs: &hour}))
	operator := f.open("sealkeep_operator")
	useCases := []struct {
		name  string
		draws int
		run   func() error
	}{
		{"create: secret id, version id, nonce", 3, func() error {
			return create(vault.CreateRequest{Name: "given", Kind: "manual", Given: text("b")})
		}},
		{"create automatic: the value too", 4, func() error {
			return create(vault.CreateRequest{Name: "generated", Kind: "automatic", RotationIntervalSecs: &hour})
		}},
		{"update: version id, nonce", 2, func() error {
			_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "kept", Given: text("c")})
			return err
		}},
		{"rotate: value, version id, nonce", 3, func() error {
			s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "rotated"})
			if err == nil {
				s.Release()
			}
			return err
		}},
		{"role: id", 1, func() error {
			_, err := f.vault.CreateRole(ctx, f.admin, vault.RoleRequest{Name: "weak"})
			return err
		}},
		{"token: text, id", 2, func() error {
			issued, err := f.vault.CreateToken(ctx, f.admin, vault.TokenRequest{Name: "weak", Role: "admin"})
			if err == nil {
				issued.Release()
			}
			return err
		}},
		{"recover: token, id, stream id", 3, func() error {
			issued, err := vault.RecoverToken(ctx, operator, f.keeper, vault.Recovery{Name: "again"}, f.cfg)
			if err == nil {
				issued.Release()
			}
			return err
		}},
	}
	for _, u := range useCases {
		for how, broken := range brokenSources {
			for sound := range u.draws {
				before := pgtest.Query[int64](t, f.db, written)[0]
				source.breakAfter(sound, broken)
				err := u.run()
				source.breakAfter(-1, nil)
				if fault.KindOf(err) != fault.Internal {
					t.Errorf("%s, %s after %d draws: %v", u.name, how, sound, err)
				}
				if after := pgtest.Query[int64](t, f.db, written)[0]; after != before {
					t.Errorf("%s, %s after %d draws: something was written", u.name, how, sound)
				}
			}
		}
		source.breakAfter(u.draws, brokenSources["failing"])
		err := u.run()
		source.breakAfter(-1, nil)
		if err != nil {
			t.Errorf("%s draws more than %d times: %v", u.name, u.draws, err)
		}
	}
}

func TestI4_NoVaultIsMadeOfBrokenRandomness(t *testing.T) {
	t.Parallel()
	const draws = 1 + 1 + 4 + 1 + 1 + 1 // token, vault id, key ids, role id, token id, stream id
	f := &fixture{t: t, db: pgtest.New(t)}
	operator, keeper := f.open("sealkeep_operator"), newKeeper(t)
	source := &breakable{sound: -1}
	initialise := func() error {
		issued, err := vault.Init(t.Context(), operator, keeper, sensitive.Bytes{}, vault.Config{Random: source})
		if err == nil {
			issued.Release()
		}
		return err
	}
	for how, broken := range brokenSources {
		for sound := range draws {
			source.breakAfter(sound, broken)
			if err := initialise(); fault.KindOf(err) != fault.Internal {
				t.Errorf("%s after %d draws: %v", how, sound, err)
			}
			const anything = "SELECT (SELECT count(*) FROM vault.authz_state) + (SELECT count(*) FROM vault.keyring) + (SELECT count(*) FROM vault.audit_streams)"
			if pgtest.Query[int64](t, f.db, anything)[0] != 0 {
				t.Errorf("%s after %d draws: something was written", how, sound)
			}
		}
	}
	source.breakAfter(draws, brokenSources["failing"])
	if err := initialise(); err != nil {
		t.Errorf("it draws more than %d times: %v", draws, err)
	}
}

func TestI4_NoProcessStartsOnBrokenRandomness(t *testing.T) {
	t.Parallel()
	keeper, err := kms.NewLocal(sensitive.CopyString("0123456789abcdef0123456789abcdef"), nil)
	must(t, err)
	defer keeper.Close()
	id := uuid.New()
	roots, err := integrity.NewRoots(t.Context(), keeper, id, nil)
	must(t, err)
	keys, err := integrity.OpenKeyring(t.Context(), keeper, id, roots, integrity.PurposeRow)
	must(t, err)
	defer keys.Close()
	if _, err := vault.New(nil, nil, keeper, keys, vault.Config{}); err != nil {
		t.Fatalf("on sound randomness: %v", err)
	}
	for how, broken := range brokenSources {
		for sound := range 2 {
			source := &breakable{sound: sound, how: broken}
			if v, err := vault.New(nil, nil, keeper, keys, vault.Config{Random: source}); err == nil || v != nil {
				t.Errorf("%s after %d draws: a vault was made", how, sound)
			}
		}
	}
}
