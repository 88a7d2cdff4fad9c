package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// How the 8 s in which everything ends are shared out.
const (
	childLimit    = 4 * time.Second
	postgresLimit = 2500 * time.Millisecond
)

// startLimit is how long a start may take: a first one makes a database cluster, one after a crash recovers.
const startLimit = 3 * time.Minute

// Config says what to run. All fields are required but Insist.
type Config struct {
	Dir    string // the folder of this vault, made if it is missing
	Listen string // host:port of the API, unless VAULT_API_LISTEN says otherwise
	Insist bool   // Listen holds whatever VAULT_API_LISTEN says
	// Program is how the user calls this binary, for the command lines that are printed.
	Program string
	// Environ is the user's environment.
	Environ map[string]string
	// APIArgs and RotatorArgs are the arguments with which this binary is an API process and a rotator that speak to their parent:
	// each gives a Report, waits for a line on its standard input before it works, and ends when its standard input does.
	APIArgs, RotatorArgs []string
	Out                  io.Writer // for people
}

// Run starts everything, prints a session to paste, and runs until the context is done, which is no error, or until one
// of the processes ends. When it returns, all of them have ended, within 8 s of the context's end.
func Run(ctx context.Context, cfg Config) error {
	f, err := openFolder(cfg.Dir)
	if err != nil {
		return err
	}
	defer f.close()
	r := &run{Config: cfg, folder: f, env: newEnvironment(cfg.Environ, f.path, cfg.Listen, cfg.Insist)}
	forgetDatabase(r.env.ignored)
	if len(r.env.ignored) > 0 {
		fmt.Fprintf(cfg.Out, "Ignored, as the database is always this folder's own: %s\n", strings.Join(r.env.ignored, ", "))
	}
	defer r.stop(context.WithoutCancel(ctx))
	err = r.start(ctx)
	if err == nil {
		err = r.wait(ctx)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(cfg.Out, "Stopping; the data stays.")
		return nil
	}
	return err
}

// forgetDatabase removes PG* variables from this process's own environment: the driver reads them there, whatever it is
// told, and one that names a missing service or certificate is enough to stop it.
func forgetDatabase(names []string) {
	for _, name := range names {
		_ = os.Unsetenv(name) // names of existing variables are valid
	}
}

// run is one run on one folder.
type run struct {
	Config
	folder *folder
	env    *environment

	// What runs; nil until it does.
	binaries pgserver.Binaries
	server   *pgserver.Server
	api      *child
	rotator  *child
}

func (r *run) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	api, err := r.env.check()
	if err != nil {
		return err
	}
	if err := r.startPostgres(ctx); err != nil {
		return err
	}
	if err := prepareDatabase(ctx, r.server); err != nil {
		return err
	}
	token, err := prepareVault(ctx, r.folder, r.server, r.env)
	if err != nil {
		return err
	}
	defer token.Release()
	base, err := r.startAPI(ctx, token)
	if err != nil {
		return err
	}
	if err := r.startRotator(ctx, base); err != nil {
		return err
	}
	r.welcome(base, api)
	return nil
}

func (r *run) startPostgres(ctx context.Context) error {
	var err error
	r.binaries, err = pgserver.Find(func(name string) string { return r.Environ[name] }, "")
	if err != nil {
		return err
	}
	fmt.Fprintf(r.Out, "Starting PostgreSQL %s from %s\n", r.binaries.Version, r.binaries.Dir)
	r.server, err = pgserver.Start(ctx, r.binaries, pgserver.Config{Dir: r.folder.path, Durable: true})
	return err
}

