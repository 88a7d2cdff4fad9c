package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/sealkeep/sealkeep/migrations"
)

const versionTable = "vault.schema_version"

// MigrationStatus tells of one migration whether it has been applied.
type MigrationStatus struct {
	Version   int64
	File      string
	Applied   bool
	AppliedAt time.Time // zero while not applied
}

// Migrate brings the schema to the newest version. It needs a role with CREATEROLE that owns the database; runners that
// start together wait for one another and apply each migration once.
func Migrate(ctx context.Context, connString string) error {
	return withMigrations(ctx, connString, func(provider *goose.Provider) error {
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrating the schema: %w", err)
		}
		return nil
	})
}

// MigrationStatuses lists all migrations that this binary knows, in order. It reads, and makes nothing: the library, asked for the same,
// makes its table first.
func MigrationStatuses(ctx context.Context, connString string) ([]MigrationStatus, error) {
	files, err := migrationFiles()
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(connString)
	if err != nil {
		return nil, errConnString
	}
	cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	applied, err := appliedMigrations(ctx, conn)
	if err != nil {
		return nil, err
	}
	for i := range files {
		files[i].AppliedAt, files[i].Applied = applied[files[i].Version]
	}
	return files, nil
}

// appliedMigrations tells when each migration was applied that was.
func appliedMigrations(ctx context.Context, conn *pgx.Conn) (map[int64]time.Time, error) {
	applied := map[int64]time.Time{}
	rows, err := conn.Query(ctx, "SELECT version_id, max(tstamp) FROM "+versionTable+" WHERE is_applied GROUP BY version_id")
	if err == nil {
		var version int64
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
			applied[version] = at
			return nil
		})
	}
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && (refused.Code == "42P01" || refused.Code == "3F000"):
		return applied, nil // an empty database
	case err != nil:
		return nil, fmt.Errorf("reading the schema's version: %w", err)
	case len(applied) == 0: // the table always has a row: row security hides them
		return nil, errors.New("reading the schema's version: this login is not shown it")
	}
	return applied, nil
}

var errConnString = errors.New("the database's connection string can't be parsed: see VAULT_DATABASE_URL and VAULT_PG_*")

func withMigrations(ctx context.Context, connString string, use func(*goose.Provider) error) error {
	cfg, err := pgx.ParseConfig(connString)
	if err != nil {
		return errConnString
	}
	cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	sqlDB := stdlib.OpenDB(*cfg)
	defer sqlDB.Close()

	// The library's own table lives in the schema too, so that must be there first. Two runners may race to make it.
	if _, err := sqlDB.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS vault"); err != nil {
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || (refused.Code != "23505" && refused.Code != "42P06") {
			return fmt.Errorf("making the schema: %w", err)
		}
	}
	// Tries once a second for five minutes; the library's own way takes steps of five seconds.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return fmt.Errorf("preparing the migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, sqlDB, migrations.Files,
		goose.WithSessionLocker(locker), goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	return use(provider)
}

// migrationFiles lists the migrations that this binary knows, in order, none of them applied.
func migrationFiles() ([]MigrationStatus, error) {
	entries, err := migrations.Files.ReadDir(".") // by name, and so by number
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	files := make([]MigrationStatus, len(entries))
	for i, entry := range entries {
		version, err := goose.NumericComponent(entry.Name())
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", entry.Name(), err)
		}
		files[i] = MigrationStatus{Version: version, File: entry.Name()}
	}
	return files, nil
}

// LatestSchema is the newest schema version that this binary knows.
func LatestSchema() (int64, error) {
	files, err := migrationFiles()
	var latest int64
	for i := range files {
		latest = max(latest, files[i].Version)
	}
	return latest, err
}

// CheckSchema refuses a database whose schema is not the one that this binary was built for, in one sentence that says
// what to do.
func (d *DB) CheckSchema(ctx context.Context) error {
	want, err := LatestSchema()
	if err != nil {
		return err
	}
	var have int64
	err = d.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), -1) FROM "+versionTable).Scan(&have)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && (refused.Code == "42P01" || refused.Code == "3F000"):
		have = 0
	case errors.As(err, &refused) && refused.Code == "42501", err == nil && have < 0:
		// Without any row: the table always has one, so row security hides them.
		return errors.New("this login may not use schema vault: grant it its group role (see `sealkeep migrate roles --print`)")
	case err != nil:
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	switch {
	case have == 0:
		return errors.New("the database has no vault schema: run `sealkeep migrate up`")
	case have < want:
		return fmt.Errorf("the database's schema is at version %d and this binary needs %d: run `sealkeep migrate up`", have, want)
	case have > want:
		return fmt.Errorf("the database's schema is at version %d, newer than the %d this binary knows: run the newer release", have, want)
	}
	return nil
}
