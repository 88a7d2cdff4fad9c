package webhook

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealkeep/sealkeep/internal/target"
)

// echo answers with a status, and repeats what it was told wherever it can.
func echo(t *testing.T, status int, header map[string]string, body string) Config {
	t.Helper()
	return receive(t, func(w http.ResponseWriter, r *http.Request) {
		told := readAll(t, r.Body)
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.Header().Set("X-Echo", string(told))
		w.WriteHeader(status)
		if status != http.StatusNoContent && status != http.StatusNotModified {
			_, _ = io.WriteString(w, strings.ReplaceAll(body, "ECHO", canary))
		}
	})
}

func TestSend_AnswersMeanWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	for status, class := range map[int]target.Class{
		200: "", 201: "", 202: "", 204: "", 299: "",
		300: target.Permanent, 304: target.Permanent, 399: target.Permanent,
		400: target.Permanent, 404: target.Permanent, 405: target.Permanent, 410: target.Permanent, 413: target.Permanent, 499: target.Permanent,
		401: target.Authentication, 403: target.Authentication, 407: target.Authentication,
		422: target.Policy,
		408: target.Transient, 425: target.Transient, 429: target.Transient,
		500: target.Transient, 501: target.Transient, 502: target.Transient, 503: target.Transient, 504: target.Transient, 599: target.Transient,
		600: target.Transient, 999: target.Transient, // these are no answers at all
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			cfg := echo(t, status, nil, `{"code":"older_generation","told":"ECHO"}`)
			err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA))
			switch {
			case class == "" && err != nil:
				t.Error(err)
			case class != "" && status <= 599:
				wantClass(t, err, class, fmt.Sprint(status))
			case class != "":
				wantClass(t, err, class, "isn't HTTP")
			}
		})
	}
}

func TestI7_OnlyThisCodeSaysOutdated(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body  string
		class target.Class
	}{
		"alone":           {`{"code":"older_generation"}`, target.Outdated},
		"with more":       {` {"error":"late","code":"older_generation","told":"ECHO"}` + "\n", target.Outdated},
		"another":         {`{"code":"conflict ECHO"}`, target.Permanent},
		"none":            {`{"error":"older_generation"}`, target.Permanent},
		"deeper":          {`{"detail":{"code":"older_generation"}}`, target.Permanent},
		"in an array":     {`[{"code":"older_generation"}]`, target.Permanent},
		"not text":        {`{"code":["older_generation"]}`, target.Permanent},
		"cut off":         {`{"code":"older_generation"`, target.Permanent},
		"not JSON":        {"older_generation ECHO", target.Permanent},
		"nothing":         {"", target.Permanent},
		"behind too much": {`{"a":"` + strings.Repeat("x", maxBody) + `","code":"older_generation"}`, target.Permanent},
		"up to the limit": {`{"code":"older_generation"}` + strings.Repeat(" ", maxBody-27), target.Outdated},
		"one byte beyond": {`{"code":"older_generation"}` + strings.Repeat(" ", maxBody-26), target.Permanent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := newTarget(t, echo(t, 409, nil, tc.body)).Send(t.Context(), event(), keys(keyA))
			wantClass(t, err, tc.class, "receiver")
		})
	}
}

func TestSend_RedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := receive(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		var requests atomic.Int64
		cfg := receive(t, func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			to := other.URL + "?" + canary
			if r.URL.Path != "/hook" {
				to = "/again"
			}
			http.Redirect(w, r, to, status)
		})
		cfg.CA = append(cfg.CA, other.CA...)
		err := newTarget(t, cfg).Send(t.Context(), event(), keys(keyA))
		wantClass(t, err, target.Permanent, fmt.Sprint(status), "redirects aren't followed")
		if requests.Load() != 1 {
			t.Errorf("%d: %d requests", status, requests.Load())
		}
	}
	if elsewhere.Load() != 0 {
		t.Error("one was followed")
	}
}

func TestSend_NothingIsKeptForTheNext(t *testing.T) {
	t.Parallel()
	remotes := make(chan string, 2)
	cfg := receive(t, func(w http.ResponseWriter, r *http.Request) {
		if len(r.Cookies()) > 0 {
			t.Error("a cookie came back")
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		remotes <- r.RemoteAddr
	})
	it := newTarget(t, cfg)
	for range 2 {
		if err := it.Send(t.Context(), event(), keys(keyA)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := <-remotes, <-remotes; a == b {
		t.Error("a connection was used twice")
	}
}
