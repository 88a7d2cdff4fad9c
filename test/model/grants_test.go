package model

import (
	"net/http"
	"slices"
	"time"
)

// Objects of the model beside names.
const (
	tokenObject = "token "
	roleObject  = "role "
)

// The roles of readers: the permissions of one come and go, those of the other stay.
const (
	flickerRole = "flicker"
	steadyRole  = "steady"
)

// reader is a token, and what it depends on.
type reader struct {
	token string
	name  string // "" for the administrator
	role  string
}

// admin is the administrator, whose token lasts.
func (r *run) admin() *reader { return &reader{token: r.processes[0].AdminToken} }

// reader picks a token to read with, some of them spent.
func (c *client) reader() *reader {
	if c.random.IntN(10) < 4 {
		return c.run.admin()
	}
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	if n := len(c.run.spent); n > 0 && c.random.IntN(12) == 0 {
		return c.run.spent[c.random.IntN(n)]
	}
	return c.run.readers[c.random.IntN(len(c.run.readers))]
}

// prepareGrants makes the roles and their first tokens.
func (c *client) prepareGrants() {
	r := c.run
	for _, role := range []string{flickerRole, steadyRole} {
		r.processes[0].Do(r.t, http.MethodPost, "/v1/roles", map[string]any{"name": role, "permissions": []any{}}).Want(r.t, http.StatusCreated)
		c.permit(0, role, true).want(r.t, http.StatusOK)
		for range 3 {
			c.issue(0, role, 0).want(r.t, http.StatusCreated)
		}
		c.issue(0, role, time.Second).want(r.t, http.StatusCreated)
	}
}

// permit gives a role the right to read what the model is about, or takes it.
func (c *client) permit(process int, role string, may bool) *call {
	op, permissions := opForbid, []map[string]any{}
	if may {
		op, permissions = opPermit, []map[string]any{{"action": "read", "path": "model/*"}}
	}
	return c.send(&call{process: process, op: op, reader: c.run.admin(), grant: &reader{role: role}}, http.MethodPut,
		"/v1/roles/"+role+"/permissions", map[string]any{"permissions": permissions})
}

// issue makes a token that lives so long, whole seconds; 0 is for ever.
func (c *client) issue(process int, role string, life time.Duration) *call {
	id := c.run.nextID()
	body := map[string]any{"name": id, "role": role}
	if life > 0 {
		body["expires_in_secs"] = int64(life / time.Second)
	}
	grant := &reader{name: id, role: role}
	one := &call{id: id, process: process, op: opIssue, reader: c.run.admin(), grant: grant, life: life}
	c.send(one, http.MethodPost, "/v1/tokens", body)
	if one.status == http.StatusCreated {
		c.run.mu.Lock()
		c.run.readers = append(c.run.readers, grant)
		c.run.mu.Unlock()
	}
	return one
}

// retire takes the oldest token of those that are used.
func (r *run) retire() *reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.readers) < 4 {
		return nil
	}
	old := r.readers[0]
	r.readers = slices.Delete(slices.Clone(r.readers), 0, 1)
	r.spent = append(r.spent[max(0, len(r.spent)-3):], old)
	return old
}

func (c *client) revoke(process int, of *reader) *call {
	return c.send(&call{process: process, op: opRevoke, reader: c.run.admin(), grant: of}, http.MethodDelete, "/v1/tokens/"+of.name, nil)
}

// changeGrants takes a role's permissions away for a moment, or replaces a token.
func (c *client) changeGrants(process int) *call {
	if c.random.IntN(2) == 0 && c.run.flickers.TryLock() {
		defer c.run.flickers.Unlock()
		return c.flicker(process)
	}
	role := []string{flickerRole, steadyRole}[c.random.IntN(2)]
	life := time.Duration(0)
	if c.random.IntN(3) == 0 {
		life = time.Duration(1+c.random.IntN(2)) * time.Second
	}
	one := c.issue(process, role, life)
	if old := c.run.retire(); old != nil {
		one = c.revoke(process, old)
		for other := range c.run.processes {
			c.read(other, c.pick(), old)
		}
	}
	return one
}

// flicker takes the permissions, reads in vain, and gives them back, however often that takes.
func (c *client) flicker(process int) *call {
	c.permit(process, flickerRole, false)
	c.run.mu.Lock()
	of := slices.DeleteFunc(slices.Clone(c.run.readers), func(one *reader) bool { return one.role != flickerRole })
	c.run.mu.Unlock()
	for other := range c.run.processes {
		if len(of) > 0 {
			c.read(other, c.pick(), of[c.random.IntN(len(of))])
		}
	}
	time.Sleep(time.Duration(c.random.IntN(10)) * time.Millisecond)
	given := c.permit(process, flickerRole, true)
	for try := 0; given.status != http.StatusOK && try < 200; try++ {
		time.Sleep(10 * time.Millisecond)
		given = c.permit(try%2, flickerRole, true)
	}
	return given
}
