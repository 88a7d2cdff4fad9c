package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/secret"
)

// States of a job as the API names them.
const (
	jobOpen = "open"
	jobDead = "dead"
)

// job is a rotation job as the API gives it.
type job struct {
	ID          string     `json:"id"`
	Secret      string     `json:"secret"`
	Reason      string     `json:"reason"`
	State       string     `json:"state"`
	Step        string     `json:"step"`
	Running     bool       `json:"running"`
	DueAt       time.Time  `json:"due_at"`
	EnqueuedAt  time.Time  `json:"enqueued_at"`
	RunAt       *time.Time `json:"run_at"`
	StartedAt   *time.Time `json:"started_at"`
	DeadAt      *time.Time `json:"dead_at"`
	CompletedAt *time.Time `json:"completed_at"`
	BaseVersion int64      `json:"base_version"`
	Attempt     int        `json:"attempt"`
	Outcome     *string    `json:"outcome"`
	Class       *string    `json:"class"`
	Error       *string    `json:"error"`
}

// shown is the job's state in one word: what has become of it, if it is over.
func (j *job) shown() string {
	switch {
	case j.Outcome != nil:
		return *j.Outcome
	case j.Running:
		return "running"
	}
	return j.State
}

func orDash(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func jobPath(id string, below ...string) string {
	path := "/v1/jobs/" + id
	for _, segment := range below {
		path += "/" + segment
	}
	return path
}

func (a *app) jobsCommand() *cobra.Command {
	flags := new(clientFlags)
	group := a.group(&cobra.Command{
		Use:   "jobs",
		Short: "Look after rotation jobs",
	},
		a.jobsListCommand(flags),
		a.jobCommand(flags, "show", "", http.MethodGet, "Show a rotation job", ""),
		a.jobCommand(flags, "retry", "retry", http.MethodPost, "Run a job now that is dead, or waits after a failure",
			"Run a job now that is dead, or waits after a failure. Its attempts are counted anew."),
		a.jobCommand(flags, "cancel", "cancel", http.MethodPost, "Cancel a rotation job",
			`Cancel a rotation job. Its secret is due next when its schedule says so. A value that its target may have is kept until a
newer one has proved itself there. While the target may be getting it right now, that is refused.`),
	)
	flags.add(group)
	return group
}

func (a *app) jobsListCommand(client *clientFlags) *cobra.Command {
	var (
		state, name string
		limit       int
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:     "list [PREFIX]",
		Aliases: []string{"ls"},
		Short:   "List rotation jobs, newest first",
		Long: `List rotation jobs, newest first, of the secrets that the token's role can act on; with PREFIX of those whose names begin
with it.`,
		Example: "  sealkeep jobs list --state dead",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("give one prefix, not several")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			k := call{method: http.MethodGet, path: "/v1/jobs", query: url.Values{}, of: "list of jobs"}
			switch {
			case len(args) == 1 && name != "":
				return usage("give a prefix or --secret, not both")
			case len(args) == 1:
				if err := secret.CheckPrefix(args[0]); err != nil {
					return badArgument(err)
				}
				k.query.Set("prefix", args[0])
			case name != "":
				parsed, err := secret.ParseName(name)
				if err != nil {
					return badArgument(err)
				}
				k.path, k.of = secretPath(parsed, "jobs"), "secret "+parsed.String()
			}
			switch state {
			case "":
			case jobOpen, jobDead, "completed":
				k.query.Set("state", state)
			default:
				return usage("--state takes open, dead or completed")
			}
			if limit < 1 {
				return usage("--limit is at least 1")
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			items, err := c.listJobs(cmd.Context(), k, limit)
			if err != nil {
				return err
			}
			if asJSON {
				return marshalJSON(a.Stdout, map[string]any{"items": items})
			}
			return a.printJobs(items)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only jobs that are `open|dead|completed`")
	cmd.Flags().StringVar(&name, "secret", "", "only jobs of the secret `NAME`")
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most `N` jobs")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// listJobs fetches page after page.
func (c *client) listJobs(ctx context.Context, k call, limit int) ([]json.RawMessage, error) {
	items := []json.RawMessage{}
	for {
		k.query.Set("limit", strconv.Itoa(min(pageSize, limit-len(items))))
		answered, err := c.do(ctx, k)
		if err != nil {
			return nil, err
		}
		var page struct {
			Items      []json.RawMessage `json:"items"`
			NextCursor string            `json:"next_cursor"`
		}
		if err := json.Unmarshal(answered.body, &page); err != nil {
			return nil, fmt.Errorf("the answer can't be read: %w", err)
		}
		items = append(items, page.Items...)
		if page.NextCursor == "" || page.NextCursor == k.query.Get("cursor") || len(items) >= limit {
			return items, nil
		}
		k.query.Set("cursor", page.NextCursor)
	}
}

func (a *app) printJobs(items []json.RawMessage) error {
	rows := make([][]string, 0, len(items))
	for _, item := range items {
		var j job
		if err := json.Unmarshal(item, &j); err != nil {
			return fmt.Errorf("the answer can't be read: %w", err)
		}
		rows = append(rows, []string{
			j.ID, j.Secret, j.Reason, j.shown(), j.Step, strconv.Itoa(j.Attempt), when(&j.DueAt), orDash(j.Class),
		})
	}
	return table(a.Stdout, []string{"id", "secret", "reason", "state", "step", "attempt", "due", "failed of"}, rows, "no jobs")
}

// jobCommand is a command on one job, that shows what it is afterwards.
func (a *app) jobCommand(client *clientFlags, verb, below, method, short, long string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Long:  long,
		Args:  oneName("job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return usage("a job's id is a UUID, which `jobs list` shows")
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			k := call{method: method, path: jobPath(id.String()), of: "job " + id.String()}
			if below != "" {
				k.path = jobPath(id.String(), below)
			}
			answered, err := c.do(cmd.Context(), k)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Stdout, answered.body)
			}
			return a.printJob(answered)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printJob(answered *answer) error {
	var j job
	if json.Unmarshal(answered.body, &j) != nil {
		return errors.New("the answer can't be read")
	}
	optional := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return when(t)
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return fields(
		a.Stdout,
		field{"id", j.ID},
		field{"secret", j.Secret},
		field{"reason", j.Reason},
		field{"state", j.shown()},
		field{"step", j.Step},
		field{"attempt", strconv.Itoa(j.Attempt)},
		field{"base version", strconv.FormatInt(j.BaseVersion, 10)},
		field{"due", when(&j.DueAt)},
		field{"made", when(&j.EnqueuedAt)},
		field{"runs", optional(j.RunAt)},
		field{"began", optional(j.StartedAt)},
		field{"dead", optional(j.DeadAt)},
		field{"over", optional(j.CompletedAt)},
		field{"failed of", text(j.Class)},
		field{"error", text(j.Error)},
	)
}
