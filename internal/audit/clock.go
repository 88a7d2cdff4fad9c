package audit

import (
	"sync"
	"time"
)

// databaseClock tells the primary's time between round trips: the last one that a round trip returned, plus what has passed
// here on the monotonic clock since that was sent. Records are timed by it because they are chained before they are sent.
type databaseClock struct {
	mu       sync.Mutex
	database time.Time
	local    time.Time // carries a monotonic reading
	now      func() time.Time
}

// observe takes over a time that a round trip returned which was sent at sent, on our clock. The database read its clock after
// that, and a commit may have taken long since: reckoned from sent this clock is ahead of the database's by a little, and
// never behind it, so that nothing is taken for valid that has expired there.
func (c *databaseClock) observe(database, sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.database, c.local = database, sent
}

// read gives the time in whole microseconds, as the database keeps it.
func (c *databaseClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.database.Add(c.now().Sub(c.local)).UTC().Truncate(time.Microsecond)
}
