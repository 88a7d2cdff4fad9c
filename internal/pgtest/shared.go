package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/pgserver"
)

// shared is the cluster of this process, made at its first use.
var shared struct {
	sync.Mutex
	cluster *cluster
	err     error // of the first attempt, which is not repeated
}

func sharedCluster(t testing.TB) *cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		if address := os.Getenv(URLVariable); address != "" {
			shared.cluster, shared.err = externalCluster(address)
		} else {
			shared.cluster, _, shared.err = ownCluster(nil)
		}
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// Main runs the tests of a package, stops the server if one was started, and then fails if a goroutine is left. It
// does not return.
func Main(m *testing.M, options ...goleak.Option) {
	goleak.VerifyTestMain(stopping{m}, options...)
}

type stopping struct{ m *testing.M }

func (s stopping) Run() int {
	code := s.m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster != nil {
		if err := shared.cluster.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		shared.cluster = nil
	}
	return code
}

// testSettings make a server that is thrown away fast and predictable: nothing happens in it by itself.
var testSettings = map[string]string{
	"autovacuum":                      "off",
	"checkpoint_timeout":              "1h",
	"max_connections":                 "200",
	"max_parallel_workers_per_gather": "0",
	"max_wal_size":                    "512MB",
	"shared_buffers":                  "64MB",
}

// ownCluster starts a server, also on TCP.
func ownCluster(settings map[string]string) (*cluster, *pgserver.Server, error) {
	binaries, err := pgserver.Find(os.Getenv, "")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), prepareLimit)
	defer cancel()
	config := pgserver.Config{Settings: map[string]string{}}
	for _, each := range []map[string]string{testSettings, settings} {
		for name, value := range each {
			config.Settings[name] = value
		}
	}
	server, err := startOnFreePort(ctx, binaries, config)
	if err != nil {
		return nil, nil, err
	}
	c := &cluster{
		url: server.URL, tcpURL: server.TCPURL, admin: "postgres", prefix: "test_", stop: server.Discard,
	}
	if err := c.prepare(ctx, ""); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("preparing the test server: %w", err), server.Discard())
	}
	return c, server, nil
}

// startOnFreePort takes ports below those that systems give to clients, so that the port is still free when a test
// restarts its server; another server may take it between our look and the start.
func startOnFreePort(ctx context.Context, b pgserver.Binaries, config pgserver.Config) (*pgserver.Server, error) {
	for attempt := 1; ; attempt++ {
		config.TCPPort = 20000 + rand.IntN(12000)
		if !free(ctx, config.TCPPort) {
			continue
		}
		server, err := pgserver.Start(ctx, b, config)
		if err == nil || attempt == 10 || free(ctx, config.TCPPort) {
			return server, err
		}
	}
}

func free(ctx context.Context, port int) bool {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}

// externalPrefix begins the name of every database that tests make on a server that is not theirs. The number of the
// process's advisory lock follows.
const externalPrefix = "sealkeep_test_"

// externalCluster uses a server that is there. One connection stays open: it holds the lock that tells other test
// processes that the databases with its number are in use.
func externalCluster(address string) (*cluster, error) {
	base, err := url.Parse(address)
	if err != nil || base.User == nil || !strings.HasPrefix(base.Scheme, "postgres") {
		return nil, fmt.Errorf("%s is not a URL of the form postgres://superuser@host/database", URLVariable)
	}
	password, _ := base.User.Password()
	user := func(name string) *url.Userinfo {
		switch {
		case name == Superuser:
			return base.User
		case password != "":
			return url.UserPassword(name, password)
		}
		return url.User(name)
	}
	at := func(name, database string) *url.URL {
		u := *base
		u.User, u.Path = user(name), "/"+database
		return &u
	}
	id := rand.Int64()
	c := &cluster{
		url:    func(user, database string) string { return at(user, database).String() },
		tcpURL: func(user, database string) string { return overTCP(at(user, database)) },
		admin:  strings.TrimPrefix(base.Path, "/"),
		prefix: fmt.Sprintf("%s%d_", externalPrefix, id),
	}
	ctx, cancel := context.WithTimeout(context.Background(), prepareLimit)
	defer cancel()
	holder, err := connect(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", URLVariable, err)
	}
	if _, err = holder.Exec(ctx, "SELECT pg_advisory_lock($1)", id); err == nil {
		if err = dropAbandoned(ctx, holder); err == nil {
			err = c.prepare(ctx, password)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the server of %s: %w", URLVariable, err), holder.Close(ctx))
	}
	c.stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
		defer cancel()
		return errors.Join(run(ctx, holder, "DROP DATABASE IF EXISTS "+c.template()+" WITH (FORCE)"), holder.Close(ctx))
	}
	return c, nil
}

// dropAbandoned drops the databases of test processes that no longer hold their lock.
func dropAbandoned(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `
		SELECT datname, split_part(datname, '_', 3)::bigint FROM pg_database
		WHERE datname ~ '^`+externalPrefix+`[0-9]+_' ORDER BY 1`)
	if err != nil {
		return err
	}
	type database struct {
		Name string
		ID   int64
	}
	databases, err := pgx.CollectRows(rows, pgx.RowToStructByPos[database])
	if err != nil {
		return err
	}
	for _, d := range databases {
		var abandoned bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", d.ID).Scan(&abandoned); err != nil {
			return err
		}
		if !abandoned {
			continue
		}
		drop := run(ctx, conn, "DROP DATABASE IF EXISTS "+d.Name+" WITH (FORCE)")
		_, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", d.ID)
		if err := errors.Join(drop, err); err != nil {
			return err
		}
	}
	return nil
}
