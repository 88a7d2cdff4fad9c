package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func (a *app) initCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the vault: its id, its integrity keys, and the first admin token",
		Long: `Make the vault in an empty, migrated database: its id, its integrity keys, the role admin, and the first admin token,
which is shown once. VAULT_BOOTSTRAP_TOKEN(_FILE) can bring that token along, in svk_ form; it is then not shown.

` + offlineHelp,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			w, err := a.openWorkshop(cmd.Context())
			if err != nil {
				return err
			}
			defer w.close()
			brought := !w.config.BootstrapToken.IsZero()
			token, err := vault.Init(cmd.Context(), w.database, w.keeper, w.config.BootstrapToken, w.vaultConfig())
			switch {
			case err != nil && fault.KindOf(err) == fault.Conflict:
				return fmt.Errorf("%w; `%s token recover` makes another admin token", offlineProblem(cmd.Context(), err), a.programName())
			case err != nil:
				return offlineProblem(cmd.Context(), err)
			}
			defer token.Release()
			if brought {
				_, err := fmt.Fprintf(a.Stdout, "initialised; the token of VAULT_BOOTSTRAP_TOKEN is the admin token %s\n", token.Name)
				return err
			}
			return a.printIssued(issuedOf(token), out)
		},
	}
	out.add(cmd)
	return cmd
}

func (a *app) tokenRecoverCommand() *cobra.Command {
	var (
		expires secondsFlag
		discard bool
		yes     bool
		out     outputFlags
	)
	cmd := &cobra.Command{
		Use:   "recover NAME",
		Short: "Issue an admin token without one, with the database and the KMS in hand",
		Long: `Issue a new token of the role admin, for when all admin tokens are lost. It is shown once, and audited.

The roles and tokens that are there must be as the vault wrote them. If somebody changed them in the
database, put it back as it was, or give them up with --discard-grants: then this token is the only one. Its
name has to be typed again then, unless --yes is given.

` + offlineHelp,
		Args: oneName("new token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := access.ParseEntityName(args[0])
			if err != nil {
				return badArgument(err)
			}
			if err := out.check(); err != nil {
				return err
			}
			if discard && !yes {
				err := a.confirmName(cmd.Context(), name, "This removes every role and token that is there, for good; the new token "+name+" will be the only one.")
				if err != nil {
					return err
				}
			}
			return a.recoverToken(cmd.Context(), vault.Recovery{Name: name, ExpiresInSecs: expires.orNil(), DiscardGrants: discard}, out)
		},
	}
	cmd.Flags().Var(&expires, "expires-in", "how long the token is good for, "+durationHelp+" (default for ever)")
	cmd.Flags().BoolVar(&discard, "discard-grants", false, "remove every role and token that is there")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	out.add(cmd)
	return cmd
}

func (a *app) recoverToken(ctx context.Context, wanted vault.Recovery, out outputFlags) error {
	w, err := a.openWorkshop(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	if _, err := w.identity(ctx); err != nil {
		return err
	}
	token, err := vault.RecoverToken(ctx, w.database, w.keeper, wanted, w.vaultConfig())
	if err != nil {
		return offlineProblem(ctx, err)
	}
	defer token.Release()
	return a.printIssued(issuedOf(token), out)
}

func (w *workshop) vaultConfig() vault.Config {
	return vault.Config{Log: w.log}
}

// issuedOf shares the token, which the caller releases.
func issuedOf(t *vault.IssuedToken) *issued {
	return &issued{Name: t.Name, Role: t.Role, Token: hidden{t.Token}, ExpiresAt: t.ExpiresAt}
}
