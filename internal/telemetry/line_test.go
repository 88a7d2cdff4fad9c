package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// both gives a logger of ours and the standard one that it has to agree with, and what each of them wrote.
func both() (ours, std *slog.Logger, ourOut, stdOut *bytes.Buffer) {
	ourOut, stdOut = &bytes.Buffer{}, &bytes.Buffer{}
	options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: inUTC}
	return NewLogger(ourOut, slog.LevelDebug), slog.New(slog.NewJSONHandler(stdOut, options)), ourOut, stdOut
}

// record logs one record with each of the loggers, which then have to have written the same.
func record(t *testing.T, derive func(*slog.Logger) *slog.Logger, at time.Time, level slog.Level, message string, attrs ...slog.Attr) {
	t.Helper()
	ours, std, ourOut, stdOut := both()
	for _, l := range []*slog.Logger{ours, std} {
		r := slog.NewRecord(at, level, message, 0)
		r.AddAttrs(attrs...)
		if err := derive(l).Handler().Handle(context.Background(), r); err != nil {
			t.Error(err)
		}
	}
	if ourOut.String() != stdOut.String() {
		t.Errorf("got  %s\nwant %s", ourOut, stdOut)
	}
}

func asIs(l *slog.Logger) *slog.Logger { return l }

var moment = time.Date(2026, 1, 2, 3, 4, 5, 60708090, time.FixedZone("x", 3600))

func TestLinesAreThoseOfTheStandardHandler(t *testing.T) {
	t.Parallel()
	values := []slog.Value{
		slog.StringValue(""), slog.StringValue("plain </>&'\x7f"), slog.StringValue(`"\`), slog.StringValue("\n\x00"),
		slog.StringValue("é\u2028\U0001F511"), slog.StringValue("\xff"),
		slog.Int64Value(math.MinInt64), slog.Uint64Value(math.MaxUint64), slog.BoolValue(true), slog.BoolValue(false),
		slog.Float64Value(0), slog.Float64Value(math.Copysign(0, -1)), slog.Float64Value(0.1), slog.Float64Value(-1234.567),
		slog.Float64Value(1e-6), slog.Float64Value(9.9e-7), slog.Float64Value(1e20), slog.Float64Value(1e21),
		slog.Float64Value(math.NaN()), slog.Float64Value(math.Inf(-1)), slog.Float64Value(math.MaxFloat64),
		slog.DurationValue(time.Second), slog.TimeValue(moment), slog.AnyValue(nil), slog.AnyValue(errors.New("e\"")),
		slog.AnyValue([]int{1}), slog.AnyValue(slog.LevelWarn), slog.GroupValue(slog.Int("a", 1)), slog.GroupValue(),
	}
	for _, v := range values {
		record(t, asIs, moment, slog.LevelInfo, "m", slog.Attr{Key: "k", Value: v})
		record(t, asIs, moment, slog.LevelInfo, "m", slog.Int("before", 1), slog.Attr{Key: "", Value: v}, slog.Int("behind", 2))
		record(t, func(l *slog.Logger) *slog.Logger {
			return slog.New(l.Handler().WithAttrs([]slog.Attr{slog.Int("first", 0), {Key: "k", Value: v}})).With("last", "x")
		}, moment, slog.LevelInfo, "m", slog.Int("a", 1))
	}
	for _, s := range []string{"", "plain", `"`, "\n", "é", "\xff"} {
		record(t, asIs, moment, slog.LevelInfo, s, slog.Int(s, 1))
	}
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, slog.LevelInfo + 1} {
		record(t, asIs, moment, l, "m")
	}
	for _, at := range []time.Time{{}, moment.Truncate(time.Second), time.Unix(0, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		record(t, asIs, at, slog.LevelInfo, "m")
	}
	record(t, func(l *slog.Logger) *slog.Logger { return l.With("a", 1).WithGroup("g").With("b", 2) }, moment, slog.LevelInfo, "m", slog.Int("c", 3))
	record(t, func(l *slog.Logger) *slog.Logger { return l.WithGroup("").With("b", 2) }, moment, slog.LevelInfo, "m", slog.Int("c", 3))
}

func TestLoggersThatWereDerivedFromOneShareNothing(t *testing.T) {
	t.Parallel()
	// Of some length there is room left behind the parent's attributes.
	for n := range 64 {
		var out bytes.Buffer
		parent := NewLogger(&out, slog.LevelInfo).With("p", strings.Repeat("x", n))
		first, second := parent.With("a", 1), parent.With("b", 2)
		first.Info("m")
		second.Info("m")
		parent.Info("m")
		got := lines(t, &out)
		if got[0]["a"] != 1.0 || got[0]["b"] != nil || got[1]["b"] != 2.0 || got[1]["a"] != nil || len(got[2]) != 4 {
			t.Errorf("got %v", got)
		}
	}
}

func FuzzLinesAreThoseOfTheStandardHandler(f *testing.F) {
	f.Add("m", "k", "v", 1.5, int64(3))
	f.Add("\"", "é", "\xff\u2028", 1e-7, int64(-1))
	f.Fuzz(func(t *testing.T, message, key, value string, number float64, whole int64) {
		record(t, asIs, time.Unix(whole%1e10, whole&0xffff), slog.LevelInfo, message,
			slog.String(key, value), slog.Float64("f", number), slog.Int64("i", whole))
	})
}

// BenchmarkRequestLine writes a line as every request gives one, to where lines go.
func BenchmarkRequestLine(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	reader, pipe, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, reader)
		reader.Close()
	}()
	defer func() { pipe.Close(); <-read }()

	buffered := NewBuffer(pipe)
	defer buffered.Close()
	options := &slog.HandlerOptions{ReplaceAttr: inUTC}
	for _, c := range []struct {
		name string
		log  slog.Handler
	}{
		{"standard, nowhere", slog.NewJSONHandler(io.Discard, options)},
		{"ours, nowhere", NewLogger(io.Discard, slog.LevelInfo).Handler()},
		{"ours, file", NewLogger(file, slog.LevelInfo).Handler()},
		{"ours, pipe", NewLogger(pipe, slog.LevelInfo).Handler()},
		{"ours, buffered pipe", NewLogger(buffered, slog.LevelInfo).Handler()},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := slog.NewRecord(moment, slog.LevelInfo, "request", 0)
				r.AddAttrs(
					slog.String("request_id", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
					slog.String("method", "GET"),
					slog.String("route", "/v1/secrets/{name}"),
					slog.Int("status", 200),
					slog.Float64("duration_ms", 1.234),
					slog.Bool("token", true),
					slog.String("client", "192.0.2.1"),
				)
				if err := c.log.Handle(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
