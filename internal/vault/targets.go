package vault

import (
	"context"
	"slices"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// rotation is what a request says of a new secret's rotation.
func (r *CreateRequest) rotation() (out secret.Rotation, err error) {
	if r.Schedule != nil {
		out.Schedule = r.Schedule.schedule()
	}
	if r.PasswordPolicy != nil {
		out.Policy = *r.PasswordPolicy
	}
	out.LoginHosts, err = secret.CanonicalHosts(r.LoginHosts)
	return out, err
}

// mergeRotation lays the request's fields over what the row has.
func (r *UpdateRequest) mergeRotation(row *db.VaultSecret) (out secret.Rotation, target *secret.Target, err error) {
	if out, err = secret.DecodeRotation(row.Rotation); err != nil {
		return out, nil, damaged("secret", row.Name, err)
	}
	if row.Target != nil {
		if target, err = secret.DecodeTarget(row.Target); err != nil {
			return out, nil, damaged("secret", row.Name, err)
		}
	}
	if r.Schedule.Set {
		out.Schedule = secret.Schedule{}
		if !r.Schedule.Null {
			out.Schedule = r.Schedule.Value.schedule()
		}
	}
	if r.PasswordPolicy.Set {
		out.Policy = r.PasswordPolicy.Value // zero for null
	}
	if r.LoginHosts.Set {
		if out.LoginHosts, err = secret.CanonicalHosts(r.LoginHosts.Value); err != nil {
			return out, nil, err
		}
	}
	switch {
	case !r.Target.Set:
	case r.Target.Null:
		target = nil
	default:
		target = &r.Target.Value
	}
	return out, target, nil
}

// schedule takes what is said although it goes without saying as unsaid, so that a schedule is told from another one by what it says.
func (s *ScheduleRequest) schedule() secret.Schedule {
	out := secret.Schedule{Cron: s.Cron, TimeZone: s.TimeZone, Window: secret.Seconds(s.WindowSecs), Missed: secret.Missed(s.Missed)}
	if out.TimeZone == "UTC" {
		out.TimeZone = ""
	}
	if out.Missed == secret.MissedCatchUp {
		out.Missed = ""
	}
	return out
}

// mayTarget tells whether the caller may give a secret these settings: who says what a rotation changes outside the vault, or where a login
// may be sent, needs the action target on the secret, and on those that the target names.
func (a *attempt) mayTarget(ctx context.Context, next, before secret.Settings) error {
	same := string(next.Target.Encode()) == string(before.Target.Encode())
	if same && slices.Equal(next.Rotation.LoginHosts, before.Rotation.LoginHosts) {
		return nil
	}
	if !a.who.rules.Allows(access.Target, a.op.name) {
		return denied("the token's role doesn't allow target on it")
	}
	if same || next.Target == nil {
		return nil
	}
	name := companionOf(next.Target)
	if name == "" {
		return nil
	}
	if !a.who.rules.Allows(access.Target, name) {
		return denied("the token's role doesn't allow target on the secret that the target names")
	}
	return a.checkCompanion(ctx, next.Target, name)
}

// mayName tells whether the caller may give a secret another username: at a PostgreSQL target that says whose password a rotation
// changes, by a login that may be allowed to change anybody's. So it is a change of the target.
func (a *attempt) mayName(s secret.Settings, g Given) error {
	if s.Target == nil || s.Target.Postgres == nil || g.Username.IsZero() {
		return nil
	}
	for _, name := range []string{a.op.name, s.Target.Postgres.LoginSecret} {
		if name != "" && !a.who.rules.Allows(access.Target, name) {
			return denied("the token's role doesn't allow target, and the username says which role a rotation changes")
		}
	}
	return nil
}

// maxKept bounds the versions of a targeted secret that changes by hand and cancellations leave behind, as none of them is removed before
// the target has proved to take the current one.
const maxKept = 64

var errTooManyKept = fault.Newf(fault.Conflict,
	"%d versions of this secret are kept, because its target may have any of them: wait until the target takes the current one", maxKept).
	WithCode("too_many_versions")

// companionOf names the secret that a target takes besides its own, or is empty.
func companionOf(t *secret.Target) string {
	switch {
	case t.Postgres != nil:
		return t.Postgres.LoginSecret
	case t.Webhook != nil:
		return t.Webhook.SigningSecret
	}
	return ""
}

// checkCompanion tells whether a secret that a target names will do, as far as that can be told now. It may change; a rotation looks again.
func (a *attempt) checkCompanion(ctx context.Context, t *secret.Target, name string) error {
	if name == a.op.name {
		return fault.New(fault.Invalid, "a target can't name its own secret: leave login_secret out, and the role changes its own password")
	}
	s, err := a.companion(ctx, name, false)
	if err != nil {
		return err
	}
	return a.companionSuits(ctx, t, s)
}

// companionSuits tells whether a secret may be what a target names it as.
func (a *attempt) companionSuits(ctx context.Context, t *secret.Target, s *sealedSecret) error {
	if t.Webhook != nil {
		if secret.Format(s.Format) != secret.Opaque {
			return fault.Newf(fault.Invalid, "the signing secret %s holds no single value", s.Name).WithCode("bad_signing_secret")
		}
		return nil
	}
	if secret.Format(s.Format) != secret.Userpass {
		return fault.Newf(fault.Invalid, "the login secret %s holds no username and password", s.Name).WithCode("bad_login_secret")
	}
	p, err := planOf(&s.VaultSecret)
	if err != nil {
		return a.alarm(ctx, s.Name, nil, err)
	}
	for _, host := range slices.Concat(t.Postgres.Hosts, t.Postgres.Standbys) {
		if !slices.Contains(p.LoginHosts, host) {
			return fault.Newf(fault.Invalid, "the login secret %s may not be sent to %s: add it to that secret's login_hosts", s.Name, host).
				WithCode("login_host_not_listed")
		}
	}
	return nil
}

// suits tells whether a secret's target suits what the secret holds.
func suits(s secret.Settings, m secret.Material) error {
	if err := s.Target.Validate(m.Format, s.GracePeriod); err != nil {
		return err
	}
	if s.Target == nil || s.Target.Postgres == nil || s.Target.Postgres.Mode != secret.ModeAlternating {
		return nil
	}
	if !slices.Contains(s.Target.Postgres.Usernames, string(m.Username.Reveal())) {
		return errNeitherRole
	}
	return nil
}

var errNeitherRole = fault.New(fault.Invalid, "the username is neither of the target's two: use one of them, with the password that it has now").
	WithCode("bad_target")

// errUnderWay says that a target may be getting another value right now.
var errUnderWay = fault.New(fault.Conflict, "a rotation of this secret is under way, and its target may have the new value: wait until its job is over").
	WithCode("rotation_in_progress")

// yield makes a locked secret's open job give way to a change of its value, its target, or its existence. It refuses while the target may
// have another value; a pending one that it may have from before is abandoned, and stays. The job ends by itself. store has still to follow.
func (a *attempt) yield(ctx context.Context, tx *postgres.Tx, l *lockedSecret) error {
	job, err := openJob(ctx, tx, l)
	if err != nil {
		return err
	}
	if job != nil && job.Step == StepApplying && job.DeadAt == nil {
		return errUnderWay
	}
	if l.pending() == nil {
		return nil
	}
	return a.abandon(ctx, tx, l)
}

// openJob gives a locked secret's job that isn't over, or nil. It is locked, too.
func openJob(ctx context.Context, tx *postgres.Tx, l *lockedSecret) (*db.OpenJobRow, error) {
	job, err := tx.OpenJob(ctx, l.ID)
	if postgres.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &job, nil
}
