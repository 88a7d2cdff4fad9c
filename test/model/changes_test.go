package model

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// versionOf is the number in an entity tag.
func versionOf(tag string) (version int64) {
	_, _ = fmt.Sscanf(tag, `"%d-`, &version)
	return version
}

// change gives a secret a new value, unless it is being edited by hand.
func (c *client) change(process int, n *name) *call {
	if !n.lock.TryRLock() {
		return c.read(process, n, c.reader())
	}
	defer n.lock.RUnlock()
	if n.kind == "automatic" && c.random.IntN(3) > 0 {
		return c.rotate(process, n)
	}
	one := c.update(process, n)
	if one.code == "too_many_versions" && c.random.IntN(4) == 0 {
		c.delete(process, n)
		one = c.create(n)
	}
	return one
}

// replace deletes a secret and makes another of its name, or tries to make one that is there.
func (c *client) replace(process int, n *name) *call {
	if !n.lock.TryRLock() {
		return c.read(process, n, c.reader())
	}
	defer n.lock.RUnlock()
	if c.random.IntN(3) > 0 {
		c.delete(process, n)
		c.read(1-process, n, c.run.admin())
	}
	return c.create(n)
}

func (c *client) create(n *name) *call {
	id := c.run.nextID()
	body := map[string]any{"name": n.text, "kind": n.kind, "value": id, "grace_period_secs": int64(n.grace / time.Second)}
	if n.kind == "automatic" {
		body["rotation_interval_secs"] = 86400
	}
	one := c.send(&call{id: id, process: c.process(20, 0), op: opCreate, about: n, reader: c.run.admin(), value: id}, http.MethodPost, "/v1/secrets", body)
	if one.status == http.StatusCreated {
		c.run.learn(n, id, one.tag)
	}
	return one
}

func (c *client) update(process int, n *name) *call {
	id := c.run.nextID()
	one := c.send(&call{id: id, process: process, op: opUpdate, about: n, reader: c.run.admin(), value: id}, http.MethodPut, pathOf(n),
		map[string]any{"value": id})
	if one.status == http.StatusOK {
		c.run.learn(n, id, one.tag)
	}
	return one
}

func (c *client) rotate(process int, n *name) *call {
	one := c.send(&call{process: process, op: opRotate, about: n, reader: c.run.admin()}, http.MethodPost, pathOf(n)+"/rotate", nil)
	if one.status == http.StatusOK {
		c.run.learn(n, one.got.Value, one.tag)
	}
	return one
}

// delete keeps a copy of the rows first, for who puts old rows back.
func (c *client) delete(process int, n *name) *call {
	c.run.archive(n)
	return c.send(&call{process: process, op: opDelete, about: n, reader: c.run.admin()}, http.MethodDelete, pathOf(n), nil)
}
