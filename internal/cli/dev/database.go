package dev

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// prepareDatabase makes the vault's database on the private server if it is missing, brings its schema up to date, and
// makes the login users of the processes.
func prepareDatabase(ctx context.Context, server *pgserver.Server, loginRoles string) error {
	super := server.Superuser()
	err := execute(ctx, server.URL(super, "postgres"), "CREATE DATABASE "+databaseName)
	var refused *pgconn.PgError
	if err != nil && !(errors.As(err, &refused) && refused.Code == "42P04") { // duplicate_database
		return fmt.Errorf("making the database: %w", err)
	}
	if err := postgres.Migrate(ctx, server.URL(super, databaseName)); err != nil {
		return err
	}
	if err := execute(ctx, server.URL(super, databaseName), loginRoles); err != nil {
		return fmt.Errorf("making the login users: %w", err)
	}
	return nil
}

// execute runs SQL without parameters on a connection of its own.
func execute(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}
