package cli

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

var discardLog = log.New(io.Discard, "", 0)

// answering is a server that gives one answer to everything and keeps the last request.
type answering struct {
	*httptest.Server
	calls  atomic.Int64
	header atomic.Pointer[http.Header]
	uri    atomic.Pointer[string]
	body   atomic.Pointer[string]
}

func newAnswering(t *testing.T, status int, header map[string]string, body string) *answering {
	t.Helper()
	a := &answering{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		sent := string(text)
		a.calls.Add(1)
		a.header.Store(&r.Header)
		a.uri.Store(&r.RequestURI)
		a.body.Store(&sent)
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *answering) shell(t *testing.T) shell {
	return shell{t, map[string]string{"VAULT_ADDR": a.URL, "VAULT_TOKEN": newToken(t)}}
}

func TestClient_TokenOfSomethingElseIsNeverSent(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"HashiCorp's": "hvs.CAESIJ0nq3aTtSoKpFcJ", "cut short": newToken(t)[:40], "with a newline": newToken(t) + "\n",
		"with a wrong checksum": newToken(t)[:52] + "!",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newAnswering(t, 200, nil, `{"items":[]}`)
			server.shell(t).with("VAULT_TOKEN", token).run("secret list").ends(1).
				says("VAULT_TOKEN isn't a Sealkeep token (svk_…): refusing to send it").hides(strings.TrimSpace(token))
			if n := server.calls.Load(); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

func TestClient_TokenFile(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 200, nil, `{"items":[]}`)
	token := newToken(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh := shell{t, map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN_FILE": file}}
	sh.run("secret list").ok().shows("no secrets")
	if got := server.header.Load().Get("Authorization"); got != "Bearer "+token {
		t.Errorf("Authorization is %q", got)
	}
	sh.with("VAULT_TOKEN", token).run("secret list").ends(1).says("VAULT_TOKEN: is set, and so is VAULT_TOKEN_FILE").hides(token)
	// What stands in the variable may be the token itself.
	sh.with("VAULT_TOKEN_FILE", token).run("secret list").ends(1).says("VAULT_TOKEN_FILE: names a file that does not exist").hides(token)
	sh.with("VAULT_TOKEN_FILE", "/dev/zero").run("secret list").ends(1).says("VAULT_TOKEN_FILE: names a file of more than")
	if err := os.WriteFile(file, []byte("hvs.canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.run("secret list").ends(1).says("VAULT_TOKEN_FILE isn't a Sealkeep token").hides("canary", file)
}

func TestClient_TokenTravelsInClearOnlyWhereAskedTo(t *testing.T) {
	t.Parallel()
	token := newToken(t)
	for address, safe := range map[string]bool{
		"http://127.0.0.1:8200": true, "http://[::1]:8200": true, "http://localhost:8200": true, "http://127.9.9.9": true,
		"https://vault.example.com": true,
		"http://vault.example.com":  false, "http://192.0.2.1:8200": false, "http://[2001:db8::1]": false,
		"http://localhost.example.com": false, "http://0.0.0.0:8200": false,
	} {
		for _, insist := range []bool{false, true} {
			a := &app{Invocation{Environ: map[string]string{"VAULT_ADDR": address, "VAULT_TOKEN": token}}}
			c, err := a.newClient(clientFlags{insecureHTTP: insist})
			if (err == nil) != (safe || insist) {
				t.Errorf("%s, insisting %t: %v", address, insist, err)
			}
			if err == nil {
				c.close()
			} else if !strings.Contains(err.Error(), "--insecure-http") {
				t.Errorf("%s: %v", address, err)
			}
		}
		without := &app{Invocation{Environ: map[string]string{"VAULT_ADDR": address}}}
		if c, err := without.newClient(clientFlags{}); err != nil {
			t.Errorf("%s without a token: %v", address, err)
		} else {
			c.close()
		}
	}
}

func TestClient_AddressIsChecked(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"127.0.0.1:8200", "vault", "ftp://vault", "http://", "http://user:pw@vault", "http://vault/v1", "http://vault?x=1",
		"http://vault#x", "http:vault", "http://va ult", "http://[::1", "\x00",
	} {
		shell{t, map[string]string{"VAULT_ADDR": address}}.run("secret get x").ends(1).says("VAULT_ADDR is an address such as").
			hides("user:pw")
	}
}

func TestClient_RedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := newAnswering(t, 200, nil, `{"items":[]}`)
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := newAnswering(t, status, map[string]string{"Location": elsewhere.URL + "/v1/secrets"}, "")
		server.shell(t).run("secret list").ends(1).says("redirect", "VAULT_ADDR")
	}
	if n := elsewhere.calls.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

func TestClient_NobodyThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	sh := shell{t, map[string]string{"VAULT_ADDR": address}}
	sh.run("secret get app/key").ends(1).
		says("no Sealkeep answers at " + address + ": is it running? VAULT_ADDR says where")
	sh.pipe("x", "secret", "verify", "app/key").ends(2).says("no Sealkeep answers")
}

func TestClient_PlainServerBehindHTTPS(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 200, nil, "{}")
	address := strings.Replace(server.URL, "http:", "https:", 1)
	shell{t, map[string]string{"VAULT_ADDR": address}}.run("secret get x").ends(1).says("VAULT_ADDR", "https")
}

func TestClient_CertificateOfUnknownAuthority(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = discardLog
	server.StartTLS()
	t.Cleanup(server.Close)
	shell{t, map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": newToken(t)}}.run("secret list").ends(1).
		says("VAULT_ADDR", "unknown authority", "SSL_CERT_FILE")
}

func TestClient_RefusalsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status  int
		body    string
		command string
		want    []string
	}{
		{401, "unauthenticated", "token list", []string{"VAULT_TOKEN is unknown, expired or revoked", "(request r-1)"}},
		{403, "forbidden", "token list", []string{"the role of VAULT_TOKEN may not do this", "(request r-1)"}},
		{403, "forbidden", "secret get a/b", []string{"your address isn't in VAULT_ALLOWED_IPS", "may not read it"}},
		{404, "not_found", "secret get a/b", []string{"no such secret a/b"}},
		{404, "not_found", "secret get a/b --version 7", []string{"no such secret a/b", "no valid version 7"}},
		{412, "precondition_failed", "secret rm a/b --yes --if-match 1-x", []string{"the server's words", "(request r-1)"}},
		{429, "too_many_requests", "secret get a/b", []string{"wait 17 s"}},
		{500, "internal", "secret get a/b", []string{"the log of the server has the details", "(request r-1)"}},
		{503, "unavailable", "secret get a/b", []string{"the log of the server has the details", "(request r-1)"}},
	} {
		server := newAnswering(t, c.status, map[string]string{"Retry-After": "17"},
			`{"error":"the server's words","code":"`+c.body+`","request_id":"r-1"}`)
		server.shell(t).run(c.command).ends(1).says(c.want...)
	}
}

