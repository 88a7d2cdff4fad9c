// Package model drives a vault of two processes with thousands of interleaved reads, changes, edits by a superuser, changes of
// grants and cuts of connections, and holds everything that clients were told against a model of one secret at a time.
//
// Invariants:
//   - I2: every answer that discloses has its committed record, and every record of one that didn't leave is marked withheld.
//   - No answer is older than a change that was acknowledged before it was asked for: the answers about one name, with the
//     changes of it and the edits by hand, have an order in which each takes effect at one instant between its beginning and its
//     end, and in which each answer is true (linearizability, as porcupine checks it). The same goes for tokens and roles.
//   - I5: what was edited by hand so that it doesn't verify is never disclosed once the edit is committed.
//   - I9: a superseded version is valid until its grace has passed, and never after.
package model

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	seedFlag = flag.Uint64("seed", 0, "replay the choices of the run with this seed; 0 is a new one")
	opsFlag  = flag.Int("ops", 0, "how much the clients do together at least; 0 is 8000, or 1000 with -short")
)

// TestModel is the run. What its clients choose follows from the seed; how their requests meet doesn't.
func TestModel(t *testing.T) {
	t.Parallel()
	seed, ops := *seedFlag, *opsFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	if ops == 0 {
		ops = 8000
		if testing.Short() {
			ops = 1000
		}
	}
	t.Logf("replay this run's choices with -seed=%d -ops=%d", seed, ops)
	r := newRun(t, seed)
	r.drive(ops)
	// On a slow machine more is cut for every answer, and chance has its part in what is asked.
	for range 4 {
		if len(r.missing(r.answers(), ops)) == 0 {
			break
		}
		r.drive(ops / 2)
	}
	r.settle()
	r.quiet()
	r.drove = r.since()

	records := r.records()
	events := r.events(records)
	r.checkOrder(events)
	r.checkEvidence(records)
	r.processes[0].VerifyClean(t)
	r.checkCoverage(events, records, ops)
	t.Logf("%d requests and %d events in %v, checked in %v", len(r.calls), len(events), r.drove.Round(time.Millisecond),
		(r.since() - r.drove).Round(time.Millisecond))
}
