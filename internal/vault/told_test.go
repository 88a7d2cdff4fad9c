package vault

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// What the trail tells of a secret takes some hundred bytes, however often it changed.
func TestTold_IsBoundedBySecretsAndNotByRecords(t *testing.T) {
	const secrets, changes = 20_000, 5
	held := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	told := newTold()
	for i := range secrets {
		name := fmt.Sprintf("service-%d/some/secret", i)
		id := uuid.New()
		for revision := int64(changes); revision > 0; revision-- { // in any order
			version := revision
			told.hear(&db.RecordsRow{
				Action: ActionRotate, Outcome: outcomeOK, SecretName: &name, Version: &version,
				Detail: []byte(fmt.Sprintf(`{"disclosed":true,"secret_id":%q,"revision":%d}`, id, revision)),
			}, true)
		}
		if got := told.secrets[id]; got.revision != changes || got.version != changes || got.name != name {
			t.Fatalf("%+v", got)
		}
	}
	if each := (held() - before) / secrets; each > 400 {
		t.Errorf("%d bytes for each secret", each)
	}
	runtime.KeepAlive(told)
	if told.vague != 0 {
		t.Errorf("%d records were not understood", told.vague)
	}
}
