package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/vault"
)

// Config tunes a Rotator.
type Config struct {
	// Workers is how many jobs are under way at once, 1 to 256; 0 means 8.
	Workers int
	// Lease is how long a claim holds unless it is renewed, in whole seconds, 3 s to 10 min; 0 means 30 s. It is renewed after a third.
	Lease time.Duration
	// Poll is how long a rotator sleeps at most before it looks for work; 0 means 15 s. It wakes earlier when it is told to, or when
	// something falls due.
	Poll time.Duration
	// MaxPerMinute bounds how many jobs all rotators together begin within a minute; 0 doesn't.
	MaxPerMinute int
	// MaxAttempts is after how many attempts a job is dead; 0 means 10.
	MaxAttempts int
	Log         *slog.Logger
	Metrics     prometheus.Registerer // nil: metrics are kept but not registered
	// Clock gives local time with a monotonic reading; nil means time.Now.
	Clock func() time.Time
}

func (c *Config) complete() error {
	defaults := func(v *int, usual int) {
		if *v == 0 {
			*v = usual
		}
	}
	defaults(&c.Workers, 8)
	defaults(&c.MaxAttempts, 10)
	if c.Lease == 0 {
		c.Lease = 30 * time.Second
	}
	if c.Poll == 0 {
		c.Poll = 15 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if c.Workers < 1 || c.Workers > 256 || c.Lease < 3*time.Second || c.Lease > 10*time.Minute || c.Lease%time.Second != 0 || c.Poll <= 0 || c.MaxPerMinute < 0 {
		return errors.New("rotation: a setting is out of bounds")
	}
	return nil
}

const (
	// enqueueBatch is how many jobs one statement makes.
	enqueueBatch = 500
	// ahead is how many jobs are claimed for each worker: the next one is there when one is done.
	ahead = 2
	// leaseMargin is what a lease is taken to be shorter here than in the database.
	leaseMargin = time.Second
	// elsewhere is how long work is left alone that may run and isn't to be had: others are at it, or as many have begun as may.
	elsewhere = 200 * time.Millisecond
	// breath is the least pause between two looks for work, so that what can't be helped isn't asked for all the time.
	breath = 20 * time.Millisecond
)

// Rotator finds and does the work of rotation.
type Rotator struct {
	vault   *vault.Rotations
	targets Targets
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{} // something may be to be done
	queue   chan *task
	// When jobs were last made, or the search began, and when they may be made again because there are too few. Of the search alone.
	enqueued, enqueueNext time.Time

	mu      sync.Mutex
	tasks   map[uuid.UUID]*task // claimed and not over
	started bool
	stopped bool
	cancel  context.CancelFunc // the search for work
	abort   context.CancelFunc // work under way
	loops   sync.WaitGroup
	workers sync.WaitGroup
}

// task is a job that this process has claimed.
type task struct {
	job    vault.Job
	ctx    context.Context //nolint:containedctx // the lease's: it ends with the claim
	cancel context.CancelCauseFunc
	lapse  *time.Timer
}

var errLapsed = errors.New("the lease may have lapsed")

// New makes a Rotator. Start it after the vault, and stop it before.
func New(v *vault.Rotations, targets Targets, cfg Config) (*Rotator, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r := &Rotator{
		vault: v, targets: targets, cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1), queue: make(chan *task, ahead*cfg.Workers),
		tasks: map[uuid.UUID]*task{},
	}
	r.metrics = newMetrics(cfg.Metrics)
	return r, nil
}

