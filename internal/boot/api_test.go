package boot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/randomness"
)

func TestAllProblemsAreReportedTogether(t *testing.T) {
	t.Parallel()
	_, err := LoadAPI(map[string]string{
		"VAULT_ALLOWED_IPS": "10.0.0.1/8", "VAULT_TRUST_PROXY": "true", "VAULT_READ_AUTH": "none", "VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": "canary",
	})
	var all *config.Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v", err)
	}
	var variables []string
	for _, p := range all.Problems {
		variables = append(variables, p.Variable)
	}
	want := []string{"VAULT_ALLOWED_IPS", "VAULT_DATABASE_URL", "VAULT_LOCAL_MASTER_KEY", "VAULT_READ_AUTH", "VAULT_TRUSTED_PROXIES"}
	if !slices.Equal(variables, want) || !strings.Contains(err.Error(), "10.0.0.0/8") || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
	_, err = LoadOffline(map[string]string{"VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": "canary"})
	if !errors.As(err, &all) || len(all.Problems) != 2 || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestI4_TrustInProxiesNeedsAList(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"", " ", ",", "10.0.0.0/33", "proxy.example", "::1"} {
		_, err := LoadAPI(environ("postgres://u@h/d", map[string]string{"VAULT_TRUST_PROXY": "true", "VAULT_TRUSTED_PROXIES": list}))
		if err == nil || !strings.Contains(err.Error(), "VAULT_TRUSTED_PROXIES") || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: got %v", list, err)
		}
	}
	loadAPI(t, environ("postgres://u@h/d", map[string]string{"VAULT_TRUST_PROXY": "true", "VAULT_TRUSTED_PROXIES": "10.0.0.0/8"}))
}

func TestI4_ProcessRefusesToStart(t *testing.T) {
	t.Parallel()
	t.Run("without a schema", func(t *testing.T) {
		t.Parallel()
		d := pgtest.NewEmpty(t)
		if why := refusal(t.Context(), t, environ(d.URL("sealkeep_api"), nil)); !strings.Contains(why, "run `sealkeep migrate up`") {
			t.Error(why)
		}
	})
	t.Run("on a newer schema", func(t *testing.T) {
		t.Parallel()
		d := initialised(t)
		d.Exec(t, "INSERT INTO vault.schema_version (version_id, is_applied) VALUES (99999, true)")
		if why := refusal(t.Context(), t, environ(d.URL("sealkeep_api"), nil)); !strings.Contains(why, "run the newer release") {
			t.Error(why)
		}
	})
	t.Run("without a vault", func(t *testing.T) {
		t.Parallel()
		d := pgtest.New(t)
		if why := refusal(t.Context(), t, environ(d.URL("sealkeep_api"), nil)); !strings.Contains(why, "run `sealkeep init`") {
			t.Error(why)
		}
	})
	t.Run("with another master key", func(t *testing.T) {
		t.Parallel()
		d := initialised(t)
		why := refusal(t.Context(), t, environ(d.URL("sealkeep_api"), map[string]string{"VAULT_LOCAL_MASTER_KEY": anotherKey}))
		if !strings.Contains(why, "is this the vault's own KMS key?") {
			t.Error(why)
		}
	})
	t.Run("with a login that is refused, at once", func(t *testing.T) {
		t.Parallel()
		elsewhere, err := url.Parse(pgtest.New(t).URL("sealkeep_api"))
		if err != nil {
			t.Fatal(err)
		}
		elsewhere.Path = "/nowhere"
		if why := refusal(t.Context(), t, environ(elsewhere.String(), nil)); !strings.Contains(why, "refuses this login (VAULT_DATABASE_URL") {
			t.Error(why)
		}
	})
	t.Run("on an address that is taken", func(t *testing.T) {
		t.Parallel()
		d := initialised(t)
		taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		for _, variable := range []string{"VAULT_API_LISTEN", "VAULT_TELEMETRY_LISTEN"} {
			why := refusal(t.Context(), t, environ(d.URL("sealkeep_api"), map[string]string{variable: taken.Addr().String()}))
			if !strings.Contains(why, variable) {
				t.Error(why)
			}
		}
	})
}

func TestI8_ProcessDoesNotStartOnAStandby(t *testing.T) {
	t.Parallel()
	for _, program := range []Program{APIProgram, RotatorProgram} {
		t.Run(program.Name, func(t *testing.T) {
			t.Parallel()
			d := initialised(t)
			// To a client this is what a standby is: a server that refuses to write.
			d.Exec(t, "ALTER DATABASE "+d.Name()+" SET default_transaction_read_only = on")
			ctx, cancel := context.WithCancel(t.Context())
			l := &log{told: func(line string) {
				if strings.Contains(line, "waiting for the database") {
					cancel()
				}
			}}
			cfg, err := program.Load(environ(d.URL("sealkeep_"+program.Name), nil))
			if err != nil {
				t.Fatal(err)
			}
			p, err := cfg.Build(ctx, l.logger())
			if err == nil {
				p.Close()
				t.Fatal("the process was built")
			}
			if !strings.Contains(err.Error(), "no primary database answers") || !strings.Contains(l.String(), "read only") {
				t.Errorf("got %v\n%s", err, l)
			}
		})
	}
}

