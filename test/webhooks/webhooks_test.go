package webhooks

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/target/webhook"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

// told fails the test unless the receiver was told of that version once, first to apply it and then to test it, and of nothing else of it but
// later whether it still works. It gives the apply.
func told(t *testing.T, r *receiver, version int64) event {
	t.Helper()
	events := r.arrived(version)
	if len(events) < 2 || events[0].Step != webhook.StepApply || events[1].Step != webhook.StepTest || events[0].Generation != events[1].Generation {
		t.Fatalf("of version %d it was told %d times, and not to apply and to test it", version, len(events))
	}
	for _, e := range events[1:] {
		if e.Step != webhook.StepTest || e.Fetch != nil || e.material != (material{}) {
			t.Errorf("it was told of version %d again, or a test told of the value", version)
		}
	}
	return events[0]
}

func TestWebhook_AReceiverIsToldAndFetchesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rotator()
	r := receive(t, key)
	w.create("app/key", r, nil)
	newest := int64(0)
	for version := int64(2); version < 5; version++ {
		if version > 2 {
			w.rotate("app/key")
		}
		s := w.becomes("app/key", version)
		e := told(t, r, version)
		if e.Fetch == nil || e.material != (material{}) || !strings.HasPrefix(e.Fetch.Token, "svf_") || e.Fetch.URL != w.URL+"/v1/rotation/fetch" {
			t.Fatalf("it isn't told to fetch the value, or where: %s", e.body)
		}
		if e.signatures() != 1 || e.Generation <= newest {
			t.Errorf("%d signatures; generation %d after %d", e.signatures(), e.Generation, newest)
		}
		newest = e.Generation
		if has, inUse := r.holds(); has != version || inUse != s.material || inUse.Value == "" || inUse != e.told {
			t.Errorf("what was fetched isn't the current version")
		}
		if _, status, _ := fetch(t.Context(), &r.client, e.Fetch.URL, e.Fetch.Token); status != http.StatusUnauthorized {
			t.Errorf("fetched again: status %d", status)
		}
	}
	records := pgtest.Query[int64](t, w.DB, "SELECT count(*) FROM vault.audit_log WHERE action = 'rotation.fetch' AND outcome = 'ok' AND secret_name = 'app/key'")[0]
	if r.unsigned != 0 || records != 3 {
		t.Errorf("%d requests weren't signed; %d fetches were recorded", r.unsigned, records)
	}
	vaulttest.Eventually(t, "it is asked whether the current version still works", func() bool { return len(r.arrived(4)) > 2 })
}

func TestWebhook_WhatIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rotator()
	t.Run("a pair is fetched as one", func(t *testing.T) {
		w, r := w.with(t), receive(t, key)
		w.create("app/pair", r, object{"username": "ann", "password": "first"})
		s := w.becomes("app/pair", 2)
		if e := told(t, r, 2); e.Fetch == nil || e.told != s.material || e.told.Username != "ann" || e.told.Password == "first" {
			t.Error("what was fetched isn't the current version")
		}
	})
	for name, changes := range map[string]object{
		"app/sent": {"send_value": true}, "app/sent-pair": {"send_value": true, "username": "ann", "password": "first"},
	} {
		t.Run("send_value sends it along: "+name, func(t *testing.T) {
			w, r := w.with(t), receive(t, key)
			w.create(name, r, changes)
			s := w.becomes(name, 2)
			if e := told(t, r, 2); e.Fetch != nil || e.material != s.material || e.material == (material{}) {
				t.Error("the event doesn't hold the current version")
			}
		})
	}
}

