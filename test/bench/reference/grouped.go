package reference

import (
	"context"
	"net/netip"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const auditGroupSQL = `
INSERT INTO reference.access_d (actor, client_ip, action, secret_name, version, outcome, request_id)
SELECT * FROM unnest($1::text[], $2::inet[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])`

// serveGrouped looks up and opens as c does, and commits the records of all requests that wait with one INSERT.
func serveGrouped(ctx context.Context, router *gin.Engine, r *reader, url string) error {
	conn, err := dedicated(ctx, url)
	if err != nil {
		return err
	}
	records := newCombiner[*access]()
	w := &groupWriter{conn: conn}
	go func() { // it lives as long as the process does
		records.run(ctx, w.write, nil)
		_ = conn.Close(context.WithoutCancel(ctx))
	}()
	router.GET("/v1/secrets/*name", func(g *gin.Context) {
		r.read(g, func(_ context.Context, a *access) error { return records.submit(a) })
	})
	return nil
}

// groupWriter is the one writer of the audit. Its columns are used again by every round; FlatArray spares pgx reflection.
type groupWriter struct {
	conn      *pgx.Conn
	actor     []string
	clientIP  pgtype.FlatArray[netip.Addr]
	action    []string
	name      []string
	version   []int64
	outcome   []string
	requestID []string
}

func (w *groupWriter) write(ctx context.Context, round []*ticket[*access]) error {
	w.actor, w.clientIP, w.action, w.name = w.actor[:0], w.clientIP[:0], w.action[:0], w.name[:0]
	w.version, w.outcome, w.requestID = w.version[:0], w.outcome[:0], w.requestID[:0]
	for _, t := range round {
		a := t.item
		w.actor, w.clientIP, w.action, w.name = append(w.actor, a.actor), append(w.clientIP, a.clientIP), append(w.action, a.action), append(w.name, a.name)
		w.version, w.outcome, w.requestID = append(w.version, a.version), append(w.outcome, a.outcome), append(w.requestID, a.requestID)
	}
	_, err := w.conn.Exec(ctx, auditGroupSQL, w.actor, w.clientIP, w.action, w.name, w.version, w.outcome, w.requestID)
	return err
}
