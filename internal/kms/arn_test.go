package kms

import (
	"errors"
	"net/url"
	"sync"
	"testing"
)

const (
	plainKey   = "arn:aws:kms:eu-central-1:111122223333:key/00112233-4455-6677-8899-aabbccddeeff"
	otherKey   = "arn:aws:kms:eu-central-1:111122223333:key/ffeeddcc-bbaa-9988-7766-554433221100"
	replicated = "arn:aws:kms:eu-west-1:111122223333:key/mrk-00112233445566778899aabbccddeeff"
	replicaDE  = "arn:aws:kms:eu-central-1:111122223333:key/mrk-00112233445566778899aabbccddeeff"
)

func names(tb testing.TB, configured, allowed string) *keyNames {
	tb.Helper()
	list, err := ParseARNs(allowed)
	if err != nil {
		tb.Fatal(err)
	}
	k, err := newKeyNames(configured, list, "eu-central-1")
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func TestI4_OnlyAllowedKeysAreAskedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		configured, allowed, stored, ask string
	}{
		"the configured key":                        {plainKey, "", plainKey, plainKey},
		"another one":                               {plainKey, "", otherKey, ""},
		"another one that is allowed":               {plainKey, "  " + otherKey + ",\n", otherKey, otherKey},
		"the same id in another account":            {plainKey, "", "arn:aws:kms:eu-central-1:999999999999:key/00112233-4455-6677-8899-aabbccddeeff", ""},
		"the same id in another Region":             {plainKey, "", "arn:aws:kms:eu-west-1:111122223333:key/00112233-4455-6677-8899-aabbccddeeff", ""},
		"the same id in another partition":          {plainKey, "", "arn:aws-cn:kms:eu-central-1:111122223333:key/00112233-4455-6677-8899-aabbccddeeff", ""},
		"a bare id":                                 {plainKey, "", "00112233-4455-6677-8899-aabbccddeeff", ""},
		"an alias":                                  {plainKey, "", "alias/vault", ""},
		"nothing":                                   {plainKey, "", "", ""},
		"a local key":                               {plainKey, "", "local:0011223344556677", ""},
		"more than an ARN":                          {plainKey, "", plainKey + ":x", ""},
		"a replica, asked for in this Region":       {replicaDE, "", replicated, replicaDE},
		"the primary, configured by a replica":      {replicated, "", replicaDE, replicaDE},
		"an allowed replica":                        {plainKey, replicated, replicaDE, replicaDE},
		"a replica's id in another account":         {replicaDE, "", "arn:aws:kms:eu-west-1:999999999999:key/mrk-00112233445566778899aabbccddeeff", ""},
		"what an alias names, before that is known": {"alias/vault", "", plainKey, ""},
		"an allowed key, while an alias is unknown": {"alias/vault", plainKey, plainKey, plainKey},
	} {
		ask, ok := names(t, c.configured, c.allowed).find(c.stored)
		if ask != c.ask || ok != (c.ask != "") {
			t.Errorf("%s: KMS is asked for %q, want %q", name, ask, c.ask)
		}
	}
}

func TestI4_AnAliasMeansTheKeyThatKMSLastReturned(t *testing.T) {
	t.Parallel()
	for _, configured := range []string{"alias/vault", "arn:aws:kms:eu-central-1:111122223333:alias/vault", "00112233-4455-6677-8899-aabbccddeeff"} {
		k := names(t, configured, "")
		if k.asked != configured {
			t.Errorf("KMS is asked for %q", k.asked)
		}
		if moved, err := k.returned(plainKey); moved || err != nil {
			t.Errorf("the first answer: moved is %t, %v", moved, err)
		}
		if _, ok := k.find(plainKey); !ok {
			t.Error("the key that KMS returned isn't allowed")
		}
		if moved, err := k.returned(otherKey); !moved || err != nil {
			t.Errorf("another answer: moved is %t, %v", moved, err)
		}
		if _, ok := k.find(plainKey); ok {
			t.Error("the key that the alias named before is still allowed")
		}
		if _, err := k.returned("alias/vault"); err == nil {
			t.Error("an answer without an ARN was taken")
		}
	}
	k := names(t, plainKey, "")
	if _, err := k.returned(otherKey); !errors.Is(err, errOtherKey) {
		t.Errorf("asked for one key by its ARN, KMS answered for another: %v", err)
	}
}

func TestCheckKeyID(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		plainKey: true, replicated: true, "alias/vault": true, "alias/team/vault": true, "arn:aws:kms:eu-west-1:111122223333:alias/vault": true,
		"mrk-00112233445566778899aabbccddeeff": true, "00112233-4455-6677-8899-aabbccddeeff": true,
		"": false, "alias/": false, "vault/key": false, "arn:aws:s3:::bucket": false, "arn:aws:kms:eu-west-1:111122223333:key/": false,
		"arn:aws:kms:eu-west-1:111122223333:grant/x": false, "two words": false, plainKey + "," + otherKey: false,
	} {
		if err := CheckKeyID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, list := range []string{"alias/vault", plainKey + " x", "00112233-4455-6677-8899-aabbccddeeff"} {
		if _, err := ParseARNs(list); err == nil {
			t.Errorf("%q was taken for ARNs", list)
		}
	}
}

func TestI1_KeysTravelEncryptedOrStayOnThisHost(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"https://kms.eu-central-1.amazonaws.com": true, "https://kms.internal:8443": true, "http://127.0.0.1:4566": true,
		"http://[::1]:4566": true, "http://localhost:4566": true, "http://kms.internal": false, "http://10.0.0.1": false,
		"http://127.0.0.1.evil.example": false, "ftp://127.0.0.1": false, "kms.internal": false, "https://": false, "": false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckEndpoint(u); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// The race detector is what this is for.
func TestKeyNames_AreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	for _, configured := range []string{plainKey, "alias/vault"} {
		k := names(t, configured, "")
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 100 {
					_, err := k.returned(plainKey)
					_, ok := k.find(plainKey)
					if _, known := k.current(); err != nil || !ok || !known || k.asked != configured {
						t.Error("the key isn't what KMS returned")
					}
				}
			})
		}
		all.Wait()
	}
}
