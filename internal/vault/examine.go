package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// Examination is what was looked through and what was found. No Findings means that all of it is as the vault wrote it.
type Examination struct {
	Findings []Finding
	Found    int64 // more than are listed when some were left out
	// Notes tell of what is no fault, but worth knowing.
	Notes []string

	Secrets, Versions, Deleted, Roles, Permissions, Tokens int64
	// Trail is what verifying the audit trail found; nil unless it was compared with the tables.
	Trail *audit.Report
	// Untold counts secrets, roles and tokens of whose last change the trail doesn't tell, or not surely.
	Untold int64
}

// Finding is one thing that isn't as it should be.
type Finding struct {
	Area string // "schema", "login", "guards", "keyring", "grants", "secrets", "rotation", "partitions" or "audit"
	What string // one line
}

const maxFindings = 1000

// ExamineOptions say how far an examination goes.
type ExamineOptions struct {
	// AgainstAudit verifies the audit trail too, and compares the tables with what it tells.
	AgainstAudit bool
	// Rewrapper is the keeper as it wraps stored data keys again; what it would is then noted. It may be nil.
	Rewrapper Rewrapper
	// Progress is called now and then with the audit records verified so far.
	Progress func(records int64)
}

// examiner is an examination under way, on one snapshot, so that what running processes change meanwhile contradicts nothing.
type examiner struct {
	q      *postgres.Snapshot
	keys   *integrity.Keyring
	report *Examination
	told   *told // nil unless the trail is compared
	// sure tells that the trail is whole: what it doesn't tell of never happened.
	sure bool
	made time.Time // the vault's making
	// Versions that lack a wrapping, and that are under another master key than the one in use.
	lacking, elsewhere int64
	grants             *authority
	options            ExamineOptions
}

// Examine checks a vault from outside, for whoever holds the database and the key keeper: the schema, rights and guards of the
// tables, the keyring, the grants, every row's MAC and, if it is to, the tables against the audit trail. An error means that it
// could not check. It changes nothing, and holds one snapshot for as long as it takes.
func Examine(ctx context.Context, database *postgres.DB, keeper Keeper, options ExamineOptions) (*Examination, error) {
	x := &examiner{report: &Examination{}, options: options}
	if err := x.prepare(ctx, database, keeper); err != nil || x.keys == nil {
		return x.report, err
	}
	defer x.keys.Close()
	err := database.Snapshot(ctx, func(q *postgres.Snapshot) error {
		x.q = q
		for _, step := range []func(context.Context) error{x.checkGuards, x.checkServer, x.checkGrants, x.hearTrail, x.checkSecrets, x.checkDeleted, x.checkRotation} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		x.compareRest()
		x.noteLacking()
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(x.report.Findings, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.Area, b.Area), cmp.Compare(a.What, b.What)) })
	return x.report, nil
}

func (x *examiner) find(area, format string, args ...any) {
	x.report.Found++
	if len(x.report.Findings) < maxFindings {
		x.report.Findings = append(x.report.Findings, Finding{Area: area, What: bounded(fmt.Sprintf(format, args...))})
	}
}

func (x *examiner) note(format string, args ...any) {
	x.report.Notes = append(x.report.Notes, fmt.Sprintf(format, args...))
}

// prepare opens the keyring. Without one nothing else can be verified, and keys stays nil.
func (x *examiner) prepare(ctx context.Context, database *postgres.DB, keeper Keeper) error {
	if err := database.Ping(ctx); err != nil {
		return err
	}
	// What doesn't answer is no finding.
	broken := func(area string, err error) error {
		var known *fault.Error
		if errors.As(err, &known) && known.Kind == fault.Unavailable || ctx.Err() != nil {
			return err
		}
		x.find(area, "%v", err)
		return nil
	}
	if err := database.CheckSchema(ctx); err != nil {
		return broken("schema", err)
	}
	strong, err := database.CheckLogin(ctx, "vault_operator")
	if err != nil {
		return broken("login", err)
	}
	if strong {
		x.find("login", "the login of this command passes by row security: use one that is in vault_operator and nothing else")
	}
	id, initialised, err := LoadIdentity(ctx, database)
	if err != nil {
		return broken("grants", err)
	}
	if !initialised {
		return fault.New(fault.Conflict, "this vault is not initialised: run `sealkeep init`")
	}
	keys, err := OpenKeyring(ctx, database, keeper, id, integrity.Purposes()...)
	if err != nil && !errors.Is(err, integrity.ErrForged) && !errors.Is(err, integrity.ErrBadRoot) && !errors.Is(err, integrity.ErrNoRoot) {
		return err // another key, most often: that tells nothing of the rows
	}
	if err != nil {
		return broken("keyring", err)
	}
	x.keys = keys
	if err := x.prepareWrappings(ctx, database); err != nil {
		return err
	}
	rows, err := database.Keys(ctx)
	if err != nil {
		return err
	}
	for i := range rows {
		if x.made.IsZero() || rows[i].CreatedAt.Before(x.made) {
			x.made = rows[i].CreatedAt
		}
	}
	return nil
}

