package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/vault"
)

func (a *app) rewrapCommand() *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "rewrap",
		Short: "Ask the rotators to wrap secrets' data keys again under the master key in use",
		Long: `Ask the rotators to look through all versions now, and not within the hour: those whose data keys aren't wrapped by the
master keys that are configured, or by their current material, are wrapped again within the KMS. With --all every one is,
which is for new material of a key where KMS doesn't let the rotators see that (kms:ListKeyRotations).

This command only asks, and prints how the last look stands; it opens no secret's key. The vault's own keys are moved by
keyring fill.

` + offlineHelp,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.openWorkshop(cmd.Context())
			if err != nil {
				return err
			}
			defer w.close()
			s, err := vault.RequestRewrap(cmd.Context(), w.database, w.keeper, all)
			if err != nil {
				return offlineProblem(cmd.Context(), err)
			}
			return a.printRewrap(s, asJSON)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every version, whichever key it is under")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// shownRewrap is how wrapping data keys again stands, as JSON.
type shownRewrap struct {
	State       string     `json:"state"`
	RequestedAt *time.Time `json:"requested_at"`
	StartedAt   *time.Time `json:"started_at"`
	FinishedAt  *time.Time `json:"finished_at"`
	Found       int64      `json:"found"`
	Done        int64      `json:"done"`
	Failed      int64      `json:"failed"`
	Remaining   int64      `json:"remaining"`
	LastError   *string    `json:"last_error"`
	Note        *string    `json:"note"`
}

func (a *app) printRewrap(s *vault.RewrapStatus, asJSON bool) error {
	if asJSON {
		return marshalJSON(a.Stdout, shownRewrap{
			State: s.State, RequestedAt: s.RequestedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, Found: s.Found, Done: s.Done,
			Failed: s.Failed, Remaining: s.Remaining, LastError: unlessEmpty(s.LastError), Note: unlessEmpty(s.Note),
		})
	}
	lines := []string{"asked: a rotator that runs begins within a minute, and /v1/status tells how far it has come"}
	if s.State != "never" {
		lines = append(lines, fmt.Sprintf("the last look (%s, begun %s): %d of %s wrapped again, %d failed",
			s.State, when(s.StartedAt), s.Done, counted(s.Found, "version"), s.Failed))
	}
	if s.LastError != "" {
		lines = append(lines, "it ended with: "+printable(s.LastError))
	}
	if s.Note != "" {
		lines = append(lines, "note: "+printable(s.Note))
	}
	_, err := fmt.Fprintln(a.Stdout, strings.Join(lines, "\n"))
	return err
}
