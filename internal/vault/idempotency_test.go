package vault_test

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func rotateKeyed(t *testing.T, f *fixture, c vault.Caller, name, key string) *vault.Rotated {
	t.Helper()
	made, err := f.vault.Rotate(t.Context(), c, vault.RotateRequest{Name: name, IdempotencyKey: key})
	must(t, err)
	t.Cleanup(made.Release)
	return made
}

func TestARequestWithAKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.automatic("auto", 60)
	first := rotateKeyed(t, f, f.as("first"), "auto", "key-1")
	value := string(first.Material.Value.Reveal())
	again := rotateKeyed(t, f, f.as("again"), "auto", "key-1")
	if again.Version != 2 || again.VersionUID != first.VersionUID || !again.CreatedAt.Equal(first.CreatedAt) || string(again.Material.Value.Reveal()) != value {
		t.Errorf("sent again it gives version %d", again.Version)
	}
	wantStates(t, f, "auto", "1 superseded", "2 current")
	if got := f.outcomes("again"); !slices.Equal(got, []string{"secret.rotate replayed"}) {
		t.Errorf("the records: %q", got)
	}
	if r := f.records("again")[0]; r.Version == nil || *r.Version != 2 || r.Name == nil || *r.Name != "auto" {
		t.Errorf("%+v", r)
	}

	t.Run("as long as that version is valid its value is told, and then not", func(t *testing.T) {
		next := rotateKeyed(t, f, f.admin, "auto", "key-2")
		if next.Version != 3 {
			t.Errorf("another key gives version %d", next.Version)
		}
		if again := rotateKeyed(t, f, f.admin, "auto", "key-1"); again.Version != 2 || string(again.Material.Value.Reveal()) != value {
			t.Errorf("in its grace: version %d", again.Version)
		}
		f.made("UPDATE vault.secret_versions SET expires_at = now() WHERE version = 2")
		if again := rotateKeyed(t, f, f.admin, "auto", "key-1"); again.Version != 2 || again.Material != nil {
			t.Errorf("after its grace: %+v", again)
		}
	})
	t.Run("who may not read gets no value, and the key of another token is another key", func(t *testing.T) {
		c := f.token("rotator", access.Permission{Action: access.Rotate, Path: "auto"})
		for range 2 {
			if made := rotateKeyed(t, f, c, "auto", "key-1"); made.Version != 4 || made.Material != nil {
				t.Errorf("%+v", made)
			}
		}
	})
	t.Run("another request of the key is refused", func(t *testing.T) {
		f.automatic("other", 0)
		for name, call := range map[string]func() error{
			"another secret": func() error {
				return disclosed(f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "other", IdempotencyKey: "key-1"}))
			},
			"another operation": func() error {
				return disclosed(f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "auto", Version: 3, IdempotencyKey: "key-1"}))
			},
		} {
			if err := call(); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "came with another request") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("and what it made may be gone", func(t *testing.T) {
		must(t, f.vault.Delete(ctx, f.admin, "auto", vault.Precondition{}))
		_, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "auto", IdempotencyKey: "key-1"})
		wantKind(t, err, fault.NotFound)
		f.automatic("auto", 60)
		_, err = f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "auto", IdempotencyKey: "key-1"})
		wantKind(t, err, fault.NotFound)
	})
}