// checkGuards looks at what keeps logins from rows and records.
func (x *examiner) checkGuards(ctx context.Context) error {
	problems, err := x.q.Unguarded(ctx)
	if err != nil {
		return fmt.Errorf("reading the catalogue: %w", err)
	}
	for _, problem := range problems {
		x.find("guards", "%s", problem)
	}
	logins, err := x.q.StrongLogins(ctx)
	if err != nil {
		return fmt.Errorf("reading the logins: %w", err)
	}
	for _, login := range logins {
		x.find("login", "%s is a login of the vault's programs and passes by row security", login)
	}
	return nil
}

// leastAhead is how many days of partitions there are while processes run and can make them.
const leastAhead = partitionDays - 1

// checkServer looks at replication, and at the days that records can be written on.
func (x *examiner) checkServer(ctx context.Context) error {
	server, err := x.q.ReplicationState(ctx)
	if err != nil {
		return fmt.Errorf("asking for the server's state: %w", err)
	}
	if !server.Synchronous {
		x.note("replication is asynchronous, or there is none: acknowledged changes (I13) and evidence (I2) hold only until a failover")
	}
	first, ahead, today, err := x.partitions(ctx, server.ReadAt)
	switch {
	case err != nil:
		return err
	case !today:
		x.find("partitions", "the audit trail has no partition for today: every answer is refused until a process or `sealkeep` can make it")
	case ahead < leastAhead:
		x.find("partitions", "audit partitions reach only %d days ahead: is a process running that makes them?", ahead)
	}
	if x.options.AgainstAudit {
		x.told = newTold()
		if first.After(x.made) {
			x.told.since = first
		}
	}
	return nil
}

// partitions gives the first day that has a partition, and for how many days from tomorrow on there is one without a gap.
func (x *examiner) partitions(ctx context.Context, now time.Time) (first time.Time, ahead int, today bool, err error) {
	leaves, err := x.q.AuditPartitions(ctx)
	if err != nil {
		return first, 0, false, fmt.Errorf("reading the audit partitions: %w", err)
	}
	const layout = "audit_log_20060102"
	for _, leaf := range leaves {
		if day, err := time.Parse(layout, leaf); err == nil && (first.IsZero() || day.Before(first)) {
			first = day
		}
	}
	has := func(days int) bool { return slices.Contains(leaves, now.UTC().AddDate(0, 0, days).Format(layout)) }
	for has(ahead + 1) {
		ahead++
	}
	return first, ahead, has(0), nil
}

// checkGrants verifies every role, permission and token, and that they are those of the snapshot.
func (x *examiner) checkGrants(ctx context.Context) error {
	rows, err := x.q.Grants(ctx)
	if err != nil {
		return err
	}
	for i := range rows {
		switch rows[i].Kind {
		case "role":
			x.report.Roles++
		case "permission":
			x.report.Permissions++
		case "token":
			x.report.Tokens++
		}
	}
	if x.grants, err = verifyAuthority(x.keys, rows, 0); err != nil {
		x.find("grants", "%v", err)
	}
	return nil
}

const examinePage = 500

// checkSecrets verifies every secret and all its versions, a page at a time.
func (x *examiner) checkSecrets(ctx context.Context) error {
	for after := (uuid.UUID{}); ; {
		page, err := x.q.SecretsPage(ctx, secretsPage(after))
		if err != nil {
			return fmt.Errorf("reading secrets: %w", err)
		}
		ids := make([]uuid.UUID, len(page))
		for i := range page {
			ids[i] = page[i].VaultSecret.ID
		}
		versions, err := x.q.VersionsOf(ctx, ids)
		if err != nil {
			return fmt.Errorf("reading versions: %w", err)
		}
		for i := range page {
			n := 0
			for n < len(versions) && versions[n].SecretID == ids[i] {
				n++
			}
			x.checkOne(&page[i], versions[:n])
			versions = versions[n:]
		}
		if len(page) < examinePage {
			return nil
		}
		after = ids[len(ids)-1]
	}
}

var errNoCurrent = errors.New("its current version is missing, or isn't current")