// Start begins to look for work. It waits for none of it. Starting twice is the same as once; a stopped Rotator stays stopped.
func (r *Rotator) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return errors.New("rotation: it was stopped")
	}
	if r.started {
		return nil
	}
	r.started = true
	base := context.WithoutCancel(ctx)
	search, cancel := context.WithCancel(base)
	work, abort := context.WithCancel(base)
	r.cancel, r.abort = cancel, abort
	for _, loop := range []func(context.Context){func(ctx context.Context) { r.search(ctx, work) }, r.listen} {
		r.loops.Add(1)
		go func() {
			defer r.loops.Done()
			loop(search)
		}()
	}
	r.loops.Add(1)
	go func() {
		defer r.loops.Done()
		r.renewals(work)
	}()
	r.loops.Add(1)
	go func() {
		defer r.loops.Done()
		r.probes(search)
	}()
	for range r.cfg.Workers {
		r.workers.Add(1)
		go func() {
			defer r.workers.Done()
			for t := range r.queue {
				r.do(t)
			}
		}()
	}
	return nil
}

// Stop claims nothing more, gives back what wasn't begun, and waits for what was until ctx ends; then that is cut off, and another rotator
// goes on with it when its lease has lapsed. Stopping twice, or unstarted, does nothing.
func (r *Rotator) Stop(ctx context.Context) error {
	r.mu.Lock()
	if r.stopped || !r.started {
		r.stopped = true
		r.mu.Unlock()
		return nil
	}
	r.stopped = true
	r.mu.Unlock()
	r.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.workers.Wait()
		r.abort()
		r.loops.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		r.abort()
		<-done
		return fmt.Errorf("rotation: what was under way is left to others: %w", context.Cause(ctx))
	}
}

// Wake has the next look for work begin now.
func (r *Rotator) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// search makes and claims jobs until ctx ends. Work goes on under another context.
func (r *Rotator) search(ctx, work context.Context) {
	defer r.retreat(work)
	r.enqueued = r.cfg.Clock() // what waits already comes first
	trouble := 0
	for {
		pause, err := r.turn(ctx, work)
		if err != nil && ctx.Err() == nil {
			trouble++
			pause = backoff(trouble, time.Second, r.cfg.Poll)
			r.log.Warn("rotator: looking for work failed", "error", err, "again_in", pause.String())
		} else {
			trouble = 0
		}
		timer := time.NewTimer(max(pause, breath))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// turn looks for work once and tells how long there is none. Jobs are made when there are too few to claim, and once in a while in any
// case: to make them, all that is due is gone through, also what has its job already, and that may be very much. Meanwhile what falls due
// would have a job to wait behind anyway, unless that is one that failed and is tried again.
func (r *Rotator) turn(ctx, work context.Context) (time.Duration, error) {
	for made := false; ; {
		room := ahead*r.cfg.Workers - r.underWay()
		if room < r.cfg.Workers {
			return r.cfg.Poll, nil // whoever is done wakes us
		}
		n, err := r.claim(ctx, work, room)
		switch {
		case errors.Is(err, vault.ErrPaused):
			return r.cfg.Poll, nil // whoever ends that wakes us
		case err != nil:
			return 0, err
		}
		now := r.cfg.Clock()
		if n == room && now.Sub(r.enqueued) < r.cfg.Poll {
			continue
		}
		if n < room && made {
			break
		}
		if wait := r.enqueueNext.Sub(now); n < room && wait > 0 {
			return wait, nil
		}
		made = true
		if err := r.enqueue(ctx); err != nil {
			return 0, err
		}
	}
	if r.enqueueNext.Equal(r.enqueued) {
		return elsewhere, nil // others have what was made, and there is more
	}
	next, err := r.vault.Next(ctx, r.cfg.Poll)
	if next == 0 {
		next = elsewhere
	}
	return next, err
}

// enqueue makes jobs, and sees to it that no more than a tenth of the time is spent on that: when the jobs that wait are many and may not
// begin, each look for more is long and finds little.
func (r *Rotator) enqueue(ctx context.Context) error {
	r.enqueued = r.cfg.Clock()
	made, err := r.vault.Enqueue(ctx, enqueueBatch)
	r.enqueueNext = r.enqueued
	if made < enqueueBatch {
		ended := r.cfg.Clock()
		r.enqueueNext = ended.Add(min(9*ended.Sub(r.enqueued), r.cfg.Poll))
	}
	return err
}

func (r *Rotator) underWay() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tasks)
}

