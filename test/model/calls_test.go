package model

import (
	"net/http"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// What clients ask for.
const (
	opRead      = "read"
	opCondition = "conditional read"
	opVersion   = "read of a version"
	opBatch     = "batch"
	opVerify    = "verify"
	opCreate    = "create"
	opUpdate    = "update"
	opRotate    = "rotate"
	opDelete    = "delete"
	opIssue     = "token"
	opRevoke    = "revoke"
	opPermit    = "permissions given"
	opForbid    = "permissions taken"
)

// actionOf is how the audit trail names it.
var actionOf = map[string]string{
	opRead: "secret.read", opCondition: "secret.read", opVersion: "secret.read", opBatch: "secret.read", opVerify: "secret.verify",
	opCreate: "secret.create", opUpdate: "secret.update", opRotate: "secret.rotate", opDelete: "secret.delete",
	opIssue: "token.create", opRevoke: "token.revoke", opPermit: "role.set_permissions", opForbid: "role.set_permissions",
}

// call is a request, and what the client was told.
type call struct {
	id      string
	client  int
	process int
	op      string
	about   *name    // nil for a batch, and for grants
	names   []string // of a batch
	reader  *reader  // whose token it was sent with
	version int64    // asked for
	value   string   // written, or compared
	grant   *reader  // the token that was issued or revoked
	life    time.Duration

	begin, end time.Duration
	status     int
	code       string
	got        item
	tag        string
	valid      bool
	items      []item
}

type item struct {
	Name    string
	Version int64
	Value   string
}

// want fails the test unless the answer has that status.
func (c *call) want(t *testing.T, status int) *call {
	t.Helper()
	if c.status != status {
		t.Fatalf("%s of %s was answered with %d (%s), not %d; request %s", c.op, c.on(), c.status, c.code, status, c.id)
	}
	return c
}

// on names what the call is about.
func (c *call) on() string {
	if c.about == nil {
		return ""
	}
	return c.about.text
}

// send sends a call with its reader's token and keeps what came back.
func (c *client) send(one *call, method, path string, body any, options ...sealkeeptest.RequestOption) *call {
	r := c.run
	if one.id == "" {
		one.id = r.nextID()
	}
	one.client = c.number
	options = append(options, sealkeeptest.WithHeader("X-Request-Id", one.id), sealkeeptest.WithToken(one.reader.token))
	one.begin = r.since()
	answer, err := r.processes[one.process].Try(r.t, method, path, body, options...)
	one.end = r.since()
	if err != nil {
		r.t.Errorf("%s %s got no answer at all: %v", method, path, err)
		one.status = http.StatusServiceUnavailable // for all that is known
	} else {
		one.status, one.code, one.tag = answer.Status, answer.Text("code"), answer.Header.Get("ETag")
		one.got = item{Name: answer.Text("name"), Version: int64(answer.Number("version")), Value: answer.Text("value")}
		one.valid = answer.JSON["valid"] == true
		if one.op == opIssue {
			one.grant.token = answer.Text("token")
		}
		if one.op == opBatch && one.status == http.StatusOK {
			answer.Decode(r.t, &one.items)
		}
	}
	r.mu.Lock()
	r.calls = append(r.calls, one)
	r.mu.Unlock()
	return one
}

func pathOf(n *name) string { return "/v1/secrets/" + n.text }

func (c *client) read(process int, n *name, by *reader) *call {
	one := c.send(&call{process: process, op: opRead, about: n, reader: by}, http.MethodGet, pathOf(n), nil)
	if one.status == http.StatusOK {
		c.run.learn(n, one.got.Value, one.tag)
	}
	return one
}

// readIfChanged reads unless the client has the value already.
func (c *client) readIfChanged(process int, n *name, by *reader) *call {
	n.mu.Lock()
	tag := `"1-00000000-0000-4000-8000-000000000000"`
	if len(n.tags) > 0 {
		tag = n.tags[len(n.tags)-1-c.random.IntN(len(n.tags))]
	}
	n.mu.Unlock()
	one := c.send(&call{process: process, op: opCondition, about: n, reader: by}, http.MethodGet, pathOf(n), nil,
		sealkeeptest.WithHeader("If-None-Match", tag))
	switch one.status {
	case http.StatusOK:
		c.run.learn(n, one.got.Value, one.tag)
		if one.tag == tag {
			c.run.t.Errorf("%s was sent again to a client that said it has %s", n.text, tag)
		}
	case http.StatusNotModified:
		if one.tag != tag {
			c.run.t.Errorf("a client that has %s of %s was told that it hasn't changed, and is %s", tag, n.text, one.tag)
		}
		one.got = item{Name: n.text, Version: versionOf(tag)}
		c.run.mu.Lock()
		one.got.Value = c.run.tags[tag]
		c.run.mu.Unlock()
	}
	return one
}

// readVersion reads one of the versions around the one that was seen last.
func (c *client) readVersion(process int, n *name, by *reader) *call {
	n.mu.Lock()
	version := int64(1)
	if len(n.tags) > 0 {
		version = max(1, versionOf(n.tags[len(n.tags)-1])+1-int64(c.random.IntN(4)))
	}
	n.mu.Unlock()
	return c.readThat(process, n, by, version)
}

func (c *client) readThat(process int, n *name, by *reader, version int64) *call {
	one := c.send(&call{process: process, op: opVersion, about: n, reader: by, version: version}, http.MethodGet,
		pathOf(n)+"?version="+itoa(version), nil)
	if one.status == http.StatusOK && one.got.Version != version {
		c.run.t.Errorf("who asked for version %d of %s got %d", version, n.text, one.got.Version)
	}
	return one
}

func (c *client) batch(process int, by *reader) *call {
	names := []string{outside, "model/none"}
	for range 2 + c.random.IntN(4) {
		names = append(names, c.pick().text)
	}
	c.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return c.send(&call{process: process, op: opBatch, names: names, reader: by}, http.MethodPost, "/v1/batch/secrets",
		map[string]any{"names": names})
}

// verify compares with a value of this name, of another, or with one that nobody has.
func (c *client) verify(process int, n *name, by *reader) *call {
	value := c.run.prefix + "none"
	switch p := c.random.IntN(10); {
	case p < 7:
		n.mu.Lock()
		if len(n.values) > 0 {
			value = n.values[c.random.IntN(len(n.values))]
		}
		n.mu.Unlock()
	case p < 8:
		value = c.pick().last()
	}
	return c.verifyValue(process, n, by, value)
}

func (c *client) verifyValue(process int, n *name, by *reader, value string) *call {
	return c.send(&call{process: process, op: opVerify, about: n, reader: by, value: value}, http.MethodPost, pathOf(n)+"/verify",
		map[string]any{"value": value})
}
