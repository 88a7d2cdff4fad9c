package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

// ServeHTTP does for every request what does not depend on its route: the request id, the time limit, the recovery from
// panics, the log line and the metrics. It is around gin, not within, so that it also covers gin.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := a.newExchange(w, r)
	x.ctx = telemetry.WithRequestID(x.limit.start(r, x.started), x.id)
	defer x.limit.stop()

	h := w.Header()
	x.set(h, xRequestID, x.id)
	h[xContentTypeOptions] = noSniff
	h[cacheControl] = noStore
	h[date] = a.dates.at(x.started)

	a.metrics.inFlight.Inc()
	defer a.metrics.inFlight.Dec()
	defer func() {
		abort := a.settle(x, recover())
		a.observe(r.Context(), x)
		if abort {
			// An answer that has begun can't be taken back. Cutting the connection keeps it from passing for a whole one.
			panic(http.ErrAbortHandler)
		}
	}()
	a.engine.ServeHTTP(x, r)
}

// panicked is a recovered panic.
type panicked struct{ what, stack string }

// settle makes a 500 of a panic and tells whether it is too late for that.
func (a *api) settle(x *exchange, value any) (abort bool) {
	if value == nil {
		return false
	}
	x.panic = &panicked{what: describePanic(value), stack: callers()}
	a.metrics.panics.Inc()
	x.out = x
	late := x.status != 0
	x.fail(fault.Wrap(fault.Internal, errors.New("panic: "+x.panic.what), ""))
	return late
}

// describePanic gives the text of errors and of strings. Another value is named by its type alone, as it might hold
// anything.
func describePanic(value any) string {
	switch v := value.(type) {
	case error:
		return v.Error()
	case string:
		return v
	}
	return fmt.Sprintf("a %T", value)
}

// callers lists the functions that were running, innermost first. Unlike debug.Stack it shows no arguments, which can be
// parts of plaintext or keys (I1).
func callers() string {
	var pcs [64]uintptr
	n := runtime.Callers(3, pcs[:]) // without runtime.Callers, callers and settle
	frames := runtime.CallersFrames(pcs[:n])
	var b strings.Builder
	for {
		frame, more := frames.Next()
		fmt.Fprintf(&b, "%s (%s:%d)\n", frame.Function, frame.File, frame.Line)
		if !more {
			return b.String()
		}
	}
}

// observe counts the request and writes its line. ctx is the connection's, without our time limit.
func (a *api) observe(ctx context.Context, x *exchange) {
	now := a.cfg.Clock()
	took := now.Sub(x.started)
	series := a.series.of(seriesKey{x.route, foldMethod(x.request.Method), x.status})
	series.requests.Inc()
	series.duration.Observe(took.Seconds())

	ended := ctx.Err() != nil
	clientGone := ended && !isOverdue(ctx)
	if ended {
		ctx = context.WithoutCancel(ctx) // its line is written all the same
	}
	level := x.level(clientGone)
	if !series.log.Enabled(ctx, level) {
		return
	}
	// Not by a slog.Logger, which would look up the caller and the time for each line.
	line := slog.NewRecord(now, level, "request", 0)
	line.AddAttrs(
		slog.String("request_id", x.id),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.Bool("token", !x.token.IsZero()),
	)
	if x.address.IsValid() {
		line.AddAttrs(slog.String("client", x.address.String()))
	}
	if x.addressErr != nil {
		line.AddAttrs(slog.String("client_error", x.addressErr.Error()))
	}
	if x.traceID != "" {
		line.AddAttrs(slog.String("trace_id", x.traceID))
	}
	if x.code != "" {
		line.AddAttrs(slog.String("code", x.code))
	}
	if x.err != nil {
		line.AddAttrs(slog.String("error", x.err.Error()))
	}
	if x.panic != nil {
		line.AddAttrs(slog.String("stack", x.panic.stack))
	}
	if clientGone || x.writeErr != nil {
		line.AddAttrs(slog.Bool("client_gone", true))
	}
	_ = series.log.Handle(ctx, line) // a log that can't be written has nowhere to say so
}

// level is error for our own failures alone. That a request ends because its client left is not one.
func (x *exchange) level(clientGone bool) slog.Level {
	switch {
	case x.panic != nil:
		return slog.LevelError
	case x.status == http.StatusServiceUnavailable && clientGone:
		return slog.LevelInfo
	case x.status == http.StatusServiceUnavailable && x.route == readyPattern:
		return slog.LevelWarn
	case x.status >= http.StatusInternalServerError:
		return slog.LevelError
	case x.route == readyPattern, x.route == healthPattern:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
