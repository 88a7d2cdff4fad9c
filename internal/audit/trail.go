// Package audit keeps the audit trail: it chains records, commits them before anything they speak of may leave the process,
// and verifies what is there.
//
// A stream is one chain: records numbered from 1 without a gap, each with a MAC over itself and its predecessor's. A lane is
// a stream that this process writes. Reads share rounds on one lane (group commit); every mutation has a lane to itself from
// before its append until its transaction's outcome is known; denials have their own, so that they never delay a read.
//
// Invariants:
//   - I2: Append and Disclose return nil only after the server's ReadyForQuery said that the records are committed; Disclose
//     only if the same round found that what the answer rests on, rows and grants, is as it was read.
//   - I3: Change appends inside the mutation's own transaction.
//   - I10: every append compares the stream's head; a lane whose last outcome is unknown is never written again, but closed
//     by a resolver that first waits out whatever still holds it.
//   - I4: while rounds can't run, Append refuses at once; before Start and after Stop everything is refused.
package audit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/randomness"
)

// Config tunes a Trail.
type Config struct {
	// Process names this process in its streams and heartbeats, 1 to 200 bytes; it should be unique among processes.
	Process string
	// Timeout is how long a request waits for its evidence before it is refused; 0 means 2 s.
	Timeout time.Duration
	// ChangeLanes bounds how many mutations may be committing at once; 0 means 16.
	ChangeLanes int
	Log         *slog.Logger
	Metrics     prometheus.Registerer // nil: metrics are kept but not registered
	// Clock gives local time with a monotonic reading; nil means time.Now.
	Clock func() time.Time
	// Random gives the ids of streams; nil means randomness.Reader.
	Random io.Reader
}

// Trail writes the audit trail of one process.
type Trail struct {
	db      *postgres.DB
	keys    *integrity.Keyring
	vaultID uuid.UUID
	cfg     Config
	log     *slog.Logger
	clock   *databaseClock
	metrics *metrics

	reads    *appender
	denials  *appender
	limit    *denialLimit
	changes  *changeLanes
	resolver *resolver
	activity atomic.Int64 // requests recorded so far; heartbeats follow it
	epoch    atomic.Int64 // of the grants, as the last round told it; 0 before the first

	mu      sync.Mutex
	started bool
	stopped bool
	cancel  context.CancelFunc
	loops   sync.WaitGroup
}

// Open makes a Trail. It connects when started. The keyring must hold the audit purpose and outlive the Trail.
func Open(database *postgres.DB, keys *integrity.Keyring, vaultID uuid.UUID, cfg Config) (*Trail, error) {
	if len(cfg.Process) == 0 || len(cfg.Process) > 200 {
		return nil, errors.New("audit: the process's name is 1 to 200 bytes")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.ChangeLanes == 0 {
		cfg.ChangeLanes = 16
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	cfg.Random = randomness.New(cfg.Random)
	t := &Trail{
		db: database, keys: keys, vaultID: vaultID, cfg: cfg, log: cfg.Log,
		clock: &databaseClock{now: cfg.Clock}, metrics: newMetrics(cfg.Metrics),
	}
	t.resolver = newResolver(t)
	t.reads = newAppender(t, kindRead)
	t.denials = newAppender(t, kindDenial)
	t.limit = newDenialLimit()
	t.changes = newChangeLanes(t, cfg.ChangeLanes)
	return t, nil
}

// Start begins to run rounds. It doesn't wait for the database: until the first round could run, Append refuses. Starting
// twice is the same as once; a stopped Trail stays stopped.
func (t *Trail) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return errors.New("audit: the trail was stopped")
	}
	if t.started {
		return nil
	}
	t.started = true
	ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	t.changes.start()
	for _, loop := range []func(context.Context){t.reads.run, t.denials.run, t.heartbeats, t.countDenials, t.tidy} {
		t.loops.Add(1)
		go func() {
			defer t.loops.Done()
			loop(ctx)
		}()
	}
	return nil
}

