package integrity

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/canon"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

type requestVector struct {
	Name          string
	TokenID       uuid.UUID `json:"token_id"`
	Key           string
	Operation     string
	Secret        string
	SecretID      uuid.UUID  `json:"secret_id"`
	VersionUID    *uuid.UUID `json:"version_uid"`
	JobID         *uuid.UUID `json:"job_id"`
	ExpiresAt     time.Time  `json:"expires_at"`
	Fields        []*string
	Values        []*string
	Encoding, MAC string
}

func (v *requestVector) request(tb testing.TB) *Request {
	tb.Helper()
	r := &Request{
		TokenID: v.TokenID, Key: v.Key, Operation: v.Operation, Name: v.Secret, SecretID: v.SecretID, VersionUID: v.VersionUID, JobID: v.JobID,
		ExpiresAt: v.ExpiresAt,
	}
	for _, f := range v.Fields {
		if f == nil {
			r.Fields = append(r.Fields, nil)
			continue
		}
		r.Fields = append(r.Fields, append([]byte{}, unhex(tb, *f)...))
	}
	for _, f := range v.Values {
		value := sensitive.Bytes{}
		if f != nil {
			value = sensitive.Copy(unhex(tb, *f))
		}
		r.Values = append(r.Values, value)
	}
	return r
}

func requestVectors(tb testing.TB) (*Keyring, []requestVector) {
	tb.Helper()
	var v struct {
		VaultID  uuid.UUID `json:"vault_id"`
		KeyID    uuid.UUID `json:"key_id"`
		Root     string
		Requests []requestVector
	}
	readVectors(tb, "requests.json", &v)
	k, _ := keyringOf(tb, PurposeIdempotency, v.VaultID, v.KeyID, unhex(tb, v.Root))
	if len(v.Requests) < 2 {
		tb.Fatalf("%d requests", len(v.Requests))
	}
	return k, v.Requests
}

func TestRequestVectors(t *testing.T) {
	t.Parallel()
	k, vectors := requestVectors(t)
	for i := range vectors {
		v := &vectors[i]
		r := v.request(t)
		encoded := r.fields(canon.Start(make([]byte, 0, r.room()), canon.LabelIdempotency))
		if hex.EncodeToString(encoded) != v.Encoding {
			t.Errorf("%s: encoded as %x", v.Name, encoded)
		}
		if len(encoded) > r.room() {
			t.Errorf("%s: %d bytes where there is room for %d: a copy of its values would be left behind", v.Name, len(encoded), r.room())
		}
		mac, err := k.RequestMAC(r)
		if err != nil || hex.EncodeToString(mac) != v.MAC {
			t.Errorf("%s: mac %x: %v", v.Name, mac, err)
		}
		if err := k.CheckRequest(r, mac); err != nil {
			t.Errorf("%s: its own mac: %v", v.Name, err)
		}
	}
}

func TestI6_AnEditedRequestIsAnother(t *testing.T) {
	t.Parallel()
	k, vectors := requestVectors(t)
	other := uuid.New()
	for name, edit := range map[string]func(*Request){
		"token":     func(r *Request) { r.TokenID = other },
		"key":       func(r *Request) { r.Key += "x" },
		"operation": func(r *Request) { r.Operation = "secret.rollback" },
		"name":      func(r *Request) { r.Name += "x" },
		"secret":    func(r *Request) { r.SecretID = other },
		"version":   func(r *Request) { r.VersionUID = &other },
		"job":       func(r *Request) { r.JobID = &other },
		"expiry":    func(r *Request) { r.ExpiresAt = r.ExpiresAt.Add(time.Microsecond) },
		"field":     func(r *Request) { r.Fields = append(slices.Clone(r.Fields), []byte{}) },
		"value":     func(r *Request) { r.Values = append(slices.Clone(r.Values), sensitive.CopyString("x")) },
		"null":      func(r *Request) { r.Values = append(slices.Clone(r.Values), sensitive.Bytes{}) },
	} {
		r := vectors[1].request(t)
		mac, err := k.RequestMAC(r)
		if err != nil {
			t.Fatal(err)
		}
		edit(r)
		if err := k.CheckRequest(r, mac); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := vectors[1].request(t)
	for name, mac := range map[string][]byte{"none": nil, "short": make([]byte, 31), "zeros": make([]byte, 32)} {
		if err := k.CheckRequest(r, mac); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A request is known for a day, in which its root may be replaced.
func TestRequests_AreKnownUnderAnOlderRoot(t *testing.T) {
	t.Parallel()
	keeper := newKeeper(t, nil)
	ctx := t.Context()
	old, err := NewRootsFor(ctx, keeper, vaultA, nil, PurposeIdempotency)
	if err != nil {
		t.Fatal(err)
	}
	before, err := OpenKeyring(ctx, keeper, vaultA, old, PurposeIdempotency)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	more, err := NewRootsFor(ctx, keeper, vaultA, nil, PurposeIdempotency)
	if err != nil {
		t.Fatal(err)
	}
	after, err := OpenKeyring(ctx, keeper, vaultA, append(old, more...), PurposeIdempotency)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	_, vectors := requestVectors(t)
	r := vectors[0].request(t)
	mac, err := before.RequestMAC(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := after.CheckRequest(r, mac); err != nil {
		t.Errorf("under the older root: %v", err)
	}
	newer, err := after.RequestMAC(r)
	if err != nil || slices.Equal(newer, mac) {
		t.Errorf("the newer root gives the same: %v", err)
	}
	if err := before.CheckRequest(r, newer); !errors.Is(err, ErrForged) {
		t.Errorf("a mac under a root that isn't there: %v", err)
	}
}

func TestRequests_NeedTheirRoot(t *testing.T) {
	t.Parallel()
	k, _, _ := rowVectors(t)
	if _, err := k.RequestMAC(&Request{}); !errors.Is(err, ErrNoRoot) {
		t.Errorf("a mac: %v", err)
	}
	if err := k.CheckRequest(&Request{}, nil); !errors.Is(err, ErrNoRoot) {
		t.Errorf("a check: %v", err)
	}
}
