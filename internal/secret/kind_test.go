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
	for _, fo := range []Format{Opaque, Userpass} {
		if got, err := ParseFormat(string(fo)); err != nil || got != fo {
			t.Errorf("ParseFormat(%q) = %q, %v", fo, got, err)
		}
	}
	for _, st := range []State{Pending, Current, Superseded, Abandoned} {
		if got, err := ParseState(string(st)); err != nil || got != st {
			t.Errorf("ParseState(%q) = %q, %v", st, got, err)
		}
	}
	for _, s := range []string{"", "Manual", "manual ", "OPAQUE", "current\x00", "unknown"} {
		kind, err := ParseKind(s)
		wantFault(t, err, fault.Invalid)
		format, err := ParseFormat(s)
		wantFault(t, err, fault.Invalid)
		state, err := ParseState(s)
		wantFault(t, err, fault.Invalid)
		if kind != "" || format != "" || state != "" {
			t.Errorf("%q gave %q, %q, %q", s, kind, format, state)
		}
	}
}
