package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/audit"
)

// event is one audit record as the API gives it.
type event struct {
	StreamID  string    `json:"stream_id"`
	Seq       int64     `json:"seq"`
	At        time.Time `json:"at"`
	Actor     string    `json:"actor"`
	ClientIP  string    `json:"client_ip"`
	Action    string    `json:"action"`
	Secret    string    `json:"secret_name"`
	Version   int64     `json:"version"`
	Outcome   string    `json:"outcome"`
	RequestID string    `json:"request_id"`
	Detail    any       `json:"detail"`

	text json.RawMessage // all of it
}

// place names a record: no two share it.
type place struct {
	stream string
	seq    int64
}

func (e *event) place() place { return place{e.StreamID, e.Seq} }

// object is what the record is about: a secret, or the token or role that its detail names.
func (e *event) object() string {
	if e.Secret != "" {
		if e.Version > 0 {
			return e.Secret + " version " + strconv.FormatInt(e.Version, 10)
		}
		return e.Secret
	}
	detail, _ := e.Detail.(map[string]any)
	for _, kind := range []string{"token", "role"} { // a token's record names its role too
		if name, ok := detail[kind].(string); ok {
			return kind + " " + name
		}
	}
	return ""
}

const (
	// followEvery is how often -f asks.
	followEvery = time.Second
	// followOverlap is how far back -f asks again: records of other processes may commit a little after younger ones.
	followOverlap = 30 * time.Second
)

func (a *app) auditTailCommand(client *clientFlags) *cobra.Command {
	var (
		count  int
		follow bool
		all    bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show recent audit records, the newest last",
		Long: `Show the audit records of the last 24 hours, the newest last. With --json, one record per line.
With -f heartbeats are left out, and so is a record that was committed after a younger one was shown: without -f it is
there. What this command asks for is left out too. --all shows heartbeats and its own requests.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count < 1 || count > pageSize {
				return usage("-n takes a number from 1 to " + strconv.Itoa(pageSize))
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			t := &tail{client: c, id: "tail-" + rand.Text(), all: all, quiet: follow && !all, seen: map[place]time.Time{}}
			show := a.printEvents
			if asJSON {
				show = a.printEventLines
			}
			events, err := t.recent(cmd.Context(), count, time.Time{})
			if err != nil {
				return err
			}
			if err := show(events, true); err != nil || !follow {
				return err
			}
			return t.follow(cmd.Context(), func(events []event) error { return show(events, false) })
		},
	}
	cmd.Flags().IntVarP(&count, "lines", "n", 20, "show the last `N` records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new ones, until interrupted")
	cmd.Flags().BoolVar(&all, "all", false, "show heartbeats with -f too, and the records of this command's own requests")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// tail asks for records again and again and gives each once. Its own requests are audited too, and it would never be
// quiet if it showed them: it knows them by their request ids.
type tail struct {
	client *client
	id     string // what the ids of its requests begin with
	all    bool   // shows those too
	quiet  bool   // leaves heartbeats out
	asked  int
	latest time.Time
	floor  time.Time // nothing older is given: what was given last, or where the first answer begins
	seen   map[place]time.Time
}

// recent gives the records since a time that it has not given before, the oldest first.
func (t *tail) recent(ctx context.Context, count int, since time.Time) ([]event, error) {
	query := url.Values{"limit": {strconv.Itoa(count)}}
	if !since.IsZero() {
		query.Set("since", since.UTC().Format(time.RFC3339Nano))
	}
	t.asked++
	answered, err := t.client.do(ctx, call{
		method: http.MethodGet, path: "/v1/audit", query: query, of: "audit records",
		header: map[string]string{"X-Request-Id": t.id + "-" + strconv.Itoa(t.asked)},
	})
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(answered.body, &list); err != nil {
		return nil, fmt.Errorf("the answer can't be read: %w", err)
	}
	var events []event
	for _, item := range slices.Backward(list.Items) {
		e := event{text: item}
		if err := json.Unmarshal(item, &e); err != nil {
			return nil, fmt.Errorf("the answer can't be read: %w", err)
		}
		if _, known := t.seen[e.place()]; known {
			continue
		}
		t.seen[e.place()] = e.At
		if e.At.After(t.latest) {
			t.latest = e.At
		}
		if t.floor.IsZero() {
			t.floor = e.At
		}
		if t.hides(&e) {
			continue
		}
		t.floor = e.At
		events = append(events, e)
	}
	t.forget()
	return events, nil
}

func (t *tail) hides(e *event) bool {
	return e.At.Before(t.floor) || (t.quiet && e.Action == audit.ActionHeartbeat) ||
		(!t.all && strings.HasPrefix(e.RequestID, t.id))
}

// forget drops what can't come again.
func (t *tail) forget() {
	horizon := t.latest.Add(-2 * followOverlap)
	for p, at := range t.seen {
		if at.Before(horizon) {
			delete(t.seen, p)
		}
	}
}

// follow goes on until the context ends, which is no error. It survives a server that is away for a while.
func (t *tail) follow(ctx context.Context, show func([]event) error) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		since := time.Time{}
		if !t.latest.IsZero() {
			since = t.latest.Add(-followOverlap)
		}
		events, err := t.recent(ctx, pageSize, since)
		switch {
		case ctx.Err() != nil:
			return nil // the user ended it
		case isStatus(err, http.StatusServiceUnavailable):
			continue
		case err != nil:
			return err
		}
		if err := show(events); err != nil {
			return err
		}
	}
}

func (a *app) printEventLines(events []event, _ bool) error {
	for _, e := range events {
		if _, err := fmt.Fprintf(a.Stdout, "%s\n", e.text); err != nil {
			return err
		}
	}
	return nil
}

// eventLine has room for the longest action, outcome and IPv4 address; lines are printed as records come in.
const eventLine = "%-24s  %-21s  %-19s  %-23s  %-15s  %s\n"

func (a *app) printEvents(events []event, first bool) error {
	if first {
		fmt.Fprintf(a.Stdout, eventLine, "AT", "ACTION", "OUTCOME", "ACTOR", "FROM", "OBJECT")
	}
	for _, e := range events {
		if _, err := fmt.Fprintf(a.Stdout, eventLine, e.At.UTC().Format("2006-01-02T15:04:05.000Z"), printable(e.Action),
			printable(e.Outcome), printable(e.Actor), printable(e.ClientIP), printable(e.object())); err != nil {
			return err
		}
	}
	return nil
}
