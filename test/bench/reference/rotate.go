package reference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/bench/dataset"
)

// RotatorConfig says how to rotate what PrepareRotations made.
type RotatorConfig struct {
	URL       string
	Workers   int // each has a stream to itself
	FirstLane int // the number of the first one's
}

// What a rotator of the vault does, too.
const (
	enqueueBatch = 500
	leaseSecs    = 30
	workAhead    = 2 // jobs claimed for each worker
)

// Rotate rotates what is due by the vault's statements and nothing else, as the standard input says, until that ends: no value is
// generated or sealed, no row is verified, no record is chained. Its statements, their order and their transactions are those of a rotator.
func Rotate(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var c RotatorConfig
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("reading what to rotate: %w", err)
	}
	go func() { // it lives as long as the process does
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	work := context.WithoutCancel(ctx) // what was begun is finished
	pool, err := connect(work, c.URL, int32(c.Workers+1))
	if err != nil {
		return err
	}
	defer pool.Close()
	r := &rotator{pool: pool, queries: db.New(pool), queue: make(chan *db.ClaimJobsRow, workAhead*c.Workers), claim: uuid.New()}
	if r.sealed, err = someSealed(work, pool); err != nil {
		return err
	}
	lanes := make([]*lane, c.Workers)
	for i := range lanes {
		if lanes[i], err = openLane(work, pool, c.FirstLane+i); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(out).Encode(struct{}{}); err != nil {
		return err
	}
	return r.run(ctx, work, lanes)
}

type rotator struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	sealed  sealed
	claim   uuid.UUID
	queue   chan *db.ClaimJobsRow
}

// run rotates until ctx ends, and gives back what it has claimed and not begun.
func (r *rotator) run(ctx, work context.Context, lanes []*lane) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(lanes))
	var workers sync.WaitGroup
	for i, l := range lanes {
		workers.Go(func() {
			for j := range r.queue {
				if err := r.rotate(work, l, j); err != nil {
					failures[i] = fmt.Errorf("rotating %s: %w", j.Name, err)
					cancel()
					return
				}
			}
		})
	}
	err := r.search(ctx, work)
	close(r.queue)
	var claims, unbegun []uuid.UUID
	for j := range r.queue {
		claims, unbegun = append(claims, r.claim), append(unbegun, j.ID)
	}
	workers.Wait()
	return errors.Join(err, errors.Join(failures...), r.queries.ReleaseClaims(work, db.ReleaseClaimsParams{ClaimIds: claims, Ids: unbegun}))
}

// search claims jobs whenever half of the queue is free, and makes more when there are too few.
func (r *rotator) search(ctx, work context.Context) error {
	const by = "reference"
	for ctx.Err() == nil {
		room := cap(r.queue) - len(r.queue)
		if room < cap(r.queue)/2 {
			sleep(ctx, time.Millisecond)
			continue
		}
		me := by
		jobs, err := r.queries.ClaimJobs(work, db.ClaimJobsParams{
			MayStart: int64(room), MaxRows: int32(room), ClaimID: &r.claim, ClaimedBy: &me, LeaseSecs: leaseSecs,
		})
		if err != nil {
			return err
		}
		for i := range jobs {
			r.queue <- &jobs[i]
		}
		if len(jobs) == room {
			continue
		}
		if made, err := r.queries.EnqueueDue(work, enqueueBatch); err != nil {
			return err
		} else if made == 0 {
			sleep(ctx, 10*time.Millisecond)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// rotate is one rotation.
func (r *rotator) rotate(ctx context.Context, l *lane, j *db.ClaimJobsRow) error {
	tx, err := r.pool.Begin(ctx)
	if err != nil {
		return err
	}
	mac := someMAC()
	version, err := r.statements(ctx, db.New(tx), j)
	if err == nil {
		err = l.append(ctx, tx, &access{
			actor: "rotator:reference", clientIP: netip.IPv4Unspecified(), name: j.Name, version: version, outcome: "ok", requestID: "job:" + j.ID.String(),
		}, vault.ActionRotate, mac)
	}
	if err != nil {
		_ = tx.Rollback(ctx)
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	l.seq, l.mac = l.seq+1, mac
	return nil
}

func (r *rotator) statements(ctx context.Context, q *db.Queries, j *db.ClaimJobsRow) (version int64, err error) {
	locked, err := q.LockSecret(ctx, j.Name)
	if err != nil {
		return 0, err
	}
	was := locked.VaultSecret
	versions, err := q.Versions(ctx, was.ID)
	if err != nil || len(versions) == 0 {
		return 0, fmt.Errorf("%d versions: %w", len(versions), err)
	}
	old, expires := versions[len(versions)-1], locked.ReadAt.Add(dataset.GraceSecs*time.Second)
	if err := justOne(q.SupersedeVersion(ctx, db.SupersedeVersionParams{
		SecretID: was.ID, Version: old.Version, VersionUid: old.VersionUid, ExpiresAt: &expires, Mac: someMAC(), KeyID: &keyID,
	})); err != nil {
		return 0, err
	}
	version = old.Version + 1
	err = q.InsertVersion(ctx, db.InsertVersionParams{
		SecretID: was.ID, Version: version, VersionUid: uuid.New(), State: string(secret.Current), KmsKeyID: r.sealed.kmsKeyID,
		WrappedDek: r.sealed.wrappedDEK, Nonce: r.sealed.nonce, Ciphertext: r.sealed.ciphertext, CreatedAt: locked.ReadAt, Mac: someMAC(), KeyID: &keyID,
	})
	if err != nil {
		return 0, err
	}
	next := locked.ReadAt.Add(dataset.IntervalSecs * time.Second)
	if err := justOne(q.AdvanceSecret(ctx, db.AdvanceSecretParams{
		ID: was.ID, CurrentVersion: version, NextRotationAt: &next, UpdatedAt: locked.ReadAt, Revision: was.Revision + 1, BaseRevision: was.Revision,
		VersionsDigest: someMAC(), Mac: someMAC(), KeyID: &keyID,
	})); err != nil {
		return 0, err
	}
	outcome := "rotated"
	return version, justOne(q.CompleteJob(ctx, db.CompleteJobParams{ID: j.ID, ClaimID: &r.claim, Outcome: &outcome}))
}

// justOne tells whether a statement changed the one row that it is for.
func justOne(rows int64, err error) error {
	if err == nil && rows != 1 {
		err = fmt.Errorf("%d rows were changed in place of one", rows)
	}
	return err
}
