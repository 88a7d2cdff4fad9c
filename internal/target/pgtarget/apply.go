package pgtarget

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/target"
)

// parameter is the setting of a role that holds the generation of its password. It does nothing in a session.
const parameter = "sealkeep.generation"

// Apply sets the password of new's role to new's, logging in as login, which may be that role itself with the password that it has
// so far. It is Outdated unless generation, 1 or more, is newer than the one that the role has.
//
// A Transient error leaves open whether it took effect. Applying the same generation again would then be Outdated, so each attempt
// comes with a new one.
func (t *Target) Apply(ctx context.Context, login, new target.Credential, generation int64) error {
	if err := checkLogin(login); err != nil {
		return err
	}
	switch {
	case generation < 1:
		return refuse(target.Permanent, nil, "a generation is 1 or more")
	case !isName(new.Username):
		return refuse(target.Permanent, nil, "the name of a role is 1 to 63 bytes of UTF-8 without NUL")
	case !isPassword(new.Password.Reveal()):
		return refuse(target.Policy, nil, "the new password is empty, or holds something other than ASCII")
	}
	salt := make([]byte, saltSize)
	if _, err := t.random.Read(salt); err != nil {
		return refuse(target.Transient, err, "no salt could be made")
	}
	secret, err := verifier(new.Password, salt)
	if err != nil {
		return refuse(target.Transient, err, "no verifier could be made")
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	s, err := t.primary(ctx, login)
	if err != nil {
		return err
	}
	defer s.close()
	c := change{session: s, login: login.Username, role: new.Username, generation: generation}
	return c.make(ctx, secret)
}

// change is one transaction that changes a role.
type change struct {
	*session
	login, role string
	generation  int64
}

func (c *change) make(ctx context.Context, secret string) error {
	deadline, _ := ctx.Deadline()
	if _, err := c.run(ctx, c.beginning(time.Until(deadline))); err != nil {
		return c.failed("the transaction can't begin", err)
	}
	// Nothing is locked for that: an advisory lock is anybody's to take, and who has stolen the password that is to be replaced could keep
	// it from being replaced. Of two who change the role at once the server lets one wait, and then fail.
	if err := c.check(ctx); err != nil {
		return err
	}
	role := identifier(c.role)
	if _, err := c.run(ctx, "ALTER ROLE "+role+" PASSWORD "+literal(secret)); err != nil {
		return c.refused(err)
	}
	// The role's row is ours until the end, so what it says now stays: another session may have changed it, in another database, after
	// it was checked.
	if err := c.check(ctx); err != nil {
		return err
	}
	if _, err := c.run(ctx, "ALTER ROLE "+role+" SET "+parameter+" = "+literal(strconv.FormatInt(c.generation, 10))); err != nil {
		if stateOf(err) == insufficientPrivilege {
			return refuse(target.Permanent, err, "the login may not set %s (%s): %s", parameter, shown(err), c.grantParameter())
		}
		return c.failed("the generation can't be set", err)
	}
	return c.commit(ctx)
}

// beginning makes the session one whose settings are known, as the role's and the database's own ones may be anything.
func (c *change) beginning(left time.Duration) string {
	// The server gives up before we do, and says why.
	limit := max(left*3/4, time.Millisecond).Milliseconds()
	statements := []string{
		"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
		"SET LOCAL search_path TO pg_catalog, pg_temp",
		"SET LOCAL client_min_messages TO warning", // for the commit
		fmt.Sprintf("SET LOCAL statement_timeout = %d", limit),
		fmt.Sprintf("SET LOCAL lock_timeout = %d", limit),
		fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", left.Milliseconds()+1),
		// A commit that a crash takes back would leave the role with its old password.
		"SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')",
	}
	if c.login == c.role {
		// It may be set up to act as another role, which can't change it.
		statements = append(statements, "SET LOCAL ROLE NONE")
	}
	return strings.Join(statements, "; ")
}

// check refuses a role that a new password is of no use to, and a generation that isn't newer than the role's.
func (c *change) check(ctx context.Context) error {
	r, err := c.run(ctx, `SELECT rolcanlogin, coalesce(rolvaliduntil <= now(), false), (
			SELECT string_agg(substr(setting, `+strconv.Itoa(len(parameter)+2)+`), ',')
			FROM unnest(rolconfig) AS setting WHERE starts_with(lower(setting), '`+parameter+`='))
		FROM pg_roles WHERE rolname = `+literal(c.role))
	switch {
	case err != nil:
		return c.failed("the role can't be read", err)
	case r.row == nil:
		return refuse(target.Permanent, nil, "the role does not exist")
	case len(r.row) != 3:
		return refuse(target.Transient, errProtocol, "the role can't be read")
	case r.row[0] != "t":
		return refuse(target.Permanent, nil, "the role can't log in: ALTER ROLE <role> LOGIN")
	case r.row[1] != "f":
		return refuse(target.Permanent, nil, "any password of the role has expired: ALTER ROLE <role> VALID UNTIL 'infinity'")
	case r.row[2] == "":
		return nil
	}
	seen, err := strconv.ParseInt(r.row[2], 10, 64)
	switch {
	case err != nil:
		return refuse(target.Permanent, nil, "the role's %s is not a number: ALTER ROLE <role> RESET %[1]s", parameter)
	case c.generation <= seen:
		return refuse(target.Outdated, nil, "the role has seen generation %d or a newer one", c.generation)
	}
	return nil
}

// commit may wait for a synchronous standby, which the limit on statements doesn't cut short: the server ends that before it commits
// (finish_xact_command). Somebody else may cancel the wait; the commit has then succeeded on the primary alone (SyncRepWaitForLSN),
// and comes with a warning.
func (c *change) commit(ctx context.Context) error {
	r, err := c.run(ctx, "COMMIT")
	switch {
	case err != nil:
		return c.failed("it is not known whether the change was committed", err)
	case r.tag != "COMMIT":
		return refuse(target.Transient, nil, "the server rolled the change back")
	case r.warned:
		return refuse(target.Transient, nil, "the change was committed with a warning: it may not have reached a synchronous standby")
	}
	return nil
}

// failed is the error of a statement that says nothing about the role or its password.
func (c *change) failed(what string, err error) error {
	class := target.Transient
	if stateOf(err) == insufficientPrivilege {
		class = target.Permanent
	}
	return refuse(class, err, "%s: %s (%s)", c.host.address, what, shown(err))
}

// refused is the error of the change of the password.
func (c *change) refused(err error) error {
	switch state := stateOf(err); {
	case state == insufficientPrivilege:
		return refuse(target.Permanent, err, "the login may not set the role's password (%s): %s", shown(err), c.grantRole())
	case state == undefinedObject:
		return refuse(target.Permanent, err, "the role does not exist")
	case isPolicy(err):
		return refuse(target.Policy, err, "a check of passwords at the server refuses the new one (%s); it is given as a SCRAM verifier, "+
			"which the check has to allow (credcheck.encrypted_password_allowed)", shown(err))
	}
	return c.failed("the password can't be set", err)
}

// grantRole says what the login lacks to change the role's password. Like every message it names neither: users are a part of the
// secrets that they come from, and messages are kept and logged.
func (c *change) grantRole() string {
	switch {
	case c.login == c.role:
		return "a role with REPLICATION can't do that itself before PostgreSQL 16; rotate it by a login secret of a superuser"
	case c.major > 0 && c.major < 16:
		return "ALTER ROLE <login> CREATEROLE; a role with SUPERUSER or REPLICATION takes a superuser"
	}
	return "ALTER ROLE <login> CREATEROLE; GRANT <role> TO <login> WITH ADMIN OPTION; a superuser's takes a superuser"
}

// grantParameter says what the login lacks to set the generation.
func (c *change) grantParameter() string {
	if c.major > 0 && c.major < 15 {
		return "before PostgreSQL 15 only a superuser may"
	}
	return fmt.Sprintf("GRANT SET ON PARAMETER %q TO <login>", parameter)
}

func identifier(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal is a string to every server, whatever its standard_conforming_strings.
func literal(text string) string {
	return `E'` + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + `'`
}
