package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Listen calls wake once it listens on a channel, and whenever somebody notifies it, until ctx ends, which is no error, or the connection
// does. It has a connection of its own. What was notified while nobody listened is lost: it only spares waiting.
func (d *DB) Listen(ctx context.Context, channel string, wake func()) error {
	c, err := d.dedicate(ctx)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if _, err := c.conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	wake()
	for {
		if _, err := c.conn.WaitForNotification(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listening: %w", err)
		}
		wake()
	}
}
