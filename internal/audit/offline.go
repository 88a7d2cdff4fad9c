package audit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/randomness"
)

// ByOffline is the actor of what an offline command does without anybody's token.
func ByOffline(command string) string { return "offline:" + command }

// AppendOffline writes records on a stream of their own, opened and closed within the caller's transaction. It serves
// commands that work on the database directly, once, with no Trail running. After an error the transaction must be rolled
// back. random gives the id of the stream; nil means randomness.Reader.
func AppendOffline(ctx context.Context, tx *postgres.Tx, keys *integrity.Keyring, vaultID uuid.UUID, command string, random io.Reader, records ...Record) error {
	if len(records) == 0 {
		return errors.New("audit: an append takes at least one record")
	}
	server, err := tx.ServerIdentity(ctx)
	if err != nil {
		return fmt.Errorf("asking the server for its identity: %w", err)
	}
	l, row, err := newLane(keys, vaultID, command, kindOffline, server, nil, randomness.New(random))
	if err != nil {
		return err
	}
	defer l.release()
	if err := tx.OpenStream(ctx, row); err != nil {
		return fmt.Errorf("opening an audit stream: %w", err)
	}
	request, next := l.appendAt(server.ReadAt, records)
	if _, err := tx.Append(ctx, request); err != nil {
		return err
	}
	return closeIn(ctx, tx, l.key, db.LockStreamRow{StreamID: l.id, KeyID: l.keyID, ReadAt: server.ReadAt}, next, Record{
		Actor: ByOffline(command), Action: ActionStreamClosed, Outcome: "closed", RequestID: "-",
	})
}
