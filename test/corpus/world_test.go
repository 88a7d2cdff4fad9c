package corpus

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealkeep/sealkeep/test/vaulttest"
)

const (
	existing  = "corpus/existing"
	steady    = "corpus/steady"
	userpass  = "corpus/userpass"
	automatic = "corpus/automatic"
)

// world is a vault with what the seeds speak of, and the value that must never be echoed.
type world struct {
	vault  *vaulttest.Vault
	canary string
	serial atomic.Int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	w := &world{
		vault: vaulttest.New(t, vaulttest.Config{}),
		// '+' and '!' can't be part of the names that errors may repeat.
		canary: "Canary+" + hex.EncodeToString(random) + "!",
	}
	for _, body := range []map[string]any{
		{"name": existing, "kind": "manual", "value": w.canary},
		{"name": steady, "kind": "manual", "value": w.canary},
		{"name": userpass, "kind": "manual", "username": "user", "password": w.canary},
		{"name": automatic, "kind": "automatic", "rotation_interval_secs": 86400},
	} {
		w.vault.Do(t, http.MethodPost, "/v1/secrets", body).Want(t, http.StatusCreated)
	}
	w.vault.Do(t, http.MethodPost, "/v1/roles", map[string]any{"name": "reader", "permissions": []any{}}).Want(t, http.StatusCreated)
	return w
}

// bytes makes the bytes of a request, and what it is to delete.
func (w *world) bytes(t *testing.T, q request) []byte {
	t.Helper()
	serial := w.serial.Add(1)
	return q.render(func(what string) string { return w.fill(t, serial, what) })
}

// fill gives what a placeholder stands for.
func (w *world) fill(t *testing.T, serial int64, what string) string {
	t.Helper()
	victim := fmt.Sprintf("victim-%d", serial)
	make := func(path string, body map[string]any) {
		response, err := w.vault.Try(t, http.MethodPost, path, body)
		if err != nil || (response.Status != http.StatusCreated && response.Status != http.StatusConflict) {
			t.Errorf("making %s: %v, %v", victim, response, err)
		}
	}
	switch what {
	case "token":
		return w.vault.AdminToken
	case "canary":
		return w.canary
	case "canary64":
		return base64.StdEncoding.EncodeToString([]byte(w.canary))
	case "serial":
		return fmt.Sprint(serial)
	case "fresh":
		return fmt.Sprintf("corpus/fresh/%d", serial)
	case "existing":
		return existing
	case "existing%2F":
		return strings.ReplaceAll(existing, "/", "%2F")
	case "steady":
		return steady
	case "userpass":
		return userpass
	case "automatic":
		return automatic
	case "victim":
		make("/v1/secrets", map[string]any{"name": victim, "kind": "manual", "value": w.canary})
		return victim
	case "victim-role":
		make("/v1/roles", map[string]any{"name": victim, "permissions": []any{}})
		return victim
	case "victim-token":
		make("/v1/tokens", map[string]any{"name": victim, "role": "reader"})
		return victim
	}
	return "{{" + what + "}}" // not one of ours
}

// echoes says whether text holds the canary, as it is or encoded.
func (w *world) echoes(text string) bool {
	plain := []byte(w.canary)
	for _, form := range []string{
		w.canary, w.canary[:len(w.canary)-1], w.canary[7 : len(w.canary)-1],
		base64.RawStdEncoding.EncodeToString(plain), base64.RawURLEncoding.EncodeToString(plain), hex.EncodeToString(plain),
	} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return strings.Contains(text, w.vault.AdminToken)
}
