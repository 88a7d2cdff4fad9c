package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/access"
)

func (a *app) roleCommand() *cobra.Command {
	flags := new(clientFlags)
	group := a.group(&cobra.Command{
		Use:   "role",
		Short: "Define what tokens may do",
	},
		a.roleCreateCommand(flags),
		a.roleListCommand(flags),
		a.roleShowCommand(flags),
		a.roleSetCommand(flags),
		a.roleDeleteCommand(flags),
	)
	flags.add(group)
	return group
}

type permission struct {
	Action string `json:"action"`
	Path   string `json:"path"`
}

type role struct {
	Name        string       `json:"name"`
	Description string       `json:"description"`
	IsAdmin     bool         `json:"is_admin"`
	Permissions []permission `json:"permissions"`
	CreatedAt   time.Time    `json:"created_at"`
}

const allowHelp = "allow `ACTION,…:PATH`, such as read:payments/* or create,update:jobs/key; can be given again"

func actionList() string {
	var names []string
	for _, action := range access.Actions() {
		if action != "*" {
			names = append(names, string(action))
		}
	}
	return strings.Join(names, ", ")
}

// parsePermissions reads what --allow was given.
func parsePermissions(rules []string) ([]permission, error) {
	permissions := []permission{}
	for _, rule := range rules {
		actions, path, found := strings.Cut(rule, ":")
		if !found {
			return nil, usage("--allow takes ACTION,…:PATH, such as read:payments/*")
		}
		pattern, err := access.ParsePattern(path)
		if err != nil {
			return nil, badArgument(err)
		}
		for text := range strings.SplitSeq(actions, ",") {
			action, err := access.ParseAction(text)
			if err != nil {
				return nil, badArgument(err)
			}
			permissions = append(permissions, permission{string(action), string(pattern)})
		}
	}
	return permissions, nil
}

// roleCall makes a call that answers with one role, and prints it.
func (a *app) roleCall(cmd *cobra.Command, client clientFlags, k call, asJSON bool) error {
	c, err := a.newClient(client)
	if err != nil {
		return err
	}
	defer c.close()
	answered, err := c.do(cmd.Context(), k)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(a.Stdout, answered.body)
	}
	var r role
	if err := json.Unmarshal(answered.body, &r); err != nil {
		return fmt.Errorf("the answer can't be read: %w", err)
	}
	if err := fields(a.Stdout,
		field{"name", r.Name},
		field{"description", r.Description},
		field{"admin", yesNo(r.IsAdmin)},
		field{"created", when(&r.CreatedAt)},
	); err != nil {
		return err
	}
	rows := make([][]string, 0, len(r.Permissions))
	for _, p := range r.Permissions {
		rows = append(rows, []string{p.Action, p.Path})
	}
	return table(a.Stdout, []string{"action", "path"}, rows, "no permissions")
}

func (a *app) roleCreateCommand(client *clientFlags) *cobra.Command {
	var (
		allow       []string
		admin       bool
		description string
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a role",
		Long: "Make a role. An admin role may do anything with secrets and manage roles, tokens and audit; others do what --allow says.\n" +
			"Actions: " + actionList() + " (* is all of them).",
		Example: "  sealkeep role create payments-deploy --allow 'read,update,rotate:payments/*'",
		Args:    oneName("role"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := access.ParseEntityName(args[0])
			if err != nil {
				return badArgument(err)
			}
			permissions, err := parsePermissions(allow)
			if err != nil {
				return err
			}
			body, err := json.Marshal(map[string]any{
				"name": name, "description": description, "is_admin": admin, "permissions": permissions,
			})
			if err != nil {
				return err
			}
			return a.roleCall(cmd, *client, call{
				method: http.MethodPost, path: "/v1/roles", body: body, of: "role " + name,
			}, asJSON)
		},
	}
	cmd.Flags().StringArrayVar(&allow, "allow", nil, allowHelp)
	cmd.Flags().BoolVar(&admin, "admin", false, "an admin role")
	cmd.Flags().StringVar(&description, "description", "", "what the role is for")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) roleSetCommand(client *clientFlags) *cobra.Command {
	var (
		allow  []string
		none   bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Replace the permissions of a role",
		Args:  oneName("role"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := access.ParseEntityName(args[0])
			if err != nil {
				return badArgument(err)
			}
			if none == (len(allow) > 0) {
				return usage("say what the role may do from now on with --allow, or --allow-nothing")
			}
			permissions, err := parsePermissions(allow)
			if err != nil {
				return err
			}
			body, err := json.Marshal(map[string]any{"permissions": permissions})
			if err != nil {
				return err
			}
			return a.roleCall(cmd, *client, call{
				method: http.MethodPut, path: "/v1/roles/" + name + "/permissions", body: body, of: "role " + name,
			}, asJSON)
		},
	}
	cmd.Flags().StringArrayVar(&allow, "allow", nil, allowHelp)
	cmd.Flags().BoolVar(&none, "allow-nothing", false, "take all permissions away")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) roleShowCommand(client *clientFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a role and its permissions",
		Args:  oneName("role"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := access.ParseEntityName(args[0])
			if err != nil {
				return badArgument(err)
			}
			return a.roleCall(cmd, *client, call{method: http.MethodGet, path: "/v1/roles/" + name, of: "role " + name}, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) roleListCommand(client *clientFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List roles",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			answered, err := c.do(cmd.Context(), call{method: http.MethodGet, path: "/v1/roles", of: "list of roles"})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Stdout, answered.body)
			}
			var list struct {
				Items []role `json:"items"`
			}
			if err := json.Unmarshal(answered.body, &list); err != nil {
				return fmt.Errorf("the answer can't be read: %w", err)
			}
			rows := make([][]string, 0, len(list.Items))
			for _, r := range list.Items {
				rules := make([]string, 0, len(r.Permissions))
				for _, p := range r.Permissions {
					rules = append(rules, p.Action+":"+p.Path)
				}
				rows = append(rows, []string{r.Name, yesNo(r.IsAdmin), strings.Join(rules, " "), r.Description})
			}
			return table(a.Stdout, []string{"name", "admin", "permissions", "description"}, rows, "no roles")
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) roleDeleteCommand(client *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a role that no token uses",
		Args:  oneName("role"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := access.ParseEntityName(args[0])
			if err != nil {
				return badArgument(err)
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			if _, err := c.do(cmd.Context(), call{
				method: http.MethodDelete, path: "/v1/roles/" + name, of: "role " + name,
			}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "deleted %s\n", name)
			return err
		},
	}
}
