package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func (a *app) keyringCommand() *cobra.Command {
	return a.group(
		&cobra.Command{Use: "keyring", Short: "List, replace and complete the vault's own keys"},
		a.keyringListCommand(),
		a.keyringRotateCommand(),
		a.keyringFillCommand(),
	)
}

// shownKey is a root as it is printed.
type shownKey struct {
	KeyID     uuid.UUID  `json:"key_id"`
	Purpose   string     `json:"purpose"`
	State     string     `json:"state"`
	CreatedAt time.Time  `json:"created_at"`
	RetiredAt *time.Time `json:"retired_at"`
	KMSKeyID  *string    `json:"kms_key_id"`
	Recovery  *string    `json:"recovery_kms_key_id"`
	Lacks     bool       `json:"lacks_wrapping"`
	Elsewhere bool       `json:"under_another_key"`
}

func shown(infos []vault.KeyInfo) []shownKey {
	keys := make([]shownKey, len(infos))
	for i, k := range infos {
		keys[i] = shownKey{
			KeyID: k.KeyID, Purpose: string(k.Purpose), State: string(k.State), CreatedAt: k.CreatedAt, RetiredAt: k.RetiredAt,
			KMSKeyID: unlessEmpty(k.KMSKeyID), Recovery: unlessEmpty(k.RecoveryKeyID), Lacks: k.Lacks, Elsewhere: k.Elsewhere,
		}
	}
	return keys
}

func unlessEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orNone(s *string) string {
	if s == nil {
		return "none"
	}
	return *s
}

func (a *app) keyringListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the vault's own keys, and what each is still good for",
		Long: `List the roots of the keyring after verifying them: active (what is new is made under it), verifies (it was replaced,
and verifies what was made under it), retired (it verifies nothing any more). Each is shown with the master keys that
wrap it; one that lacks a wrapping or is under another master key than the one in use, which keyring fill mends, is
marked. Nothing secret is shown.

` + offlineHelp,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.openWorkshop(cmd.Context())
			if err != nil {
				return err
			}
			defer w.close()
			infos, err := vault.Keys(cmd.Context(), w.database, w.keeper, boot.Rewrapper(w.keeper))
			if err != nil {
				return offlineProblem(cmd.Context(), err)
			}
			if asJSON {
				return marshalJSON(a.Stdout, map[string]any{"items": shown(infos)})
			}
			rows := make([][]string, len(infos))
			for i, k := range shown(infos) {
				state := k.State
				if k.Lacks {
					state += ", lacks a wrapping"
				}
				if k.Elsewhere {
					state += ", under another key"
				}
				rows[i] = []string{k.KeyID.String(), k.Purpose, state, when(&k.CreatedAt), when(k.RetiredAt), orNone(k.KMSKeyID), orNone(k.Recovery)}
			}
			return table(a.Stdout, []string{"key id", "purpose", "state", "created", "retired", "kms key", "recovery key"}, rows, "no keys")
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) keyringRotateCommand() *cobra.Command {
	var (
		purpose        string
		resume, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make new integrity keys, and give every row a MAC under them",
		Long: `Make new roots, which count at once, while the API goes on serving. For the purpose row every row then gets a
MAC under the new root, after it was verified, and the old root is retired: what somebody forges under it is refused
from then on. What was interrupted is gone on with by running this again. A row that doesn't verify ends it, and is
named.

--purpose all is row, audit and idempotency. A new checkpoint root changes the public key that outsiders verify the log
with, so it must be asked for by name.

` + offlineHelp,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			purposes, err := parsePurposes(purpose)
			if err != nil {
				return err
			}
			return a.rotateKeyring(cmd.Context(), vault.KeyRotation{Purposes: purposes, Resume: resume}, asJSON)
		},
	}
	cmd.Flags().StringVar(&purpose, "purpose", "all", "which roots: row, audit, idempotency, checkpoint or all")
	cmd.Flags().BoolVar(&resume, "resume", false, "only go on with a rotation that was interrupted")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func parsePurposes(text string) ([]integrity.Purpose, error) {
	if text == "all" {
		return []integrity.Purpose{integrity.PurposeRow, integrity.PurposeAudit, integrity.PurposeIdempotency}, nil
	}
	if one := integrity.Purpose(text); slices.Contains(integrity.Purposes(), one) {
		return []integrity.Purpose{one}, nil
	}
	return nil, usage("--purpose is row, audit, idempotency, checkpoint or all")
}

