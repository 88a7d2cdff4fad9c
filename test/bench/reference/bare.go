package reference

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
)

// The statement with which the vault's changes append to the audit, with the arguments of one record.
const appendSQL = `
WITH head AS (
    UPDATE vault.audit_streams
    SET head_seq = $2 + cardinality($7::timestamptz[]), head_mac = $4, head_at = $5
    WHERE stream_id = $1 AND head_seq = $2 AND head_mac = $3 AND state = 'open'
    RETURNING stream_id
), added AS (
    INSERT INTO vault.audit_log (stream_id, seq, at, actor, client_ip, action, secret_name, version, outcome, request_id,
                                 trace_id, detail, mac, key_id)
    SELECT head.stream_id, $2 + r.n, r.at, r.actor, r.client_ip, r.action, r.secret_name, r.version, r.outcome,
           r.request_id, r.trace_id, r.detail, r.mac, $6
    FROM head, (SELECT generate_series(1, cardinality($7::timestamptz[])) AS n, unnest($7::timestamptz[]) AS at,
                       unnest($8::text[]) AS actor, unnest($9::inet[]) AS client_ip, unnest($10::text[]) AS action,
                       unnest($11::text[]) AS secret_name, unnest($12::bigint[]) AS version, unnest($13::text[]) AS outcome,
                       unnest($14::text[]) AS request_id, unnest($15::text[]) AS trace_id, unnest($16::bytea[]) AS detail,
                       unnest($17::bytea[]) AS mac) AS r
    RETURNING 1
)
SELECT (SELECT count(*) FROM added), clock_timestamp(), (SELECT epoch FROM vault.authz_state)`

// bare makes changes by the vault's statements and nothing else: nothing is sealed, chained or authorized.
type bare struct {
	pool   *pgxpool.Pool
	lanes  chan *lane // a change holds one from before its transaction until after
	sealed sealed     // stored in place of every value
}

// lane is a stream.
type lane struct {
	id, key [16]byte // a uuid.UUID would be written as text first
	seq     int64
	mac     []byte
}

func serveBare(ctx context.Context, router *gin.Engine, pool *pgxpool.Pool, lanes int) error {
	b := &bare{pool: pool, lanes: make(chan *lane, lanes)}
	var err error
	if b.sealed, err = someSealed(ctx, pool); err != nil {
		return err
	}
	for i := range lanes {
		l, err := openLane(ctx, pool, i+1)
		if err != nil {
			return err
		}
		b.lanes <- l
	}
	router.POST("/v1/secrets", b.create)
	router.PUT("/v1/secrets/*name", b.update)
	return nil
}

// someSealed reads a version that is stored in place of every other one.
func someSealed(ctx context.Context, pool *pgxpool.Pool) (s sealed, err error) {
	err = pool.QueryRow(ctx, "SELECT kms_key_id, wrapped_dek, nonce, ciphertext FROM vault.secret_versions LIMIT 1").
		Scan(&s.kmsKeyID, &s.wrappedDEK, &s.nonce, &s.ciphertext)
	return s, err
}

// openLane reads where stream i has come to.
func openLane(ctx context.Context, pool *pgxpool.Pool, i int) (*lane, error) {
	l := &lane{id: laneID(i), key: laneID(0)}
	err := pool.QueryRow(ctx, "SELECT head_seq, head_mac FROM vault.audit_streams WHERE stream_id = $1", l.id).Scan(&l.seq, &l.mac)
	return l, err
}

type body struct {
	Name, Kind, Value string
}

func (b *bare) create(g *gin.Context) {
	var given body
	if err := json.NewDecoder(g.Request.Body).Decode(&given); err != nil {
		fail(g, err)
		return
	}
	row := sealedRow{Kind: given.Kind, Format: "opaque", Version: 1}
	err := b.change(g, given.Name, "create", 1, func(ctx context.Context, q *db.Queries) error {
		row.CreatedAt = time.Now()
		return q.InsertSecret(ctx, db.InsertSecretParams{
			ID: uuid.New(), Name: given.Name, Kind: given.Kind, Format: row.Format, CreatedAt: row.CreatedAt, VersionsDigest: someMAC(),
			Mac: someMAC(), KeyID: &keyID, VersionUid: uuid.New(), VersionMac: someMAC(), KmsKeyID: b.sealed.kmsKeyID,
			WrappedDek: b.sealed.wrappedDEK, Nonce: b.sealed.nonce, Ciphertext: b.sealed.ciphertext,
		})
	})
	if err != nil {
		fail(g, err)
		return
	}
	answer(g, http.StatusCreated, appendSecret(make([]byte, 0, 512), &row, given.Name, []byte(given.Value)))
}