// claim takes jobs and hands them to the workers.
func (r *Rotator) claim(ctx, work context.Context, room int) (int, error) {
	asked := r.cfg.Clock()
	jobs, err := r.vault.Claim(ctx, vault.ClaimRequest{Limit: room, Lease: r.cfg.Lease, MaxPerMinute: r.cfg.MaxPerMinute})
	if err != nil {
		return 0, err
	}
	left := r.left(asked)
	r.mu.Lock()
	tasks := make([]*task, len(jobs))
	for i := range jobs {
		t := &task{job: jobs[i]}
		t.ctx, t.cancel = context.WithCancelCause(work)
		t.lapse = time.AfterFunc(left, func() { t.cancel(errLapsed) })
		tasks[i], r.tasks[t.job.ID] = t, t
	}
	r.mu.Unlock()
	for _, t := range tasks {
		r.queue <- t // there is room for all that may be claimed
	}
	return len(jobs), nil
}

// left is what remains of a lease that was asked for then.
func (r *Rotator) left(asked time.Time) time.Duration {
	return max(0, r.cfg.Lease-leaseMargin-r.cfg.Clock().Sub(asked))
}

// renewals prolongs leases until ctx ends.
func (r *Rotator) renewals(ctx context.Context) {
	every := time.NewTicker(r.cfg.Lease / 3)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			r.renew(ctx)
		}
	}
}

func (r *Rotator) renew(ctx context.Context) {
	r.mu.Lock()
	jobs := make([]vault.Job, 0, len(r.tasks))
	for _, t := range r.tasks {
		jobs = append(jobs, t.job)
	}
	r.mu.Unlock()
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Lease/3)
	defer cancel()
	asked := r.cfg.Clock()
	held, err := r.vault.Renew(ctx, jobs, r.cfg.Lease)
	if err != nil {
		r.log.Warn("rotator: leases could not be renewed", "jobs", len(jobs), "error", err)
		return
	}
	left := r.left(asked)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range jobs {
		t := r.tasks[jobs[i].ID]
		switch {
		case t == nil || t.job.Claim != jobs[i].Claim:
		case held[jobs[i].ID]:
			t.lapse.Reset(left)
		default:
			t.cancel(vault.ErrClaimLost)
		}
	}
}

// retreat closes the queue and gives back what nobody has begun.
func (r *Rotator) retreat(ctx context.Context) {
	var unbegun []vault.Job
	for {
		select {
		case t := <-r.queue:
			unbegun = append(unbegun, t.job)
			r.over(t)
			continue
		default:
		}
		break
	}
	close(r.queue)
	if len(unbegun) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := r.vault.GiveBack(ctx, unbegun); err != nil {
		r.log.Warn("rotator: jobs that were claimed and not begun wait for their leases to lapse", "jobs", len(unbegun), "error", err)
	}
}

// over forgets a task.
func (r *Rotator) over(t *task) {
	t.lapse.Stop()
	t.cancel(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tasks[t.job.ID] == t {
		delete(r.tasks, t.job.ID)
	}
	if len(r.tasks) <= r.cfg.Workers {
		r.Wake()
	}
}

// listen wakes the search when the database says that there are jobs. What it misses, polling finds.
func (r *Rotator) listen(ctx context.Context) {
	for trouble := 0; ctx.Err() == nil; trouble++ {
		if err := r.vault.Listen(ctx, r.Wake); err != nil && ctx.Err() == nil {
			r.log.Debug("rotator: it isn't told of new jobs and polls for them", "error", err)
		}
		pause(ctx, backoff(trouble+1, time.Second, r.cfg.Poll))
	}
}

// backoff gives a pause of full jitter: anything from 0 to twice as much after each attempt, at most most.
func backoff(attempt int, least, most time.Duration) time.Duration {
	limit := most
	if shift := attempt - 1; shift < 30 && least<<shift < most {
		limit = least << shift
	}
	return rand.N(limit) + time.Millisecond //nolint:gosec // jitter, not a secret
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
