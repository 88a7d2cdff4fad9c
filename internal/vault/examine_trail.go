package vault

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// hearTrail verifies the audit trail and takes up what it tells. A trail that doesn't verify is a finding; what of it is proven
// counts still, and what it doesn't tell of is then no evidence.
func (x *examiner) hearTrail(ctx context.Context) error {
	if x.told == nil {
		return nil
	}
	report, err := audit.VerifySnapshot(ctx, x.q, x.keys, x.keys.VaultID(), audit.Verification{
		Progress: x.options.Progress, Each: x.told.hear, Since: x.told.since,
	})
	if err != nil {
		return fmt.Errorf("verifying the audit trail: %w", err)
	}
	x.report.Trail = report
	x.sure = report.Found == 0 && report.Dropped == 0 && x.told.vague == 0 && x.told.since.IsZero()
	if report.Found > 0 {
		first := report.Problems[0]
		x.find("audit", "the trail isn't as it was written (%d problems; the first: stream %s seq %d: %s): `sealkeep audit verify --database` lists them. "+
			"Compared is only what its proven records tell", report.Found, first.StreamID, first.Seq, first.What)
	}
	if !x.told.since.IsZero() {
		x.note("the audit trail in the database begins on %s; %d records of before were dropped with their days, and what they tell is not compared",
			x.told.since.Format("2006-01-02"), report.Dropped)
	}
	if x.told.vague > 0 {
		x.note("%d records of changes were written by a release that didn't note what they left", x.told.vague)
	}
	x.compareGrants()
	return nil
}

// ahead is for what the tables have and no record tells of: forged by somebody with the keys if the trail is whole, else untold.
func (x *examiner) ahead(area, format string, args ...any) {
	if x.sure {
		x.find(area, format, args...)
		return
	}
	x.report.Untold++
}

// compareSecret holds a secret's row against the last change that the trail tells of. One that doesn't verify is only counted as
// there.
func (x *examiner) compareSecret(s *db.VaultSecret, genuine bool) {
	t, known := x.told.secrets[s.ID]
	if known {
		t.present = true
		x.told.secrets[s.ID] = t
	}
	switch {
	case !genuine:
	case !known:
		x.ahead("secrets", "secret %q: the table has it at revision %d, and no record says that it was made", s.Name, s.Revision)
	case t.unproven && (t.deleted || t.revision != s.Revision):
		x.report.Untold++
	case t.deleted:
		x.find("secrets", "secret %q: the trail says that it was deleted, and the table has it at revision %d", s.Name, s.Revision)
	case s.Revision > t.revision:
		x.ahead("secrets", "secret %q: the trail ends at revision %d, version %d, and the table has revision %d, version %d",
			s.Name, t.revision, t.version, s.Revision, s.CurrentVersion)
	case s.Revision < t.revision, s.CurrentVersion != t.version:
		x.find("secrets", "secret %q: the trail says revision %d, version %d, and the table has revision %d, version %d: an older state was put back",
			s.Name, t.revision, t.version, s.Revision, s.CurrentVersion)
	}
}

// compareDeleted is compareSecret for what remains of a secret.
func (x *examiner) compareDeleted(row *db.DeletedSecretsPageRow, genuine bool) {
	t, known := x.told.secrets[row.SecretID]
	if known {
		t.remaining = true
		x.told.secrets[row.SecretID] = t
	}
	switch {
	case !genuine:
	case !known, !t.deleted:
		x.ahead("secrets", "secret %q: what remains says that it was deleted at revision %d, and no record does", row.Name, row.Revision)
	case t.revision != row.Revision && !t.unproven:
		x.find("secrets", "secret %q: the trail says that it was deleted at revision %d, and what remains says %d", row.Name, t.revision, row.Revision)
	}
}