func TestClient_SomethingElseAnswers(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"<html>404</html>", "", `{"errors":["permission denied"]}`, `{"error":"x"}`} {
		newAnswering(t, 404, nil, body).shell(t).run("secret get a/b").ends(1).
			says("404", "does VAULT_ADDR point to a Sealkeep?")
	}
	newAnswering(t, 200, nil, "<html>").shell(t).run("secret get a/b").ends(1).says("can't be read")
	newAnswering(t, 200, nil, "<html>").shell(t).pipe("x", "secret", "verify", "a/b").ends(2)
	newAnswering(t, 200, nil, "{}").shell(t).pipe("x", "secret", "verify", "a/b").ends(2)
}

func TestClient_AnswersHaveALimit(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 200, nil, strings.Repeat("x", answerLimit+1))
	server.shell(t).run("secret list").ends(1).says("longer than")
}

func TestClient_HostileTextCantReachTheTerminal(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 400, nil, `{"error":"\u001b[2Jgone\u202e","code":"invalid_request","request_id":"r-1"}`)
	server.shell(t).run("secret list").ends(1).says(`\x1b[2Jgone\u202e`).hides("\x1b")
	list := newAnswering(t, 200, nil, `{"items":[{"name":"a","description":"\u001b]0;x\u0007"}]}`)
	list.shell(t).run("secret list").ok().shows(`\x1b]0;x\a`).hides("\x1b")
}

// newPages answers a list page by page, by the cursor.
func newPages(t *testing.T, pages map[string]string) shell {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, pages[r.URL.Query().Get("cursor")])
	}))
	t.Cleanup(server.Close)
	return shell{t, map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": newToken(t)}}
}
