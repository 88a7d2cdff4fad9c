package audit

import "github.com/sealkeep/sealkeep/internal/postgres/db"

// The trail's own actions. A stream's last record is its closing; heartbeats carry the heads of all open streams.
const (
	ActionStreamClosed   = "audit.stream_closed"
	ActionHeartbeat      = "audit.heartbeat"
	ActionDenialsCounted = "audit.denials_counted"
)

// lockedStream is a stream's row, read under its lock.
type lockedStream = db.LockStreamRow
