package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// readyTimeout bounds the answer to a readiness probe. Probes give up after a second or a few.
const readyTimeout = time.Second

type probeView struct {
	Status string `json:"status"`
}

// health tells that the process serves requests, which it does by answering.
func (a *api) health(_ context.Context, x *exchange) error {
	return x.answer(http.StatusOK, probeView{Status: "ok"})
}

// ready tells whether requests would be served, and not why not: anyone may ask.
func (a *api) ready(ctx context.Context, x *exchange) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := a.cfg.Ready(ctx); err != nil {
		return fault.Wrap(fault.Unavailable, err, "")
	}
	return x.answer(http.StatusOK, probeView{Status: "ready"})
}
