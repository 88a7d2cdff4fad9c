package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/config"
	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const (
	defaultAddress = "http://127.0.0.1:8200"
	// answerLimit bounds what is read of an answer, in bytes: the largest page of metadata is well below.
	answerLimit = 16 << 20
	// callLimit is how long a call may take; the server answers or gives up within a few seconds.
	callLimit = 60 * time.Second
)

// client speaks to the API. It connects straight to the host of VAULT_ADDR: no proxy gets to see a token or a value.
type client struct {
	base  *url.URL
	token sensitive.Bytes // zero when there is none
	http  *http.Client
}

// call is one request.
type call struct {
	method string
	path   string // below VAULT_ADDR, not escaped
	query  url.Values
	header map[string]string
	body   []byte // JSON, or nil; zeroed when the call is over
	// anonymous tells that the API may answer this call without a token.
	anonymous bool
	// of says what the call does to what, for errors: "secret payments/db".
	of string
}

// answer is what a successful call gave. Its owner releases it when it may hold a value.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// release zeroes the answer.
func (r *answer) release() { clear(r.body) }

// clientFlags are what every command that speaks to the API takes.
type clientFlags struct {
	insecureHTTP bool
}

// newClient makes a client from VAULT_ADDR and VAULT_TOKEN(_FILE). The caller closes it.
func (a *app) newClient(flags clientFlags) (*client, error) {
	base, err := parseAddress(a.Environ["VAULT_ADDR"])
	if err != nil {
		return nil, err
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	if !token.IsZero() && base.Scheme == "http" && !isLoopback(base.Hostname()) && !flags.insecureHTTP {
		token.Release()
		return nil, errors.New("VAULT_ADDR " + base.String() + " is neither https nor this machine, so the token would " +
			"travel in clear: use https, or give --insecure-http if the network is safe")
	}
	return &client{base: base, token: token, http: &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: callLimit,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true,
		},
		// The API never redirects. Following one would hand the token to whoever answered.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// close forgets the token and ends connections.
func (c *client) close() {
	c.token.Release()
	c.http.CloseIdleConnections()
}

// parseAddress reads VAULT_ADDR; empty is the default.
func parseAddress(text string) (*url.URL, error) {
	if text == "" {
		text = defaultAddress
	}
	problem := errors.New("VAULT_ADDR is an address such as " + defaultAddress +
		" or https://vault.example.com: scheme, host and port, nothing else")
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.Opaque != "" ||
		(base.Scheme != "http" && base.Scheme != "https") || strings.Trim(base.Path, "/") != "" {
		return nil, problem
	}
	base.Path, base.RawPath = "", ""
	return base, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// token reads VAULT_TOKEN or the file that VAULT_TOKEN_FILE names; zero when there is neither.
func (a *app) token() (sensitive.Bytes, error) {
	token, err := config.LoadToken(a.Environ)
	if err != nil || token.IsZero() {
		return token, err
	}
	if _, err := access.ParseToken(token.Reveal()); err != nil {
		token.Release()
		name := "VAULT_TOKEN"
		if a.Environ[name] == "" {
			name = "VAULT_TOKEN_FILE"
		}
		return sensitive.Bytes{}, errors.New(name + " isn't a Sealkeep token (svk_…): refusing to send it")
	}
	return token, nil
}

// do makes one call. Any answer but a success is an error that says what to do about it.
func (c *client) do(ctx context.Context, k call) (*answer, error) {
	defer clear(k.body)
	if c.token.IsZero() && !k.anonymous {
		return nil, errors.New("VAULT_TOKEN isn't set: set it to a Sealkeep token (svk_…) that may do this")
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	request, err := c.request(ctx, k)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer response.Body.Close()
	body, err := readAnswer(response)
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		defer clear(body)
		return nil, c.refusal(k, response, body)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

func (c *client) request(ctx context.Context, k call) (*http.Request, error) {
	target := *c.base
	target.Path = k.path
	target.RawQuery = k.query.Encode()
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	request, err := http.NewRequestWithContext(ctx, k.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	request.Header.Set("User-Agent", "sealkeep/"+process.Version)
	request.Header.Set("Accept", "application/json")
	if k.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range k.header {
		request.Header.Set(name, value)
	}
	if !c.token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+string(c.token.Reveal()))
	}
	return request, nil
}

// readAnswer reads a body without leaving copies of it behind, as far as the length is known.
func readAnswer(response *http.Response) ([]byte, error) {
	capacity := min(max(response.ContentLength, 1024), answerLimit)
	body := make([]byte, 0, capacity+1)
	for {
		n, err := response.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > answerLimit:
			clear(body)
			return nil, fmt.Errorf("it is longer than %d bytes", answerLimit)
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			clear(body)
			return nil, err
		case len(body) == cap(body):
			larger := make([]byte, len(body), 2*cap(body))
			copy(larger, body)
			clear(body)
			body = larger
		}
	}
}
