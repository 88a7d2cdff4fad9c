package secret

import (
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestI4_UnknownWordsAreRefused(t *testing.T) {
	t.Parallel()
	for _, k := range []Kind{Manual, Automatic} {
		if got, err := ParseKind(string(k)); err != nil || got != k {
			t.Errorf("ParseKind(%q) = %q, %v", k, got, err)
		}
	}
	for _, s := range []string{"", "Manual", "manual ", "AUTOMATIC", "manual\x00", "unknown"} {
		kind, err := ParseKind(s)
		wantFault(t, err, fault.Invalid)
		if kind != "" {
			t.Errorf("%q gave %q", s, kind)
		}
	}
}
