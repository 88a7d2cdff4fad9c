package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/test/bench/dataset"
	"github.com/sealkeep/sealkeep/test/bench/load"
)

// The workloads of a run with -scale, and the vaults that they are measured on.
const (
	workHot  = "hot"  // the same few secrets, read one after the other
	workWide = "wide" // many secrets, in an order that looks random: mostly ones that the vault doesn't hold in memory

	smallVault = "small" // holds the few alone
	largeVault = "large" // holds them among very many others
)

// bulkVersions is how many versions each secret of the scale run has.
const bulkVersions = 3

// scaleFacts are what a run with -scale found besides rates.
type scaleFacts struct {
	Secrets    int64 `json:"secrets"`
	Versions   int64 `json:"versions"`
	Wide       int   `json:"read_at_random"`
	TableScans int64 `json:"table_scans"` // of the secrets' tables in the large vault while it was measured
	Lookups    int64 `json:"index_scans"` // of the same
}

// scale measures two vaults that differ in nothing but how much they hold.
func (b *bench) scale(ctx context.Context) (err error) {
	program, err := b.vaultProgram(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stopTargets()) }()
	var all []*vaultData
	for _, name := range []string{smallVault, largeVault} {
		v, err := newVaultData(ctx, b.machine, "vault_"+name, program, b.options)
		if err != nil {
			return err
		}
		all = append(all, v)
		if err := b.startScaled(ctx, v, name); err != nil {
			return err
		}
	}
	large := all[1]
	if err := b.fillBulk(ctx, large); err != nil {
		return err
	}
	facts := &scaleFacts{Wide: b.sealed}
	b.results.Scale = facts
	err = b.query(ctx, large.database, "SELECT (SELECT count(*) FROM vault.secrets), (SELECT count(*) FROM vault.secret_versions)",
		&facts.Secrets, &facts.Versions)
	if err != nil {
		return err
	}
	scans, lookups, err := b.scans(ctx, large)
	if err != nil {
		return err
	}
	for round := range b.rounds {
		if err := b.scaleRound(ctx, round); err != nil {
			return err
		}
	}
	facts.TableScans, facts.Lookups, err = b.scans(ctx, large)
	if err != nil {
		return err
	}
	facts.TableScans, facts.Lookups = facts.TableScans-scans, facts.Lookups-lookups
	return errors.Join(all[0].verify(ctx), large.verify(ctx))
}

// startScaled starts a vault and makes what both hold: a few secrets of three versions.
func (b *bench) startScaled(ctx context.Context, v *vaultData, name string) error {
	p, err := v.start(ctx, v.database)
	if err != nil {
		return err
	}
	t := p.target(name)
	b.targets = append(b.targets, t)
	if err := b.fill(ctx, p, dataset.Hot); err != nil {
		return err
	}
	// Once to other values and once back.
	n := uint64(b.secrets)
	for _, first := range []uint64{n, 0} {
		t.next[workUpdate] = first
		if _, err := b.loadOnce(ctx, t, workUpdate, dataset.Update(dataset.Hot, b.secrets), load.Spec{Connections: 16, Requests: n}); err != nil {
			return err
		}
	}
	if name == largeVault {
		b.say("making %d secrets in %s", b.sealed, dataset.Wide)
		return b.fillFolder(ctx, p, dataset.Wide, b.sealed)
	}
	return nil
}

// fillBulk puts secrets around those that are read. They are of the right sizes and open for nobody.
func (b *bench) fillBulk(ctx context.Context, v *vaultData) error {
	b.say("making %d more secrets of %d versions", b.bulk, bulkVersions)
	conn, err := pgx.Connect(ctx, b.superuser(v.database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var keyID string
	var wrapped, ciphertext int
	err = conn.QueryRow(ctx, "SELECT kms_key_id, octet_length(wrapped_dek), octet_length(ciphertext) FROM vault.secret_versions LIMIT 1").
		Scan(&keyID, &wrapped, &ciphertext)
	if err != nil {
		return err
	}
	const nonce = 24
	began := time.Now()
	for _, step := range []struct {
		sql  string
		args []any
	}{
		// The constraint that would be checked row by row holds by construction.
		{"SET session_replication_role = replica", nil},
		{
			`INSERT INTO vault.secrets (id, name, kind, format, current_version, versions_digest, mac, key_id)
		  SELECT gen_random_uuid(), 'bulk/' || lpad(i::text, 7, '0'), 'manual', 'opaque', $2, sha256(int4send(i)), sha256(int4send(-i)), gen_random_uuid()
		  FROM generate_series(1, $1) AS i`,
			[]any{b.bulk, bulkVersions},
		},
		{fmt.Sprintf(`
		  INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext, expires_at, mac, key_id)
		  SELECT s.id, n, gen_random_uuid(), CASE n WHEN $2 THEN 'current' ELSE 'superseded' END, $1, %s, %s, %s,
		         CASE WHEN n < $2 THEN now() + interval '30 days' END, sha256(uuid_send(s.id) || int4send(n)), s.key_id
		  FROM vault.secrets AS s, generate_series(1, $2) AS n WHERE starts_with(s.name, 'bulk/')`,
			noise("w", wrapped), noise("n", nonce), noise("c", ciphertext)), []any{keyID, bulkVersions}},
		{"VACUUM (ANALYZE) vault.secrets, vault.secret_versions", nil},
		{"CHECKPOINT", nil},
	} {
		if _, err := conn.Exec(ctx, step.sql, step.args...); err != nil {
			return fmt.Errorf("filling the large vault: %w", err)
		}
	}
	b.say("made in %s", time.Since(began).Round(time.Second))
	return nil
}

// noise is an expression for n bytes that don't compress, different for each row.
func noise(seed string, n int) string {
	var parts []string
	for i := range (n + 31) / 32 {
		parts = append(parts, fmt.Sprintf("sha256(convert_to(s.id::text || n || '%s%d', 'UTF8'))", seed, i))
	}
	return fmt.Sprintf("substr(%s, 1, %d)", strings.Join(parts, " || "), n)
}

// scaleRound measures each vault and workload once.
func (b *bench) scaleRound(ctx context.Context, round int) error {
	small, large := b.targets[0], b.targets[1]
	for _, connections := range b.connections {
		turns := []struct {
			t    *target
			name string
			w    dataset.Workload
		}{
			{small, workHot, dataset.Read(dataset.Hot, b.secrets)},
			{large, workHot, dataset.Read(dataset.Hot, b.secrets)},
			{large, workWide, dataset.ReadScattered(dataset.Wide, b.sealed)},
		}
		if round%2 == 1 { // neither is always the first
			turns[0], turns[1] = turns[1], turns[0]
		}
		for _, turn := range turns {
			shape := load.Spec{Connections: connections, Warmup: b.warmup, Duration: b.time}
			if err := b.record(ctx, round, turn.t, turn.name, turn.w, shape); err != nil {
				return err
			}
		}
	}
	return nil
}

// scans counts what PostgreSQL did to the secrets' tables so far. Sessions report it after they have been idle for a while.
func (b *bench) scans(ctx context.Context, v *vaultData) (scans, lookups int64, err error) {
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(2 * time.Second):
	}
	err = b.query(ctx, v.database, `SELECT sum(seq_scan)::bigint, sum(idx_scan)::bigint FROM pg_stat_user_tables
		WHERE schemaname = 'vault' AND relname IN ('secrets', 'secret_versions')`, &scans, &lookups)
	return scans, lookups, err
}
