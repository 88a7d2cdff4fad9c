package faults

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// What clients do. Values and secrets that they make are named after the request that made them, so that the database can
// be asked afterwards which request a thing came from.
const (
	opRead      = "read"
	opCondition = "conditional read"
	opMissing   = "read of what isn't there"
	opVerify    = "verify"
	opBatch     = "batch"
	opCreate    = "create"
	opUpdate    = "update"
	opRotate    = "rotate"
	opDelete    = "delete"
)

// answer is what a client got.
type answer struct {
	id      string // of the request
	op      string
	name    string
	batch   []string // the names asked for
	status  int
	etag    string
	began   time.Time
	took    time.Duration
	version int64 // as answered
	valid   bool
	value   string
	shown   map[string]int64 // batch: versions by name
}

func (a answer) String() string { return fmt.Sprintf("%s: %d", a.op, a.status) }

const (
	hotSecrets = 4
	automatics = 2
)

func hot(i int) string       { return fmt.Sprintf("load/hot-%d", i) }
func automatic(i int) string { return fmt.Sprintf("load/auto-%d", i) }

const steady, missing = "load/steady", "load/missing"

// load is a crowd of clients that ask for everything at once, until it is stopped.
type load struct {
	t      *testing.T
	vault  *vaulttest.Vault
	prefix string // of its request ids
	serial atomic.Int64
	stop   chan struct{}
	once   sync.Once
	crowd  sync.WaitGroup

	mu      sync.Mutex
	answers []answer
	failed  []error
}

// startLoad makes the secrets that the clients work on, and starts the clients.
func startLoad(t *testing.T, v *vaulttest.Vault, clients int) *load {
	t.Helper()
	l := &load{t: t, vault: v, prefix: fmt.Sprintf("load%d-", rand.Int32()), stop: make(chan struct{})}
	v.DB.Exec(t, keepRemoved)
	for i := range hotSecrets {
		l.mustCreate(map[string]any{"name": hot(i), "kind": "manual", "value": "first"})
	}
	for i := range automatics {
		l.mustCreate(map[string]any{"name": automatic(i), "kind": "automatic", "rotation_interval_secs": 86400})
	}
	l.mustCreate(map[string]any{"name": steady, "kind": "manual", "value": steady})
	for c := range clients {
		l.crowd.Go(func() { l.client(rand.New(rand.NewPCG(uint64(c), 1))) })
	}
	t.Cleanup(l.end)
	vaulttest.Eventually(t, "everything that clients do has succeeded once", func() bool {
		seen := map[string]bool{}
		for _, a := range l.taken() {
			seen[a.String()] = true
		}
		return !slices.ContainsFunc(successes, func(s string) bool { return !seen[s] })
	})
	return l
}

func (l *load) mustCreate(body map[string]any) {
	l.t.Helper()
	if a := l.do(answer{op: opCreate, name: body["name"].(string)}, http.MethodPost, "/v1/secrets", body); a.status != http.StatusCreated {
		l.t.Fatalf("creating %s: status %d", a.name, a.status)
	}
}

// end stops the clients and waits for their last answers.
func (l *load) end() {
	l.once.Do(func() { close(l.stop) })
	l.crowd.Wait()
}

// client sends one request after the other.
func (l *load) client(r *rand.Rand) {
	etags := map[string]string{}
	var own []string // secrets that only this client knows
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		secret := hot(r.IntN(hotSecrets))
		path := "/v1/secrets/" + secret
		switch n := r.IntN(100); {
		case n < 25:
			a := l.do(answer{op: opRead, name: secret}, http.MethodGet, path, nil)
			if a.status == http.StatusOK {
				etags[secret] = a.etag
			}
		case n < 40 && etags[secret] != "":
			l.do(answer{op: opCondition, name: secret}, http.MethodGet, path, nil, sealkeeptest.WithHeader("If-None-Match", etags[secret]))
		case n < 45:
			l.do(answer{op: opMissing, name: missing}, http.MethodGet, "/v1/secrets/"+missing, nil)
		case n < 60:
			value := []string{steady, "something else"}[r.IntN(2)]
			l.do(answer{op: opVerify, name: steady}, http.MethodPost, "/v1/secrets/"+steady+"/verify", map[string]any{"value": value})
		case n < 70:
			names := []string{hot(0), missing, hot(1), steady}
			l.do(answer{op: opBatch, batch: names}, http.MethodPost, "/v1/batch/secrets", map[string]any{"names": names})
		case n < 80:
			a := l.create()
			if a.status == http.StatusCreated {
				own = append(own, a.name)
			}
		case n < 84 && len(own) > 0:
			a := l.do(answer{op: opDelete, name: own[0]}, http.MethodDelete, "/v1/secrets/"+own[0], nil)
			if a.status == http.StatusNoContent || a.status == http.StatusNotFound {
				own = own[1:]
			}
		case n < 94:
			l.update(secret)
		default:
			name := automatic(r.IntN(automatics))
			l.do(answer{op: opRotate, name: name}, http.MethodPost, "/v1/secrets/"+name+"/rotate", nil)
		}
	}
}

func (l *load) create() answer {
	id := l.nextID()
	name := "load/made-" + id
	return l.do(answer{id: id, op: opCreate, name: name}, http.MethodPost, "/v1/secrets",
		map[string]any{"name": name, "kind": "manual", "value": id})
}

func (l *load) update(name string) answer {
	id := l.nextID()
	return l.do(answer{id: id, op: opUpdate, name: name}, http.MethodPut, "/v1/secrets/"+name, map[string]any{"value": id})
}

func (l *load) nextID() string { return fmt.Sprintf("%s%d", l.prefix, l.serial.Add(1)) }

// do sends a request and keeps what came back. It is called from many goroutines.
func (l *load) do(a answer, method, path string, body any, options ...sealkeeptest.RequestOption) answer {
	if a.id == "" {
		a.id = l.nextID()
	}
	options = append(options, sealkeeptest.WithHeader("X-Request-Id", a.id))
	a.began = time.Now()
	response, err := l.vault.Try(l.t, method, path, body, options...)
	a.took = time.Since(a.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%s %s: %w", method, path, err))
		return a
	}
	a.status, a.etag = response.Status, response.Header.Get("ETag")
	a.version, a.value = int64(response.Number("version")), response.Text("value")
	a.valid = response.JSON["valid"] == true
	if a.op == opBatch && a.status == http.StatusOK {
		var items []struct {
			Name    string
			Version int64
		}
		response.Decode(l.t, &items)
		a.shown = map[string]int64{}
		for _, item := range items {
			a.shown[item.Name] = item.Version
		}
	}
	l.answers = append(l.answers, a)
	return a
}

// taken returns what has been answered so far.
func (l *load) taken() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.answers)
}

// serves tells whether a read and a change succeed now.
func (l *load) serves() bool {
	read := l.do(answer{op: opRead, name: steady}, http.MethodGet, "/v1/secrets/"+steady, nil)
	return read.status == http.StatusOK && l.update(hot(0)).status == http.StatusOK
}

// awaitRefusal waits until a request that began after since was answered with 503.
func (l *load) awaitRefusal(since time.Time) {
	l.t.Helper()
	vaulttest.Eventually(l.t, "a request is refused", func() bool {
		return slices.ContainsFunc(l.taken(), func(a answer) bool {
			return a.status == http.StatusServiceUnavailable && a.began.Add(a.took).After(since)
		})
	})
}
