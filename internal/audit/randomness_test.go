package audit

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestI4_NoStreamIsOpenedUnderABrokenId(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for how, random := range map[string]io.Reader{
		"failing": iotest.ErrReader(errors.New("no randomness")), "short": bytes.NewReader([]byte("fifteen bytes..")),
		"constant": bytes.NewReader(make([]byte, 1<<20)),
	} {
		trail, err := Open(f.api, f.keys, f.vaultID, Config{Process: "test", Random: random})
		must(t, err)
		if l, err := trail.openLane(t.Context(), kindRead, nil); fault.KindOf(err) != fault.Internal || l != nil {
			t.Errorf("%s: a stream was opened, or refused as %v", how, err)
		}
		if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.audit_streams")[0]; n != 0 {
			t.Errorf("%s: %d streams were written", how, n)
		}
	}
}
