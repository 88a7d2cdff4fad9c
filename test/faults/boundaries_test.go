// Package faults proves that no answer leaves without its committed record and no change without its own, whatever
// happens between the vault and its database.
//
// The lines that this rests on, and whose removal makes TestI2I3_EveryBoundaryOfACommit fail:
//   - internal/vault/gate.go, conclude: `reason, err = a.commit(ctx, outcomeOK)`
//   - internal/postgres/append.go, Append.send: that the error of Close counts, which reads up to ReadyForQuery, and not only
//     the row that came before it
//
// TestI2_NothingIsServedUntilRoundsRunAgain and TestI2_CutsBetweenRounds fail where rows that are kept outlive the connection of
// the rounds and aren't validated either.
package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/pgproxy"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// hasty refuses what waits for its evidence soon, so that a fault that holds it back doesn't hold up the test.
var hasty = []sealkeeptest.Option{
	sealkeeptest.WithEnv("VAULT_AUDIT_TIMEOUT_MS", "1000"), sealkeeptest.WithEnv("VAULT_LOG_LEVEL", "error"),
}

type boundary struct {
	pgproxy.Fault
	held bool // until a request was refused
}

func (b boundary) String() string {
	return fmt.Sprintf("%s %s's %c of %s", b.Action, b.Side, b.Message, b.Kind)
}

// boundaries are all places at which the messages around a commit can be cut, one after the other.
func boundaries() []boundary {
	var all []boundary
	add := func(kind string, side pgproxy.Side, message byte, actions ...pgproxy.Action) {
		for _, action := range actions {
			held := action == pgproxy.Swallow || action == pgproxy.ExposeAndHold || action == pgproxy.Stall
			all = append(all, boundary{
				Fault: pgproxy.Fault{Kind: kind, Side: side, Message: message, Action: action, For: 20 * time.Millisecond}, held: held,
			})
		}
	}
	const (
		before, within, after   = pgproxy.CutBefore, pgproxy.CutWithin, pgproxy.CutAfter
		swallow, stall, delay   = pgproxy.Swallow, pgproxy.Stall, pgproxy.Delay
		expose, hold            = pgproxy.Expose, pgproxy.ExposeAndHold
		client, server          = pgproxy.Client, pgproxy.Server
		ready, complete, synced = pgproxy.ReadyForQuery, pgproxy.CommandComplete, pgproxy.Sync
	)
	for _, kind := range []string{kindRound, kindAppend} {
		add(kind, client, pgproxy.Bind, before, within)
		add(kind, client, pgproxy.Execute, before, within)
		add(kind, client, synced, before, within, after, expose, hold, delay)
		add(kind, server, pgproxy.BindComplete, before, within)
		add(kind, server, pgproxy.DataRow, before, within)
		add(kind, server, complete, before, within)
		add(kind, server, ready, before, within, after, swallow, stall, delay) // after is between two rounds
	}
	add(kindCommit, client, pgproxy.Query, before, within, after, stall, delay)
	add(kindCommit, server, complete, before, within, after, stall)
	add(kindCommit, server, ready, before, within, swallow, stall, delay)
	add(kindChange, client, pgproxy.Execute, before, within, after)
	add(kindChange, server, ready, before, within, stall)
	add(kindBegin, client, pgproxy.Query, before, after)
	add(kindBegin, server, ready, before)
	add(kindLookup, client, pgproxy.Bind, before, within)
	add(kindLookup, client, synced, before, after)
	add(kindLookup, server, pgproxy.DataRow, before, within, after)
	add(kindLookup, server, complete, before, within)
	add(kindLookup, server, ready, before, within, after, delay)
	return all
}

