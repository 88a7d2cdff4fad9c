// Package httpapi is the HTTP edge: it turns requests into calls of the use cases in internal/vault, and their results
// and errors into answers. The contract is docs/openapi.yaml. What it promises is that a request either reaches a use
// case whole and well-formed, or is refused with a status and a message that helps; that no answer says more than the
// use case gave it; and that every request is counted and logged once.
//
// It decides nothing about who may do what: a request without a token, or from an unknown address, goes to the use case
// like any other, which denies it and records that.
//
// Invariants:
//
//	I1   Plaintext goes from the body's bytes into sensitive.Bytes, and from there into the one buffer of the answer,
//	     without becoming a string; both buffers are zeroed before their memory is used again. No error, log line or
//	     metric holds any of it. What net/http's and the kernel's buffers hold meanwhile is out of reach.
//	I2   Nothing of an answer is written before its use case returned, which it does once the evidence is committed.
//	I4   An address that can't be known is passed on as unknown, never replaced by a guess; gin's own ideas of proxies
//	     and client addresses are switched off.
//	I11  Errors leave only through fault.Public, with a request id that the server's log line has too.
package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// Config is what the edge needs besides the use cases.
type Config struct {
	// AddressPolicy finds a request's client address. The zero value trusts no proxy.
	AddressPolicy access.AddressPolicy
	// Log gets one line per request. Nil discards them.
	Log *slog.Logger
	// Metrics gets the edge's metrics. Nil leaves them unregistered.
	Metrics prometheus.Registerer
	// Version is the program's, for /v1/status.
	Version string
	// Ready tells whether requests would be served, for /readyz; its error is logged and never shown. Nil asks the
	// vault alone.
	Ready func(ctx context.Context) error
	// Clock gives the time, for durations, deadlines and the time of a request's line. Nil is time.Now.
	Clock func() time.Time
}

type api struct {
	vault   *vault.Vault
	cfg     Config
	metrics *metrics
	series  *allSeries
	engine  *gin.Engine
	buffers buffers
	dates   dates
	// secrets holds the routes below /v1/secrets/ by verb and method; the verb of the secret itself is "".
	secrets map[string]map[string]*route
}

// New returns the handler of the public listener. It holds no resources and starts no goroutines; requests that it was
// given finish by themselves, within half a minute, or a minute more if they wait for a job. It can be used by any number of servers at once. An error means that
// v is nil or that the metrics could not be registered, as when a registry is used for two handlers.
func New(v *vault.Vault, cfg Config) (http.Handler, error) {
	a, err := newAPI(v, cfg)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func newAPI(v *vault.Vault, cfg Config) (*api, error) {
	if v == nil {
		return nil, errors.New("httpapi: a vault is needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ready == nil {
		cfg.Ready = v.Ready
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now //nolint:forbidigo // the default of the injected clock
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	a := &api{vault: v, cfg: cfg, metrics: m, series: newAllSeries(m, cfg.Log.Handler())}
	if a.engine, err = newEngine(); err != nil {
		return nil, err
	}
	a.register()
	return a, nil
}

// releaseMode keeps gin from printing its routes to standard output. The mode is a global of gin's.
var releaseMode = sync.OnceFunc(func() { gin.SetMode(gin.ReleaseMode) })

// newEngine makes a gin that routes and does nothing else: no logger, no recovery, no redirects, no trusted proxies, no
// rewriting of paths.
func newEngine() (*gin.Engine, error) {
	releaseMode()
	e := gin.New()
	e.UseRawPath = true
	e.UnescapePathValues = false
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.RemoveExtraSlash = false
	e.HandleMethodNotAllowed = true
	e.ForwardedByClientIP = false
	e.RemoteIPHeaders = nil
	return e, e.SetTrustedProxies(nil)
}
