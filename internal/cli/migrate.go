package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

func (a *app) migrateCommand() *cobra.Command {
	return a.group(
		&cobra.Command{
			Use:   "migrate",
			Short: "Bring the database's schema up to date, and show the SQL for its login users",
			Long: `Bring the database's schema up to date, and show the SQL for its login users.
VAULT_DATABASE_URL (or VAULT_PG_*) names the database and a role with CREATEROLE that owns it.`,
		},
		a.migrateUpCommand(),
		a.migrateStatusCommand(),
		a.migrateRolesCommand(),
	)
}

func (a *app) migrateUpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Apply what is missing; runners that start together wait for one another",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			database, err := config.LoadDatabase(a.Environ)
			if err != nil {
				return err
			}
			if err := postgres.Migrate(cmd.Context(), database.ConnString()); err != nil {
				return migrationProblem(cmd.Context(), err)
			}
			version, err := postgres.LatestSchema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "the schema is at version %d\n", version)
			return err
		},
	}
}

func (a *app) migrateStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List the migrations that this program knows, and which are applied",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			database, err := config.LoadDatabase(a.Environ)
			if err != nil {
				return err
			}
			statuses, err := postgres.MigrationStatuses(cmd.Context(), database.ConnString())
			if err != nil {
				return migrationProblem(cmd.Context(), err)
			}
			return a.printMigrations(statuses, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printMigrations(statuses []postgres.MigrationStatus, asJSON bool) error {
	type item struct {
		Version   int64      `json:"version"`
		File      string     `json:"file"`
		Applied   bool       `json:"applied"`
		AppliedAt *time.Time `json:"applied_at"`
	}
	items := make([]item, 0, len(statuses))
	rows := make([][]string, 0, len(statuses))
	for _, s := range statuses {
		i := item{Version: s.Version, File: s.File, Applied: s.Applied}
		if s.Applied {
			i.AppliedAt = &s.AppliedAt
		}
		items = append(items, i)
		rows = append(rows, []string{s.File, yesNo(s.Applied), when(i.AppliedAt)})
	}
	if asJSON {
		return marshalJSON(a.Stdout, map[string]any{"items": items})
	}
	return table(a.Stdout, []string{"migration", "applied", "at"}, rows, "no migrations")
}

func (a *app) migrateRolesCommand() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "roles --print",
		Short: "Print the SQL that makes login users and grants them their group roles",
		Long: `Print the SQL that makes the login users sealkeep_api, sealkeep_rotator, sealkeep_auditship and sealkeep_operator and
grants each its group role. It holds no passwords, and can be run again:

  sealkeep migrate roles --print | psql -v ON_ERROR_STOP=1`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if !show {
				return usage("--print is missing: this command only prints SQL, for you to read and run")
			}
			_, err := fmt.Fprint(a.Stdout, postgres.LoginRolesSQL)
			return err
		},
	}
	cmd.Flags().BoolVar(&show, "print", false, "print the SQL")
	return cmd
}

// migrationProblem adds which variable to look at.
func migrationProblem(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if problem := unreachableDatabase(err); problem != nil {
		return problem
	}
	return fmt.Errorf("%w (VAULT_DATABASE_URL or VAULT_PG_* name the database, and a role with CREATEROLE that owns it)", err)
}