func (b *bare) update(g *gin.Context) {
	name := secretName(g)
	var given body
	if err := json.NewDecoder(g.Request.Body).Decode(&given); err != nil {
		fail(g, err)
		return
	}
	row := sealedRow{Kind: "manual", Format: "opaque"}
	err := b.change(g, name, "update", 0, func(ctx context.Context, q *db.Queries) error {
		locked, err := q.LockSecret(ctx, name)
		if err != nil {
			return err
		}
		was := locked.VaultSecret
		versions, err := q.Versions(ctx, was.ID)
		if err != nil || len(versions) == 0 {
			return fmt.Errorf("%d versions: %w", len(versions), err)
		}
		old := versions[len(versions)-1]
		moved, err := q.SupersedeVersion(ctx, db.SupersedeVersionParams{
			SecretID: was.ID, Version: old.Version, VersionUid: old.VersionUid, ExpiresAt: &locked.ReadAt, Mac: someMAC(), KeyID: &keyID,
		})
		if err != nil || moved != 1 {
			return fmt.Errorf("%d versions were superseded: %w", moved, err)
		}
		err = q.InsertVersion(ctx, db.InsertVersionParams{
			SecretID: was.ID, Version: old.Version + 1, VersionUid: uuid.New(), State: string(secret.Current), KmsKeyID: b.sealed.kmsKeyID,
			WrappedDek: b.sealed.wrappedDEK, Nonce: b.sealed.nonce, Ciphertext: b.sealed.ciphertext, CreatedAt: locked.ReadAt, Mac: someMAC(), KeyID: &keyID,
		})
		if err != nil {
			return err
		}
		moved, err = q.UpdateSecret(ctx, db.UpdateSecretParams{
			ID: was.ID, CurrentVersion: old.Version + 1, UpdatedAt: locked.ReadAt, Revision: was.Revision + 1, BaseRevision: was.Revision,
			VersionsDigest: someMAC(), Mac: someMAC(), KeyID: &keyID,
		})
		if err != nil || moved != 1 {
			return fmt.Errorf("%d secrets were changed: %w", moved, err)
		}
		row.Version, row.CreatedAt = old.Version+1, was.CreatedAt
		return nil
	})
	if err != nil {
		fail(g, err)
		return
	}
	answer(g, http.StatusOK, appendSecret(make([]byte, 0, 512), &row, name, standIn))
}

// keyID stands for that of a row key.
var keyID = laneID(0)

// change runs statements and the append of their record in one transaction. After an error its lane is not used again.
func (b *bare) change(g *gin.Context, name, action string, version int64, statements func(context.Context, *db.Queries) error) error {
	ctx := g.Request.Context()
	l := <-b.lanes
	tx, err := b.pool.Begin(ctx)
	if err != nil {
		return err
	}
	mac := make([]byte, 32)
	_, _ = rand.Read(mac)
	err = statements(ctx, db.New(tx))
	if err == nil {
		err = l.append(ctx, tx, accessBy(g, name, &sealedRow{Version: version}), action, mac)
	}
	if err != nil {
		_ = tx.Rollback(ctx)
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	l.seq, l.mac = l.seq+1, mac
	b.lanes <- l
	return nil
}

func (l *lane) append(ctx context.Context, tx pgx.Tx, a *access, action string, mac []byte) error {
	now := time.Now()
	var (
		added, epoch int64
		at           time.Time
	)
	err := tx.QueryRow(ctx, appendSQL, l.id, l.seq, l.mac, mac, now, l.key, one(now), one(a.actor), one(a.clientIP), one(action),
		one(a.name), one(a.version), one(a.outcome), one(a.requestID), one[*string](nil), one([]byte(`{"disclosed":true}`)), one(mac)).
		Scan(&added, &at, &epoch)
	if err == nil && added != 1 {
		err = fmt.Errorf("%d records were added in place of one: the stream's head is elsewhere", added)
	}
	return err
}

// one is a column of one record. FlatArray spares pgx reflection.
func one[T any](v T) pgtype.FlatArray[T] { return pgtype.FlatArray[T]{v} }
