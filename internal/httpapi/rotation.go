package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

const (
	// maxWait is the longest that a request waits for its job, in seconds.
	maxWait = 60
	// While a request waits, its job is looked at after the first pause, and then ever less often.
	firstPause = 50 * time.Millisecond
	mostPause  = time.Second
)

func (a *api) rotateSecret(ctx context.Context, x *exchange) error {
	if err := decodeEmpty(x.body); err != nil {
		return err
	}
	wait, key, err := replacement(x)
	if err != nil {
		return err
	}
	made, err := a.vault.Rotate(ctx, x.caller(), vault.RotateRequest{Name: x.name, IdempotencyKey: key})
	if err != nil {
		return err
	}
	return a.replaced(x, made, wait)
}

func (a *api) rollbackSecret(ctx context.Context, x *exchange) error {
	r := vault.RollbackRequest{Name: x.name}
	if err := decodeRollback(x.body, &r); err != nil {
		return err
	}
	wait, key, err := replacement(x)
	if err != nil {
		return err
	}
	r.IdempotencyKey = key
	made, err := a.vault.Rollback(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	return a.replaced(x, made, wait)
}

// replacement reads what requests for another value have in common.
func replacement(x *exchange) (wait time.Duration, key string, err error) {
	if wait, err = queryWait(x.query); err != nil {
		return 0, "", err
	}
	key, err = requestKey(x.request.Header)
	return wait, key, err
}

// replaced answers a request for another value: with the new version, or with the job that makes it, which is waited for.
func (a *api) replaced(x *exchange, made *vault.Rotated, wait time.Duration) error {
	defer made.Release()
	if made.Job == nil {
		return x.secret(http.StatusOK, made.Secret)
	}
	job := made.Job
	if job.State == vault.JobOpen && wait > 0 && a.await(x, job.ID, wait) {
		// It is asked for as by anybody else. Should that fail, what is known of it is no less true.
		if now, err := a.vault.Job(x.ctx, x.caller(), job.ID); err == nil {
			job = now
		}
	}
	x.set(x.out.Header(), location, jobsPrefix+job.ID.String())
	status := http.StatusOK
	if job.State == vault.JobOpen {
		status = http.StatusAccepted
	}
	return x.answer(status, viewJob(*job))
}

// await waits until a job is over or dead, and tells whether it is. A process that is about to end lets nobody wait.
func (a *api) await(x *exchange, id uuid.UUID, wait time.Duration) bool {
	x.prolong(wait, a.cfg.Clock())
	end := time.NewTimer(wait)
	defer end.Stop()
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-end.C:
			next.Stop()
			return false
		case <-x.ctx.Done():
			next.Stop()
			return false
		}
		open, err := a.vault.JobIsOpen(x.ctx, id)
		if err == nil && !open {
			return true
		}
		if err != nil || a.cfg.Ready(x.ctx) != nil {
			return false
		}
	}
}

func (a *api) pauseSecret(ctx context.Context, x *exchange) error {
	return a.schedule(ctx, x, a.vault.Pause)
}

func (a *api) resumeSecret(ctx context.Context, x *exchange) error {
	return a.schedule(ctx, x, a.vault.Resume)
}

func (a *api) schedule(ctx context.Context, x *exchange, change func(context.Context, vault.Caller, string) (*vault.Metadata, error)) error {
	if err := decodeEmpty(x.body); err != nil {
		return err
	}
	m, err := change(ctx, x.caller(), x.name)
	if err != nil {
		return err
	}
	x.set(x.out.Header(), etag, m.ETag)
	return x.answer(http.StatusOK, viewMetadata(*m))
}

// listJobs lists those of the secret in the path, or all if there is none.
func (a *api) listJobs(ctx context.Context, x *exchange) error {
	page, err := listRequest(x.query)
	if err != nil {
		return err
	}
	jobs, err := a.vault.Jobs(ctx, x.caller(), vault.JobsRequest{
		State: x.query["state"], Prefix: page.Prefix, Secret: x.name, Limit: page.Limit, Cursor: page.Cursor,
	})
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, jobPageView{Items: views(jobs.Items, viewJob), NextCursor: orNil(jobs.NextCursor)})
}

func (a *api) readJob(ctx context.Context, x *exchange) error { return a.job(ctx, x, a.vault.Job) }