// startAPI starts the API process, writes DIR/env once its address is known, and waits until it is ready. It gives the URL at which
// this machine reaches it.
func (r *run) startAPI(ctx context.Context, token sensitive.Bytes) (base string, err error) {
	env := r.env.ofAPI(r.server.URL(apiUser, databaseName))
	if r.api, err = startChild("api", r.APIArgs, env, r.folder.file("api.log")); err != nil {
		return "", err
	}
	err = r.api.bound(ctx)
	switch {
	case strings.Contains(r.api.at.Error, "VAULT_API_LISTEN"):
		return "", fmt.Errorf("%w; --api-listen names another address", err)
	case err != nil:
		return "", err
	}
	base = "http://" + reachable(r.api.at.API)
	if err := r.writeEnv(base, token); err != nil {
		return "", err
	}
	if err := r.api.goAhead(); err != nil {
		return "", errors.Join(err, r.api.ended())
	}
	return base, r.untilReady(ctx, r.api)
}

// startRotator starts the rotator and waits until it is ready.
func (r *run) startRotator(ctx context.Context, base string) error {
	var err error
	env := r.env.ofRotator(r.server.URL(rotatorUser, databaseName), base)
	if r.rotator, err = startChild("rotator", r.RotatorArgs, env, r.folder.file("rotator.log")); err != nil {
		return err
	}
	if err := r.rotator.bound(ctx); err != nil {
		return err
	}
	if err := r.rotator.goAhead(); err != nil {
		return errors.Join(err, r.rotator.ended())
	}
	return r.untilReady(ctx, r.rotator)
}

// untilReady asks a child until it says that it is ready.
func (r *run) untilReady(ctx context.Context, c *child) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(c.at.Telemetry)+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-r.api.done: // whichever it is that is waited for
			return r.api.ended()
		case <-c.done:
			return c.ended()
		case <-r.server.Done():
			return r.postgresEnded()
		case <-ctx.Done():
			return fmt.Errorf("the %s process is not ready after %s, see %s: %w", c.name, startLimit, c.log, ctx.Err())
		case <-tick.C:
		}
	}
}

// wait returns when the context is done or a process has ended.
func (r *run) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.api.done:
		return r.api.ended()
	case <-r.rotator.done:
		return r.rotator.ended()
	case <-r.server.Done():
		return r.postgresEnded()
	}
}

func (r *run) postgresEnded() error {
	return fmt.Errorf("PostgreSQL ended, see %s", r.server.LogFile())
}

// stop ends what runs, PostgreSQL last.
func (r *run) stop(ctx context.Context) {
	var children sync.WaitGroup
	for _, c := range []*child{r.api, r.rotator} {
		if c != nil {
			children.Go(func() { c.stop(childLimit) })
		}
	}
	children.Wait()
	if r.server != nil {
		ctx, cancel := context.WithTimeout(ctx, postgresLimit)
		defer cancel()
		if err := r.server.Stop(ctx); err != nil {
			fmt.Fprintf(r.Out, "PostgreSQL: %v\n", err)
		}
	}
}

// writeEnv writes DIR/env.
func (r *run) writeEnv(base string, token sensitive.Bytes) error {
	exports := []variable{
		{"VAULT_ADDR", base},
		{"VAULT_TOKEN", string(token.Reveal())},
		{"PGHOST", r.server.SocketDir()},
		{"PGPORT", strconv.Itoa(r.server.Port())},
		{"PGUSER", r.server.Superuser()},
		{"PGDATABASE", databaseName},
	}
	unset := unsetForUser
	offline := r.env.ofOffline(r.server.URL(operatorUser, databaseName))
	for _, name := range []string{
		"VAULT_DATABASE_URL", "VAULT_KMS_MODE", "VAULT_LOCAL_MASTER_KEY", "VAULT_LOCAL_MASTER_KEY_FILE",
	} {
		if value, set := offline[name]; set {
			exports = append(exports, variable{name, value})
		} else {
			unset = append(unset[:len(unset):len(unset)], name)
		}
	}
	text := script(exports, unset)
	defer clear(text)
	return r.folder.write("env", text)
}

// reachable is an address at which this machine reaches what listens on another one, such as 0.0.0.0.
func reachable(listening string) string {
	address, err := netip.ParseAddrPort(listening)
	if err != nil || !address.Addr().IsUnspecified() {
		return listening
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), address.Port()).String()
}