func TestWebhook_WhatAReceiverAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rotator()
	for claim, tc := range map[string]struct {
		name    string
		answer  refusal
		class   string
		another bool // value
	}{
		"after a 500 the event comes again":           {"app/500", refusal{status: http.StatusInternalServerError}, "transient", false},
		"after a 409 of an older generation likewise": {"app/409", refusal{http.StatusConflict, `{"code":"older_generation"}`}, "outdated", false},
		"after a 422 another value is made":           {"app/422", refusal{status: http.StatusUnprocessableEntity}, "policy", true},
	} {
		t.Run(claim, func(t *testing.T) {
			w, r := w.with(t), receive(t, key)
			r.refuses(tc.answer, tc.answer)
			w.create(tc.name, r, nil)
			version := int64(2)
			if tc.another {
				version = 4
			}
			s := w.becomes(tc.name, version)
			applies := r.applies()
			if len(applies) != 3 {
				t.Fatalf("it was told to apply %d times", len(applies))
			}
			for i := range applies {
				e := &applies[i]
				if i == 0 {
					continue
				}
				before := &applies[i-1]
				if e.Generation <= before.Generation || e.ID == before.ID || e.Fetch.Token == before.Fetch.Token {
					t.Errorf("attempt %d has generation %d after %d, or the id or the token of the one before", i+1, e.Generation, before.Generation)
				}
				if (e.Version != before.Version) != tc.another || (e.told != before.told) != tc.another {
					t.Errorf("attempt %d is of version %d after %d, or of its value", i+1, e.Version, before.Version)
				}
			}
			if applies[2].told != s.material {
				t.Error("what was taken isn't the current version")
			}
			if got := w.failures(tc.name); !slices.Equal(got, []string{tc.class, tc.class}) {
				t.Errorf("the failures recorded are %q", got)
			}
			states := pgtest.Query[string](t, w.DB, `SELECT v.version || ' ' || v.state FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
				WHERE s.name = $1 AND v.state <> 'superseded'`, tc.name)
			if len(states) != 1 || states[0] != fmt.Sprintf("%d current", version) {
				t.Errorf("the versions are %q", states)
			}
			abandoned := pgtest.Query[int64](t, w.DB, "SELECT count(*) FROM vault.audit_log WHERE action = 'rotation.abandon' AND secret_name = $1", tc.name)[0]
			if (abandoned == 2) != tc.another || (abandoned == 0) == tc.another {
				t.Errorf("%d values were given up", abandoned)
			}
		})
	}
}

func TestWebhook_WhatTheRotatorsSettingsDoNotAllowIsDeadAndNamesThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, key)
	w.create("app/key", r, nil)
	const allowed, public = "VAULT_ROTATION_WEBHOOK_ALLOWED_IPS", "VAULT_PUBLIC_URL"
	for _, tc := range []struct{ setting, lacks string }{
		{public + "=" + w.URL, allowed},
		{allowed + "=127.0.0.0/8", public},
	} {
		rotator := w.StartRotator(t, tc.setting)
		job := w.dead("app/key")
		if text, _ := job["error"].(string); job["class"] != "permanent" || !strings.Contains(text, tc.lacks) || job["attempt"] != 1.0 {
			t.Errorf("without %s the job is %v", tc.lacks, job)
		}
		if len(r.applies()) != 0 || tc.lacks == allowed && r.connections.Load() != 0 {
			t.Errorf("without %s there were %d connections", tc.lacks, r.connections.Load())
		}
		rotator.Stop(t)
		w.do(http.StatusOK, http.MethodPost, fmt.Sprintf("/v1/jobs/%s/retry", job["id"]), nil)
	}
	w.rotator()
	if s := w.becomes("app/key", 2); told(t, r, 2).told != s.material {
		t.Error("what was fetched isn't the current version")
	}
}

func TestWebhook_WhileTheSigningSecretHasTwoValuesEachVerifies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rotator()
	r := receive(t, key)
	w.create("app/key", r, nil)
	w.becomes("app/key", 2)
	const (
		second = "the second key, of more than thirty-two bytes"
		third  = "the third key, of more than thirty-two bytes"
		fourth = "the fourth key, of more than thirty-two bytes"
	)
	w.do(http.StatusOK, http.MethodPut, "/v1/secrets/"+signing, object{"value": second, "grace_period_secs": 3600})
	w.rotate("app/key") // to a receiver that knows the first one alone
	e := told(t, r, 3)
	if e.signatures() != 2 || !e.signedBy(key) || !e.signedBy(second) || e.signedBy(third) {
		t.Errorf("%d signatures", e.signatures())
	}
	r.knows(second)
	w.rotate("app/key")
	if e := told(t, r, 4); e.signatures() != 2 {
		t.Errorf("%d signatures", e.signatures())
	}
	t.Run("of three the newest two sign", func(t *testing.T) {
		w := w.with(t)
		w.do(http.StatusOK, http.MethodPut, "/v1/secrets/"+signing, object{"value": third, "grace_period_secs": 3600})
		r.knows(third)
		w.rotate("app/key")
		if e := told(t, r, 5); e.signatures() != 2 || !e.signedBy(third) || !e.signedBy(second) || e.signedBy(key) {
			t.Errorf("%d signatures, or of other keys", e.signatures())
		}
	})
	t.Run("one whose grace has ended doesn't", func(t *testing.T) {
		w := w.with(t)
		w.do(http.StatusOK, http.MethodPut, "/v1/secrets/"+signing, object{"value": fourth, "grace_period_secs": 0})
		r.knows(fourth)
		w.rotate("app/key")
		if e := told(t, r, 6); !e.signedBy(fourth) || e.signedBy(third) {
			t.Errorf("%d signatures, or of other keys", e.signatures())
		}
	})
}
