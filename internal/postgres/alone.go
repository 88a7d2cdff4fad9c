package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// Alone is work that one process at a time does on a database, for as long as its connection lives: PostgreSQL lets go of it when the
// process dies or is cut off. It spares repeated work and guards nothing, for who lost the connection doesn't know it yet.
type Alone struct{ session *dedicated }

// ErrTaken says that another process has the work.
var ErrTaken = errors.New("another process does it")

// Alone takes the work of that name, on a connection of its own, or fails with ErrTaken.
func (d *DB) Alone(ctx context.Context, work string) (*Alone, error) {
	session, err := d.dedicate(ctx)
	if err != nil {
		return nil, err
	}
	taken, err := db.New(session.conn).TakeWork(ctx, work)
	if err == nil && !taken {
		err = ErrTaken
	}
	if err != nil {
		session.Close(ctx)
		return nil, fmt.Errorf("asking to %s: %w", work, err)
	}
	return &Alone{session: session}, nil
}

// Held asks whether it is still this process's.
func (a *Alone) Held(ctx context.Context) bool { return a.session.Alive(ctx) }

// Release gives it to whoever asks next.
func (a *Alone) Release(ctx context.Context) { a.session.Close(ctx) }
