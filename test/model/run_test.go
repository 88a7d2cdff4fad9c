package model

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/pgproxy"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// clients is how many work at once; nameCount is how few names they share, so that they meet.
const (
	clients   = 10
	nameCount = 14
	hotNames  = 4 // that half of all they do is about
)

// run is two processes of one vault, each behind a proxy, and what clients were told.
type run struct {
	t         *testing.T
	seed      uint64
	prefix    string // of request ids, and so of the values that clients write
	began     time.Time
	drove     time.Duration // how long
	processes [2]*vaulttest.Vault
	proxies   [2]*pgproxy.Proxy
	names     []*name
	serial    atomic.Int64
	graces    atomic.Int64

	super   *pgx.Conn
	keys    *integrity.Keyring // of rows, for edits past the processes
	editing sync.Mutex         // super, which has one user at a time

	mu       sync.Mutex
	calls    []*call
	byHand   []*event
	tags     map[string]string // entity tags, and the value of each
	readers  []*reader
	spent    []*reader // revoked, or about to expire
	hits     map[string]int
	flickers sync.Mutex // the role whose permissions come and go
	laps     uint64     // how often drive was called
}

// name is one secret's name. Changes through the API share its lock, so that they race each other; who edits by hand holds it
// alone from the first look until the edit is undone.
type name struct {
	text  string
	kind  string
	grace time.Duration
	lock  sync.RWMutex

	mu     sync.Mutex
	values []string // that were seen or written last
	tags   []string
	holds  map[int64]string // by version, as far as it was seen
}

// kinds are what names alternate between.
var kinds = []struct {
	kind  string
	grace time.Duration
}{{"manual", 0}, {"manual", time.Second}, {"automatic", time.Second}, {"manual", time.Hour}, {"automatic", 0}}

const outside = "outside/secret" // that only administrators may read

func newRun(t *testing.T, seed uint64) *run {
	t.Helper()
	r := &run{
		t: t, seed: seed, prefix: fmt.Sprintf("m%08x-", rand.Uint32()), tags: map[string]string{}, hits: map[string]int{},
	}
	options := []sealkeeptest.Option{
		sealkeeptest.WithReadAuth("ip+token"), sealkeeptest.WithEnv("VAULT_AUDIT_TIMEOUT_MS", "1000"),
		sealkeeptest.WithEnv("VAULT_LOG_LEVEL", "error"),
	}
	for i := range r.proxies {
		r.proxies[i] = pgproxy.New(t, vaulttest.Classify)
	}
	r.processes[0] = vaulttest.New(t, vaulttest.Config{Proxy: r.proxies[0], Options: options})
	r.processes[1] = r.processes[0].Another(t, vaulttest.Config{Proxy: r.proxies[1], Options: options})
	r.super = r.processes[0].DB.Super(t)
	r.prepareEdits()
	r.began = time.Now()

	c := &client{run: r, random: rand.New(rand.NewPCG(seed, 0))}
	for i := range nameCount {
		k := kinds[i%len(kinds)]
		n := &name{text: fmt.Sprintf("model/%d", i), kind: k.kind, grace: k.grace, holds: map[int64]string{}}
		r.names = append(r.names, n)
		c.create(n).want(t, 201)
	}
	c.create(&name{text: outside, kind: "manual", holds: map[int64]string{}}).want(t, 201)
	c.prepareGrants()
	return r
}

// since is the time of the run, on the monotonic clock.
func (r *run) since() time.Duration { return time.Since(r.began) }

func (r *run) nextID() string { return fmt.Sprintf("%s%d", r.prefix, r.serial.Add(1)) }

func (r *run) hit(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hits[what]++
}

// client is one of the run's clients. Its choices are its own.
type client struct {
	run    *run
	random *rand.Rand
	number int
}

// atLeast is how long a run lasts: graces and tokens that end after a second are to end in it.
const atLeast = 2500 * time.Millisecond

// drive lets the clients do so many things together, or more, while one more cuts connections, and waits for the last.
func (r *run) drive(ops int) {
	r.laps++
	random := func(client int) *rand.Rand { return rand.New(rand.NewPCG(r.seed+r.laps-1, uint64(client))) }
	var crowd sync.WaitGroup
	for i := range clients {
		c := &client{run: r, random: random(i + 1), number: i + 1}
		crowd.Go(func() {
			for n := 0; n < ops/clients || r.since() < atLeast; n++ {
				if last := c.act(); last != nil && last.status == 503 {
					time.Sleep(time.Duration(c.random.IntN(4)) * time.Millisecond) // what was cut takes a moment to come back
				}
			}
		})
	}
	over := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() {
		c := &client{run: r, random: random(clients + 1)}
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(50+c.random.IntN(300)) * time.Millisecond):
				c.cut()
			}
		}
	})
	crowd.Wait()
	close(over)
	cutter.Wait()
}

