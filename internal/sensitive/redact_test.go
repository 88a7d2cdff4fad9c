package sensitive

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	jsonv1 "encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5/pgtype"
)

const canary = "Zk7-canary-Qv9"

// leaks reports whether text holds the canary in any form that fmt or an encoder might give it.
func leaks(text string) bool {
	decimal := strings.Trim(fmt.Sprint([]byte(canary)), "[]")
	for _, form := range []string{
		canary, decimal, strings.ReplaceAll(decimal, " ", ", "),
		hex.EncodeToString([]byte(canary)), fmt.Sprintf("% x", canary), fmt.Sprintf("%#v", []byte(canary)),
		base64.StdEncoding.EncodeToString([]byte(canary)),
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			return true
		}
	}
	return false
}

// Each of these redacts by itself, though encoders would fall back from one to another.
var (
	_ fmt.Formatter          = Bytes{}
	_ jsonv1.Marshaler       = Bytes{}
	_ encoding.TextMarshaler = Bytes{}
)

type exported struct{ S Bytes }

type unexported struct {
	s Bytes
	p *Bytes
	l []Bytes
	m map[string]Bytes
}

func TestI1_LeakDetectorFindsTheCanary(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		canary, fmt.Sprint([]byte(canary)), fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("%#v", []byte(canary)),
	} {
		if !leaks(text) {
			t.Errorf("the detector misses %q", text)
		}
	}
}

func TestI1_FormattingNeverShowsContent(t *testing.T) {
	t.Parallel()
	s := CopyString(canary)
	inside := unexported{s: s, p: &s, l: []Bytes{s}, m: map[string]Bytes{"k": s}}
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "+q", "#q", "x", "X", "# x", "d", "o", "b", "c", "U", "e", "t", "T", "p", "10.3s", "z"} {
		for name, value := range map[string]any{
			"handle": s, "pointer": &s, "slice": []Bytes{s}, "map": map[string]Bytes{"k": s}, "exported": exported{s},
			"exported pointer": &exported{s}, "unexported": inside, "unexported pointer": &inside, "error": fmt.Errorf("wrapped: %v", s),
		} {
			if out := fmt.Sprintf("%"+verb, value); leaks(out) {
				t.Errorf("%%%s of %s shows the content", verb, name)
			}
		}
		if out := fmt.Sprintf("%"+verb, s); verb != "T" && verb != "p" && out != Redacted {
			t.Errorf("%%%s gives %q, want %q", verb, out, Redacted)
		}
	}
	if s.String() != Redacted || s.GoString() != Redacted || fmt.Sprint(s) != Redacted || fmt.Sprintln(s) != Redacted+"\n" {
		t.Error("a direct print is not redacted")
	}
}

func TestI1_LoggingNeverShowsContent(t *testing.T) {
	t.Parallel()
	s := CopyString(canary)
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		var out bytes.Buffer
		slog.New(handler(&out)).LogAttrs(context.Background(), slog.LevelInfo, fmt.Sprint("message ", s),
			slog.Any("plain", s), slog.Any("pointer", &s), slog.Any("in", exported{s}), slog.Any("list", []Bytes{s}),
			slog.Group("group", slog.Any("nested", s)), slog.Any("hidden", unexported{s: s, p: &s}))
		if leaks(out.String()) {
			t.Errorf("the %s handler logs the content", name)
		}
		if n := strings.Count(out.String(), Redacted); n < 5 {
			t.Errorf("the %s handler shows %d redactions, want at least 5", name, n)
		}
	}
	// A handler of another make that follows the contract gets no further than the text.
	if v := slog.AnyValue(s).Resolve(); v.Kind() != slog.KindString || v.String() != Redacted {
		t.Errorf("a handler resolves it to %s", v.Kind())
	}
}

func TestI1_EncodersNeverShowContent(t *testing.T) {
	t.Parallel()
	s := CopyString(canary)
	want := `{"S":"` + Redacted + `"}`

	t.Run("JSON, both generations", func(t *testing.T) {
		t.Parallel()
		for name, marshal := range map[string]func(any) ([]byte, error){
			"v1": jsonv1.Marshal,
			"v2": func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
		} {
			out, err := marshal(exported{s})
			if err != nil || string(out) != want {
				t.Errorf("%s gives %s, %v; want %s", name, out, err, want)
			}
		}
	})

	t.Run("a text encoder gets the redaction", func(t *testing.T) {
		t.Parallel()
		out, err := xml.Marshal(exported{s})
		if err != nil || leaks(string(out)) || !strings.Contains(string(out), Redacted) {
			t.Errorf("xml gives %s, %v", out, err)
		}
	})

	t.Run("gob refuses", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		if err := gob.NewEncoder(&out).Encode(exported{s}); !errors.Is(err, errGob) || leaks(out.String()) {
			t.Errorf("gob gives %v", err)
		}
	})

	t.Run("a database driver refuses, rather than to store the redaction", func(t *testing.T) {
		t.Parallel()
		if v, err := driver.DefaultParameterConverter.ConvertValue(s); !errors.Is(err, errDriver) || v != nil {
			t.Errorf("the standard library took it as %v", v)
		}
		types := pgtype.NewMap()
		for _, oid := range []uint32{pgtype.TextOID, pgtype.ByteaOID, pgtype.JSONBOID} {
			for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
				if out, err := types.Encode(oid, format, s, nil); !errors.Is(err, errDriver) || out != nil {
					t.Errorf("pgx took it for type %d as %q, %v", oid, out, err)
				}
			}
		}
	})
}
