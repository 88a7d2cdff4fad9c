package integrity

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func mac(tb testing.TB, k *Keyring, keyID, stream uuid.UUID, message string) [32]byte {
	tb.Helper()
	key, err := k.StreamKey(keyID, stream)
	if err != nil {
		tb.Fatal(err)
	}
	defer key.Release()
	return key.MAC([]byte(message))
}

type message struct {
	Name, Label, Message, MAC string
	Fields                    []struct {
		Name, Type string
		Value      *string
	}
}

func (m message) encode(tb testing.TB) []byte {
	tb.Helper()
	out := canon.Start(nil, m.Label)
	for _, f := range m.Fields {
		if f.Value == nil {
			out = canon.Null(out)
			continue
		}
		var err error
		switch f.Type {
		case "bytes":
			out = canon.Bytes(out, unhex(tb, *f.Value))
		case "text":
			out = canon.Text(out, *f.Value)
		case "int":
			var i int64
			i, err = strconv.ParseInt(*f.Value, 10, 64)
			out = canon.Int(out, i)
		case "time":
			var at time.Time
			at, err = time.Parse(time.RFC3339Nano, *f.Value)
			out = canon.Time(out, at)
		case "uuid":
			out = canon.UUID(out, uuid.MustParse(*f.Value))
		case "addr":
			out = canon.Addr(out, netip.MustParseAddr(*f.Value))
		default:
			tb.Fatalf("%s: unknown type %q", m.Name, f.Type)
		}
		if err != nil {
			tb.Fatalf("%s: %v", m.Name, err)
		}
	}
	return out
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func readVectors(tb testing.TB, name string, v any) {
	tb.Helper()
	raw, err := os.ReadFile("../../testdata/formats/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		tb.Fatal(err)
	}
}

// keyringOf returns a keyring with one root of known bytes.
func keyringOf(tb testing.TB, p Purpose, vault, keyID uuid.UUID, root []byte) (*Keyring, Root) {
	tb.Helper()
	keeper := &spy{Keeper: newKeeper(tb, nil), root: func(key sensitive.Bytes) sensitive.Bytes {
		key.Release()
		return sensitive.Copy(root)
	}}
	r, err := newRoot(context.Background(), keeper, vault, keyID, p)
	if err != nil {
		tb.Fatal(err)
	}
	k, err := OpenKeyring(context.Background(), keeper, vault, []Root{r}, p)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Close)
	return k, r
}

func TestI10_AuditVectors(t *testing.T) {
	t.Parallel()
	var v struct {
		VaultID    uuid.UUID `json:"vault_id"`
		KeyID      uuid.UUID `json:"key_id"`
		StreamID   uuid.UUID `json:"stream_id"`
		Root       string
		StreamKey  string  `json:"stream_key"`
		Recovering message `json:"opening_with_predecessor"`
		Chain      []message
	}
	readVectors(t, "audit.json", &v)
	k, _ := keyringOf(t, PurposeAudit, v.VaultID, v.KeyID, unhex(t, v.Root))

	derived, err := derive(k.roots[v.KeyID].key, v.VaultID, canon.LabelAuditRecord, v.KeyID, v.StreamID)
	if err != nil || hex.EncodeToString(derived.Reveal()) != v.StreamKey {
		t.Errorf("the stream key is not the vector's: %v", err)
	}

	key, err := k.StreamKey(v.KeyID, v.StreamID)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Release()
	if len(v.Chain) != 4 || v.Chain[0].Label != canon.LabelAuditOpen || v.Chain[1].Label != canon.LabelAuditRecord || v.Chain[3].Label != canon.LabelAuditClose {
		t.Fatal("the chain is not an opening, two records and a closing record")
	}
	for i, m := range append(v.Chain, v.Recovering) {
		encoded := m.encode(t)
		if got := hex.EncodeToString(encoded); got != m.Message {
			t.Errorf("%s: message\n got %s\nwant %s", m.Name, got, m.Message)
		}
		sum := key.MAC(encoded)
		if got := hex.EncodeToString(sum[:]); got != m.MAC {
			t.Errorf("%s: MAC %s, want %s", m.Name, got, m.MAC)
		}
		if i > 0 && i < len(v.Chain) && (m.Fields[2].Name != "previous_mac" || *m.Fields[2].Value != v.Chain[i-1].MAC) {
			t.Errorf("%s: does not follow the one before", m.Name)
		}
	}
}

