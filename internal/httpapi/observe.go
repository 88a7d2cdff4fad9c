package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/telemetry"
)

// ServeHTTP does for every request what does not depend on its route: the request id, the time limit, the recovery from
// panics, the log line and the metrics. It is around gin, not within, so that it also covers gin.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := a.newExchange(w, r)
	ctx, cancel := context.WithTimeout(telemetry.WithRequestID(withExchange(r.Context(), x), x.id), requestTimeout)
	defer cancel()

	h := w.Header()
	h.Set("X-Request-Id", x.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

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
	a.engine.ServeHTTP(&x.recorder, r.WithContext(ctx))
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
	x.out = &x.recorder
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
	took := a.cfg.Clock().Sub(x.started)
	method := foldMethod(x.request.Method)
	a.metrics.requests.WithLabelValues(x.route, method, strconv.Itoa(x.status)).Inc()
	a.metrics.duration.WithLabelValues(x.route, method).Observe(took.Seconds())

	clientGone := ctx.Err() != nil
	attrs := []slog.Attr{
		slog.String("request_id", x.id),
		slog.String("method", method),
		slog.String("route", x.route),
		slog.Int("status", x.status),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.Bool("token", !x.token.IsZero()),
	}
	if x.address.IsValid() {
		attrs = append(attrs, slog.String("client", x.address.String()))
	}
	if x.addressErr != nil {
		attrs = append(attrs, slog.String("client_error", x.addressErr.Error()))
	}
	if x.traceID != "" {
		attrs = append(attrs, slog.String("trace_id", x.traceID))
	}
	if x.code != "" {
		attrs = append(attrs, slog.String("code", x.code))
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	if x.panic != nil {
		attrs = append(attrs, slog.String("stack", x.panic.stack))
	}
	if clientGone || x.writeErr != nil {
		attrs = append(attrs, slog.Bool("client_gone", true))
	}
	a.cfg.Log.LogAttrs(context.WithoutCancel(ctx), x.level(clientGone), "request", attrs...)
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
