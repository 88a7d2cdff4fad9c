package vault

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// States of a job.
const (
	JobOpen      = "open"      // it waits, or a rotator is at it
	JobDead      = "dead"      // it failed too often, or of what time won't mend: somebody has to retry or cancel it
	JobCompleted = "completed" // it is over; its outcome says how
)

// JobsRequest asks for one page of jobs.
type JobsRequest struct {
	State  string // "" or one of the Job constants
	Prefix string // of the secrets' names
	Secret string // only this one's; empty is all
	Limit  int    // 0 means 100; 1 to 1000
	Cursor string // opaque; from the previous page
}

// JobPage is one page of jobs, newest first.
type JobPage struct {
	Items      []JobView
	NextCursor string // empty on the last page
}

// JobView is a job as operators see it. It is told by the job's row, which is no authority.
type JobView struct {
	ID          uuid.UUID
	Secret      string // its name
	Reason      string // one of the Reason constants
	State       string // one of the Job constants
	Step        string // one of the Step constants: how far it has come
	Running     bool   // a rotator is at it
	DueAt       time.Time
	EnqueuedAt  time.Time
	RunAt       *time.Time // when it may run next; only while it is open
	StartedAt   *time.Time // when it was first claimed
	DeadAt      *time.Time
	CompletedAt *time.Time
	BaseVersion int64 // the current one when it was made
	Attempt     int
	Outcome     string // of one that is completed
	Class       string // of the last failure
	Error       string // the last failure, in words
}

var errNoJob = fault.New(fault.NotFound, "there is no such job")

// Jobs gives one page of jobs, newest first, of the secrets that the caller's role can act on in any way.
func (v *Vault) Jobs(ctx context.Context, c Caller, r JobsRequest) (*JobPage, error) {
	op, page, err := r.check()
	if err != nil {
		return nil, err
	}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*JobPage, error) {
		query := page
		query.Everything, query.Exact, query.Prefixes = a.who.rules.Scope()
		query.Exact, query.Prefixes = nonNil(query.Exact), nonNil(query.Prefixes)
		if r.Secret != "" {
			row, err := a.find(ctx, r.Secret)
			if err != nil {
				return nil, err
			}
			query.SecretID = &row.ID
		}
		since := v.seen.begin()
		rows, err := v.db.ListJobs(ctx, query)
		if err != nil {
			return nil, err
		}
		limit := int(page.MaxRows) - 1
		out := &JobPage{Items: make([]JobView, 0, min(len(rows), limit))}
		if len(rows) > limit {
			rows = rows[:limit]
			last := &rows[limit-1].VaultRotationJob
			out.NextCursor = jobCursor(last.EnqueuedAt, last.ID)
		}
		checked := map[uuid.UUID]bool{}
		for i := range rows {
			s := &rows[i].VaultSecret
			if !checked[s.ID] {
				if err := v.checkListed(ctx, &db.ListSecretsRow{VaultSecret: *s, Deleted: rows[i].Deleted}, since); err != nil {
					return nil, a.alarm(ctx, s.Name, &s.CurrentVersion, err)
				}
				checked[s.ID] = true
			}
			out.Items = append(out.Items, *viewJob(&rows[i].VaultRotationJob, s.Name, rows[i].Running))
		}
		a.note("items", len(out.Items))
		return out, nil
	})
}

// check gives what a request asks for, or says what is wrong with it.
func (r *JobsRequest) check() (op operation, q db.ListJobsParams, err error) {
	limit, err := pageLimit(r.Limit)
	if err != nil {
		return op, q, err
	}
	if err := secret.CheckPrefix(r.Prefix); err != nil {
		return op, q, err
	}
	switch r.State {
	case "", JobOpen, JobDead, JobCompleted:
	default:
		return op, q, fault.New(fault.Invalid, "state is open, dead or completed; leave it out for all")
	}
	q = db.ListJobsParams{State: r.State, Prefix: r.Prefix, Upper: upperBound(r.Prefix), MaxRows: int32(limit + 1)} //nolint:gosec // at most 1001
	if q.BeforeAt, q.BeforeID, err = parseJobCursor(r.Cursor); err != nil {
		return op, q, err
	}
	op = operation{action: ActionRotationList, rule: needsToken, detail: map[string]any{"prefix": r.Prefix}}
	if r.Secret != "" {
		name, err := secret.ParseName(r.Secret)
		if err != nil {
			return op, q, err
		}
		op.rule, op.name = needsAnyRight, name.String()
	}
	return op, q, nil
}

