package vault_test

import (
	"net/netip"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// delivered makes a secret whose target is a webhook, and takes its rotation to where the receiver is told.
func delivered(t *testing.T, f *fixture, r *vault.Rotations, name string) (*vault.Job, *vault.Delivery) {
	t.Helper()
	if _, err := f.vault.List(t.Context(), f.admin, vault.ListRequest{}); err != nil {
		t.Fatal(err)
	}
	if len(f.states("hooks/key")) == 0 {
		s, err := f.vault.Create(t.Context(), f.admin, vault.CreateRequest{
			Name: "hooks/key", Kind: "manual", Given: vault.Given{Value: sensitive.CopyString("a key of thirty-two bytes or more")},
		})
		must(t, err)
		s.Release()
	}
	f.due(name, func(c *vault.CreateRequest) {
		c.Target = &secret.Target{Webhook: &secret.WebhookTarget{URL: "https://receiver.example/rotate", SigningSecret: "hooks/key"}}
	})
	enqueue(t, r, 1)
	j := claim(t, r)
	prepare(t, r, j)
	d, err := r.Begin(t.Context(), j)
	must(t, err)
	t.Cleanup(d.Release)
	return j, d
}

func TestRotation_AReceiverFetchesAValueOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	j, d := delivered(t, f, r, "app/key")
	if len(d.Keys) != 1 || string(d.Keys[0].Reveal()) != "a key of thirty-two bytes or more" {
		t.Errorf("%d keys sign", len(d.Keys))
	}
	fetch := func(token sensitive.Bytes, address string) (*vault.Secret, error) {
		return f.vault.Fetch(t.Context(), vault.Caller{Address: netip.MustParseAddr(address), RequestID: "fetch"}, token)
	}
	t.Run("not from any address", func(t *testing.T) {
		if _, err := fetch(d.Fetch, "192.0.2.1"); fault.KindOf(err) != fault.Denied {
			t.Error(err)
		}
	})
	t.Run("not with a role's token, nor with another one of its own kind", func(t *testing.T) {
		_, other := delivered(t, f, r, "app/other")
		text := []byte(string(other.Fetch.Reveal()))
		text[10] ^= 1 // what it says of itself is then wrong, too
		wrong := sensitive.Copy(text)
		for _, token := range []sensitive.Bytes{f.admin.Token, wrong, {}} {
			if _, err := fetch(token, "127.0.0.1"); fault.KindOf(err) != fault.Unauthenticated {
				t.Error(err)
			}
		}
	})
	s, err := fetch(d.Fetch, "127.0.0.1")
	must(t, err)
	defer s.Release()
	if s.Version != 2 || s.Name != "app/key" || string(s.Material.Value.Reveal()) != string(d.New.Value.Reveal()) {
		t.Errorf("version %d of %s was fetched, or another value", s.Version, s.Name)
	}
	if _, err := fetch(d.Fetch, "127.0.0.1"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("it was fetched again: %v", err)
	}
	if got := f.outcomes("fetch"); !contains(got, "rotation.fetch ok") {
		t.Errorf("the records: %v", got)
	}
	t.Run("nor is it given again by whoever puts the row back", func(t *testing.T) {
		again, err := r.Begin(t.Context(), j)
		must(t, err)
		defer again.Release()
		f.db.Exec(t, "UPDATE vault.rotation_fetches SET expires_at = expires_at + interval '1 day'")
		if _, err := fetch(again.Fetch, "127.0.0.1"); fault.KindOf(err) != fault.Internal {
			t.Errorf("a row that was edited: %v", err)
		}
	})
	t.Run("nor once the version will not become the current one", func(t *testing.T) {
		again, err := r.Begin(t.Context(), j)
		must(t, err)
		defer again.Release()
		must(t, r.Fail(t.Context(), j, vault.Failure{Class: "policy", Message: "m", Abandon: true}))
		if _, err := fetch(again.Fetch, "127.0.0.1"); fault.KindOf(err) != fault.Unauthenticated {
			t.Error(err)
		}
	})
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

func TestRotation_ATryIsToldWhenItIsNew(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	f.due("db/app", single)
	look := func() (*vault.Probe, *vault.Delivery) {
		t.Helper()
		f.db.Exec(t, "UPDATE vault.rotation_probes SET next_at = now()")
		probes, err := r.Probes(t.Context(), 8)
		must(t, err)
		if len(probes) != 1 || probes[0].Secret != "db/app" {
			t.Fatalf("to be tried: %+v", probes)
		}
		d, err := r.Look(t.Context(), &probes[0])
		must(t, err)
		t.Cleanup(d.Release)
		return &probes[0], d
	}
	p, d := look()
	if again, err := r.Probes(t.Context(), 8); err != nil || len(again) != 0 {
		t.Errorf("what is being tried was given again: %v, %v", again, err)
	}
	if d.Version != 1 || string(d.New.Value.Reveal()) != "first" {
		t.Errorf("version %d is to be tried", d.Version)
	}
	records := func() int { return len(f.outcomes("probe:" + p.SecretID.String())) }
	must(t, r.Tell(t.Context(), p, d, vault.Probed{OK: true}))
	if n := records(); n != 1 {
		t.Errorf("%d records of the first try", n)
	}
	first := d.EventID("test")
	p, d = look()
	if second := d.EventID("test"); second == first || second != d.EventID("test") {
		t.Error("a receiver takes the second try for a repetition of the first")
	}
	must(t, r.Tell(t.Context(), p, d, vault.Probed{OK: true}))
	if n := records(); n != 1 {
		t.Errorf("%d records after one that found nothing new", n)
	}
	p, d = look()
	must(t, r.Tell(t.Context(), p, d, vault.Probed{Class: "authentication", Message: "m", Repair: true}))
	if got := f.outcomes("probe:" + p.SecretID.String()); len(got) != 2 || got[1] != "rotation.probe authentication" {
		t.Errorf("the records: %v", got)
	}
	j := claim(t, r)
	if j.Reason != vault.ReasonDrift {
		t.Fatalf("the job: %+v", j)
	}
	repair, err := r.Begin(t.Context(), j)
	must(t, err)
	defer repair.Release()
	if repair.Version != 1 || string(repair.New.Value.Reveal()) != "first" {
		t.Errorf("version %d is to be applied again", repair.Version)
	}
	t.Run("nothing is tried while the target may get another value", func(t *testing.T) {
		f.db.Exec(t, "UPDATE vault.rotation_probes SET next_at = now()")
		probes, err := r.Probes(t.Context(), 8)
		must(t, err)
		if d, err := r.Look(t.Context(), &probes[0]); d != nil || err != nil {
			t.Errorf("%v, %v", d, err)
		}
	})
	must(t, r.Finish(t.Context(), j, true))
	wantStates(t, f, "db/app", "1 current")
	if got := f.job(j.ID); got.Outcome == nil || *got.Outcome != "repaired" {
		t.Errorf("the job: %+v", got)
	}
}