func TestACreationWithAKeyIsKnownByAllThatItSays(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	hour := int64(3600)
	base := func() vault.CreateRequest {
		return vault.CreateRequest{
			Name: "app/key", Kind: "automatic", Given: text("hunter2"), RotationIntervalSecs: &hour, Description: "d", IdempotencyKey: "k",
			CustomMetadata: map[string]string{"a": "1", "b": "2"},
		}
	}
	create := func(r vault.CreateRequest) (*vault.Secret, error) {
		s, err := f.vault.Create(ctx, f.admin, r)
		if s != nil {
			t.Cleanup(s.Release)
		}
		return s, err
	}
	made, err := create(base())
	must(t, err)
	again, err := create(base())
	must(t, err)
	if again.VersionUID != made.VersionUID || string(again.Material.Value.Reveal()) != "hunter2" || again.Kind != made.Kind || again.Format != made.Format {
		t.Errorf("%+v", again)
	}
	for name, change := range map[string]func(*vault.CreateRequest){
		"value":         func(r *vault.CreateRequest) { r.Given = text("hunter3") },
		"form of value": func(r *vault.CreateRequest) { r.Given = vault.Given{Binary: sensitive.CopyString("hunter2")} },
		"user":          func(r *vault.CreateRequest) { r.Given = vault.Given{Username: sensitive.CopyString("hunter2")} },
		"no value":      func(r *vault.CreateRequest) { r.Given = vault.Given{} },
		"description":   func(r *vault.CreateRequest) { r.Description = "e" },
		"interval":      func(r *vault.CreateRequest) { r.RotationIntervalSecs = ptr(int64(60)) },
		"schedule": func(r *vault.CreateRequest) {
			r.RotationIntervalSecs, r.Schedule = nil, &vault.ScheduleRequest{Cron: "@daily"}
		},
		"grace":          func(r *vault.CreateRequest) { r.GracePeriodSecs = 1 },
		"metadata":       func(r *vault.CreateRequest) { r.CustomMetadata = map[string]string{"a": "1"} },
		"policy":         func(r *vault.CreateRequest) { r.PasswordPolicy = &secret.PasswordPolicy{Length: 50} },
		"hosts":          func(r *vault.CreateRequest) { r.LoginHosts = []string{"127.0.0.1"} },
		"rotate at once": func(r *vault.CreateRequest) { r.RotateOnCreate = true },
		"kind":           func(r *vault.CreateRequest) { r.Kind, r.RotationIntervalSecs = "manual", nil },
		"name":           func(r *vault.CreateRequest) { r.Name = "app/other" },
	} {
		r := base()
		change(&r)
		if _, err := create(r); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "came with another request") {
			t.Errorf("another %s: %v", name, err)
		}
	}
	t.Run("and without a key, or by another one, the name is taken", func(t *testing.T) {
		for _, key := range []string{"", "other"} {
			r := base()
			r.IdempotencyKey = key
			_, err := create(r)
			wantCode(t, err, "already_exists")
		}
		if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.idempotency_keys")[0]; n != 1 {
			t.Errorf("%d keys are kept", n)
		}
	})
	t.Run("a key is some printable ASCII", func(t *testing.T) {
		for _, key := range []string{strings.Repeat("k", 256), "k\n", "ключ", "\x00"} {
			r := base()
			r.IdempotencyKey = key
			_, err := create(r)
			wantKind(t, err, fault.Invalid)
			if strings.Contains(err.Error(), key) {
				t.Errorf("the error repeats it: %v", err)
			}
		}
	})
	t.Run("nothing of the value is kept with the key", func(t *testing.T) {
		for _, row := range pgtest.Query[string](t, f.db, "SELECT row_to_json(k)::text FROM vault.idempotency_keys k") {
			if strings.Contains(row, "hunter2") {
				t.Error(row)
			}
		}
	})
}

func TestARollbackAndAQueuedRotationWithAKeyAreMadeOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.rotations()
	ctx := t.Context()
	f.targeted("db/app")
	first := rotateKeyed(t, f, f.admin, "db/app", "k")
	if again := rotateKeyed(t, f, f.as("again"), "db/app", "k"); first.Job == nil || again.Job == nil || again.Job.ID != first.Job.ID {
		t.Errorf("%+v, then %+v", first, again)
	}
	if got := f.outcomes("again"); !slices.Equal(got, []string{"secret.rotate replayed"}) {
		t.Errorf("the records: %q", got)
	}
	j := claim(t, r)
	d := applies(t, r, j)
	must(t, r.Promote(ctx, j, d))
	if over := rotateKeyed(t, f, f.admin, "db/app", "k"); over.Job.ID != first.Job.ID || over.Job.State != vault.JobCompleted {
		t.Errorf("once it is over: %+v", over.Job)
	}
	wantStates(t, f, "db/app", "1 superseded", "2 current")

	f.automatic("auto", 60)
	rotateKeyed(t, f, f.admin, "auto", "")
	back := func() *vault.Rotated {
		made, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "auto", Version: 1, IdempotencyKey: "b"})
		must(t, err)
		t.Cleanup(made.Release)
		return made
	}
	if one, two := back(), back(); one.Version != 3 || two.VersionUID != one.VersionUID {
		t.Errorf("version %d, then %d", one.Version, two.Version)
	}
	_, err := f.vault.Rollback(ctx, f.admin, vault.RollbackRequest{Name: "auto", Version: 2, IdempotencyKey: "b"})
	wantCode(t, err, "idempotency_key_reused")
}

// However many send one request at once, it is made once, and all get the one answer.
func TestI7_ARequestSentByManyAtOnceIsMadeOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := f.other()
	f.automatic("auto", 60)
	for name, call := range map[string]func(*fixture) (uuid.UUID, error){
		"create": func(p *fixture) (uuid.UUID, error) {
			s, err := p.vault.Create(t.Context(), p.admin, vault.CreateRequest{Name: "new", Kind: "manual", Given: text("x"), IdempotencyKey: "create"})
			if err != nil {
				return uuid.Nil, err
			}
			defer s.Release()
			return s.VersionUID, nil
		},
		"rotate": func(p *fixture) (uuid.UUID, error) {
			s, err := p.vault.Rotate(t.Context(), p.admin, vault.RotateRequest{Name: "auto", IdempotencyKey: "rotate"})
			if err != nil {
				return uuid.Nil, err
			}
			defer s.Release()
			return s.VersionUID, nil
		},
	} {
		var (
			wait sync.WaitGroup
			mu   sync.Mutex
			made = map[uuid.UUID]int{}
		)
		for i := range 16 {
			p := f
			if i%2 == 1 {
				p = other
			}
			wait.Go(func() {
				uid, err := call(p)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				made[uid]++
			})
		}
		wait.Wait()
		if len(made) != 1 {
			t.Errorf("%s: %d different answers", name, len(made))
		}
	}
	wantStates(t, f, "auto", "1 superseded", "2 current")
	wantStates(t, f, "new", "1 current")
}

