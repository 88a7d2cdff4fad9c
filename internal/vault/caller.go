package vault

import (
	"net/netip"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Caller is who asks, as the edge established it. It is passed explicitly to every use case; no identity ever comes from a
// context.
type Caller struct {
	// Address is the client's, decided by access.AddressPolicy. The invalid address means unknown, and is denied wherever an
	// address counts (I4).
	Address netip.Addr
	// Token is the bearer token as presented, the zero Bytes when there was none. The edge owns and releases it.
	Token sensitive.Bytes
	// RequestID names the request in logs, errors and audit records; 1 to 128 bytes of printable ASCII.
	RequestID string
	// TraceID is the W3C trace id, 32 hex digits, or empty.
	TraceID string
}
