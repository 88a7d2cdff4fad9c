package telemetry

import (
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLineBuffer is the longest memory of a line, in bytes, that is kept for the next ones.
const maxLineBuffer = 16 << 10

// lineBuffers holds the memory that lines are put together in.
var lineBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 512)
	return &b
}}

// appendLine appends a record as slog.JSONHandler would write it, with attrs, which begin with a comma, before those of
// the record, and with the request id behind them, unless it is empty. It gives false if there is anything in it that
// it doesn't know to write; what it appended is then of no use.
func appendLine(dst []byte, r *slog.Record, attrs []byte, id string) (line []byte, ok bool) {
	level := levelName(r.Level)
	at := r.Time.UTC()
	if level == "" || r.Time.IsZero() || at.Year() < 0 || at.Year() > 9999 {
		return dst, false
	}
	dst = append(dst, `{"time":"`...)
	dst = at.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","level":"`...)
	dst = append(dst, level...)
	dst = append(dst, `","msg":`...)
	if dst, ok = appendPlain(dst, r.Message); !ok {
		return dst, false
	}
	dst = append(dst, attrs...)
	r.Attrs(func(a slog.Attr) bool {
		dst, ok = appendAttr(dst, a)
		return ok
	})
	if ok && id != "" {
		dst, ok = appendAttr(dst, slog.String(requestIDAttr, id))
	}
	return append(dst, '}', '\n'), ok
}

func levelName(l slog.Level) string {
	switch l {
	case slog.LevelDebug:
		return "DEBUG"
	case slog.LevelInfo:
		return "INFO"
	case slog.LevelWarn:
		return "WARN"
	case slog.LevelError:
		return "ERROR"
	}
	return ""
}

// appendAttr appends a comma, the key and the value.
func appendAttr(dst []byte, a slog.Attr) (_ []byte, ok bool) {
	dst = append(dst, ',')
	if dst, ok = appendPlain(dst, a.Key); !ok {
		return dst, false
	}
	dst = append(dst, ':')
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		return appendPlain(dst, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(dst, v.Int64(), 10), true
	case slog.KindUint64:
		return strconv.AppendUint(dst, v.Uint64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(dst, v.Bool()), true
	case slog.KindFloat64:
		// The others are written with an exponent, or not at all.
		f := v.Float64()
		if abs := math.Abs(f); f != 0 && !(abs >= 1e-6 && abs < 1e21) {
			return dst, false
		}
		return strconv.AppendFloat(dst, f, 'f', -1, 64), true
	default:
		return dst, false
	}
}

// appendPlain appends s in quotes, if nothing in it has to be escaped.
func appendPlain(dst []byte, s string) (_ []byte, ok bool) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return dst, false
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"'), true
}
