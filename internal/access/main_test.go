package access

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wantFault fails unless err is of that kind and says every one of these, and gives its public message.
func wantFault(t *testing.T, err error, kind fault.Kind, says ...string) string {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of kind %v", kind)
	}
	if got := fault.KindOf(err); got != kind {
		t.Fatalf("kind %v, want %v: %v", got, kind, err)
	}
	message := fault.Message(err)
	for _, s := range says {
		if !strings.Contains(message, s) {
			t.Errorf("%q is not in: %s", s, message)
		}
	}
	return message
}
