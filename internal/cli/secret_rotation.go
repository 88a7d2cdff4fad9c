package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/secret"
)

const (
	// longestWait is how long a call waits for a job; what is left of a longer wait is spent asking.
	longestWait = 30 * time.Second
	askAgain    = time.Second
)

// replacement is what rotating and rolling back have in common.
type replacement struct {
	wait   secondsFlag
	key    string
	asJSON bool
}

func (f *replacement) add(cmd *cobra.Command) {
	cmd.Flags().Var(&f.wait, "wait", "for a secret with a target: wait for its job, "+durationHelp)
	addRequestKey(cmd, &f.key)
	jsonFlag(cmd, &f.asJSON)
}

func addRequestKey(cmd *cobra.Command, key *string) {
	cmd.Flags().StringVar(key, "idempotency-key", "", "make it once however often it is run with this `KEY`, within 24 hours")
}

func setRequestKey(k *call, key string) {
	if key != "" {
		k.header = map[string]string{"Idempotency-Key": key}
	}
}

func (a *app) secretRotateCommand(client *clientFlags) *cobra.Command {
	var f replacement
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give an automatic secret a newly generated value",
		Long: `Give an automatic secret a newly generated value: at once or, if it has a target, by a job that a rotator takes up.
With --wait the command ends with the job; its status is 1 if the job is dead, or isn't over by then.`,
		Example: "  sealkeep secret rotate payments/db --wait 2m",
		Args:    oneName("secret"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			return a.replace(cmd.Context(), *client, f, call{
				method: http.MethodPost, path: secretPath(name, "rotate"), of: "secret " + name.String(),
			}, "rotated")
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) secretRollbackCommand(client *clientFlags) *cobra.Command {
	var (
		f       replacement
		version int64
	)
	cmd := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Give a secret the value of a version that is still valid",
		Long: `Give a secret the value of a version that is still valid, as a new version: at once or, if it has a target, by a job that
a rotator takes up. "sealkeep secret versions" shows which are.`,
		Example: "  sealkeep secret rollback payments/db --version 3 --wait 2m",
		Args:    oneName("secret"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			if version < 1 {
				return usage("say with --version which one to go back to")
			}
			body, err := json.Marshal(map[string]int64{"version": version})
			if err != nil {
				return err
			}
			return a.replace(cmd.Context(), *client, f, call{
				method: http.MethodPost, path: secretPath(name, "rollback"), body: body,
				of: "secret " + name.String() + ", or it has no valid version " + strconv.FormatInt(version, 10),
			}, "rolled back")
		},
	}
	cmd.Flags().Int64Var(&version, "version", 0, "the version `N` to go back to, which must still be valid")
	f.add(cmd)
	return cmd
}

// replace asks for another value, and prints the new version or the job that makes it. A value in the answer is dropped unread.
func (a *app) replace(ctx context.Context, flags clientFlags, f replacement, k call, did string) error {
	c, err := a.newClient(flags)
	if err != nil {
		return err
	}
	defer c.close()
	setRequestKey(&k, f.key)
	wait := time.Duration(f.wait.seconds) * time.Second
	if wait > 0 {
		k.query = url.Values{"wait": {strconv.FormatInt(int64(min(wait, longestWait)/time.Second), 10)}}
	}
	answered, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	defer func() { answered.release() }()
	var made struct {
		newVersion
		ID    string `json:"id"`
		State string `json:"state"`
	}
	if err := json.Unmarshal(answered.body, &made); err != nil {
		return fmt.Errorf("the answer can't be read: %w", err)
	}
	if made.ID == "" {
		made.ETag = entityTag(answered.header)
		return a.printVersion(made.newVersion, f.asJSON, did, "")
	}
	if made.State == jobOpen && wait > longestWait {
		later, err := c.awaitJob(ctx, made.ID, wait-longestWait)
		if err != nil {
			return err
		}
		answered.release()
		answered = later
	}
	return a.printReplacement(answered, f, did)
}

// awaitJob asks for a job until it is over or dead, or the time has passed.
func (c *client) awaitJob(ctx context.Context, id string, wait time.Duration) (*answer, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	for last := false; ; {
		answered, err := c.do(ctx, call{method: http.MethodGet, path: jobPath(id), of: "job " + id})
		if err != nil {
			return nil, err
		}
		var j job
		if err := json.Unmarshal(answered.body, &j); err != nil {
			return nil, fmt.Errorf("the answer can't be read: %w", err)
		}
		if j.State != jobOpen || last {
			return answered, nil
		}
		again := time.NewTimer(askAgain)
		select {
		case <-again.C:
		case <-end.C:
			last = true
		case <-ctx.Done():
			again.Stop()
			return nil, ctx.Err()
		}
		again.Stop()
	}
}

// printReplacement says what has become of a job that was asked for.
func (a *app) printReplacement(answered *answer, f replacement, did string) error {
	var j job
	if err := json.Unmarshal(answered.body, &j); err != nil {
		return fmt.Errorf("the answer can't be read: %w", err)
	}
	switch {
	case f.asJSON:
		if err := printJSON(a.Stdout, answered.body); err != nil {
			return err
		}
	case j.State == jobOpen:
		fmt.Fprintf(a.Stdout, "queued: a rotator makes it; `%s jobs show %s` tells how it is\n", a.programName(), printable(j.ID))
	case j.State == jobDead:
		fmt.Fprintf(a.Stdout, "dead: %s: %s\n", printable(orDash(j.Class)), printable(orDash(j.Error)))
	case orDash(j.Outcome) == "rotated":
		fmt.Fprintf(a.Stdout, "%s %s\n", did, printable(j.Secret))
	default:
		fmt.Fprintf(a.Stdout, "not %s: the job ended %s\n", did, printable(orDash(j.Outcome)))
	}
	if j.State == jobOpen && !f.wait.given || j.State == "completed" && orDash(j.Outcome) == "rotated" {
		return nil
	}
	return &statusError{status: statusFailed}
}

func (a *app) secretPauseCommand(client *clientFlags) *cobra.Command {
	return a.scheduleCommand(client, "pause", "paused", "Stop the rotations of an automatic secret on its schedule",
		`Stop the rotations of an automatic secret on its schedule, until it is resumed. It still rotates when it is asked to. A
rotation that has prepared its value is not stopped; "sealkeep jobs list --secret NAME" shows whether one has.`)
}

func (a *app) secretResumeCommand(client *clientFlags) *cobra.Command {
	return a.scheduleCommand(client, "resume", "resumed", "Let a paused secret rotate on its schedule again",
		`Let a paused secret rotate on its schedule again, when it was due before. What fell due meanwhile is made up for at once,
or in the next window where the schedule says so.`)
}

func (a *app) scheduleCommand(client *clientFlags, verb, did, short, long string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Long:  long,
		Args:  oneName("secret"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			answered, err := c.do(cmd.Context(), call{method: http.MethodPost, path: secretPath(name, verb), of: "secret " + name.String()})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Stdout, answered.body)
			}
			var m metadata
			if err := json.Unmarshal(answered.body, &m); err != nil {
				return fmt.Errorf("the answer can't be read: %w", err)
			}
			next := ""
			if m.NextRotationAt != nil {
				next = ", due at " + when(m.NextRotationAt)
			}
			_, err = fmt.Fprintf(a.Stdout, "%s %s%s\n", did, printable(m.Name), next)
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