// act does one thing and returns its last answer. Nine in ten changes go through the first process, and three in four reads
// to the second, which therefore hears of a change only by looking.
func (c *client) act() *call {
	n := c.pick()
	writer, reader := c.process(10, 0), c.process(25, 1)
	switch p := c.random.IntN(1000); {
	case p < 400:
		return c.read(reader, n, c.reader())
	case p < 530:
		return c.readIfChanged(reader, n, c.reader())
	case p < 610:
		return c.readVersion(reader, n, c.reader())
	case p < 670:
		return c.batch(reader, c.reader())
	case p < 780:
		return c.verify(reader, n, c.reader())
	case p < 930:
		return c.change(writer, n)
	case p < 945:
		return c.replace(writer, n)
	case p < 975:
		return c.editByHand(n)
	case p < 990:
		return c.changeGrants(writer)
	default:
		return c.read(reader, &name{text: "model/none"}, c.reader())
	}
}

// process is the one named, or in that many of a hundred cases the other.
func (c *client) process(percent, one int) int {
	if c.random.IntN(100) < percent {
		return 1 - one
	}
	return one
}

func (c *client) pick() *name {
	if c.random.IntN(2) == 0 {
		return c.run.names[c.random.IntN(hotNames)]
	}
	return c.run.names[c.random.IntN(len(c.run.names))]
}

// learn remembers a value and the entity tag that it came with.
func (r *run) learn(n *name, value, tag string) {
	if value == "" || tag == "" {
		return
	}
	r.mu.Lock()
	known, ok := r.tags[tag]
	r.tags[tag] = value
	r.mu.Unlock()
	if ok && known != value {
		r.t.Errorf("%s: the entity tag %s came with two values, %q and %q", n.text, tag, known, value)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holds[versionOf(tag)] = value
	if !slices.Contains(n.values, value) {
		n.values = append(n.values[max(0, len(n.values)-5):], value)
		n.tags = append(n.tags[max(0, len(n.tags)-2):], tag)
	}
}

// settle lets all faults go, and waits until both processes serve and nothing is in doubt any more.
func (r *run) settle() {
	r.t.Helper()
	for i, v := range r.processes {
		c := &client{run: r, random: rand.New(rand.NewPCG(r.seed, 1<<32))}
		vaulttest.Eventually(r.t, "the process serves again", func() bool {
			return c.read(i, r.names[0], r.admin()).status != 503 && c.update(i, r.names[0]).status != 503
		})
		vaulttest.Eventually(r.t, "no stream is in doubt", func() bool {
			status, err := v.Try(r.t, "GET", "/v1/status", nil)
			if err != nil || status.Status != 200 {
				return false
			}
			trail, _ := status.JSON["audit"].(map[string]any)
			return trail["streams_in_doubt"] == float64(0)
		})
	}
}

// quiet touches every row by hand without changing anything, while nobody else does anything: reads go on.
func (r *run) quiet() {
	r.t.Helper()
	c := &client{run: r, random: rand.New(rand.NewPCG(r.seed, 1<<33))}
	for _, n := range r.names {
		if c.read(0, n, r.admin()).status == 404 {
			c.create(n).want(r.t, 201)
		}
		for range 2 {
			r.exec("UPDATE vault.secrets SET name = name WHERE name = $1", n.text)
			r.exec("UPDATE vault.secret_versions v SET state = v.state FROM vault.secrets s WHERE s.id = v.secret_id AND s.name = $1", n.text)
			for process := range r.processes {
				c.read(process, n, r.admin()).want(r.t, 200)
				c.verifyValue(process, n, r.admin(), n.last()).want(r.t, 200)
			}
		}
	}
}

// of is the value that was seen of a version last.
func (n *name) of(version int64) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return cmp.Or(n.holds[version], "nothing is known of it")
}

// last is the value that was seen last.
func (n *name) last() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.values) == 0 {
		return "nothing is known of it"
	}
	return n.values[len(n.values)-1]
}
