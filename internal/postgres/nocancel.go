package postgres

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var errNoCancel = errors.New("sessions of the vault send no cancel requests")

// withoutCancelRequests keeps the driver from sending a cancel request when it gives a session up. A cancel request would cut a
// commit's wait for its synchronous standby, and PostgreSQL then commits locally all the same (SyncRepWaitForLSN): a deadline
// of ours must not do that. The driver dials anew for a cancel request, so a session that has connected may not dial again.
// c must belong to one session alone.
func withoutCancelRequests(c *pgx.ConnConfig) {
	var connected atomic.Bool
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	c.AfterConnect = func(context.Context, *pgconn.PgConn) error {
		connected.Store(true)
		return nil
	}
}
