package access

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

type permission struct {
	Action string `json:"action"`
	Path   string `json:"path"`
}

// token makes a role with these permissions, and a token of it.
func token(t *testing.T, v *vaulttest.Vault, name string, permissions ...permission) string {
	t.Helper()
	if permissions == nil {
		permissions = []permission{}
	}
	v.Do(t, "POST", "/v1/roles", map[string]any{"name": name, "permissions": permissions}).Want(t, http.StatusCreated)
	return v.Do(t, "POST", "/v1/tokens", map[string]any{"name": name, "role": name}).Want(t, http.StatusCreated).Text("token")
}

func TestReadsNeedATokenWhereTheyDo(t *testing.T) {
	t.Parallel()
	v := setup(t, sealkeeptest.WithReadAuth("ip+token"))
	seed(t, v)
	tokens := map[string]struct {
		token  string
		status int
	}{
		"no token":           {"", 401},
		"no such token":      {"svk_0000000000000000000000000000000000000000000000000", 401},
		"a token that may":   {token(t, v, "may", permission{"read", "a"}), 200},
		"a prefix that fits": {token(t, v, "prefix", permission{"read", "*"}), 200},
		"every action":       {token(t, v, "every", permission{"*", "a"}), 200},
		"another action":     {token(t, v, "action", permission{"update", "a"}), 403},
		"another name":       {token(t, v, "name", permission{"read", "b"}, permission{"read", "a/*"}), 403},
		"no permission":      {token(t, v, "none"), 403},
		"an administrator":   {v.AdminToken, 200},
	}
	for what, c := range tokens {
		for disclosure, r := range disclosures {
			want := c.status
			if disclosure == "batch" && want == 403 {
				want = 200 // names that may not be read are left out
			}
			got := v.Do(t, r.method, r.path, r.body, sealkeeptest.WithToken(c.token))
			if got.Status != want {
				t.Errorf("%s, %s: %d, want %d", what, disclosure, got.Status, want)
			}
			if c.status == 403 && disclosure == "batch" && string(got.Body) != "[]" {
				t.Errorf("%s: the batch holds %s", what, got.Body)
			}
		}
	}
}

func TestWithoutReadAuthATokenOnlyNamesTheActor(t *testing.T) {
	t.Parallel()
	v := setup(t)
	seed(t, v)
	for sent, actor := range map[string]string{
		token(t, v, "nothing"): "token:nothing",
		"":                     "address:127.0.0.1",
		"svk_0000000000000000000000000000000000000000000000000": "address:127.0.0.1",
		"garbage": "address:127.0.0.1",
	} {
		id := fmt.Sprintf("actor-%d", len(sent)+len(actor))
		v.Do(t, "GET", "/v1/secrets/a", nil, sealkeeptest.WithToken(sent), sealkeeptest.WithHeader("X-Request-Id", id)).Want(t, http.StatusOK)
		if r := v.Audit(t, id); len(r) == 0 || r[len(r)-1].Actor != actor {
			t.Errorf("a read with %q is recorded as %v", sent, r)
		}
	}
}

func TestTokensEnd(t *testing.T) {
	t.Parallel()
	v := setup(t)
	status := func(token string) int {
		return v.Do(t, "GET", "/v1/secrets", nil, sealkeeptest.WithToken(token)).Status
	}
	revoked, expired := token(t, v, "revoked"), token(t, v, "expired")
	if status(revoked) != 200 || status(expired) != 200 {
		t.Fatal("the tokens don't work at all")
	}
	v.Do(t, "DELETE", "/v1/tokens/revoked", nil).Want(t, http.StatusNoContent)
	v.Made(t, "UPDATE vault.admin_tokens SET expires_at = clock_timestamp() WHERE name = 'expired'")
	for name, token := range map[string]string{"revoked": revoked, "expired": expired} {
		if got := status(token); got != http.StatusUnauthorized {
			t.Errorf("a token that is %s: %d", name, got)
		}
	}
}

// TestWhoMayChangeAndNotReadLearnsNothing updates with the very value that is there: whether it is must not show.
func TestWhoMayChangeAndNotReadLearnsNothing(t *testing.T) {
	t.Parallel()
	v := setup(t, sealkeeptest.WithReadAuth("ip+token"))
	seed(t, v)
	writer := sealkeeptest.WithToken(token(t, v, "writer", permission{"create", "*"}, permission{"update", "*"}, permission{"rotate", "*"}))
	created := v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "b", "kind": "manual", "value": "val"}, writer).Want(t, http.StatusCreated)
	rotated := v.Do(t, "POST", "/v1/secrets/auto/rotate", nil, writer).Want(t, http.StatusOK)
	for _, answer := range []*sealkeeptest.Response{created, rotated} {
		if _, disclosed := answer.JSON["value"]; disclosed {
			t.Errorf("disclosed: %s", answer.Body)
		}
	}
	for n, value := range []string{"val", "val", "other", "other"} {
		updated := v.Do(t, "PUT", "/v1/secrets/a", map[string]any{"value": value}, writer).Want(t, http.StatusOK)
		if updated.Number("version") != float64(n+2) {
			t.Errorf("an update with a value that is there makes version %v, want %d: that it is there shows", updated.Number("version"), n+2)
		}
	}
	if same := v.Do(t, "PUT", "/v1/secrets/a", map[string]any{"value": "other"}).Want(t, http.StatusOK); same.Number("version") != 5 {
		t.Errorf("an update by who may read makes version %v of the same value", same.Number("version"))
	}
}
