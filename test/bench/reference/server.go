// Package reference holds the servers that the vault is measured against: gin and pgx, and of what the vault does for a
// request only as much as each of them is there to show.
//
// Invariants:
//   - Each is as fast as gin and pgx make it without effort: binary protocol, prepared statements, answers written without
//     reflection, no timeouts, no logs, no metrics.
//   - Those that keep an audit answer only after the record's commit. Nothing of them is relaxed: the server's fsync and the
//     sessions' synchronous_commit are on.
//   - None checks who asks or what they may do, unwraps a key, or waits for one.
package reference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The servers.
const (
	Constant  = "a" // constant JSON
	Select    = "b" // one prepared SELECT, pool of 8
	Open      = "c" // and one XChaCha20-Poly1305 open
	Grouped   = "d" // c, and an audit by group commit
	Single    = "e" // c, and an audit INSERT for each request
	Validated = "v" // sealed rows in memory, validated in the round trip that commits their records
	Bare      = "t" // the statements of the vault's create and update in a transaction of their own
)

// Config says which server to run.
type Config struct {
	Kind  string
	URL   string // of the database that Prepare prepared
	Key   []byte // that Prepare sealed under
	Lanes int    // for Bare: how many streams there are
}

// Report is what a server writes to its standard output, as one line of JSON, when it serves.
type Report struct{ Address string }

// Main runs the server that the standard input says, until that ends.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var c Config
	decoder := json.NewDecoder(in)
	if err := decoder.Decode(&c); err != nil {
		return fmt.Errorf("reading which server to run: %w", err)
	}
	go func() { // it lives as long as the process does
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.RedirectTrailingSlash = false
	release, err := route(ctx, router, c)
	if err != nil {
		return err
	}
	defer release()
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: router}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if err := json.NewEncoder(out).Encode(Report{Address: listener.Addr().String()}); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	_ = server.Close()
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// route gives the router the handlers of a server, and tells how to release what they use.
func route(ctx context.Context, router *gin.Engine, c Config) (release func(), err error) {
	if c.Kind == Constant {
		body := appendSecret(nil, &sealedRow{Kind: "manual", Format: "opaque", Version: 1}, "a/constant", []byte("constant"))
		router.GET("/v1/secrets/*name", func(g *gin.Context) { answer(g, http.StatusOK, body) })
		return func() {}, nil
	}
	open, err := newOpener(c.Key)
	if err != nil {
		return nil, err
	}
	size := int32(8)
	if c.Kind == Bare {
		size = 16
	}
	pool, err := connect(ctx, c.URL, size)
	if err != nil {
		return nil, err
	}
	r := &reader{pool: pool, open: open}
	release = pool.Close
	switch c.Kind {
	case Select:
		router.GET("/v1/secrets/*name", r.selectOnly)
	case Open:
		router.GET("/v1/secrets/*name", r.openOnly)
	case Grouped:
		err = serveGrouped(ctx, router, r, c.URL)
	case Single:
		router.GET("/v1/secrets/*name", r.auditEach)
	case Validated:
		err = serveValidated(ctx, router, r, c.URL)
	case Bare:
		err = serveBare(ctx, router, pool, c.Lanes)
	default:
		err = fmt.Errorf("there is no reference server %q", c.Kind)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// session is what every connection is made with.
func session(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	return config, nil
}

// connect opens all connections of a pool, so that none is opened while it is measured.
func connect(ctx context.Context, url string, size int32) (*pgxpool.Pool, error) {
	config, err := session(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = size, size
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// dedicated opens a connection of its own.
func dedicated(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := session(url)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config.ConnConfig)
}

// secretName is the name that a request asks for.
func secretName(g *gin.Context) string { return g.Param("name")[1:] }

func answer(g *gin.Context, status int, body []byte) {
	h := g.Writer.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	g.Writer.WriteHeader(status)
	_, _ = g.Writer.Write(body) // an error means that the client is gone
}

var contentType = []string{"application/json"}

func fail(g *gin.Context, err error) {
	answer(g, http.StatusInternalServerError, strconv.AppendQuote(nil, err.Error()))
}

// appendSecret writes a secret in the shape of the vault's answers. What it quotes is plain ASCII.
func appendSecret(b []byte, row *sealedRow, name string, value []byte) []byte {
	b = append(b, `{"name":"`...)
	b = append(b, name...)
	b = append(b, `","kind":"`...)
	b = append(b, row.Kind...)
	b = append(b, `","format":"`...)
	b = append(b, row.Format...)
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, row.Version, 10)
	b = append(b, `,"value":"`...)
	b = append(b, value...)
	b = append(b, `","created_at":"`...)
	b = row.CreatedAt.AppendFormat(b, time.RFC3339Nano)
	return append(b, `"}`...)
}