func (a *api) retryJob(ctx context.Context, x *exchange) error {
	return a.job(ctx, x, a.vault.RetryJob)
}

func (a *api) cancelJob(ctx context.Context, x *exchange) error {
	return a.job(ctx, x, a.vault.CancelJob)
}

func (a *api) job(ctx context.Context, x *exchange, use func(context.Context, vault.Caller, uuid.UUID) (*vault.JobView, error)) error {
	if err := decodeEmpty(x.body); err != nil {
		return err
	}
	id, err := uuid.Parse(x.name)
	if err != nil || x.name != id.String() {
		return fault.New(fault.Invalid, "a job's id is a UUID in lower case, as answers give it")
	}
	job, err := use(ctx, x.caller(), id)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, viewJob(*job))
}

func (a *api) readRotation(ctx context.Context, x *exchange) error {
	return a.rotation(ctx, x, a.vault.Rotation)
}

func (a *api) pauseRotation(ctx context.Context, x *exchange) error {
	return a.rotation(ctx, x, a.vault.PauseAll)
}

func (a *api) resumeRotation(ctx context.Context, x *exchange) error {
	return a.rotation(ctx, x, a.vault.ResumeAll)
}

func (a *api) rotation(ctx context.Context, x *exchange, use func(context.Context, vault.Caller) (*vault.RotationStatus, error)) error {
	if err := decodeEmpty(x.body); err != nil {
		return err
	}
	s, err := use(ctx, x.caller())
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, viewRotation(*s))
}

type jobPageView struct {
	Items      []jobView `json:"items"`
	NextCursor *string   `json:"next_cursor"`
}

type jobView struct {
	ID          string  `json:"id"`
	Secret      string  `json:"secret"`
	Reason      string  `json:"reason"`
	State       string  `json:"state"`
	Step        string  `json:"step"`
	Running     bool    `json:"running"`
	DueAt       string  `json:"due_at"`
	EnqueuedAt  string  `json:"enqueued_at"`
	RunAt       *string `json:"run_at"`
	StartedAt   *string `json:"started_at"`
	DeadAt      *string `json:"dead_at"`
	CompletedAt *string `json:"completed_at"`
	BaseVersion int64   `json:"base_version"`
	Attempt     int     `json:"attempt"`
	Outcome     *string `json:"outcome"`
	Class       *string `json:"class"`
	Error       *string `json:"error"`
}

func viewJob(j vault.JobView) jobView {
	return jobView{
		ID: j.ID.String(), Secret: j.Secret, Reason: j.Reason, State: j.State, Step: j.Step, Running: j.Running, DueAt: timestamp(j.DueAt),
		EnqueuedAt: timestamp(j.EnqueuedAt), RunAt: optionalTime(j.RunAt), StartedAt: optionalTime(j.StartedAt), DeadAt: optionalTime(j.DeadAt),
		CompletedAt: optionalTime(j.CompletedAt), BaseVersion: j.BaseVersion, Attempt: j.Attempt, Outcome: orNil(j.Outcome),
		Class: orNil(j.Class), Error: orNil(j.Error),
	}
}

type rotationView struct {
	Paused           bool    `json:"paused"`
	Verified         bool    `json:"verified"`
	ChangedAt        *string `json:"changed_at"`
	Open             int64   `json:"open"`
	Running          int64   `json:"running"`
	Dead             int64   `json:"dead"`
	OldestDueSeconds int64   `json:"oldest_due_seconds"`
	Drifted          int64   `json:"drifted"`
	ExpiredVersions  int64   `json:"expired_versions"`
}

func viewRotation(s vault.RotationStatus) rotationView {
	return rotationView{
		Paused: s.Paused, Verified: s.Verified, ChangedAt: optionalTime(s.ChangedAt), Open: s.Open, Running: s.Running, Dead: s.Dead,
		OldestDueSeconds: s.OldestDueSecs, Drifted: s.Drifted, ExpiredVersions: s.ExpiredVersions,
	}
}

// fetchValue answers a webhook's receiver. What it sends as its token is no role's.
func (a *api) fetchValue(ctx context.Context, x *exchange) error {
	caller := x.caller()
	token := caller.Token
	caller.Token = sensitive.Bytes{}
	s, err := a.vault.Fetch(ctx, caller, token)
	if err != nil {
		return err
	}
	return x.secret(http.StatusOK, s)
}
