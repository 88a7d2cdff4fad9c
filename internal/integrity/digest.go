package integrity

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/sealkeep/sealkeep/internal/canon"
)

// DigestGrants returns the SHA-256 over the MACs of all rows of roles, permissions and tokens, sorted as bytes, one after
// another. Each MAC has 32 bytes and tells its table, so one digest stands for one set of rows. macs is sorted in place.
func DigestGrants(macs [][]byte) [sha256.Size]byte {
	slices.SortFunc(macs, bytes.Compare)
	return digest(macs)
}

// DigestVersions returns the SHA-256 over the MACs of a secret's version rows, by version, ascending.
func DigestVersions(macs [][]byte) [sha256.Size]byte { return digest(macs) }

// DigestPermissions returns the SHA-256 that stands for what a role may do: over the SHA-256 of each permission's encoding, sorted
// as bytes, one after another.
func DigestPermissions(permissions []Permission) [sha256.Size]byte {
	each := make([][]byte, len(permissions))
	for i, p := range permissions {
		sum := sha256.Sum256(canon.Text(canon.Text(canon.Start(nil, canon.LabelPermission), p.Action), p.Path))
		each[i] = sum[:]
	}
	slices.SortFunc(each, bytes.Compare)
	return digest(each)
}

func digest(macs [][]byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, mac := range macs {
		if len(mac) != sha256.Size {
			// Nothing but a MAC has a place in what one vouches for: the length is what keeps one from running into the next.
			return sum
		}
		_, _ = h.Write(mac) // hash.Hash never returns an error
	}
	h.Sum(sum[:0])
	return sum
}
