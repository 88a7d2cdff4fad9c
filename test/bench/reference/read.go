package reference

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgxpool"
)

// reader serves reads.
type reader struct {
	pool *pgxpool.Pool
	open opener
}

// standIn is the value in the answers of a server that opens nothing.
var standIn = []byte("(sealed)")

func (r *reader) selectOnly(g *gin.Context) {
	name := secretName(g)
	row, err := r.find(g.Request.Context(), name)
	if err != nil {
		fail(g, err)
		return
	}
	answer(g, http.StatusOK, appendSecret(make([]byte, 0, 512), row, name, standIn))
}

func (r *reader) openOnly(g *gin.Context) {
	r.read(g, func(context.Context, *access) error { return nil })
}

const auditEachSQL = `
INSERT INTO reference.access_e (actor, client_ip, action, secret_name, version, outcome, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)`

func (r *reader) auditEach(g *gin.Context) {
	r.read(g, func(ctx context.Context, a *access) error {
		_, err := r.pool.Exec(ctx, auditEachSQL, a.actor, a.clientIP, a.action, a.name, a.version, a.outcome, a.requestID)
		return err
	})
}

// read answers with an opened secret once its access is recorded.
func (r *reader) read(g *gin.Context, record func(context.Context, *access) error) {
	name := secretName(g)
	ctx := g.Request.Context()
	row, err := r.find(ctx, name)
	if err != nil {
		fail(g, err)
		return
	}
	value, err := r.open.value(name, row)
	if err != nil {
		fail(g, err)
		return
	}
	if err := record(ctx, accessBy(g, name, row)); err != nil {
		fail(g, err)
		return
	}
	answer(g, http.StatusOK, appendSecret(make([]byte, 0, 512), row, name, value))
}

// access is what an audit says of one read.
type access struct {
	actor     string
	clientIP  netip.Addr
	action    string
	name      string
	version   int64
	outcome   string
	requestID string
}

var (
	requestPrefix = rand.Text()[:16]
	requestCount  atomic.Uint64
)

func accessBy(g *gin.Context, name string, row *sealedRow) *access {
	peer, _ := netip.ParseAddrPort(g.Request.RemoteAddr)
	return &access{
		actor: "address:" + peer.Addr().String(), clientIP: peer.Addr(), action: "read", name: name, version: row.Version,
		outcome: "ok", requestID: requestPrefix + strconv.FormatUint(1e9+requestCount.Add(1), 10),
	}
}
