package model

import (
	"time"

	"github.com/sealkeep/sealkeep/test/pgproxy"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// faults are cuts and delays at the messages that answers rest on.
var faults = func() []pgproxy.Fault {
	var all []pgproxy.Fault
	add := func(kind string, side pgproxy.Side, message byte, actions ...pgproxy.Action) {
		for _, action := range actions {
			all = append(all, pgproxy.Fault{Kind: kind, Side: side, Message: message, Action: action, For: 30 * time.Millisecond})
		}
	}
	const before, within, after, delay = pgproxy.CutBefore, pgproxy.CutWithin, pgproxy.CutAfter, pgproxy.Delay
	add(vaulttest.KindRound, pgproxy.Client, pgproxy.Bind, before, within)
	add(vaulttest.KindRound, pgproxy.Client, pgproxy.Sync, before, after, pgproxy.Expose, delay)
	add(vaulttest.KindRound, pgproxy.Server, pgproxy.DataRow, before, within)
	add(vaulttest.KindRound, pgproxy.Server, pgproxy.ReadyForQuery, before, after, delay, pgproxy.Stall)
	add(vaulttest.KindLookup, pgproxy.Client, pgproxy.Sync, before, after, delay)
	add(vaulttest.KindLookup, pgproxy.Server, pgproxy.DataRow, before, within, after)
	add(vaulttest.KindLookup, pgproxy.Server, pgproxy.ReadyForQuery, before, after, delay)
	add(vaulttest.KindAppend, pgproxy.Server, pgproxy.ReadyForQuery, before, after)
	add(vaulttest.KindCommit, pgproxy.Client, pgproxy.Query, before, after, delay)
	add(vaulttest.KindCommit, pgproxy.Server, pgproxy.CommandComplete, before)
	add(vaulttest.KindCommit, pgproxy.Server, pgproxy.ReadyForQuery, before, delay, pgproxy.Stall)
	return all
}()

// patience is how long a fault may wait for its message.
const patience = 400 * time.Millisecond

// cut breaks connections of one process: idle ones or whatever they do, or one at a certain message.
func (c *client) cut() {
	r := c.run
	proxy := r.proxies[c.random.IntN(len(r.proxies))]
	switch c.random.IntN(8) {
	case 0:
		if proxy.CutThose(vaulttest.KindRound) > 0 {
			r.hit("cut: audit connection")
		}
		return
	case 1:
		if proxy.CutThose(vaulttest.KindLookup) > 0 {
			r.hit("cut: lookup connection")
		}
		return
	case 2:
		if c.random.IntN(4) == 0 {
			proxy.CutAll()
			r.hit("cut: all")
			return
		}
	}
	fault := faults[c.random.IntN(len(faults))]
	i := proxy.Inject(fault)
	defer i.Withdraw()
	select {
	case <-i.Struck():
		r.hit("cut: " + fault.Kind)
	case <-time.After(patience):
		return
	}
	if fault.Action == pgproxy.Stall {
		time.Sleep(time.Duration(20+c.random.IntN(80)) * time.Millisecond)
	}
}
