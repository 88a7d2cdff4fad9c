package boot

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/sealkeep/sealkeep/internal/httpapi"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// APIProcess is an API server: a vault behind HTTP, and its telemetry.
type APIProcess struct {
	service
	vault *vault.Vault
	api   *process.Server
}

// NewAPI builds an API process, bound to its addresses and not yet serving. It waits up to 30 s, and no longer than ctx,
// until a primary of the database answers. cfg is released, whatever the outcome. The caller must either Run or Close
// what it gets.
//
// Its errors are one line that says what to do.
func NewAPI(ctx context.Context, cfg *API, log *slog.Logger) (*APIProcess, error) {
	defer cfg.Release()
	tellConfiguration(log, cfg)
	if cfg.Allowlist.IsEmpty() {
		log.Warn("VAULT_ALLOWED_IPS is empty: every read is denied")
	}
	p := &APIProcess{}
	if err := p.build(ctx, cfg, log); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *APIProcess) build(ctx context.Context, cfg *API, log *slog.Logger) error {
	err := p.begin(ctx, "api", "vault_api", cfg.Service, &cfg.keys, log, integrity.PurposeIdempotency)
	if err != nil {
		return err
	}
	p.vault, err = vault.New(p.database, p.trail, p.cached, p.keyring, vault.Config{
		Allowlist: cfg.Allowlist, ReadAuth: vault.ReadAuth(cfg.ReadAuth), SealedCacheBytes: cfg.SealedCacheBytes, Log: log, Metrics: p.metrics,
	})
	if err != nil {
		return err
	}
	if err := p.observe(ctx, p.vault.Ready); err != nil {
		return err
	}
	handler, err := httpapi.New(p.vault, httpapi.Config{
		AddressPolicy: cfg.AddressPolicy, Log: log, Metrics: p.metrics, Version: process.Version, Ready: p.readiness.Ready,
	})
	if err != nil {
		return err
	}
	p.api, err = process.NewServer(ctx, "api", cfg.Listen, handler, log)
	if err != nil {
		return fmt.Errorf("%w (VAULT_API_LISTEN)", err)
	}
	p.release.add(func() { _ = p.api.Stop(context.Background()) })
	return nil
}

// Run serves until ctx is done, and then stops within the configured time: it calls itself not ready, takes no more
// connections, finishes what is in flight, closes the audit trail's streams, and lets the database go. It returns nil if
// all of that succeeded. It is called once; nothing of the process may be used afterwards.
func (p *APIProcess) Run(ctx context.Context) error {
	return p.run(ctx, process.Part{Name: "housekeeping", Start: p.vault.Start, Stop: p.vault.Stop}, p.api.Part())
}

// Addr is where the API listens, with the port that the system chose if it was left to.
func (p *APIProcess) Addr() net.Addr { return p.api.Addr() }

// Vault is the vault behind the API.
func (p *APIProcess) Vault() *vault.Vault { return p.vault }
