package webhooks

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/target/webhook"
)

// material is a value as events and the API have it.
type material struct {
	Value    string `json:"value"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// event is one as it arrived, and what came of it.
type event struct {
	ID         string `json:"event_id"`
	Step       string `json:"step"`
	Version    int64  `json:"version"`
	Generation int64  `json:"generation"`
	Fetch      *struct {
		URL       string    `json:"url"`
		Token     string    `json:"token"`
		ExpiresAt time.Time `json:"expires_at"`
	} `json:"fetch"`
	material

	header http.Header
	body   []byte
	told   material // what was in it, or was fetched
}

// refusal is an answer to an event that changes nothing.
type refusal struct {
	status int
	body   string
}

// receiver is one as docs/webhooks.md asks for, which notes what it is told.
type receiver struct {
	url, ca     string
	connections atomic.Int64
	client      http.Client // with which it fetches

	mu       sync.Mutex
	keys     [][]byte  // that it knows
	refusals []refusal // of the next applies
	events   []event
	unsigned int // requests that were signed by no key that it knows
	newest   int64
	version  int64
	inUse    material
}

// receive starts a receiver under a certificate of an authority that was made for it.
func receive(t *testing.T, keys ...string) *receiver {
	t.Helper()
	r := &receiver{client: http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	r.knows(keys...)
	certificate, ca := certify(t)
	server := httptest.NewUnstartedServer(r)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	r.url, r.ca = server.URL+"/rotated", ca
	return r
}

// certify makes an authority and, under it, a certificate for 127.0.0.1.
func certify(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	ca, signer := make(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "receivers"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, key := make(&x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, signer)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
}

// knows gives the receiver its signing keys.
func (r *receiver) knows(keys ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = nil
	for _, key := range keys {
		r.keys = append(r.keys, []byte(key))
	}
}

// refuses has the receiver answer its next applies so.
func (r *receiver) refuses(answers ...refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = answers
}

// arrived gives the events of a version so far, in their order.
func (r *receiver) arrived(version int64) (events []event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Version == version {
			events = append(events, e)
		}
	}
	return events
}

// applies gives all applies so far.
func (r *receiver) applies() (events []event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Step == webhook.StepApply {
			events = append(events, e)
		}
	}
	return events
}

func (r *receiver) holds() (version int64, m material) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version, r.inUse
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, 1<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	id, err := webhook.Verify(request.Header, body, r.keys, time.Now(), 5*time.Minute)
	if err != nil {
		r.unsigned++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	e := event{header: request.Header, body: body}
	if err := json.Unmarshal(body, &e); err != nil || e.ID != id {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer := r.take(request.Context(), &e)
	r.events = append(r.events, e)
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

// take does what an event asks for.
func (r *receiver) take(ctx context.Context, e *event) refusal {
	if slices.ContainsFunc(r.events, func(known event) bool { return known.ID == e.ID }) {
		return refusal{status: http.StatusTeapot} // nothing is sent twice here, so that it isn't a repetition but another event of the same id
	}
	if e.Generation < r.newest || e.Generation == r.newest && e.Step == webhook.StepApply {
		return refusal{http.StatusConflict, `{"code":"older_generation"}`}
	}
	if e.Step == webhook.StepTest {
		if e.Version != r.version {
			return refusal{status: http.StatusServiceUnavailable}
		}
		return refusal{status: http.StatusNoContent}
	}
	if e.told = e.material; e.Fetch != nil {
		var err error
		if e.told, _, err = fetch(ctx, &r.client, e.Fetch.URL, e.Fetch.Token); err != nil {
			return refusal{http.StatusServiceUnavailable, err.Error()}
		}
	}
	if len(r.refusals) > 0 {
		next := r.refusals[0]
		r.refusals = r.refusals[1:]
		return next
	}
	r.newest, r.version, r.inUse = e.Generation, e.Version, e.told
	return refusal{status: http.StatusOK}
}

// fetch gets a value with the token of an event.
func fetch(ctx context.Context, client *http.Client, url, token string) (m material, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return m, 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		return m, 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return m, answer.StatusCode, fmt.Errorf("fetching: status %d", answer.StatusCode)
	}
	return m, answer.StatusCode, json.NewDecoder(answer.Body).Decode(&m)
}

// signatures counts those of an event.
func (e *event) signatures() int { return strings.Count(e.header.Get(webhook.HeaderSignature), "v1=") }

// signedBy tells whether a receiver that knows that key alone believes the event.
func (e *event) signedBy(key string) bool {
	_, err := webhook.Verify(e.header, e.body, [][]byte{[]byte(key)}, time.Now(), 5*time.Minute)
	return err == nil
}