// While another request of a key hangs, nobody waits for longer than a lock is waited for.
func TestARequestWhoseTwinHangsIsToldToComeAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.automatic("auto", 60)
	var token uuid.UUID
	rotateKeyed(t, f, f.admin, "auto", "seen")
	token = pgtest.Query[uuid.UUID](t, f.db, "SELECT token_id FROM vault.idempotency_keys")[0]
	conn := f.db.Super(t)
	tx, err := conn.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(hashtextextended('vault.idempotency_keys/' || $1, 0))", token.String()+"/hangs")
	must(t, err)
	_, err = f.vault.Rotate(t.Context(), f.admin, vault.RotateRequest{Name: "auto", IdempotencyKey: "hangs"})
	wantCode(t, err, "in_progress")
	if _, _, _, after := fault.Public(err); after <= 0 {
		t.Error("it doesn't say when")
	}
	must(t, tx.Rollback(t.Context()))
	rotateKeyed(t, f, f.admin, "auto", "hangs")
	wantStates(t, f, "auto", "1 superseded", "2 superseded", "3 current")
}

func TestAKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.automatic("auto", 60)
	rotateKeyed(t, f, f.admin, "auto", "k")
	until := pgtest.Query[time.Time](t, f.db, "SELECT expires_at FROM vault.idempotency_keys")[0]
	if left := time.Until(until); left < 23*time.Hour || left > 25*time.Hour {
		t.Errorf("it is kept for %s", left)
	}
	f.db.Exec(t, "UPDATE vault.idempotency_keys SET expires_at = now() - interval '1 s'")
	if made := rotateKeyed(t, f, f.admin, "auto", "k"); made.Version != 3 {
		t.Errorf("version %d: it is still known", made.Version)
	}
	f.db.Exec(t, "UPDATE vault.idempotency_keys SET expires_at = now() - interval '1 s'")
	n, err := vault.PurgeRequests(t.Context(), f.open("sealkeep_rotator"), 10)
	must(t, err)
	if n != 1 {
		t.Errorf("%d were forgotten", n)
	}
}

// What a key came to is in its MAC: edited, it is no request that anybody made.
func TestI6_AnEditedKeyAnswersWithNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.automatic("auto", 60)
	rotateKeyed(t, f, f.admin, "auto", "k")
	rotateKeyed(t, f, f.admin, "auto", "")
	f.targeted("db/app")
	f.asked(f.admin, "db/app")
	f.db.Exec(t, "CREATE TABLE public.kept AS SELECT * FROM vault.idempotency_keys")
	for name, sql := range map[string]string{
		"another version": "UPDATE vault.idempotency_keys SET version_uid = (SELECT version_uid FROM vault.secret_versions WHERE version = 1 LIMIT 1)",
		"another secret":  "UPDATE vault.idempotency_keys SET secret_id = (SELECT id FROM vault.secrets WHERE name = 'db/app')",
		"a job":           "UPDATE vault.idempotency_keys SET version_uid = NULL, job_id = (SELECT id FROM vault.rotation_jobs)",
		"longer":          "UPDATE vault.idempotency_keys SET expires_at = expires_at + interval '1 year'",
		"another MAC":     "UPDATE vault.idempotency_keys SET request_mac = sha256('x')",
	} {
		f.db.Exec(t, sql)
		_, err := f.vault.Rotate(t.Context(), f.admin, vault.RotateRequest{Name: "auto", IdempotencyKey: "k"})
		if fault.KindOf(err) != fault.Conflict {
			t.Errorf("%s: %v", name, err)
		}
		f.db.Exec(t, "DELETE FROM vault.idempotency_keys; INSERT INTO vault.idempotency_keys SELECT * FROM public.kept")
	}
	if made := rotateKeyed(t, f, f.admin, "auto", "k"); made.Version != 2 {
		t.Errorf("version %d", made.Version)
	}
}

func TestI1_NoKeyIsLoggedWithAValue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s, err := f.vault.Create(t.Context(), f.admin, vault.CreateRequest{Name: "a", Kind: "manual", Given: text("hunter2"), IdempotencyKey: "k"})
	must(t, err)
	s.Release()
	if bytes.Contains([]byte(f.log.String()), []byte("hunter2")) {
		t.Error("the log holds the value")
	}
}
