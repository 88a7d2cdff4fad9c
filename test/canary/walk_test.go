package canary

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// Addresses that the trusted proxy, which the test is, names.
const (
	listed  = "192.0.2.1"
	foreign = "203.0.113.1"
)

// walk exercises a vault with canaries: high-entropy text in all places where plaintext goes.
type walk struct {
	t       *testing.T
	v       *vaulttest.Vault
	needles *needles
	weak    string // a token that may do nothing of what is asked for
	fetch   string // the token of a webhook's event
	serial  int
	answers []answer
}

// answer is what came back, headers first.
type answer struct {
	operation string
	status    int
	discloses bool // it may hold plaintext
	text      []byte
}

type request struct {
	method, path string
	body         any
}

// next gives a number that is used once.
func (w *walk) next() int {
	w.serial++
	return w.serial
}

// text gives a new canary that JSON has as it is.
func (w *walk) text(what string) string {
	content := rand.Text() + rand.Text()
	w.needles.add(fmt.Sprintf("%s %d", what, w.next()), []byte(content))
	return content
}

// binary gives a new canary that is no text, as value_base64 has it.
func (w *walk) binary(what string) string {
	content := make([]byte, 48)
	_, _ = rand.Read(content)
	w.needles.add(fmt.Sprintf("%s %d", what, w.next()), content)
	return base64.StdEncoding.EncodeToString(content)
}

