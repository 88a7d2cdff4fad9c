package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/secret"
)

func (a *app) secretCreateCommand(client *clientFlags) *cobra.Command {
	var (
		kind     string
		from     valueFlags
		settings settingFlags
		key      string
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a secret",
		Long: `Create a secret.

` + valueHelp + `
An automatic secret gets a generated value, unless --value-file is given (- is standard input).
With --username the secret holds a user name and a password, which is the value.

` + rotationHelp + ``,
		Example: `  printf %s "$PASSWORD" | sealkeep secret create payments/db --username payments
  sealkeep secret create tls/key --value-file key.pem
  sealkeep secret create jobs/signing --rotation-interval 30d --grace-period 1d
  sealkeep secret create payments/db --username payments --value-file password.txt --target db.json \
    --cron '0 3 * * SUN' --time-zone Europe/Berlin --window 2h --missed wait`,
		Args: oneSecret,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			if kind == "" {
				kind = string(secret.Manual)
				if settings.interval.given || settings.rotation.cron != "" {
					kind = string(secret.Automatic)
				}
			}
			wantValue := from.file != "" || kind != string(secret.Automatic)
			if settings.rotation.sharesInput(from, wantValue) {
				return usage(sharedInput)
			}
			if !wantValue && settings.rotation.target != "-" {
				if err := a.refusePiped(cmd.Context()); err != nil {
					return err
				}
			}
			given, err := a.readMaterial(cmd.Context(), from, wantValue, "Value of "+name.String()+": ")
			if err != nil {
				return err
			}
			defer given.release()
			body := newObject(given.value.Len() + given.username.Len())
			body.set("name", name)
			body.set("kind", kind)
			if err := settings.addTo(a, cmd, body, false); err != nil {
				return err
			}
			if err := given.addTo(body); err != nil {
				return err
			}
			text, err := body.bytes()
			if err != nil {
				return err
			}
			k := call{method: http.MethodPost, path: "/v1/secrets", body: text, of: "secret " + name.String()}
			setRequestKey(&k, key)
			made, err := a.makeVersion(cmd.Context(), *client, k)
			if err != nil {
				return err
			}
			note := ""
			if given.value.IsZero() {
				note = ", with a generated value"
			}
			return a.printVersion(made, asJSON, "created", note)
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "manual or automatic (default manual, with --rotation-interval or --cron automatic)")
	from.add(cmd)
	from.addUsername(cmd)
	settings.add(cmd)
	settings.rotation.addCreate(cmd)
	addRequestKey(cmd, &key)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) secretPutCommand(client *clientFlags) *cobra.Command {
	var (
		from       valueFlags
		asPassword bool
		settings   settingFlags
		ifMatch    string
		asJSON     bool
	)
	cmd := &cobra.Command{
		Use:   "put NAME",
		Short: "Change a secret: a new value, or what is said about it",
		Long: `Change a secret. A new value makes a new version; the old one stays valid for its grace period. A value equal to the
current one makes none. What isn't given stays.

` + valueHelp + `
With --description or another setting a value is only taken with --value-file (- is standard input) or --as-password,
which always needs one.

` + rotationHelp + `
--cron and --rotation-interval take each other's place; what belongs together is replaced together.`,
		Example: `  sealkeep secret put payments/db --as-password <password.txt
  sealkeep secret put tls/key --value-file key.pem --if-match 3-6ba7b810-9dad-41d1-80b4-00c04fd430c8
  sealkeep secret put tls/key --description 'key of www.example.com'`,
		Args: oneSecret,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			wantValue := from.file != "" || asPassword || !settings.given(cmd)
			if settings.rotation.sharesInput(from, wantValue) {
				return usage(sharedInput)
			}
			if !wantValue && settings.rotation.target != "-" {
				if err := a.refusePiped(cmd.Context()); err != nil {
					return err
				}
			}
			given, err := a.readMaterial(cmd.Context(), from, wantValue, "New value of "+name.String()+": ")
			if err != nil {
				return err
			}
			defer given.release()
			body := newObject(given.value.Len() + given.username.Len())
			if err := settings.addTo(a, cmd, body, true); err != nil {
				return err
			}
			if asPassword {
				err = given.addPasswordTo(body)
			} else {
				err = given.addTo(body)
			}
			if err != nil {
				return err
			}
			text, err := body.bytes()
			if err != nil {
				return err
			}
			k := call{method: http.MethodPut, path: secretPath(name), body: text, of: "secret " + name.String()}
			setEntityTag(&k, ifMatch)
			made, err := a.makeVersion(cmd.Context(), *client, k)
			if err != nil {
				return err
			}
			note := ""
			if given.value.IsZero() && given.username.IsZero() {
				note = ": settings only; the value is unchanged"
			}
			return a.printVersion(made, asJSON, "updated", note)
		},
	}
	from.add(cmd)
	from.addUsername(cmd)
	cmd.Flags().BoolVar(&asPassword, "as-password", false, "the value is the new password of a userpass secret, whose user name stays")
	settings.add(cmd)
	settings.rotation.addPut(cmd)
	cmd.Flags().BoolVar(&settings.noMetadata, "no-metadata", false, "remove all custom metadata")
	cmd.Flags().StringVar(&ifMatch, "if-match", "", "change it only if this `ETAG` of `secret get` is still the current one")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// makeVersion makes a call that answers with a version. The value in the answer is dropped unread.
func (a *app) makeVersion(ctx context.Context, flags clientFlags, k call) (newVersion, error) {
	c, err := a.newClient(flags)
	if err != nil {
		return newVersion{}, err
	}
	defer c.close()
	answered, err := c.do(ctx, k)
	if err != nil {
		return newVersion{}, err
	}
	defer answered.release()
	var made newVersion
	if err := json.Unmarshal(answered.body, &made); err != nil {
		return newVersion{}, fmt.Errorf("the answer can't be read: %w", err)
	}
	made.ETag = entityTag(answered.header)
	return made, nil
}

func (a *app) secretRemoveCommand(client *clientFlags) *cobra.Command {
	var (
		yes     bool
		ifMatch string
	)
	cmd := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"delete"},
		Short:   "Delete a secret and all its versions",
		Long: `Delete a secret and all its versions, for good. The name has to be typed again, unless --yes is given.
Backups of the database that are kept elsewhere still hold it until they are gone.`,
		Args: oneName("secret"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := secret.ParseName(args[0])
			if err != nil {
				return badArgument(err)
			}
			if !yes {
				err := a.confirmName(cmd.Context(), name.String(), "This deletes secret "+name.String()+" and all its versions, for good.")
				if err != nil {
					return err
				}
			}
			c, err := a.newClient(*client)
			if err != nil {
				return err
			}
			defer c.close()
			k := call{method: http.MethodDelete, path: secretPath(name), of: "secret " + name.String()}
			setEntityTag(&k, ifMatch)
			if _, err := c.do(cmd.Context(), k); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "deleted %s\n", name)
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().StringVar(&ifMatch, "if-match", "", "delete it only if this `ETAG` of `secret get` is still the current one")
	return cmd
}
