package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/bench/dataset"
	"github.com/sealkeep/sealkeep/test/bench/load"
	"github.com/sealkeep/sealkeep/test/bench/procs"
	"github.com/sealkeep/sealkeep/test/bench/reference"
)

// rotatorWorkers is how many rotations each rotator makes at once. It is the vault's default, said here so that the reference is told the
// same.
const rotatorWorkers = 8

// rotatorCounts are how many rotators are measured together.
var rotatorCounts = []int{1, 3}

// rotationCell is one measurement of rotations.
type rotationCell struct {
	Server   string  `json:"server"`
	Rotators int     `json:"rotators"`
	Round    int     `json:"round"`
	Rate     float64 `json:"rotations_per_second"`
	// RanOut: at its end nothing was due, or not everything that was could be rotated, as a secret had all versions that it may have.
	RanOut bool `json:"ran_out_of_work,omitempty"`

	// As those of a cell, for each rotation.
	RotatorCPU  *float64 `json:"rotator_us,omitempty"`
	DatabaseCPU *float64 `json:"database_us,omitempty"`
	Others      *float64 `json:"others_share,omitempty"`
}

// rotated is a database in which secrets fall due, and what starts a rotator on it.
type rotated struct {
	server   string
	database string
	start    func(ctx context.Context, i int) (*procs.Process, error)
	data     *vaultData // nil for the reference
}

