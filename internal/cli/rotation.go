package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) rotationCommand() *cobra.Command {
	flags := new(clientFlags)
	group := a.group(&cobra.Command{
		Use:   "rotation",
		Short: "Show how rotation is, and pause or resume all of it",
	},
		a.rotationStateCommand(flags, "status", http.MethodGet, "/v1/rotation", "Show how rotation is", ""),
		a.rotationStateCommand(flags, "pause", http.MethodPost, "/v1/rotation/pause", "Have rotators begin nothing more",
			`Have rotators claim nothing more, until "sealkeep rotation resume". What they have claimed they finish. Secrets without a
target still rotate when they are asked to.`),
		a.rotationStateCommand(flags, "resume", http.MethodPost, "/v1/rotation/resume", "Have rotators work again", ""),
	)
	flags.add(group)
	return group
}

func (a *app) rotationStateCommand(client *clientFlags, use, method, path, short, long string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			answered, err := c.do(cmd.Context(), call{method: method, path: path, of: "state of rotation"})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Stdout, answered.body)
			}
			return a.printRotation(answered)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printRotation(answered *answer) error {
	var s struct {
		Paused           bool       `json:"paused"`
		Verified         bool       `json:"verified"`
		ChangedAt        *time.Time `json:"changed_at"`
		Open             int64      `json:"open"`
		Running          int64      `json:"running"`
		Dead             int64      `json:"dead"`
		OldestDueSeconds int64      `json:"oldest_due_seconds"`
		Drifted          int64      `json:"drifted"`
		ExpiredVersions  int64      `json:"expired_versions"`
	}
	if err := json.Unmarshal(answered.body, &s); err != nil {
		return fmt.Errorf("the answer can't be read: %w", err)
	}
	paused := yesNo(s.Paused)
	switch {
	case !s.Verified:
		paused = "what says so was changed by somebody else: nothing rotates until it is paused or resumed again"
	case s.ChangedAt != nil:
		paused += ", since " + when(s.ChangedAt)
	}
	late := ""
	if s.OldestDueSeconds > 0 {
		late = showSeconds(s.OldestDueSeconds)
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	return fields(
		a.Stdout,
		field{"paused", paused},
		field{"open jobs", number(s.Open)},
		field{"running", number(s.Running)},
		field{"dead", number(s.Dead)},
		field{"late by", late},
		field{"drifted", number(s.Drifted)},
		field{"expired versions", number(s.ExpiredVersions)},
	)
}