func (a *app) rotateKeyring(ctx context.Context, r vault.KeyRotation, asJSON bool) error {
	w, err := a.openWorkshop(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	if _, ok := terminal(a.Stderr); ok {
		r.Progress = func(d vault.KeyRotated) { fmt.Fprintf(a.Stderr, "\r%d secrets", d.Secrets) }
		defer fmt.Fprint(a.Stderr, "\r")
	}
	done, err := vault.RotateKeyring(ctx, w.database, w.keeper, r, w.vaultConfig())
	switch {
	case vault.NothingToResume(err):
		done = &vault.KeyRotated{}
	case err != nil && vault.Unverifiable(err):
		return fmt.Errorf("stopped, and no key was retired: %w; put it back as it was, from a backup, and run this again", offlineProblem(ctx, err))
	case err != nil:
		return offlineProblem(ctx, err)
	}
	if asJSON {
		retired := done.Retired
		if retired == nil {
			retired = []uuid.UUID{}
		}
		return marshalJSON(a.Stdout, map[string]any{
			"made": shown(done.Made), "resumed": done.Resumed, "retired": retired,
			"secrets": done.Secrets, "versions": done.Versions, "deleted_secrets": done.Tombstones,
		})
	}
	return a.printRotated(done)
}

func (a *app) printRotated(done *vault.KeyRotated) error {
	var lines []string
	if done.Resumed {
		lines = append(lines, "went on with the rotation that was interrupted")
	}
	for _, k := range done.Made {
		lines = append(lines, fmt.Sprintf("%s is the active %s key", k.KeyID, k.Purpose))
	}
	if done.Secrets+done.Tombstones > 0 {
		lines = append(lines, fmt.Sprintf("%d secrets with %d versions, and what remains of %d deleted ones, have new MACs",
			done.Secrets, done.Versions, done.Tombstones))
	}
	for _, id := range done.Retired {
		lines = append(lines, id.String()+" is retired: no row names it, and it verifies nothing any more")
	}
	if len(lines) == 0 {
		lines = []string{"no rotation was interrupted: nothing is left to do"}
	}
	_, err := fmt.Fprintln(a.Stdout, strings.Join(lines, "\n"))
	return err
}

func (a *app) keyringFillCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "fill",
		Short: "Wrap the vault's own keys under the master keys that are configured now",
		Long: `Add to the keyring's roots the wrapping that they lack, because the recovery key was configured later, or was
away when they were made, or, with VAULT_KMS_USE_RECOVERY=true, because VAULT_KMS_KEY_ID names a new key in the place
of one that is lost; and move those that are under another key of VAULT_KMS_ALLOWED_KEY_IDS to the one in use, within
the KMS. Rotators do both for the keys of secrets by themselves.

` + offlineHelp,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.openWorkshop(cmd.Context())
			if err != nil {
				return err
			}
			defer w.close()
			n, err := vault.FillKeyring(cmd.Context(), w.database, w.keeper, boot.Rewrapper(w.keeper))
			if err != nil {
				return offlineProblem(cmd.Context(), err)
			}
			return a.printFilled(n, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printFilled(n int, asJSON bool) error {
	if asJSON {
		return marshalJSON(a.Stdout, map[string]any{"filled": n})
	}
	text := "every key is wrapped as it should be"
	switch {
	case n == 1:
		text = "1 key was wrapped again"
	case n > 1:
		text = counted(int64(n), "key") + " were wrapped again"
	}
	_, err := fmt.Fprintln(a.Stdout, text)
	return err
}
