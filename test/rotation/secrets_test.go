package rotation

import (
	"net/netip"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/targetpg"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// loginSecret is the name of the secret whose user sets the passwords of others.
const loginSecret = "login"

// login makes the login secret of who may set the passwords of those roles.
func login(t *testing.T, v *vaulttest.Vault, target *targetpg.Server, roles ...string) {
	t.Helper()
	create(t, v, vault.CreateRequest{
		Name: loginSecret, Kind: "manual", LoginHosts: []string{target.Address}, Given: userpass("admin", target.Admin(t, "admin", roles...)),
	})
}

func userpass(username, password string) vault.Given {
	return vault.Given{Username: sensitive.CopyString(username), Password: sensitive.CopyString(password)}
}

// create makes a secret as the admin. It may be called from any goroutine.
func create(t *testing.T, v *vaulttest.Vault, r vault.CreateRequest) {
	t.Helper()
	caller := vault.Caller{Address: netip.MustParseAddr("127.0.0.1"), Token: sensitive.CopyString(v.AdminToken), RequestID: "create " + r.Name}
	s, err := v.Process.Vault().Create(t.Context(), caller, r)
	if err != nil {
		t.Errorf("creating %s: %v", r.Name, err)
	}
	s.Release()
}

// rotator starts a rotator on the vault's database, in this process.
func rotator(t *testing.T, v *vaulttest.Vault, settings ...string) *sealkeeptest.Rotator {
	t.Helper()
	return v.StartRotator(t, append(settings, "VAULT_DATABASE_URL="+v.DB.URL("sealkeep_rotator"))...)
}