func TestCheckpointVector(t *testing.T) {
	t.Parallel()
	var v struct {
		VaultID   uuid.UUID `json:"vault_id"`
		KeyID     uuid.UUID `json:"key_id"`
		Root      string
		Seed      string
		PublicKey string `json:"public_key"`
	}
	readVectors(t, "checkpoint.json", &v)
	k, root := keyringOf(t, PurposeCheckpoint, v.VaultID, v.KeyID, unhex(t, v.Root))
	seed, err := derive(k.roots[v.KeyID].key, v.VaultID, labelCheckpoint, v.KeyID)
	if err != nil || hex.EncodeToString(seed.Reveal()) != v.Seed {
		t.Errorf("the seed is not the vector's: %v", err)
	}
	if got := hex.EncodeToString(root.PublicKey); got != v.PublicKey {
		t.Errorf("public key %s, want %s", got, v.PublicKey)
	}
}

func TestI10_EveryStreamHasItsOwnKey(t *testing.T) {
	t.Parallel()
	keyA, keyB, streamA, streamB := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	rootA, rootB := sequence(0, 32), sequence(1, 32)
	seen := map[[32]byte]string{}
	for name, c := range map[string]struct {
		vault, key, stream uuid.UUID
		root               []byte
	}{
		"the one":         {vaultA, keyA, streamA, rootA},
		"another vault":   {vaultB, keyA, streamA, rootA},
		"another key id":  {vaultA, keyB, streamA, rootA},
		"another stream":  {vaultA, keyA, streamB, rootA},
		"another root":    {vaultA, keyA, streamA, rootB},
		"the ids swapped": {vaultA, streamA, keyA, rootA},
	} {
		k, _ := keyringOf(t, PurposeAudit, c.vault, c.key, c.root)
		sum := mac(t, k, c.key, c.stream, "message")
		if other, dup := seen[sum]; dup {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[sum] = name
		if again := mac(t, k, c.key, c.stream, "message"); again != sum {
			t.Errorf("%s: deriving again gives another key", name)
		}
	}
}

func TestStreamKey_ReusesItsStateWithoutMixingMessages(t *testing.T) {
	t.Parallel()
	id, stream := uuid.New(), uuid.New()
	k, _ := keyringOf(t, PurposeAudit, vaultA, id, sequence(0, 32))
	key, err := k.StreamKey(id, stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"one", "two", "", "one", string(sequence(0, 200)), "one"} {
		if got, want := key.MAC([]byte(m)), mac(t, k, id, stream, m); got != want {
			t.Errorf("the MAC of %q depends on what came before", m)
		}
	}
	first, second := key.MAC([]byte("one")), key.MAC([]byte("two"))
	if first == second || first != mac(t, k, id, stream, "one") {
		t.Error("a MAC changed after it was returned")
	}
	key.Release()
	key.Release()
	defer func() {
		if recover() == nil {
			t.Error("a released key made a MAC")
		}
	}()
	key.MAC([]byte("one"))
}

func TestStreamKey_MACDoesNotAllocate(t *testing.T) { // not parallel: AllocsPerRun counts the whole process
	id := uuid.New()
	k, _ := keyringOf(t, PurposeAudit, vaultA, id, sequence(0, 32))
	key, err := k.StreamKey(id, uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	m := sequence(0, 250)
	if n := testing.AllocsPerRun(100, func() { key.MAC(m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkStreamKey_MAC(b *testing.B) {
	id := uuid.New()
	k, _ := keyringOf(b, PurposeAudit, vaultA, id, sequence(0, 32))
	key, err := k.StreamKey(id, uuid.New())
	if err != nil {
		b.Fatal(err)
	}
	m := sequence(0, 250)
	b.ReportAllocs()
	for b.Loop() {
		key.MAC(m)
	}
}
