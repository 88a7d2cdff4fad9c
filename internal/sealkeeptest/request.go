package sealkeeptest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// RequestOption changes a request.
type RequestOption func(*http.Request)

// WithToken sends another token than the admin's; an empty one sends none.
func WithToken(token string) RequestOption {
	return func(r *http.Request) {
		r.Header.Del("Authorization")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}
}

// WithHeader sets a header, in place of the one that would be sent.
func WithHeader(name, value string) RequestOption {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// Response is an answer, read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	JSON   map[string]any // Body, if it is a JSON object; else nil
}

// Text gives a field of the object that was answered if it is a string, else "".
func (r *Response) Text(field string) string {
	text, _ := r.JSON[field].(string)
	return text
}

// Number gives a field of the object that was answered if it is a number, else 0.
func (r *Response) Number(field string) float64 {
	number, _ := r.JSON[field].(float64)
	return number
}

// Decode reads the answer into v, a pointer, and fails the test if it can't.
func (r *Response) Decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(r.Body, v); err != nil {
		t.Fatalf("status %d, and an answer that can't be decoded: %v\n%s", r.Status, err, r.Body)
	}
}

// Want fails the test at once unless the answer has that status.
func (r *Response) Want(t testing.TB, status int) *Response {
	t.Helper()
	if r.Status != status {
		t.Fatalf("status %d, want %d: %s", r.Status, status, r.Body)
	}
	return r
}

// Do sends a request with the admin's token and returns the answer; that there is none fails the test. A body of type
// []byte or string is sent as it is, nil as none, and any other as JSON. path begins with a slash and is sent as it is
// escaped.
func (v *Vault) Do(t testing.TB, method, path string, body any, options ...RequestOption) *Response {
	t.Helper()
	response, err := v.Try(t, method, path, body, options...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return response
}

// Try is Do for a test in which a request may end without an answer. Unlike Do it may be called from any goroutine.
func (v *Vault) Try(t testing.TB, method, path string, body any, options ...RequestOption) (*Response, error) {
	t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		content = bytes.NewReader(b)
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, v.URL+path, content)
	if err != nil {
		return nil, err
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	WithToken(v.AdminToken)(request)
	for _, option := range options {
		option(request)
	}
	return v.send(request)
}

func (v *Vault) send(request *http.Request) (*Response, error) {
	answer, err := v.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	r := &Response{Status: answer.StatusCode, Header: answer.Header, Body: body}
	if json.Unmarshal(body, &r.JSON) != nil {
		r.JSON = nil
	}
	return r, nil
}

// Metric gives the value of a series as /metrics has it now, like `sealkeep_build_info{program="api"}` in full, labels
// sorted by name; 0 if there is none.
func (v *Vault) Metric(t testing.TB, series string) float64 {
	t.Helper()
	return v.metric(t, v.MetricsURL, series)
}

func (v *Vault) metric(t testing.TB, url, series string) float64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := v.send(request)
	if err != nil {
		t.Fatalf("scraping: %v", err)
	}
	for line := range strings.Lines(string(answer.Want(t, http.StatusOK).Body)) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatalf("%s: %v", series, err)
			}
			return value
		}
	}
	return 0
}

// Buffer is a log that is read while it is written.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String gives all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Tail gives what was written last, about that many bytes.
func (b *Buffer) Tail(limit int) string {
	text := b.String()
	if len(text) <= limit {
		return text
	}
	return "…" + text[len(text)-limit:]
}
