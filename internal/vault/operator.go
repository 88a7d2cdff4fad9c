package vault

import (
	"context"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// maxEventsSpan bounds how far apart Since and Until may be.
const maxEventsSpan = 31 * 24 * time.Hour

// Events gives recent audit records, newest first.
func (v *Vault) Events(ctx context.Context, c Caller, r EventsRequest) ([]Event, error) {
	limit, err := pageLimit(r.Limit)
	if err != nil {
		return nil, err
	}
	op := operation{action: ActionAuditRead, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, a *attempt) ([]Event, error) {
		server, err := v.db.ReplicationState(ctx)
		if err != nil {
			return nil, err
		}
		until, since := r.Until, r.Since
		if until.IsZero() {
			until = server.ReadAt.Add(time.Minute)
		}
		if since.IsZero() {
			since = until.Add(-24 * time.Hour)
		}
		if !since.Before(until) || until.Sub(since) > maxEventsSpan {
			return nil, fault.New(fault.Invalid, "since must be before until, and at most 31 days")
		}
		rows, err := v.db.RecentRecords(ctx, db.RecentRecordsParams{Since: since, Until: until, MaxRows: int32(limit)}) //nolint:gosec // at most 1000
		if err != nil {
			return nil, err
		}
		events := make([]Event, len(rows))
		for i, row := range rows {
			events[i] = event(row)
		}
		a.note("items", len(events))
		return events, nil
	})
}

func event(row db.RecentRecordsRow) Event {
	e := Event{
		StreamID: row.StreamID, Seq: row.Seq, At: row.At, Actor: row.Actor, Action: row.Action, Outcome: row.Outcome,
		RequestID: row.RequestID, Detail: string(row.Detail), ClientIP: row.ClientIP,
	}
	if row.SecretName != nil {
		e.SecretName = *row.SecretName
	}
	if row.Version != nil {
		e.Version = *row.Version
	}
	if row.TraceID != nil {
		e.TraceID = *row.TraceID
	}
	return e
}

// Status tells an operator how this process is.
func (v *Vault) Status(ctx context.Context, c Caller) (*Status, error) {
	op := operation{action: ActionStatus, rule: needsAdmin}
	return pass(ctx, v, c, op, func(ctx context.Context, _ *attempt) (*Status, error) {
		totals, err := v.db.SecretTotals(ctx)
		if err != nil {
			return nil, err
		}
		server, err := v.db.ReplicationState(ctx)
		if err != nil {
			return nil, err
		}
		rewrap, err := rewrapStatus(ctx, v.db)
		if err != nil {
			return nil, err
		}
		schema, err := postgres.LatestSchema()
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "")
		}
		rotation, err := v.rotationStatus(ctx)
		if err != nil {
			return nil, err
		}
		_, inUse, limit := v.db.PoolStats()
		trail := v.trail.Stats()
		return &Status{
			VaultID: v.vaultID, ReadAuth: string(v.cfg.ReadAuth), SchemaVersion: schema,
			Secrets: totals.Secrets, Versions: totals.Versions, Overdue: totals.Overdue, Rotation: *rotation,
			Database: DatabaseStatus{
				ServerVersion: server.ServerVersion, Synchronous: server.Synchronous,
				ConnectionsInUse: int(inUse), ConnectionsMax: int(limit),
			},
			Audit: AuditStatus{
				Ready: trail.Ready, Queued: trail.Queued, StreamsOpen: trail.StreamsOpen, StreamsInDoubt: trail.StreamsInDoubt,
				DenialsCounted: trail.DenialsCounted, PartitionsAhead: v.partitionsAhead(),
			},
			KMS: v.kmsStatus(), Rewrap: rewrap,
		}, nil
	})
}

func (v *Vault) kmsStatus() KMSStatus {
	s := v.keeper.Status()
	return KMSStatus{
		Mode: s.Mode, KeyID: v.keeper.KeyID(), State: s.State, Since: s.Since, LastError: s.LastError, LastErrorAt: s.LastErrorAt, Breaker: s.Breaker,
	}
}
