package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/bench/dataset"
	"github.com/sealkeep/sealkeep/test/bench/procs"
)

// vaultData is a vault as an operator leaves it: a migrated and initialised database, a master key and an admin token. Any
// number of processes can serve it.
type vaultData struct {
	m           *machine
	database    string
	keyFile     string
	adminToken  string
	readerToken string // of a role that may read everything and has other rights besides
	program     string
	options     *options
	records     uint64 // that processes have committed at least
	due         int    // secrets in dataset.Rotated
	created     uint64 // secrets that were acknowledged in dataset.Fresh
}

// newVaultData makes a vault in a database of its own. program is the path of the API server.
func newVaultData(ctx context.Context, m *machine, database, program string, o *options) (*vaultData, error) {
	v := &vaultData{m: m, database: database, keyFile: m.file(database + ".key"), program: program, options: o}
	if err := postgres.MakeDatabase(ctx, m.superuser("postgres"), database); err != nil {
		return nil, err
	}
	if err := postgres.Migrate(ctx, m.superuser(database)); err != nil {
		return nil, err
	}
	if err := postgres.MakeLoginRoles(ctx, m.superuser(database)); err != nil {
		return nil, err
	}
	key, err := kms.NewMasterKeyText(nil)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.keyFile, key, 0o600); err != nil {
		return nil, err
	}
	return v, v.initialise(ctx)
}

// newOtherData makes a vault by the programs of another build, which may know another schema and other formats.
func newOtherData(ctx context.Context, m *machine, database string, o *options) (*vaultData, error) {
	v := &vaultData{m: m, database: database, keyFile: m.file(database + ".key"), program: filepath.Join(o.against, "api"), options: o}
	if err := postgres.MakeDatabase(ctx, m.superuser("postgres"), database); err != nil {
		return nil, err
	}
	key, err := kms.NewMasterKeyText(nil)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.keyFile, key, 0o600); err != nil {
		return nil, err
	}
	if _, err := v.sealkeep(ctx, m.server.URL("postgres", database), "migrate", "up"); err != nil {
		return nil, err
	}
	if err := postgres.MakeLoginRoles(ctx, m.superuser(database)); err != nil {
		return nil, err
	}
	token, err := v.sealkeep(ctx, m.server.URL("sealkeep_operator", database), "init", "--raw")
	v.adminToken = strings.TrimSpace(string(token))
	return v, err
}

// sealkeep runs a command of the other build.
func (v *vaultData) sealkeep(ctx context.Context, database string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(v.options.against, "sealkeep"), args...)
	cmd.Env = environment("VAULT_DATABASE_URL="+database, "VAULT_KMS_MODE=local", "VAULT_LOCAL_MASTER_KEY_FILE="+v.keyFile)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("-against: sealkeep %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// initialise does what `sealkeep init` does.
func (v *vaultData) initialise(ctx context.Context) error {
	cfg, err := boot.LoadOffline(map[string]string{
		"VAULT_DATABASE_URL":          v.m.server.URL("sealkeep_operator", v.database),
		"VAULT_KMS_MODE":              "local",
		"VAULT_LOCAL_MASTER_KEY_FILE": v.keyFile,
	})
	if err != nil {
		return err
	}
	defer cfg.Release()
	database, keeper, release, err := boot.OpenOffline(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer release()
	token, err := vault.Init(ctx, database, keeper, sensitive.Bytes{}, vault.Config{})
	if err != nil {
		return fmt.Errorf("initialising the vault: %w", err)
	}
	defer token.Release()
	v.adminToken = string(token.Token.Reveal())
	return nil
}

// start starts a process with the default settings and returns when it is ready.
func (v *vaultData) start(ctx context.Context, name string) (*vaultProcess, error) {
	api, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	telemetry, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p := &vaultProcess{data: v, address: api}
	p.process, err = procs.Start(procs.Config{
		Name: "the vault's process (" + name + ")", Path: v.program, Log: v.m.file(name + ".log"),
		Env: environment(append([]string{
			"VAULT_API_LISTEN=" + api,
			"VAULT_TELEMETRY_LISTEN=" + telemetry,
			"VAULT_ALLOWED_IPS=127.0.0.0/8",
			"VAULT_READ_AUTH=" + v.options.auth,
			"VAULT_DATABASE_URL=" + v.m.server.URL("sealkeep_api", v.database),
			"VAULT_KMS_MODE=local",
			"VAULT_LOCAL_MASTER_KEY_FILE=" + v.keyFile,
		}, v.options.vaultEnv...)...),
	})
	if err != nil {
		return nil, err
	}
	if p.ready, err = awaitReady(ctx, p.process, api); err != nil {
		return nil, errors.Join(err, p.process.Stop(stopPatience))
	}
	return p, nil
}

// freeAddress is one that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// vaultProcess is an API server.
type vaultProcess struct {
	data    *vaultData
	process *procs.Process
	address string
	ready   time.Duration // from before it was executed to its first 200 of /readyz
}

// awaitReady waits for a process to say that it is ready, and tells how long that took.
func awaitReady(ctx context.Context, p *procs.Process, address string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", http.NoBody)
		if err != nil {
			return 0, err
		}
		if answer, err := client.Do(request); err == nil {
			ready := time.Since(p.Began())
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return ready, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s isn't ready in time: %w", p.Name, ctx.Err())
		case <-p.Done():
			return 0, p.Err()
		case <-again.C:
		}
	}
}

// headers are those of a request that changes something, or that reads.
func (p *vaultProcess) headers(changes bool) string {
	switch {
	case changes:
		return "Authorization: Bearer " + p.data.adminToken + "\r\n"
	case p.data.options.auth == "ip+token":
		return "Authorization: Bearer " + p.data.readerToken + "\r\n"
	}
	return ""
}

// issueReader makes a role with a handful of rules, the one that counts last, and a token of it.
func (p *vaultProcess) issueReader(ctx context.Context) error {
	type permission struct {
		Action string `json:"action"`
		Path   string `json:"path"`
	}
	var permissions []permission
	for i := range 9 {
		permissions = append(permissions, permission{"read", fmt.Sprintf("service-%d/*", i)})
	}
	permissions = append(permissions, permission{"read", "bench/*"})
	err := p.post(ctx, "/v1/roles", map[string]any{"name": "bench-reader", "permissions": permissions}, nil)
	if err != nil {
		return err
	}
	var issued struct{ Token string }
	if err := p.post(ctx, "/v1/tokens", map[string]any{"name": "bench-reader", "role": "bench-reader"}, &issued); err != nil {
		return err
	}
	p.data.readerToken = issued.Token
	return nil
}

func (p *vaultProcess) post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+p.data.adminToken)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("POST %s: %s: %s", path, answer.Status, content)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(content, into)
}

// verify holds the committed records and secrets against what was answered.
func (v *vaultData) verify(ctx context.Context) error {
	var records, created uint64
	if err := v.m.query(ctx, v.database, "SELECT count(*) FROM vault.audit_log", &records); err != nil {
		return err
	}
	err := v.m.query(ctx, v.database, "SELECT count(*) FROM vault.secrets WHERE starts_with(name, '"+dataset.Fresh+"')", &created)
	if err != nil {
		return err
	}
	if records < v.records || created < v.created {
		return fmt.Errorf("the vault answered for %d records and %d new secrets, but has %d and %d", v.records, v.created, records, created)
	}
	return nil
}
