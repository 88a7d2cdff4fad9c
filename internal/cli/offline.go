package cli

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// workshop is what offline commands work with: the database and the key keeper, without an API between.
type workshop struct {
	config   *boot.Offline
	database *postgres.DB
	keeper   vault.Keeper
	log      *slog.Logger
	close    func()
}

const offlineHelp = `This works without the API: it reaches the database (VAULT_DATABASE_URL or VAULT_PG_*, a user in the role vault_operator)
and the KMS (VAULT_KMS_MODE and what belongs to it) itself.`

// openWorkshop reads the configuration, connects, and checks the schema. The caller closes it.
func (a *app) openWorkshop(ctx context.Context) (*workshop, error) {
	w, err := a.openUnchecked(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.check(ctx); err != nil {
		w.close()
		return nil, offlineProblem(ctx, err)
	}
	return w, nil
}

// openUnchecked is openWorkshop without the check, for who looks at more than that.
func (a *app) openUnchecked(ctx context.Context) (*workshop, error) {
	cfg, err := boot.LoadOffline(a.Environ)
	if err != nil {
		return nil, err
	}
	w := &workshop{config: cfg, log: slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	var shut func()
	w.database, w.keeper, shut, err = boot.OpenOffline(ctx, cfg, w.log)
	if err != nil {
		cfg.Release()
		return nil, offlineProblem(ctx, err)
	}
	w.close = func() {
		shut()
		cfg.Release()
	}
	return w, nil
}

// check refuses a schema that this binary doesn't know, and a login from which row security would hide what is there.
func (w *workshop) check(ctx context.Context) error {
	if err := w.database.CheckSchema(ctx); err != nil {
		return err
	}
	_, err := w.database.CheckLogin(ctx, "vault_operator")
	return err
}

// identity gives the vault's id, and refuses one that has none yet.
func (w *workshop) identity(ctx context.Context) (uuid.UUID, error) {
	id, initialised, err := vault.LoadIdentity(ctx, w.database)
	if err != nil {
		return id, offlineProblem(ctx, err)
	}
	if !initialised {
		return id, errors.New("this vault is not initialised: run `sealkeep init`")
	}
	return id, nil
}

// offlineProblem words an error for the operator, who has the database in hand and may know what the public may not.
func offlineProblem(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if problem := unreachableDatabase(err); problem != nil {
		return problem
	}
	var known *fault.Error
	if !errors.As(err, &known) {
		return err
	}
	kind, _, text, _ := fault.Public(known)
	if cause := errors.Unwrap(known); cause != nil && (kind == fault.Internal || kind == fault.Unavailable) {
		text = cause.Error()
	}
	if advice := kms.Advice(err); advice != "" {
		text += ": " + advice
	}
	// What was said around it stays.
	return errors.New(strings.ReplaceAll(err.Error(), known.Error(), text))
}

// unreachableDatabase words a failure to connect, which the driver tells in a line per attempt, in one line without
// repetitions. It is nil for anything else.
func unreachableDatabase(err error) error {
	var refused *pgconn.ConnectError
	if !errors.As(err, &refused) {
		return nil
	}
	var attempts []string
	for line := range strings.Lines(refused.Error()) {
		if line = strings.TrimSpace(line); !slices.Contains(attempts, line) {
			attempts = append(attempts, line)
		}
	}
	return errors.New("PostgreSQL can't be reached, and VAULT_DATABASE_URL or VAULT_PG_* say where it is: " + strings.Join(attempts, " "))
}
