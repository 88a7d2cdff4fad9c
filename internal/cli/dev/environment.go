package dev

import (
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/kms"
)

// databaseName is the database of the vault on the private server.
const databaseName = "sealkeep"

// The login users of the processes, as `sealkeep migrate roles` makes them.
const (
	apiUser      = "sealkeep_api"
	rotatorUser  = "sealkeep_rotator"
	operatorUser = "sealkeep_operator"
)

// environment is what the processes are told, made from what the user's environment says.
type environment struct {
	vars map[string]string
	// ignored names what the user's environment says of another database, sorted.
	ignored []string
	// keyFile is where the local master key is to be made if it is missing; empty when the user brings the key.
	keyFile string
}

// newEnvironment keeps all of the user's VAULT_* but those of the database, and fills in what is unset. listen is the
// address of --api-listen; it is only a default, unless insist is set.
func newEnvironment(user map[string]string, dir, listen string, insist bool) *environment {
	e := &environment{vars: maps.Clone(user)}
	for name := range user {
		if ofDatabase(name) {
			delete(e.vars, name)
			e.ignored = append(e.ignored, name)
		}
	}
	slices.Sort(e.ignored)
	// These are for clients, and those of this vault are in DIR/env.
	for _, name := range []string{"VAULT_ADDR", "VAULT_TOKEN", "VAULT_TOKEN_FILE"} {
		delete(e.vars, name)
	}
	e.fill("VAULT_API_LISTEN", listen)
	if insist {
		e.vars["VAULT_API_LISTEN"] = listen
	}
	e.fill("VAULT_TELEMETRY_LISTEN", "127.0.0.1:0")
	e.fill("VAULT_ALLOWED_IPS", "127.0.0.0/8")
	e.fill("VAULT_READ_AUTH", "ip")
	// Shorter than the time in which everything has to end.
	e.fill("VAULT_DRAIN_SECS", "3")
	e.fill("VAULT_KMS_MODE", "local")
	if e.vars["VAULT_KMS_MODE"] == "local" && !e.has("VAULT_LOCAL_MASTER_KEY") {
		e.keyFile = filepath.Join(dir, "master-key")
		e.vars["VAULT_LOCAL_MASTER_KEY_FILE"] = e.keyFile
	}
	if file := e.vars["VAULT_LOCAL_MASTER_KEY_FILE"]; file != "" {
		if absolute, err := filepath.Abs(file); err == nil {
			e.vars["VAULT_LOCAL_MASTER_KEY_FILE"] = absolute
		}
	}
	return e
}

// ofDatabase tells whether a variable names a database server, ours or libpq's.
func ofDatabase(name string) bool {
	return strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "VAULT_PG_") ||
		name == "VAULT_DATABASE_URL" || name == "VAULT_DATABASE_URL_FILE"
}

// has tells whether a variable, or the file that stands for it, is set, be it to nothing.
func (e *environment) has(name string) bool {
	_, set := e.vars[name]
	_, file := e.vars[name+"_FILE"]
	return set || file
}

func (e *environment) fill(name, value string) {
	if !e.has(name) {
		e.vars[name] = value
	}
}

// ofAPI is the environment of an API process.
func (e *environment) ofAPI(databaseURL string) map[string]string { return e.ofService(databaseURL) }

// ofRotator is the environment of a rotator. base is where the API is. The telemetry listener that the user may have chosen is the API's.
func (e *environment) ofRotator(databaseURL, base string) map[string]string {
	vars := e.ofService(databaseURL)
	vars["VAULT_TELEMETRY_LISTEN"] = "127.0.0.1:0"
	if u, err := url.Parse(base); err == nil && !e.has("VAULT_PUBLIC_URL") {
		// Elsewhere receivers would have to be told of a URL with TLS, which is not here.
		if address, err := netip.ParseAddr(u.Hostname()); err == nil && address.IsLoopback() {
			vars["VAULT_PUBLIC_URL"] = base
		}
	}
	return vars
}

// ofService is the environment of a process that serves, which makes no tokens.
func (e *environment) ofService(databaseURL string) map[string]string {
	vars := maps.Clone(e.vars)
	delete(vars, "VAULT_BOOTSTRAP_TOKEN")
	delete(vars, "VAULT_BOOTSTRAP_TOKEN_FILE")
	vars["VAULT_DATABASE_URL"] = databaseURL
	return vars
}

// ofOffline is the environment of offline commands.
func (e *environment) ofOffline(databaseURL string) map[string]string {
	vars := maps.Clone(e.vars)
	vars["VAULT_DATABASE_URL"] = databaseURL
	return vars
}

// check judges what the processes will be told, before anything is started. The configuration's master key is released.
func (e *environment) check() (*boot.API, error) {
	forCheck := func(vars map[string]string) map[string]string { return vars }
	if e.keyFile != "" {
		// It may not be there yet.
		text, err := kms.NewMasterKeyText(nil)
		if err != nil {
			return nil, err
		}
		forCheck = func(vars map[string]string) map[string]string {
			delete(vars, "VAULT_LOCAL_MASTER_KEY_FILE")
			vars["VAULT_LOCAL_MASTER_KEY"] = string(text)
			return vars
		}
	}
	const nowhere = "postgres:///" + databaseName + "?host=/not/yet&user=" + apiUser
	rotator, rotatorErr := boot.LoadRotator(forCheck(e.ofRotator(nowhere, "")))
	if rotatorErr == nil {
		rotator.Release()
	}
	api, err := boot.LoadAPI(forCheck(e.ofAPI(nowhere)))
	if err == nil {
		api.Release()
	}
	if err := together(err, rotatorErr); err != nil {
		return nil, err
	}
	return api, nil
}

// together gives the problems of two configurations, each once.
func together(one, other error) error {
	var first, second *config.Error
	if !errors.As(one, &first) || !errors.As(other, &second) {
		return errors.Join(one, other)
	}
	return config.NewError(slices.Concat(first.Problems, second.Problems))
}

// list is an environment as a process gets it.
func list(vars map[string]string) []string {
	entries := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		entries = append(entries, name+"="+vars[name])
	}
	return entries
}
