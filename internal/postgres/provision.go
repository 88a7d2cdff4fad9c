package postgres

import (
	"context"
	_ "embed" // for LoginRolesSQL
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// LoginRolesSQL makes the login users of the programs and grants them their group roles. It can be run again, and holds no
// passwords.
//
//go:embed login_roles.sql
var LoginRolesSQL string

// MakeDatabase makes an empty database of that name on the server that connString reaches, unless it is there already.
func MakeDatabase(ctx context.Context, connString, name string) error {
	err := execute(ctx, connString, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42P04" { // duplicate_database
		return nil
	}
	if err != nil {
		return fmt.Errorf("making the database: %w", err)
	}
	return nil
}

// MakeLoginRoles runs LoginRolesSQL on a migrated database.
func MakeLoginRoles(ctx context.Context, connString string) error {
	if err := execute(ctx, connString, LoginRolesSQL); err != nil {
		return fmt.Errorf("making the login users: %w", err)
	}
	return nil
}

// execute runs SQL without parameters on a connection of its own.
func execute(ctx context.Context, connString, sql string) error {
	conn, err := pgx.Connect(ctx, connString)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}
