package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/pgserver"
)

// machine is what a run works with: a folder for its files, and a PostgreSQL server of its own.
type machine struct {
	dir      string // for logs, keys and programs; removed at the end
	self     string // path of this program
	server   *pgserver.Server
	binaries pgserver.Binaries
}

// stopPatience is how long a process may take to stop.
const stopPatience = 15 * time.Second

// newMachine starts the server. data is the folder below which its data goes.
func newMachine(ctx context.Context, data string) (_ *machine, err error) {
	m := &machine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if data, err = dataFolder(data); err != nil {
		return nil, err
	}
	if m.binaries, err = pgserver.Find(os.Getenv, ""); err != nil {
		return nil, err
	}
	// pgserver looks here for where temporary data goes, and prefers a file system in memory if it is told nothing.
	if err := os.Setenv("TMPDIR", data); err != nil {
		return nil, err
	}
	if m.dir, err = os.MkdirTemp("", "sealkeep-bench-"); err != nil {
		return nil, err
	}
	// A vault and all references at once hold more than the default of 100 connections.
	m.server, err = pgserver.Start(ctx, m.binaries, pgserver.Config{Durable: true, Settings: map[string]string{"max_connections": "250"}})
	if err != nil {
		return nil, err
	}
	return m, m.checkDurable(ctx)
}

// dataFolder chooses a folder on a disk.
func dataFolder(chosen string) (string, error) {
	for _, dir := range []string{chosen, os.Getenv("TMPDIR"), "/var/tmp", os.TempDir()} {
		info, err := os.Stat(dir)
		if dir == "" || (err != nil && dir != chosen) {
			continue
		}
		if err != nil || !info.IsDir() {
			return "", fmt.Errorf("-data: there is no folder %s", dir)
		}
		return filepath.Abs(dir)
	}
	return "", errors.New("there is no folder for temporary data: name one with -data")
}

// checkDurable makes sure that a commit costs what it costs where it matters.
func (m *machine) checkDurable(ctx context.Context) error {
	if inMemory(m.server.DataDir()) {
		return fmt.Errorf("%s is kept in memory, where flushing costs nothing: name a folder on a disk with -data", m.server.DataDir())
	}
	conn, err := pgx.Connect(ctx, m.superuser("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		if err := conn.QueryRow(ctx, "SHOW "+setting).Scan(&value); err != nil {
			return err
		}
		if value != "on" {
			return fmt.Errorf("the server has %s = %s", setting, value)
		}
	}
	return nil
}

// superuser gives the URL of a database for the server's superuser.
func (m *machine) superuser(database string) string {
	return m.server.URL(m.server.Superuser(), database)
}

// close ends the server and removes everything.
func (m *machine) close() error {
	var errs []error
	if m.server != nil {
		errs = append(errs, m.server.Discard())
	}
	if m.dir != "" {
		errs = append(errs, os.RemoveAll(m.dir))
	}
	return errors.Join(errs...)
}

// file gives the path of a file of this run.
func (m *machine) file(name string) string { return filepath.Join(m.dir, name) }

// query reads one row of a database as its superuser.
func (m *machine) query(ctx context.Context, database, sql string, into ...any) error {
	conn, err := pgx.Connect(ctx, m.superuser(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.QueryRow(ctx, sql).Scan(into...)
}

// execute runs SQL in a database as its superuser.
func (m *machine) execute(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, m.superuser(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// build makes a program of the product as it is shipped, and gives its path.
func (m *machine) build(ctx context.Context, name string) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	path := m.file(name)
	profile := filepath.Join(root, "cmd", "api", "default.pgo") // as the Makefile does
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-pgo="+profile, "-o", path, "./cmd/"+name)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") {
		cmd.Env = append(cmd.Env, "GOEXPERIMENT=runtimesecret") // likewise
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building cmd/%s: %w\n%s", name, err, out)
	}
	return path, nil
}

// repositoryRoot is the nearest folder with a go.work at or above the working directory.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run this inside the repository: the vault is built from it")
		}
		dir = parent
	}
}

// environment is what the processes of a run get; settings are NAME=VALUE.
func environment(settings ...string) []string {
	return slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.Getenv("TMPDIR")}, settings)
}