// rotations measures what rotators do: their rate, in turns with the reference, and their memory.
func (b *bench) rotations(ctx context.Context) error {
	var all []*rotated
	for _, server := range b.servers {
		if server != reference.Bare && server != vaultServer && server != otherServer {
			continue
		}
		d, err := b.rotatedBy(ctx, server)
		if err != nil {
			return err
		}
		if d != nil {
			all = append(all, d)
		}
	}
	if b.has(b.parts, partRates) {
		for round := range b.rounds {
			for _, n := range rotatorCounts {
				for i := range all {
					if err := b.recordRotations(ctx, round, all[(i+round)%len(all)], n); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, d := range all {
		if d.server == vaultServer && b.has(b.parts, partMemory) {
			if err := b.queueMemory(ctx, d); err != nil {
				return err
			}
		}
		if err := b.verifyRotations(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// rotatedBy makes the database of a server.
func (b *bench) rotatedBy(ctx context.Context, server string) (*rotated, error) {
	if server == reference.Bare {
		return b.rotatedBare(ctx)
	}
	program, data, err := b.rotatedData(ctx, server)
	if err != nil || data == nil {
		return nil, err
	}
	d := &rotated{server: server, database: data.database, data: data}
	d.start = func(ctx context.Context, i int) (*procs.Process, error) { return data.startRotator(ctx, program, i) }
	return d, b.fillDue(ctx, data, b.due)
}

func (b *bench) rotatedData(ctx context.Context, server string) (rotator string, data *vaultData, err error) {
	if server == otherServer {
		if rotator, err = filepath.Abs(filepath.Join(b.against, "rotator")); err != nil {
			return "", nil, err
		}
		if _, err := os.Stat(rotator); err != nil {
			b.say("the other build has no rotator: %v", err)
			return "", nil, nil
		}
		data, err = newOtherData(ctx, b.machine, otherServer+"_rotations", b.options)
		return rotator, data, err
	}
	program, err := b.vaultProgram(ctx)
	if err != nil {
		return "", nil, err
	}
	b.say("building cmd/rotator")
	if rotator, err = b.build(ctx, "rotator"); err != nil {
		return "", nil, err
	}
	data, err = newVaultData(ctx, b.machine, vaultServer+"_rotations", program, b.options)
	return rotator, data, err
}

func (b *bench) rotatedBare(ctx context.Context) (*rotated, error) {
	b.say("filling the tables of the reference's rotations")
	lanes := rotatorWorkers * rotatorCounts[len(rotatorCounts)-1]
	config, err := reference.PrepareRotations(ctx, b.superuser, b.due, lanes, rotationSizes)
	if err != nil {
		return nil, err
	}
	start := func(ctx context.Context, i int) (*procs.Process, error) {
		input, err := json.Marshal(reference.RotatorConfig{URL: config.URL, Workers: rotatorWorkers, FirstLane: 1 + i*rotatorWorkers})
		if err != nil {
			return nil, err
		}
		var ready struct{}
		return procs.Serve(ctx, procs.Config{
			Name: fmt.Sprintf("reference rotator %d", i+1), Path: b.self, Args: []string{roleRotate}, Env: environment(),
			Log: b.file(fmt.Sprintf("reference-rotator-%d.log", i+1)), Input: input,
		}, &ready)
	}
	return &rotated{server: reference.Bare, database: "reference_rotations", start: start}, nil
}

// What the vault stores for a value that it generates, in bytes.
var rotationSizes = reference.Sizes{WrappedDEK: 73, Ciphertext: 54, KMSKeyID: 22}

// fillDue makes secrets that fall due, up to n of them.
func (b *bench) fillDue(ctx context.Context, v *vaultData, n int) (err error) {
	have := v.due
	b.say("making %d automatic secrets in %s", n-have, v.database)
	p, err := v.start(ctx, v.database+"-fill")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.process.Stop(stopPatience)) }()
	t := p.target(vaultServer)
	t.next[workCreate] = uint64(have)
	shape := load.Spec{Connections: 16, Requests: uint64(n - have)}
	if _, err := b.loadOnce(ctx, t, workCreate, dataset.Automatic(dataset.Rotated), shape); err != nil {
		return err
	}
	v.due = n
	return b.execute(ctx, v.database, "VACUUM (ANALYZE)")
}

// startRotator starts a rotator with default settings and returns when it is ready.
func (v *vaultData) startRotator(ctx context.Context, program string, i int) (*procs.Process, error) {
	telemetry, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s-rotator-%d", v.database, i+1)
	p, err := procs.Start(procs.Config{
		Name: "a rotator (" + name + ")", Path: program, Log: v.m.file(name + ".log"),
		Env: environment(append([]string{
			"VAULT_TELEMETRY_LISTEN=" + telemetry,
			"VAULT_DATABASE_URL=" + v.m.server.URL("sealkeep_rotator", v.database),
			"VAULT_KMS_MODE=local",
			"VAULT_LOCAL_MASTER_KEY_FILE=" + v.keyFile,
			fmt.Sprintf("VAULT_ROTATION_WORKERS=%d", rotatorWorkers),
		}, v.options.vaultEnv...)...),
	})
	if err != nil {
		return nil, err
	}
	if _, err := awaitReady(ctx, p, telemetry); err != nil {
		return nil, errors.Join(err, p.Stop(stopPatience))
	}
	return p, nil
}

// recordRotations measures n rotators once and keeps what came of it, on the terms of record.
func (b *bench) recordRotations(ctx context.Context, round int, d *rotated, n int) error {
	for try := 1; ; try++ {
		if err := b.awaitQuiet(ctx); err != nil {
			return err
		}
		c, err := b.rotateOnce(ctx, d, n)
		if err != nil {
			return err
		}
		c.Round = round + 1
		remark := ""
		if c.Others != nil {
			remark = fmt.Sprintf("  (others %.0f%%)", 100**c.Others)
		}
		if c.RanOut {
			remark += "  (there was too little to rotate: take a greater -due)"
		}
		b.say("round %d  %-6s  %3d rotators     %-5s  %9.0f/s%s", c.Round, workRotate, n, d.server, c.Rate, remark)
		if c.Others == nil || *c.Others*100 <= float64(b.quiet) || try == mostTries {
			b.results.Rotations = append(b.results.Rotations, c)
			return nil
		}
	}
}

// rotateOnce starts n rotators, counts what they complete for a while once all are at work, and stops them.
func (b *bench) rotateOnce(ctx context.Context, d *rotated, n int) (c rotationCell, err error) {
	conn, err := pgx.Connect(ctx, b.superuser(d.database))
	if err != nil {
		return c, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var rotators []*procs.Process
	defer func() {
		for _, p := range rotators {
			err = errors.Join(err, p.Stop(stopPatience))
		}
	}()
	for i := range n {
		p, err := d.start(ctx, i)
		if err != nil {
			return c, err
		}
		rotators = append(rotators, p)
	}
	if err := wait(ctx, rampUp, rotators); err != nil {
		return c, err
	}
	// The server would do so by itself within a minute. Until then it plans for tables without jobs.
	if _, err := conn.Exec(ctx, "ANALYZE vault.rotation_jobs, vault.secret_versions"); err != nil {
		return c, err
	}
	if err := wait(ctx, b.warmup, rotators); err != nil {
		return c, err
	}
	before, began, err := b.rotationMeters(ctx, conn, rotators)
	if err != nil {
		return c, err
	}
	if err := wait(ctx, b.time, rotators); err != nil {
		return c, err
	}
	after, ended, err := b.rotationMeters(ctx, conn, rotators)
	if err != nil {
		return c, err
	}
	var count uint64
	err = conn.QueryRow(ctx, `SELECT count(*),
		NOT EXISTS (SELECT FROM vault.secrets WHERE next_rotation_at <= $2) OR EXISTS (SELECT FROM vault.secrets WHERE current_version >= $3)
		FROM vault.rotation_jobs WHERE completed_at >= $1 AND completed_at < $2 AND outcome = 'rotated'`, began, ended, secret.MaxValidVersions).Scan(&count, &c.RanOut)
	if err != nil {
		return c, err
	}
	usage := before.cell(after, procs.Usage{}, count)
	c.Server, c.Rotators, c.RotatorCPU, c.DatabaseCPU, c.Others = d.server, n, usage.ServerCPU, usage.DatabaseCPU, usage.Others
	c.Rate = float64(count) / ended.Sub(began).Seconds()
	return c, nil
}

// rampUp is what a rotator takes at least to come to work at its rate: it opens connections and streams, and makes the first jobs.
const rampUp = time.Second

// rotationMeters are processor times, and the database's clock.
func (b *bench) rotationMeters(ctx context.Context, conn *pgx.Conn, rotators []*procs.Process) (m meters, at time.Time, err error) {
	m = b.metersOf(rotators...)
	return m, at, conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&at)
}

// wait waits for d, or the end of a process, which is an error.
func wait(ctx context.Context, d time.Duration, processes []*procs.Process) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
	}
	for _, p := range processes {
		if err := p.Err(); err != nil {
			return err
		}
	}
	return nil
}

// verifyRotations holds jobs, secrets and records against each other: each job that rotated has made one version of its secret, and has
// one record.
func (b *bench) verifyRotations(ctx context.Context, d *rotated) error {
	var jobs, versions, records uint64
	err := b.query(ctx, d.database, `SELECT (SELECT count(*) FROM vault.rotation_jobs WHERE outcome = 'rotated'),
		(SELECT sum(current_version - 1)::bigint FROM vault.secrets WHERE kind = 'automatic'),
		(SELECT count(*) FROM vault.audit_log WHERE action = '`+vault.ActionRotate+`' AND outcome = 'ok')`, &jobs, &versions, &records)
	if err == nil && (jobs != versions || jobs != records) {
		err = fmt.Errorf("in %s %d jobs rotated, secrets have %d new versions, and the audit has %d records", d.database, jobs, versions, records)
	}
	return err
}
