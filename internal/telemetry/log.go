// Package telemetry makes what a process tells about itself: its log, its metrics, and the listener on which probes and
// scrapers ask.
//
// Invariants:
//   - I1: nothing here takes a value, a key or a token. What the log is given it writes: keeping plaintext out is the
//     work of the types that hold it, and a log line is a line of JSON whatever text it carries.
//   - I11: probes answer with a status and a word. Why a process isn't ready is for its log.
package telemetry

import (
	"context"
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes a JSON object per line to w, with times in UTC, and with the request id of the
// context that a line is logged with (see WithRequestID). Lines below level are dropped. w is written to by one
// goroutine at a time, one line per Write.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(&contextHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: inUTC})})
}

// inUTC writes times in UTC: lines of replicas in several zones then sort as text.
func inUTC(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

// contextHandler adds to each record what its context tells. In a logger that has an open group it lands in that group.
type contextHandler struct{ next slog.Handler }

func (h *contextHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r = r.Clone() // a record may be shared among handlers
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.next.Handle(ctx, r)
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &contextHandler{h.next.WithAttrs(attrs)}
}

func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{h.next.WithGroup(name)}
}

type requestIDKey struct{}

// WithRequestID returns a context whose log lines carry id. It is for the log alone: who a caller is, and what a record
// says, never comes from a context.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id that WithRequestID put into ctx, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