func TestI2I3_EveryBoundaryOfACommit(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes about half a minute")
	}
	proxy := pgproxy.New(t, vaulttest.Classify)
	v := vaulttest.New(t, vaulttest.Config{Proxy: proxy, Options: hasty})
	l := startLoad(t, v, 12)
	for _, b := range boundaries() {
		strike(t, l, proxy, b)
	}
	// Streams are opened when one was lost: a fault at their openings follows one that loses some.
	for _, opening := range []boundary{
		{Fault: pgproxy.Fault{Kind: kindOpen, Side: pgproxy.Client, Message: pgproxy.Execute, Action: pgproxy.CutBefore}},
		{Fault: pgproxy.Fault{Kind: kindOpen, Side: pgproxy.Server, Message: pgproxy.ReadyForQuery, Action: pgproxy.CutBefore}},
		{Fault: pgproxy.Fault{Kind: kindOpened, Side: pgproxy.Client, Message: pgproxy.Query, Action: pgproxy.CutBefore}},
		{Fault: pgproxy.Fault{Kind: kindOpened, Side: pgproxy.Client, Message: pgproxy.Query, Action: pgproxy.CutAfter}},
		{Fault: pgproxy.Fault{Kind: kindOpened, Side: pgproxy.Server, Message: pgproxy.ReadyForQuery, Action: pgproxy.CutBefore}},
	} {
		loss := proxy.Inject(pgproxy.Fault{Kind: kindRound, Side: pgproxy.Server, Message: pgproxy.ReadyForQuery, Action: pgproxy.CutBefore})
		strike(t, l, proxy, opening)
		loss.Withdraw()
	}
	proxy.CutAll()
	vaulttest.Eventually(t, "service resumes after every connection was cut", l.serves)

	l.settle()
	l.check()
	report := v.VerifyClean(t)
	// A lane that was written again after an unknown outcome would find its stream moved by its own lost commit.
	if moved := v.Metric(t, "sealkeep_audit_streams_moved_total"); moved != 0 {
		t.Errorf("%.0f streams were taken for moved by others", moved)
	}
	t.Logf("%d boundaries, %d streams, %d records; outcomes unknown: %.0f", len(boundaries()), report.Streams, report.Records,
		v.Metric(t, "sealkeep_audit_outcomes_unknown_total"))
}

// strike lets a fault strike under load, and waits until the vault serves again by itself.
func strike(t *testing.T, l *load, proxy *pgproxy.Proxy, b boundary) {
	t.Helper()
	began := time.Now()
	i := proxy.Inject(b.Fault)
	defer i.Withdraw()
	select {
	case <-i.Struck():
	case <-time.After(time.Minute):
		t.Errorf("%v: never struck", b) // what came before is checked all the same
		return
	}
	if b.held {
		l.awaitRefusal(time.Now())
	}
	i.Withdraw()
	vaulttest.Eventually(t, "service resumes after "+b.String(), l.serves)
	t.Logf("%-60s served again after %v", b, time.Since(began).Round(time.Millisecond))
}

// TestI2I3_SilentConnectionIsGivenUp swallows the answers to an append and to a commit and holds their connections open for
// ever: nobody but the vault itself ends that.
func TestI2I3_SilentConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits until the vault gives a silent connection up")
	}
	proxy := pgproxy.New(t, vaulttest.Classify)
	v := vaulttest.New(t, vaulttest.Config{Proxy: proxy, Options: hasty})
	l := startLoad(t, v, 6)
	for _, kind := range []string{kindRound, kindCommit} {
		i := proxy.Inject(pgproxy.Fault{Kind: kind, Side: pgproxy.Server, Message: pgproxy.ReadyForQuery, Action: pgproxy.Swallow})
		defer i.Withdraw()
		<-i.Struck()
	}
	l.awaitRefusal(time.Now())
	vaulttest.Eventually(t, "service resumes", l.serves)
	vaulttest.Eventually(t, "both outcomes are unknown", func() bool {
		return v.Metric(t, "sealkeep_audit_outcomes_unknown_total") >= 2
	})
	l.settle()
	l.check()
	v.VerifyClean(t)
}

// TestI2_CommandCompleteIsNoCommit lets the server report the append's success and then fail at the commit itself.
func TestI2_CommandCompleteIsNoCommit(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "a", "kind": "manual", "value": "val"}).Want(t, 201)
	v.DB.Exec(t, `
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN IF NEW.request_id = ''poison'' THEN RAISE EXCEPTION ''refused at the commit''; END IF; RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON vault.audit_log DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	poison := sealkeeptest.WithHeader("X-Request-Id", "poison")
	refused := v.Do(t, "GET", "/v1/secrets/a", nil, poison).Want(t, 503)
	if strings.Contains(string(refused.Body), "val") {
		t.Error("the value left")
	}
	if changed := v.Do(t, "PUT", "/v1/secrets/a", map[string]any{"value": "other"}, poison); changed.Status < 500 {
		t.Errorf("a change that failed at its commit answered %d", changed.Status)
	}
	vaulttest.Eventually(t, "service resumes", func() bool { return v.Do(t, "GET", "/v1/secrets/a", nil).Status == 200 })
	if read := v.Do(t, "GET", "/v1/secrets/a", nil).Want(t, 200); read.Text("value") != "val" {
		t.Error("the change that was refused took effect")
	}
	if n := len(v.Audit(t, "poison")); n != 0 {
		t.Errorf("%d records", n)
	}
	v.VerifyClean(t)
}