// Stop ends the rounds, waits for commits in flight until ctx ends, and closes this process's streams. Requests must have
// been drained before: what comes after is refused. An error means that ctx ended first: what is in flight then ends by
// itself, at the latest when its connection has been silent for too long, and its streams stay open for other processes to
// close. Stopping twice, or unstarted, does nothing.
func (t *Trail) Stop(ctx context.Context) error {
	t.mu.Lock()
	if t.stopped || !t.started {
		t.stopped = true
		t.mu.Unlock()
		return nil
	}
	t.stopped = true
	t.mu.Unlock()

	t.flushDenials(ctx)
	t.cancel()
	// In this order: rounds and changes that end hand their lanes to the resolver.
	err := errors.Join(t.endLoops(ctx), t.changes.drain(ctx), t.resolver.finish(ctx))
	for _, c := range t.limit.takeCounts() {
		t.log.Warn("counted denials were not recorded", "client_ip", c.address, "count", c.n)
	}
	return err
}

// endLoops waits for each loop to end its round in flight.
func (t *Trail) endLoops(ctx context.Context) error {
	if !waitFor(ctx, &t.loops) {
		return errors.New("audit: a round is still in flight")
	}
	return nil
}

// waitFor waits for group; false means that ctx ended first.
func waitFor(ctx context.Context, group *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Append commits records in the next shared round and returns once that is certain. On any error nothing may be disclosed:
// the records may or may not have been committed. Errors are of kind Unavailable, or Internal when the database refused
// just these records. The records belong to the Trail from the call on: their round may come after the call has returned.
func (t *Trail) Append(ctx context.Context, records ...Record) error {
	t.activity.Add(1)
	return t.reads.append(ctx, t.cfg.Timeout, records)
}

// Disclose is Append for records of an answer that rests on something which may have changed since it was read. The round
// that commits the records validates basis: ErrStale, and postgres.ErrGrantsMoved where the grants changed, mean that the
// records are committed and the answer must not leave. An answer is to leave within Config.Timeout of the call; what took
// longer comes back as an error, of the kinds that Append has. basis and records belong to the Trail from the call on.
func (t *Trail) Disclose(ctx context.Context, basis Basis, records []Record) error {
	t.activity.Add(1)
	return t.reads.appendOn(ctx, t.cfg.Timeout, basis, records)
}

// Connection counts the connections that rounds have run on: it changes whenever one was lost, and what was kept from
// before is then to be dropped.
func (t *Trail) Connection() int64 { return t.reads.connection.Load() }

// Actor names this process in the records of what it does without being asked.
func (t *Trail) Actor() string { return "process:" + t.cfg.Process }

// Epoch is that of the grants as the last round told it; 0 before the first. Another process may have raised it since.
func (t *Trail) Epoch() int64 { return t.epoch.Load() }

// DatabaseTime is the primary's time as the last round trip told it, plus what has passed here since. What must hold when an
// answer leaves is judged by it after Append.
func (t *Trail) DatabaseTime() time.Time { return t.clock.read() }

// Ready tells whether rounds can run now.
func (t *Trail) Ready() bool { return t.reads.ready.Load() }

// Stats tells an operator how the trail is.
type Stats struct {
	Ready          bool
	Queued         int
	StreamsOpen    int
	StreamsInDoubt int
	DenialsCounted int64
}

// Stats gives a snapshot.
func (t *Trail) Stats() Stats {
	open := t.changes.count()
	for _, a := range []*appender{t.reads, t.denials} {
		if a.ready.Load() {
			open++
		}
	}
	return Stats{
		Ready: t.Ready(), Queued: t.reads.queued(), StreamsOpen: open,
		StreamsInDoubt: t.resolver.pending(), DenialsCounted: t.limit.total(),
	}
}

// unavailable is what a request gets when its evidence could not be committed.
func unavailable(cause error) error { return fault.Wrap(fault.Unavailable, cause, "") }
