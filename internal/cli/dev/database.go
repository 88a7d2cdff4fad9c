package dev

import (
	"context"

	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// prepareDatabase makes the vault's database on the private server if it is missing, brings its schema up to date, and
// makes the login users of the processes.
func prepareDatabase(ctx context.Context, server *pgserver.Server) error {
	super := server.Superuser()
	if err := postgres.MakeDatabase(ctx, server.URL(super, "postgres"), databaseName); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, server.URL(super, databaseName)); err != nil {
		return err
	}
	return postgres.MakeLoginRoles(ctx, server.URL(super, databaseName))
}
