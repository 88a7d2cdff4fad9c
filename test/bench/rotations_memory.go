package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/test/bench/procs"
)

// queueSample is a rotator's memory after some rotations, and how much was waiting for it then.
type queueSample struct {
	Rotations int64   `json:"rotations"`
	Queued    int64   `json:"jobs_queued"`
	Resident  float64 `json:"resident_mib"`
	Peak      float64 `json:"peak_mib"`
}

// queueMemory queues jobs for all secrets, b.jobs at least, has a new rotator work off as many, and looks at its memory in ten steps.
func (b *bench) queueMemory(ctx context.Context, d *rotated) (err error) {
	if b.jobs > d.data.due {
		if err := b.fillDue(ctx, d.data, b.jobs); err != nil {
			return err
		}
	}
	conn, err := pgx.Connect(ctx, b.superuser(d.database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := db.New(conn).EnqueueDue(ctx, int32(d.data.due)); err != nil {
		return fmt.Errorf("making jobs: %w", err)
	}
	p, err := d.start(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(stopPatience)) }()
	rotated, queued, err := jobsOf(ctx, conn)
	if err != nil {
		return err
	}
	first := rotated
	const steps = 10
	for i := range int64(steps) {
		until := first + (i+1)*int64(d.data.due)/steps
		for rotated < until {
			if err := wait(ctx, 200*time.Millisecond, []*procs.Process{p}); err != nil {
				return err
			}
			if rotated, queued, err = jobsOf(ctx, conn); err != nil {
				return err
			}
		}
		resident, peak, err := procs.Memory(p.PID())
		if err != nil {
			b.say("memory can't be read here: %v", err)
			return nil
		}
		const mib = 1 << 20
		s := queueSample{Rotations: rotated - first, Queued: queued, Resident: float64(resident) / mib, Peak: float64(peak) / mib}
		b.results.Queue = append(b.results.Queue, s)
		b.say("%d rotations, %d jobs queued: %.1f MiB resident, %.1f MiB at most", s.Rotations, s.Queued, s.Resident, s.Peak)
	}
	return nil
}

// jobsOf counts the jobs that are over and those that are not.
func jobsOf(ctx context.Context, conn *pgx.Conn) (over, queued int64, err error) {
	err = conn.QueryRow(ctx, "SELECT count(*) FILTER (WHERE completed_at IS NOT NULL), count(*) FILTER (WHERE completed_at IS NULL) FROM vault.rotation_jobs").
		Scan(&over, &queued)
	if err != nil {
		err = fmt.Errorf("counting jobs: %w", err)
	}
	return over, queued, err
}
