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

// pageSize is how many secrets are asked for at a time, the most that the API gives.
const pageSize = 1000

func (a *app) secretListCommand(client *clientFlags) *cobra.Command {
	var (
		limit  int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "list [PREFIX]",
		Aliases: []string{"ls"},
		Short:   "List secrets, without what they hold",
		Long: `List the secrets that the token's role can act on, by name, without what they hold; with PREFIX those whose names
begin with it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("give one prefix, not several")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			if err := secret.CheckPrefix(prefix); err != nil {
				return badArgument(err)
			}
			if limit < 0 {
				return usage("--limit can't be negative")
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			items, err := c.listSecrets(cmd.Context(), prefix, limit)
			if err != nil {
				return err
			}
			if asJSON {
				return marshalJSON(a.Stdout, map[string]any{"items": items})
			}
			return a.printSecrets(items)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most `N` secrets (default all)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// listSecrets fetches page after page; limit 0 is all.
func (c *client) listSecrets(ctx context.Context, prefix string, limit int) ([]json.RawMessage, error) {
	items := []json.RawMessage{}
	for cursor := ""; ; {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		query := url.Values{"limit": {strconv.Itoa(size)}}
		if prefix != "" {
			query.Set("prefix", prefix)
		}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		answered, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/secrets", query: query, of: "list of secrets"})
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
		if page.NextCursor == "" || page.NextCursor == cursor || (limit > 0 && len(items) >= limit) {
			return items, nil
		}
		cursor = page.NextCursor
	}
}

func (a *app) printSecrets(items []json.RawMessage) error {
	rows := make([][]string, 0, len(items))
	for _, item := range items {
		var m metadata
		if err := json.Unmarshal(item, &m); err != nil {
			return fmt.Errorf("the answer can't be read: %w", err)
		}
		next := when(m.NextRotationAt)
		if m.Paused && m.NextRotationAt == nil {
			next = "paused"
		}
		rows = append(rows, []string{
			m.Name, m.Kind, m.Format, strconv.FormatInt(m.Version, 10), next, when(&m.UpdatedAt), m.Description,
		})
	}
	return table(a.Stdout, []string{"name", "kind", "format", "version", "next rotation", "updated", "description"}, rows, "no secrets")
}

func (a *app) secretVersionsCommand(client *clientFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "versions NAME",
		Short: "List the versions of a secret, without what they hold",
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
			answered, err := c.do(cmd.Context(), call{
				method: http.MethodGet, path: secretPath(name, "versions"), of: "secret " + name.String(),
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Stdout, answered.body)
			}
			var list struct {
				Items []struct {
					Version   int64      `json:"version"`
					State     string     `json:"state"`
					Valid     bool       `json:"valid"`
					CreatedAt time.Time  `json:"created_at"`
					ExpiresAt *time.Time `json:"expires_at"`
				} `json:"items"`
			}
			if err := json.Unmarshal(answered.body, &list); err != nil {
				return fmt.Errorf("the answer can't be read: %w", err)
			}
			rows := make([][]string, 0, len(list.Items))
			for _, v := range list.Items {
				rows = append(rows, []string{
					strconv.FormatInt(v.Version, 10), v.State, yesNo(v.Valid), when(&v.CreatedAt), when(v.ExpiresAt),
				})
			}
			return table(a.Stdout, []string{"version", "state", "valid", "created", "expires"}, rows, "no versions")
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