// Job tells of one job. One that doesn't exist, and one of a secret on which the caller may do nothing, are answered alike.
func (v *Vault) Job(ctx context.Context, c Caller, id uuid.UUID) (*JobView, error) {
	op := operation{action: ActionRotationRead, rule: needsToken, detail: map[string]any{"job_id": id}}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) (*JobView, error) { return a.job(ctx, id) })
}

// JobIsOpen tells whether a job is neither over nor dead. It discloses nothing to anybody: who waits for a job asks for it, through
// the gate, when this says that it is worth asking.
func (v *Vault) JobIsOpen(ctx context.Context, id uuid.UUID) (bool, error) {
	open, err := v.db.JobIsOpen(ctx, id)
	return open, postgres.Fault(err)
}

// job looks a job up whose secret the caller may act on in any way. The operation is on that secret from then on.
func (a *attempt) job(ctx context.Context, id uuid.UUID) (*JobView, error) {
	v := a.vault
	since := v.seen.begin()
	row, err := v.db.JobByID(ctx, id)
	if postgres.IsNotFound(err) {
		return nil, errNoJob
	}
	if err != nil {
		return nil, err
	}
	s := &row.VaultSecret
	if a.op.name == "" {
		a.op.name = s.Name
	}
	if a.op.name != s.Name || !a.who.rules.AllowsAny(s.Name) {
		return nil, errNoJob
	}
	if err := v.checkListed(ctx, &db.ListSecretsRow{VaultSecret: *s, Deleted: row.Deleted}, since); err != nil {
		return nil, a.alarm(ctx, s.Name, &s.CurrentVersion, err)
	}
	return viewJob(&row.VaultRotationJob, s.Name, row.Running), nil
}

func viewJob(j *db.VaultRotationJob, name string, running bool) *JobView {
	view := &JobView{
		ID: j.ID, Secret: name, Reason: cut(&j.Reason), State: JobOpen, Step: j.Step, Running: running, DueAt: j.DueAt, EnqueuedAt: j.EnqueuedAt,
		StartedAt: j.StartedAt, DeadAt: j.DeadAt, CompletedAt: j.CompletedAt, BaseVersion: j.BaseVersion, Attempt: int(j.Attempt),
		Outcome: cut(j.Outcome), Class: cut(j.Class), Error: cut(j.Error),
	}
	switch {
	case j.CompletedAt != nil:
		view.State = JobCompleted
	case j.DeadAt != nil:
		view.State = JobDead
	default:
		view.RunAt = &j.RunAt
	}
	return view
}

// cut gives a column that anybody may have written, cut to what we would have written at most.
func cut(s *string) string {
	if s == nil {
		return ""
	}
	return strings.ToValidUTF8((*s)[:min(len(*s), maxFailure)], "")
}

// A cursor is the last job of a page: the time that it was made at, and its id. It is no authority, as that of a list isn't.
func jobCursor(at time.Time, id uuid.UUID) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(raw, id[:]...))
}

func parseJobCursor(cursor string) (*time.Time, *uuid.UUID, error) {
	if cursor == "" {
		return nil, nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) != 8+len(uuid.UUID{}) {
		return nil, nil, errBadCursor
	}
	at := time.UnixMicro(int64(binary.BigEndian.Uint64(raw))).UTC() //nolint:gosec // the bits are meant as they are //nolint:gosec // the bits are meant as they are
	if at.Year() < 1970 || at.Year() > 9999 {
		return nil, nil, errBadCursor
	}
	id := uuid.UUID(raw[8:])
	return &at, &id, nil
}
