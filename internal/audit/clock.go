package audit

import (
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// maxDrift is how much faster the database's clock may run than ours, as one part of so many: what NTP slews at most
// (RFC 5905, section 11.3: 500 parts per million).
const maxDrift = 2000

// databaseClock tells the primary's time between round trips: one that a round trip returned, plus what has passed here on the
// monotonic clock since that was sent. Records are timed by it because they are chained before they are sent.
//
// The database read its clock after the round trip was sent. So what is reckoned from the sending is ahead of the database's
// clock, by as long as the statement took to run, and never behind it: nothing is taken for valid that has expired there. Of
// several round trips the one that was quickest to run tells best (I9: and nothing is taken for expired long before).
type databaseClock struct {
	now func() time.Time

	mu       sync.Mutex
	database time.Time
	local    time.Time // when that was sent; carries a monotonic reading
	systemID string    // whose clock it is
	timeline int64
}

// meet takes over the time of a server that a connection reached, which may be another one than before.
func (c *databaseClock) meet(server db.ServerIdentityRow, sent time.Time) {
	c.mu.Lock()
	same := c.systemID == server.SystemID && c.timeline == server.Timeline
	if !same {
		c.systemID, c.timeline = server.SystemID, server.Timeline
		c.database, c.local = server.ReadAt, sent
	}
	c.mu.Unlock()
	if same {
		c.observe(server.ReadAt, sent)
	}
}

// observe takes over a time that a round trip returned if it tells more than is known: if what is known is further ahead, or
// is behind, as it is after the database's clock was set.
func (c *databaseClock) observe(database, sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local.IsZero() || !database.After(c.at(sent)) || database.After(c.at(c.now())) {
		c.database, c.local = database, sent
	}
}

// at gives what is the database's time at most, when it is that time here.
func (c *databaseClock) at(local time.Time) time.Time {
	passed := local.Sub(c.local)
	return c.database.Add(passed + max(0, passed/maxDrift))
}

// read gives the time in whole microseconds, as the database keeps it.
func (c *databaseClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at(c.now()).UTC().Truncate(time.Microsecond)
}