// compareRest reports what the trail tells of and the tables don't have, and what it tells twice.
func (x *examiner) compareRest() {
	if x.told == nil {
		return
	}
	for _, t := range x.told.secrets {
		if twice := t.made.madeTwice("revision", "revisions"); twice != "" {
			x.find("secrets", "secret %q: %s: an older state was put back and written on", t.name, twice)
		}
		switch {
		case t.unproven:
		case t.deleted && !t.remaining:
			x.find("secrets", "secret %q: the trail says that it was deleted, and nothing in vault.deleted_secrets does", t.name)
		case !t.deleted && !t.present && t.remaining: // said above, if it can be said
		case !t.deleted && !t.present:
			x.find("secrets", "secret %q: the trail says revision %d, version %d, and the table has none: it is gone, and nobody deleted it", t.name, t.revision, t.version)
		}
	}
}

// compareGrants holds the grants against the trail, if they verify, and the trail against itself.
func (x *examiner) compareGrants() {
	for i := range x.told.epochs {
		if twice := x.told.epochs[i].madeTwice("epoch", "epochs"); twice != "" {
			x.find("grants", "%s: older grants were put back and changed", twice)
		}
	}
	if x.grants == nil {
		return
	}
	switch {
	case x.grants.epoch < x.told.epoch:
		x.find("grants", "the trail says that their epoch came to %d, and the table has %d: older grants were put back", x.told.epoch, x.grants.epoch)
	case x.grants.epoch > x.told.epoch:
		x.ahead("grants", "the trail ends at epoch %d, and the table has %d", x.told.epoch, x.grants.epoch)
	}
	for _, role := range x.grants.roles {
		x.compareRole(role)
	}
	for _, t := range x.told.roles {
		if !t.found && !t.deleted && !t.unproven && t.epoch >= x.told.discarded {
			x.find("grants", "role %q: the trail says that it was made and not that it was deleted, and the table has none", t.name)
		}
	}
	for _, token := range x.grants.tokens {
		if token.live(x.grants.readAt) {
			x.compareToken(token)
		}
	}
}

func (x *examiner) compareRole(role *heldRole) {
	t, known := x.told.roles[role.ID]
	if known {
		t.found = true
		x.told.roles[role.ID] = t
	}
	same := t.isAdmin == role.IsAdmin && bytes.Equal(t.permissions[:], role.digest())
	switch {
	case !known:
		x.ahead("grants", "role %q: the table has it, and no record says that it was made", role.Name)
	case t.deleted && !t.unproven:
		x.find("grants", "role %q: the trail says that it was deleted, and the table has it", role.Name)
	case t.epoch < x.told.discarded:
		x.find("grants", "role %q: the trail says that it was given up by a recovery, and the table has it", role.Name)
	case !same && (t.unproven || !x.sure && x.grants.epoch > x.told.epoch):
		x.report.Untold++
	case !same:
		x.find("grants", "role %q: the trail says admin %v and permissions with the SHA-256 %x, and the table has admin %v and %x",
			role.Name, t.isAdmin, t.permissions[:4], role.IsAdmin, role.digest()[:4])
	}
}

func (x *examiner) compareToken(token *heldToken) {
	t, known := x.told.tokens[token.ID]
	switch {
	case !known:
		x.ahead("grants", "token %q: it is live in the table, and no record says that it was issued", token.Name)
	case t.revoked:
		x.find("grants", "token %q: the trail says that it was revoked, and the table has it live", token.Name)
	case t.epoch < x.told.discarded:
		x.find("grants", "token %q: the trail says that it was given up by a recovery, and the table has it live", token.Name)
	case t.roleID != token.RoleID:
		x.find("grants", "token %q: the trail says that it was issued for the role %s, and the table has it for %s", token.Name, t.roleID, token.RoleID)
	case x.told.roles[token.RoleID].deleted && !x.told.roles[token.RoleID].unproven:
		x.find("grants", "token %q: the trail says that its role was deleted, and the table has it live", token.Name)
	}
}
