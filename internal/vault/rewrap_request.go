package vault

import (
	"context"
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// RewrapStatus tells how wrapping data keys again stands, as rotators wrote it down. Nothing rests on it.
type RewrapStatus struct {
	State  string // "never", "running", "done" or "failed"
	Worker string // whose look it is or was; empty if there was none
	// RequestedAt is when an operator last asked for a look, and AgainBefore since when what was wrapped before is to be wrapped again. Nil: never.
	RequestedAt, AgainBefore *time.Time
	StartedAt, FinishedAt    *time.Time
	// Found versions were to be wrapped again: while a look is running at least about so many. Done were, Failed could not be; Remaining are to be.
	Found, Done, Failed, Remaining int64
	// LastError is what ended the last look; empty if it came to its end. Note is why rotations of a master key's material aren't noticed.
	LastError, Note string
}

// rewrapStatus reads it; nil where somebody removed the row.
func rewrapStatus(ctx context.Context, q *postgres.DB) (*RewrapStatus, error) {
	row, err := q.RewrapState(ctx)
	if postgres.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nothing is known
	}
	if err != nil {
		return nil, err
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return &RewrapStatus{
		State: row.State, Worker: text(row.Worker), RequestedAt: row.RequestedAt, AgainBefore: row.AgainBefore,
		StartedAt: row.StartedAt, FinishedAt: row.FinishedAt, Found: row.Found, Done: row.Done, Failed: row.Failed,
		Remaining: max(0, row.Found-row.Done), LastError: text(row.Error), Note: text(row.Note),
	}, nil
}

// RequestRewrap asks rotators to look through all versions soon, for an offline command, and gives how that stands. With all they wrap every one
// again, whichever key it is under. It is audited.
func RequestRewrap(ctx context.Context, database *postgres.DB, keeper Keeper, all bool) (*RewrapStatus, error) {
	w, err := openKeys(ctx, database, keeper)
	if err != nil {
		return nil, err
	}
	defer w.keys.Close()
	err = database.InTx(ctx, func(tx *postgres.Tx) error {
		n, err := tx.RequestRewrap(ctx, all)
		if err == nil && n != 1 {
			err = fault.Wrap(fault.Internal, errors.New("vault.rewrap_state has no row, or several: it has one, which the migrations made"), "")
		}
		if err != nil {
			return err
		}
		record := offlineRecord("rewrap", ActionRewrapRequest, string(encoded(map[string]any{"all": all})))
		return audit.AppendOffline(ctx, tx, w.keys, w.vaultID, "rewrap", nil, record)
	})
	if err != nil {
		return nil, postgres.Fault(err)
	}
	return rewrapStatus(ctx, database)
}
