package integrity

import (
	"encoding/hex"
	"slices"
	"testing"
)

func TestDigestPermissions_StandsForOneSetInAnyOrder(t *testing.T) {
	t.Parallel()
	set := []Permission{{Action: "read", Path: "app/*"}, {Action: "rotate", Path: "app/db"}, {Action: "*", Path: "x"}}
	whole := DigestPermissions(set)
	reversed := slices.Clone(set)
	slices.Reverse(reversed)
	if DigestPermissions(reversed) != whole {
		t.Error("it depends on the order")
	}
	// Made by other code, from docs/formats.md.
	const vector = "4693481f3e5ef488105a501d106a82a2af82ab4dc287aedf634e8d85d36753df"
	if got := hex.EncodeToString(whole[:]); got != vector {
		t.Errorf("%s", got)
	}
	seen := map[[32]byte]string{whole: "the set"}
	for name, other := range map[string][]Permission{
		"none": nil, "one less": set[:2], "another action": {{Action: "update", Path: "app/*"}, set[1], set[2]},
		"another path": {{Action: "read", Path: "app/"}, set[1], set[2]}, "text that runs over": {{Action: "reada", Path: "pp/*"}, set[1], set[2]},
	} {
		sum := DigestPermissions(other)
		if before, ok := seen[sum]; ok {
			t.Errorf("%s and %s have one digest", name, before)
		}
		seen[sum] = name
	}
}
