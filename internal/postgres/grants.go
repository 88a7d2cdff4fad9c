package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// GrantRow is a row of one of the tables that hold grants: of authz_state, roles, role_permissions or admin_tokens.
type GrantRow struct {
	Kind        string // "state", "role", "permission" or "token"
	ID          uuid.UUID
	RoleID      *uuid.UUID // of a token
	Name        string     // of a permission, the action
	Text        string     // a role's description, a permission's path
	Flag        bool       // a role's is_admin, the state's initialised
	Epoch       int64      // of the state
	Fingerprint []byte     // of a token
	CreatedAt   time.Time  // of a role or token; of the state, the time of the transaction
	ExpiresAt   *time.Time
	RevokedAt   *time.Time
	MAC         []byte
	KeyID       *uuid.UUID
	Tuples      string // of the state: see GrantsMark
}

// GrantsMark tells whether any of the grants' rows was written to: it names them and the transactions that wrote them.
type GrantsMark struct {
	Epoch  int64
	Tuples string
}

const (
	// A sum needs no order, and so no sort, however many rows there are. Nothing rests on it but when the rows are read again.
	grantTuplesSQL = `(
    SELECT concat(count(*), ':', sum(hashtextextended(tuple, 0)))
    FROM (SELECT concat('s', xmin) FROM ONLY vault.authz_state
          UNION ALL SELECT concat('r', id, xmin) FROM ONLY vault.roles
          UNION ALL SELECT concat('p', role_id, action, path, xmin) FROM ONLY vault.role_permissions
          UNION ALL SELECT concat('t', id, xmin) FROM ONLY vault.admin_tokens) AS tuples (tuple))`

	grantsMarkSQL = `SELECT epoch, ` + grantTuplesSQL + ` FROM ONLY vault.authz_state`

	// One statement sees one snapshot. It isn't generated because the generator knows neither system columns nor what may be
	// NULL in a union. An infinite time, which nothing of ours writes and the driver can't read, comes as one that no mac matches.
	grantsSQL = `
SELECT 'state', vault_id, NULL::uuid, '', '', initialised, epoch, NULL::bytea, now(), NULL::timestamptz, NULL::timestamptz, mac, key_id,
       ` + grantTuplesSQL + `
FROM ONLY vault.authz_state
UNION ALL
SELECT 'role', id, NULL, name, description, is_admin, 0, NULL, CASE WHEN isfinite(created_at) THEN created_at ELSE 'epoch' END,
       NULL, NULL, mac, key_id, ''
FROM ONLY vault.roles
UNION ALL
SELECT 'permission', role_id, NULL, action, path, false, 0, NULL, now(), NULL, NULL, mac, key_id, ''
FROM ONLY vault.role_permissions
UNION ALL
SELECT 'token', id, role_id, name, '', false, 0, token_sha256, CASE WHEN isfinite(created_at) THEN created_at ELSE 'epoch' END,
       CASE WHEN expires_at IS NULL OR isfinite(expires_at) THEN expires_at ELSE 'epoch' END,
       CASE WHEN revoked_at IS NULL OR isfinite(revoked_at) THEN revoked_at ELSE 'epoch' END, mac, key_id, ''
FROM ONLY vault.admin_tokens`
)

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Grants reads all rows that hold grants, at one instant.
func (d *DB) Grants(ctx context.Context) ([]GrantRow, error) { return readGrants(ctx, d.pool) }

// Grants reads all rows that hold grants, as this transaction sees them.
func (t *Tx) Grants(ctx context.Context) ([]GrantRow, error) { return readGrants(ctx, t.tx) }

func readGrants(ctx context.Context, q querier) ([]GrantRow, error) {
	rows, err := q.Query(ctx, grantsSQL)
	if err == nil {
		var all []GrantRow
		if all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[GrantRow]); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("reading the grants: %w", err)
}

// GrantsMark tells what Grants would be read from; pgx.ErrNoRows says that the state's row is gone.
func (d *DB) GrantsMark(ctx context.Context) (GrantsMark, error) {
	var m GrantsMark
	if err := d.pool.QueryRow(ctx, grantsMarkSQL).Scan(&m.Epoch, &m.Tuples); err != nil {
		return m, fmt.Errorf("reading what marks the grants: %w", err)
	}
	return m, nil
}