// token gives a canary that is a token that was never issued.
func (w *walk) token() string {
	token, _, err := access.NewToken(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer token.Release()
	w.learn("token that was never issued", string(token.Reveal()))
	return string(token.Reveal())
}

// learn makes a canary of what the vault made up itself.
func (w *walk) learn(what, content string) {
	w.needles.add(fmt.Sprintf("%s %d", what, w.next()), []byte(content))
}

// learnKeys makes canaries of all keys that the database holds wrapped at this moment.
func (w *walk) learnKeys() {
	w.t.Helper()
	for _, s := range w.v.Stored(w.t, "") {
		w.needles.add(fmt.Sprintf("DEK of %s, version %d, %s", s.Name, s.Version, s.UID), s.DEK)
	}
	for purpose, root := range w.v.Roots(w.t) {
		w.needles.add("integrity root "+purpose, root)
	}
}

// from makes the proxy name another client.
func from(address string) sealkeeptest.RequestOption {
	return sealkeeptest.WithHeader("X-Forwarded-For", address)
}

// send sends a request of an operation and keeps the answer. What was generated for it becomes a canary.
func (w *walk) send(o operation, r request, options ...sealkeeptest.RequestOption) *sealkeeptest.Response {
	w.t.Helper()
	usual := []sealkeeptest.RequestOption{from(listed)}
	if o.fetches {
		usual = append(usual, sealkeeptest.WithToken(w.fetch))
	}
	options = append(usual, options...)
	response := w.v.Do(w.t, r.method, r.path, r.body, options...)
	var text bytes.Buffer
	_ = response.Header.Write(&text)
	text.Write(response.Body)
	success := response.Status < http.StatusMultipleChoices
	w.answers = append(w.answers, answer{operation: o.id, status: response.Status, discloses: o.discloses && success, text: text.Bytes()})
	if success {
		switch o.id {
		case "createSecret", "rotateSecret", "rollbackSecret", "fetchValue":
			for _, field := range []string{"value", "username", "password"} {
				if value := response.Text(field); len(value) >= chunkSize {
					w.learn("generated "+field, value)
				}
			}
		case "createToken":
			w.learn("token", response.Text("token"))
		}
	}
	return response
}

// must is send for a request that has to succeed.
func (w *walk) must(id string, r request, options ...sealkeeptest.RequestOption) *sealkeeptest.Response {
	w.t.Helper()
	response := w.send(operationByID(w.t, id), r, options...)
	if response.Status >= http.StatusBadRequest {
		w.t.Fatalf("%s: %s %s: status %d: %s", id, r.method, r.path, response.Status, response.Body)
	}
	return response
}

// expect is send for a request that has to be answered in a certain way.
func (w *walk) expect(status int, id string, r request, options ...sealkeeptest.RequestOption) {
	w.t.Helper()
	if response := w.send(operationByID(w.t, id), r, options...); response.Status != status {
		w.t.Errorf("%s: %s %s: status %d, want %d: %s", id, r.method, r.path, response.Status, status, response.Body)
	}
}

type object = map[string]any

const (
	opaque, binary, userpass, automatic, pair = "canary/opaque", "canary/binary", "canary/userpass", "canary/auto", "canary/pair"
	targeted, signing                         = "canary/targeted", "canary/signing"
)

func at(name string) string { return "/v1/secrets/" + name }

// shapes takes secrets of every shape through their lives: created, read, changed in full and in part, compared, rotated.
func (w *walk) shapes() {
	w.t.Helper()
	create := func(body object) {
		w.must("createSecret", request{http.MethodPost, "/v1/secrets", body})
	}
	first := w.text("value")
	create(object{"name": opaque, "kind": "manual", "value": first, "grace_period_secs": 3600, "custom_metadata": object{"team": "canaries"}})
	create(object{"name": binary, "kind": "manual", "value_base64": w.binary("value"), "grace_period_secs": 3600})
	name, password := w.text("user name"), w.text("password")
	create(object{"name": userpass, "kind": "manual", "username": name, "password": password, "grace_period_secs": 3600})
	create(object{"name": automatic, "kind": "automatic", "rotation_interval_secs": 3600, "grace_period_secs": 3600})
	create(object{"name": pair, "kind": "automatic", "username": w.text("user name"), "rotation_interval_secs": 3600})
	create(object{"name": "canary/long", "kind": "manual", "value": long(w.text("long value"), 64<<10)})
	create(object{"name": "canary/unread", "kind": "manual", "value": w.text("value")})

	change := func(name string, body object) { w.must("updateSecret", request{http.MethodPut, at(name), body}) }
	second := w.text("value")
	change(opaque, object{"value": second})
	change(opaque, object{"value": second}) // compared, and no change
	change(opaque, object{"description": "a secret with canaries"})
	change(binary, object{"value_base64": w.binary("value")})
	change(userpass, object{"password": w.text("password")})
	change(userpass, object{"username": w.text("user name")})
	change(userpass, object{"username": w.text("user name"), "password": w.text("password")})

	for _, value := range []string{first, second, w.text("wrong value")} {
		w.must("verifySecret", request{http.MethodPost, at(opaque) + "/verify", object{"value": value}})
	}
	w.must("verifySecret", request{http.MethodPost, at(binary) + "/verify", object{"value_base64": w.binary("wrong value")}})
	w.must("verifySecret", request{http.MethodPost, at(userpass) + "/verify", object{"value": password}})
	for _, name := range []string{automatic, pair, automatic} {
		w.must("rotateSecret", request{http.MethodPost, at(name) + "/rotate", nil})
	}

	tag := w.must("readSecret", request{http.MethodGet, at(opaque), nil}).Header.Get("ETag")
	w.must("readSecret", request{http.MethodGet, at(opaque), nil}, sealkeeptest.WithHeader("If-None-Match", tag))
	w.must("readSecret", request{http.MethodGet, at(opaque) + "?version=1", nil})
	w.must("updateSecret", request{http.MethodPut, at(opaque), object{"value": w.text("value")}}, sealkeeptest.WithHeader("If-Match", tag))
	names := []string{opaque, binary, userpass, automatic, pair, "canary/long", "canary/missing"}
	w.must("readBatch", request{http.MethodPost, "/v1/batch/secrets", object{"names": names}})
}

// long repeats a canary to a length.
func long(canary string, length int) string {
	return string(bytes.Repeat([]byte(canary), length/len(canary)+1)[:length])
}
