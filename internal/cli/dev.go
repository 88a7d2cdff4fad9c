package cli

import (
	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/cli/dev"
)

func (a *app) devCommand() *cobra.Command {
	var dir, listen string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole vault with a PostgreSQL of its own, for development",
		Long: `Run a whole vault, for development and not for production: a private PostgreSQL from the programs it finds
(SEALKEEP_POSTGRES_BIN, PATH, /usr/lib/postgresql/*/bin, Homebrew, .tools/pg), a local master key, the API, and a
rotator, which rotates automatic secrets when they are due. When it is ready it prints a session to paste.

Every VAULT_* that is set is kept, an empty one too; what is unset becomes VAULT_ALLOWED_IPS=127.0.0.0/8,
VAULT_KMS_MODE=local, VAULT_READ_AUTH=ip, an ephemeral VAULT_TELEMETRY_LISTEN, and the API's own address as
VAULT_PUBLIC_URL if that is a loopback address. The rotator's VAULT_TELEMETRY_LISTEN is ephemeral in any case. The
database is always its own: VAULT_DATABASE_URL, VAULT_PG_* and PG* are ignored.

DIR/env is a file to source: it sets VAULT_ADDR, VAULT_TOKEN, what psql needs to reach the database as its superuser, and
what the offline commands need. The data in DIR survives restarts; remove DIR to start over.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usage("--dir is empty")
			}
			return dev.Run(cmd.Context(), dev.Config{
				Dir: dir, Listen: listen, Insist: cmd.Flags().Changed("api-listen"),
				Program: a.Program, Environ: a.Environ,
				APIArgs: []string{apiChildName}, RotatorArgs: []string{rotatorChildName}, Out: a.Stdout,
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".sealkeep", "the folder of this vault")
	cmd.Flags().StringVar(&listen, "api-listen", "127.0.0.1:8200", "where the API listens; port 0 is one that is free")
	return cmd
}
