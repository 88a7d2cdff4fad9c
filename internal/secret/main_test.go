package secret

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wantFault fails unless err is of that kind, and gives its public message.
func wantFault(t *testing.T, err error, kind fault.Kind) string {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of kind %v", kind)
	}
	if got := fault.KindOf(err); got != kind {
		t.Fatalf("kind %v, want %v: %v", got, kind, err)
	}
	return fault.Message(err)
}
