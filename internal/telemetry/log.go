// Package telemetry makes what a process tells about itself: its log, its metrics, and the listener on which probes and
// scrapers ask.
//
// Invariants:
//   - I1: nothing here takes a value, a key or a token. What the log is given it writes: keeping plaintext out is the
//     work of the types that hold it, and a log line is a line of JSON whatever text it carries.
//   - I11: probes answer with a status and a word. Why a process isn't ready is for its log.
//   - Nobody waits for the log for long, if it goes through a Buffer: lines are written in batches, at most 50 ms late,
//     those from warnings upwards at once, all of them by Close. Where they can't be written, lines are dropped and
//     counted; evidence is the audit trail's, which never is. A process that dies of a signal or of a panic that nobody
//     recovers loses the lines below a warning of its last 50 ms.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
)

// NewLogger returns a logger that writes a JSON object per line to w, with times in UTC, and with the request id of the
// context that a line is logged with (see WithRequestID). Lines below level are dropped. w is written to by one
// goroutine at a time, one line per Write. If w is a Buffer, lines from warnings upwards don't wait in it.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	out := &output{w: w}
	out.buffer, _ = w.(*Buffer)
	std := slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: inUTC})
	return slog.New(&lineHandler{out: out, level: level, std: std, plain: true})
}

// inUTC writes times in UTC: lines of replicas in several zones then sort as text.
func inUTC(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

// output is where the lines of a logger, and of all that were derived from it, go.
type output struct {
	mu     sync.Mutex
	w      io.Writer
	buffer *Buffer // w, if it is one
}

func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(line)
}

// lineHandler writes lines as slog.JSONHandler does. Most lines are plain: constant keys, numbers, and text that needs
// no escaping. It writes these by itself, without reflection, and has std write the others.
//
// It adds to each record what its context tells, in the group that is open, if there is one.
type lineHandler struct {
	out   *output
	level slog.Leveler
	std   slog.Handler // has the same attributes and groups

	// attrs are those of WithAttrs as they stand in a line. They are complete while plain.
	attrs []byte
	plain bool
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *lineHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.write(ctx, r)
	if h.out.buffer != nil && r.Level >= slog.LevelWarn {
		h.out.buffer.hurry()
	}
	return err
}

func (h *lineHandler) write(ctx context.Context, r slog.Record) error {
	id := RequestID(ctx)
	if h.plain {
		b := lineBuffers.Get().(*[]byte)
		line, ok := appendLine((*b)[:0], &r, h.attrs, id)
		if cap(line) <= maxLineBuffer {
			*b = line
			defer lineBuffers.Put(b)
		}
		if ok {
			_, err := h.out.Write(line)
			return err
		}
	}
	if id != "" {
		r = r.Clone() // a record may be shared among handlers
		r.AddAttrs(slog.String(requestIDAttr, id))
	}
	return h.std.Handle(ctx, r)
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	derived := *h
	derived.std = h.std.WithAttrs(attrs)
	derived.attrs = slices.Clip(h.attrs)
	for _, a := range attrs {
		var ok bool
		derived.attrs, ok = appendAttr(derived.attrs, a)
		derived.plain = derived.plain && ok
	}
	return &derived
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	derived := *h
	derived.std = h.std.WithGroup(name)
	derived.plain = derived.plain && name == "" // which opens none
	return &derived
}

const requestIDAttr = "request_id"

type requestIDKey struct{}

// identified is a context with a request id. It is a type of its own because it is made for every request.
type identified struct {
	context.Context
	id string
}

func (c *identified) Value(key any) any {
	if _, ours := key.(requestIDKey); ours {
		return c
	}
	return c.Context.Value(key)
}

// WithRequestID returns a context whose log lines carry id. It is for the log alone: who a caller is, and what a record
// says, never comes from a context.
func WithRequestID(ctx context.Context, id string) context.Context {
	return &identified{ctx, id}
}

// RequestID returns the id that WithRequestID put into ctx, or "".
func RequestID(ctx context.Context) string {
	if c, ok := ctx.Value(requestIDKey{}).(*identified); ok {
		return c.id
	}
	return ""
}