func TestProcessWaitsForItsDatabase(t *testing.T) {
	t.Parallel()
	d := initialised(t)
	target, err := url.Parse(d.TCPURL("sealkeep_api"))
	if err != nil {
		t.Fatal(err)
	}
	place, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := place.Addr().String()
	_ = place.Close() // nobody is there yet
	through := *target
	through.Host = address

	open := sync.OnceFunc(func() { relay(t, address, target.Host) })
	l := &log{told: func(line string) {
		if strings.Contains(line, "waiting for the database") {
			open()
		}
	}}
	p, err := NewAPI(t.Context(), loadAPI(t, environ(through.String(), nil)), l.logger())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if strings.Count(l.String(), "waiting for the database") != 1 {
		t.Errorf("not waited, or told more than once:\n%s", l)
	}
}

// relay passes on what comes to address until the test ends.
func relay(t *testing.T, address, target string) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", target)
			if err != nil {
				_ = from.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
				all.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
					_ = way[1].Close()
				})
			}
		}
	})
}

func TestProcessServesAndStops(t *testing.T) {
	t.Parallel()
	d := initialised(t)
	var l log
	cfg := loadAPI(t, environ(d.URL("sealkeep_api"), map[string]string{"VAULT_ALLOWED_IPS": "", "VAULT_READ_AUHT": "ip"}))
	if cfg.KMS.MasterKey.Len() != 0 || cfg.masterKey.Len() != 32 {
		t.Error("I1: the master key is still where it was read, or lost")
	}
	p, err := NewAPI(t.Context(), cfg, l.logger())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.masterKey.Len() != 0 {
		t.Error("I1: the master key is still there, though the keeper has it")
	}
	if p.Ready(t.Context()) == nil {
		t.Error("ready before it serves")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(address net.Addr, path string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address.String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	for get(p.Addr(), "/readyz") != 200 {
		time.Sleep(10 * time.Millisecond)
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/v1/secrets": 404} {
		if got := get(p.TelemetryAddr(), path); got != want {
			t.Errorf("telemetry: %s is %d", path, got)
		}
	}
	if got := get(p.Addr(), "/metrics"); got != 404 {
		t.Errorf("/metrics is %d on the public listener", got)
	}
	mine := "SELECT count(*) FROM vault.audit_streams WHERE process LIKE 'api/%' AND state = 'open'"
	if open := pgtest.Query[int64](t, d, mine)[0]; open == 0 {
		t.Error("serves without a stream")
	}

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if p.Ready(t.Context()) == nil {
		t.Error("ready after it stopped")
	}
	if open := pgtest.Query[int64](t, d, mine)[0]; open != 0 {
		t.Errorf("%d streams were left open", open)
	}
	p.Close()
	for _, once := range []string{"every read is denied", "is for development", `"variables":["VAULT_READ_AUHT"]`, `"msg":"configuration"`} {
		if strings.Count(l.String(), once) != 1 {
			t.Errorf("%s is not logged once:\n%s", once, l.String())
		}
	}
	if strings.Contains(l.String(), masterKey) || strings.Contains(l.String(), "not fully verified") {
		t.Errorf("logged what it should not:\n%s", l.String())
	}
}

func TestWeakConnectionsAreWarnedOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"postgres://u:canary@db.example/d?sslmode=disable": true, "postgres://u:canary@db.example/d": false, "postgres://u@127.0.0.1/d": false,
	} {
		var l log
		warnDatabase(l.logger(), loadAPI(t, environ(url, nil)).Database)
		if warned := strings.Contains(l.String(), "not fully verified"); warned != want || strings.Contains(l.String(), "canary") {
			t.Errorf("%s: %s", url, l.String())
		}
	}
}

func TestProcessNameFitsItsPlaces(t *testing.T) {
	t.Parallel()
	name, err := processName("api", randomness.Reader)
	another, otherErr := processName("api", randomness.Reader)
	if err != nil || otherErr != nil || len(name) > 63 || !strings.HasPrefix(name, "api/") || name == another {
		t.Errorf("got %s and %s: %v, %v", name, another, err, otherErr)
	}
	if name, err := processName("api", randomness.New(bytes.NewReader(make([]byte, 64)))); name != "" || !errors.Is(err, randomness.ErrRepetition) {
		t.Errorf("from a stuck source: %q, %v", name, err)
	}
}
