package boot

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	masterKey  = "f00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabe"
	anotherKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func environ(url string, changes map[string]string) map[string]string {
	e := map[string]string{
		"VAULT_API_LISTEN": "127.0.0.1:0", "VAULT_TELEMETRY_LISTEN": "127.0.0.1:0", "VAULT_ALLOWED_IPS": "127.0.0.0/8",
		"VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": masterKey, "VAULT_DATABASE_URL": url, "VAULT_PG_MAX_CONNS": "4",
	}
	maps.Copy(e, changes)
	return e
}

func loadAPI(t *testing.T, e map[string]string) *API {
	t.Helper()
	cfg, err := LoadAPI(e)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// initialised returns a database that holds a vault.
func initialised(t *testing.T) *pgtest.Database {
	t.Helper()
	d := pgtest.New(t)
	cfg, err := LoadOffline(environ(d.URL("sealkeep_operator"), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Release()
	database, keeper, release, err := OpenOffline(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	token, err := vault.Init(t.Context(), database, keeper, cfg.BootstrapToken, vault.Config{})
	if err != nil {
		t.Fatal(err)
	}
	token.Release()
	return d
}

// log is a log that calls told for each of its lines.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
	told func(line string)
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told != nil {
		l.told(string(p))
	}
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) logger() *slog.Logger { return telemetry.NewLogger(l, slog.LevelDebug) }

// refusal builds a process that must not come to be, and returns why.
func refusal(ctx context.Context, t *testing.T, e map[string]string) string {
	t.Helper()
	p, err := NewAPI(ctx, loadAPI(t, e), slog.New(slog.DiscardHandler))
	if err == nil {
		p.Close()
		t.Fatal("the process was built")
	}
	return err.Error()
}
