package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func TestMaterialOfEveryShapeSurvivesUnchanged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	for name, given := range map[string]vault.Given{
		"text":     text("p\u00e4ssword \"quoted\"\n"),
		"binary":   {Binary: sensitive.Copy(binary)},
		"userpass": {Username: sensitive.CopyString("app"), Password: sensitive.CopyString("s3cret")},
		"largest":  text(strings.Repeat("x", secret.MaxValueBytes)),
	} {
		_, err := f.vault.Create(ctx, f.admin, vault.CreateRequest{Name: name, Kind: "manual", Given: given})
		must(t, err)
		s, err := f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: name})
		must(t, err)
		want := slices.Concat(given.Value.Reveal(), given.Binary.Reveal(), given.Password.Reveal())
		if string(s.Material.Value.Reveal()) != string(want) || s.Material.Binary != !given.Binary.IsZero() {
			t.Errorf("%s came back changed", name)
		}
		if !given.Username.IsZero() && !sensitive.Equal(s.Material.Username, given.Username) {
			t.Errorf("%s: the user name came back changed", name)
		}
		s.Release()
	}
}

func TestCreateRefusesWhatNoFormatHas(t *testing.T) {
	t.Parallel()
	f := setup(t)
	some := func(s string) sensitive.Bytes { return sensitive.CopyString(s) }
	hour := int64(3600)
	for name, r := range map[string]vault.CreateRequest{
		"a manual secret without a value":      {Kind: "manual"},
		"a manual user without a password":     {Kind: "manual", Given: vault.Given{Username: some("u")}},
		"a password without a user":            {Kind: "manual", Given: vault.Given{Password: some("p")}},
		"text and binary":                      {Kind: "manual", Given: vault.Given{Value: some("v"), Binary: some("b")}},
		"a value and a password":               {Kind: "manual", Given: vault.Given{Value: some("v"), Username: some("u"), Password: some("p")}},
		"an empty value":                       {Kind: "manual", Given: vault.Given{Value: some("")}},
		"a value too large":                    {Kind: "manual", Given: text(strings.Repeat("x", secret.MaxValueBytes+1))},
		"an automatic secret without interval": {Kind: "automatic"},
		"a manual secret with an interval":     {Kind: "manual", Given: text("v"), RotationIntervalSecs: &hour},
		"an unknown kind":                      {Kind: "magic", Given: text("v")},
		"a negative grace":                     {Kind: "manual", Given: text("v"), GracePeriodSecs: -1},
	} {
		r.Name = "refused"
		_, err := f.vault.Create(context.Background(), f.admin, r)
		if err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.secrets")[0]; n != 0 {
		t.Errorf("%d secrets were stored", n)
	}
}

func TestI9_ASupersededVersionIsValidUntilItsExpiryAndNeverAfter(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	old := f.automatic("graceful", 600)
	rotated, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "graceful"})
	must(t, err)
	current := string(rotated.Material.Value.Reveal())
	rotated.Release()
	if old == current {
		t.Fatal("rotation kept the value")
	}
	verify := func(value string) vault.Verdict {
		t.Helper()
		verdict, err := f.vault.Verify(ctx, f.admin, "graceful", text(value))
		must(t, err)
		return verdict
	}
	if got := verify(old); got != (vault.Verdict{Valid: true, Version: 1}) {
		t.Errorf("in its grace the old value gives %+v", got)
	}
	if got := verify(current); got != (vault.Verdict{Valid: true, Version: 2}) {
		t.Errorf("the current value gives %+v", got)
	}
	s, err := f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: "graceful", Version: 1})
	must(t, err)
	s.Release()

	// The database's clock alone decides: move the expiry instead of waiting.
	f.made("UPDATE vault.secret_versions SET expires_at = now() WHERE version = 1")
	if got := verify(old); got.Valid {
		t.Error("past its grace the old value is still valid")
	}
	_, err = f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: "graceful", Version: 1})
	wantKind(t, err, fault.NotFound)
	if got := verify(current); !got.Valid {
		t.Error("the current value is not valid")
	}
}

func TestI9_AnAnswerThatExpiresOnItsWayIsWithheld(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *vault.Config) { c.SealedCacheBytes = 0 }) // every request looks at the rows as they are
	ctx := context.Background()
	old := f.automatic("late", 600)
	s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "late"})
	must(t, err)
	s.Release()
	// The keeper takes longer than the version has left: it was valid when it was looked up, and isn't when it would leave.
	expire := func() {
		f.made("UPDATE vault.secret_versions SET expires_at = now() + interval '400 milliseconds' WHERE version = 1")
	}
	f.keeper.set(func() { time.Sleep(500 * time.Millisecond) }, nil)
	defer f.keeper.set(nil, nil)

	expire()
	_, err = f.vault.Read(ctx, f.as("late-read"), vault.ReadRequest{Name: "late", Version: 1})
	wantKind(t, err, fault.NotFound)
	if got := f.outcomes("late-read"); !slices.Equal(got, []string{"secret.read ok", "secret.read withheld", "secret.read not_found"}) {
		t.Errorf("records %v", got)
	}
	expire()
	verdict, err := f.vault.Verify(ctx, f.as("late-verify"), "late", text(old))
	must(t, err)
	if verdict.Valid {
		t.Error("a value was called valid after its expiry")
	}
	if got := f.outcomes("late-verify"); !slices.Equal(got, []string{"secret.verify match", "secret.verify withheld", "secret.verify mismatch"}) {
		t.Errorf("records %v", got)
	}
}

func TestAFailedChangeIsRecordedWithoutWhatItWouldHaveMade(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("taken", "x")
	_, err := f.vault.Create(ctx, f.as("conflict"), vault.CreateRequest{Name: "taken", Kind: "manual", Given: text("y")})
	wantCode(t, err, "already_exists")
	details := pgtest.Query[*string](t, f.db, "SELECT convert_from(detail, 'UTF8') FROM vault.audit_log WHERE request_id = 'conflict'")
	got := f.records("conflict")
	if len(got) != 1 || got[0].Outcome != "conflict" || got[0].Version != nil || details[0] != nil {
		t.Errorf("records %+v with detail %v", got, details)
	}
}

func TestAPanicInAUseCaseIsRecorded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("s", "x")
	f.keeper.set(func() { panic("a bug") }, nil)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = f.vault.Read(context.Background(), f.as("panicked"), vault.ReadRequest{Name: "s"})
	}()
	f.keeper.set(nil, nil)
	if got := f.outcomes("panicked"); !slices.Equal(got, []string{"secret.read internal"}) {
		t.Errorf("records %v", got)
	}
}

func TestI9_AtMostSixteenVersionsAreValid(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.automatic("busy", 3600)
	for range secret.MaxValidVersions - 1 {
		s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "busy"})
		must(t, err)
		s.Release()
	}
	_, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "busy"})
	wantCode(t, err, "too_many_versions")
	f.made("UPDATE vault.secret_versions SET expires_at = now() WHERE version = 1")
	s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "busy"})
	must(t, err)
	s.Release()
}

func TestI12_VerifyOpensEveryValidVersionWhateverMatched(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	values := []string{f.automatic("all", 3600)}
	for range 4 {
		s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "all"})
		must(t, err)
		values = append(values, string(s.Material.Value.Reveal()))
		s.Release()
	}
	for i, value := range append(values, "none of them", "") {
		if value == "" {
			continue
		}
		f.keeper.takeDecrypts()
		verdict, err := f.vault.Verify(ctx, f.admin, "all", text(value))
		must(t, err)
		if verdict.Valid != (i < len(values)) {
			t.Errorf("value %d: %+v", i, verdict)
		}
		if n := f.keeper.takeDecrypts(); n != len(values) {
			t.Errorf("value %d: %d versions were opened, want %d", i, n, len(values))
		}
	}
}

func TestUpdateChangesOnlyWhatItNames(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	_, err := f.vault.Create(ctx, f.admin, vault.CreateRequest{
		Name: "u", Kind: "manual", Given: vault.Given{Username: sensitive.CopyString("app"), Password: sensitive.CopyString("one")},
		Description: "before", GracePeriodSecs: 60, CustomMetadata: map[string]string{"team": "a"},
	})
	must(t, err)

	t.Run("settings alone make no version", func(t *testing.T) {
		m, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "u", Description: vault.Optional[string]{Set: true, Value: "after"}})
		must(t, err)
		if m.Version != 1 || m.Description != "after" || m.GracePeriodSecs != 60 || m.CustomMetadata["team"] != "a" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("null clears", func(t *testing.T) {
		m, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{
			Name: "u", CustomMetadata: vault.Optional[map[string]string]{Set: true, Null: true},
			Description: vault.Optional[string]{Set: true, Null: true},
		})
		must(t, err)
		if len(m.CustomMetadata) != 0 || m.Description != "" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("a password alone keeps the user name", func(t *testing.T) {
		m, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "u", Given: vault.Given{Password: sensitive.CopyString("two")}})
		must(t, err)
		s, err := f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: "u"})
		must(t, err)
		defer s.Release()
		if m.Version != 2 || s.Version != 2 || string(s.Material.Username.Reveal()) != "app" || string(s.Material.Value.Reveal()) != "two" {
			t.Errorf("version %d, %d", m.Version, s.Version)
		}
		if m.ETag != s.ETag() {
			t.Errorf("the update's tag %s isn't the read's %s", m.ETag, s.ETag())
		}
	})
	t.Run("equal material makes no version for a reader, and is recorded as a verify", func(t *testing.T) {
		m, err := f.vault.Update(ctx, f.as("equal"), vault.UpdateRequest{Name: "u", Given: vault.Given{Password: sensitive.CopyString("two")}})
		must(t, err)
		if m.Version != 2 {
			t.Errorf("version %d", m.Version)
		}
		if got := f.outcomes("equal"); !slices.Equal(got, []string{"secret.verify match", "secret.update unchanged"}) {
			t.Errorf("records %v", got)
		}
	})
	t.Run("equal material makes a version for who may not read", func(t *testing.T) {
		writer := f.token("writer", access.Permission{Action: access.Update, Path: "u"})
		m, err := f.vault.Update(ctx, writer, vault.UpdateRequest{Name: "u", Given: vault.Given{Username: sensitive.CopyString("app"), Password: sensitive.CopyString("two")}})
		must(t, err)
		if m.Version != 3 {
			t.Errorf("version %d: it told that the value was known", m.Version)
		}
	})
	t.Run("the wrong shape is refused", func(t *testing.T) {
		_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "u", Given: text("v")})
		wantKind(t, err, fault.Invalid)
	})
	t.Run("nothing to change is refused", func(t *testing.T) {
		_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "u"})
		wantKind(t, err, fault.Invalid)
	})
	t.Run("there is no upsert", func(t *testing.T) {
		_, err := f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "absent", Given: text("v")})
		wantKind(t, err, fault.NotFound)
	})
}

func TestPreconditionsHoldAgainstTheCurrentVersionOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	f.put("p", "one")
	s, err := f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: "p"})
	must(t, err)
	first := s.ETag()
	s.Release()
	with := func(tags ...string) vault.UpdateRequest {
		return vault.UpdateRequest{Name: "p", Given: text("next" + strings.Join(tags, "")), Precondition: vault.Precondition{Tags: tags}}
	}
	m, err := f.vault.Update(ctx, f.admin, with(first))
	must(t, err)
	_, err = f.vault.Update(ctx, f.admin, with(first))
	wantKind(t, err, fault.PreconditionFailed)
	wantKind(t, f.vault.Delete(ctx, f.admin, "p", vault.Precondition{Tags: []string{first}}), fault.PreconditionFailed)

	t.Run("and never against a name made anew", func(t *testing.T) {
		must(t, f.vault.Delete(ctx, f.admin, "p", vault.Precondition{Tags: []string{m.ETag}}))
		f.put("p", "one")
		_, err := f.vault.Update(ctx, f.admin, with(first, m.ETag))
		wantKind(t, err, fault.PreconditionFailed)
		s, err := f.vault.Read(ctx, f.admin, vault.ReadRequest{Name: "p", IfNoneMatch: []string{first, m.ETag}})
		must(t, err)
		defer s.Release()
		if s.NotModified {
			t.Error("an old tag matched the new secret")
		}
	})
}

func TestNoWriteIsLostWhenWritersRace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("contended", "start")
	var mu sync.Mutex
	acknowledged := map[int64]string{}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range 5 {
				value := fmt.Sprintf("writer %d, write %d", w, i)
				m, err := f.vault.Update(context.Background(), f.admin, vault.UpdateRequest{Name: "contended", Given: text(value)})
				if err != nil {
					if fault.KindOf(err) != fault.Conflict {
						t.Errorf("%s: %v", value, err)
					}
					continue
				}
				mu.Lock()
				if other, taken := acknowledged[m.Version]; taken {
					t.Errorf("version %d was acknowledged for %q and %q", m.Version, other, value)
				}
				acknowledged[m.Version] = value
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	last := int64(len(acknowledged)) + 1
	for version := int64(2); version <= last; version++ {
		if acknowledged[version] == "" {
			t.Errorf("version %d is nobody's", version)
		}
	}
	if got := f.read("contended"); got != acknowledged[last] {
		t.Errorf("the current value is %q, the last acknowledged one %q", got, acknowledged[last])
	}
}

func TestNoKeeperCallHappensInsideATransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	inside := 0
	open := func() []string {
		return pgtest.Query[string](t, f.db, `SELECT pid || ' since ' || xact_start FROM pg_stat_activity
			WHERE application_name = $1 AND datname = current_database() AND state LIKE 'idle in transaction%'`, processName)
	}
	f.keeper.set(func() {
		before := open()
		if len(before) == 0 {
			return
		}
		// What the process does by itself, such as to open a stream, is over in a moment.
		time.Sleep(time.Second)
		for _, transaction := range open() {
			if slices.Contains(before, transaction) {
				inside++
			}
		}
	}, nil)
	f.automatic("quiet", 60)
	s, err := f.vault.Rotate(context.Background(), f.admin, vault.RotateRequest{Name: "quiet"})
	must(t, err)
	s.Release()
	_, err = f.vault.Update(context.Background(), f.admin, vault.UpdateRequest{Name: "quiet", Given: text("new")})
	must(t, err)
	f.read("quiet")
	f.keeper.set(nil, nil)
	if inside != 0 {
		t.Errorf("%d transactions were open during calls to the keeper", inside)
	}
}

func TestI4_AnUnreachableKeeperFailsClosed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("kept", "value")
	f.keeper.set(nil, errors.New("connection refused"))
	ctx := context.Background()
	_, err := f.vault.Read(ctx, f.as("dark"), vault.ReadRequest{Name: "kept"})
	wantKind(t, err, fault.Unavailable)
	_, err = f.vault.Verify(ctx, f.admin, "kept", text("value"))
	wantKind(t, err, fault.Unavailable)
	_, err = f.vault.Create(ctx, f.admin, vault.CreateRequest{Name: "new", Kind: "manual", Given: text("v")})
	wantKind(t, err, fault.Unavailable)
	_, err = f.vault.Update(ctx, f.admin, vault.UpdateRequest{Name: "kept", Given: text("v")})
	wantKind(t, err, fault.Unavailable)
	if got := f.outcomes("dark"); !slices.Equal(got, []string{"secret.read unavailable"}) {
		t.Errorf("records %v", got)
	}
	f.keeper.set(nil, nil)
	if got := f.read("kept"); got != "value" {
		t.Errorf("afterwards it reads %q", got)
	}
	if n := pgtest.Query[int64](t, f.db, "SELECT count(*) FROM vault.secrets")[0]; n != 1 {
		t.Errorf("%d secrets: something half-made stayed", n)
	}
}

func TestI5_ASwappedOrEditedRowFailsClosedAndRaisesAnAlarm(t *testing.T) {
	t.Parallel()
	// Each edit is made by the superuser on a secret "victim" with versions 1 (in grace) and 2, beside a secret "other".
	edits := map[string]string{
		"ciphertext of another secret": `UPDATE vault.secret_versions v SET ciphertext = o.ciphertext, nonce = o.nonce, wrapped_dek = o.wrapped_dek, kms_key_id = o.kms_key_id
			FROM vault.secret_versions o JOIN vault.secrets s ON s.id = o.secret_id
			WHERE s.name = 'other' AND v.version = 2`,
		"ciphertext of another version": `UPDATE vault.secret_versions v SET ciphertext = o.ciphertext, nonce = o.nonce, wrapped_dek = o.wrapped_dek
			FROM vault.secret_versions o WHERE o.secret_id = v.secret_id AND o.version = 1 AND v.version = 2`,
		"another version_uid":      `UPDATE vault.secret_versions SET version_uid = gen_random_uuid() WHERE version = 2`,
		"a cut ciphertext":         `UPDATE vault.secret_versions SET ciphertext = substr(ciphertext, 1, octet_length(ciphertext) - 1) WHERE version = 2`,
		"an edited nonce":          `UPDATE vault.secret_versions SET nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1) WHERE version = 2`,
		"an edited wrapped DEK":    `UPDATE vault.secret_versions SET wrapped_dek = set_byte(wrapped_dek, 30, get_byte(wrapped_dek, 30) # 1) WHERE version = 2`,
		"another key's id":         `UPDATE vault.secret_versions SET kms_key_id = 'local:0000000000000000' WHERE version = 2`,
		"renumbered versions":      `UPDATE vault.secret_versions SET version = 7 WHERE version = 2; UPDATE vault.secrets SET current_version = 7 WHERE name = 'victim'`,
		"a renamed secret":         `UPDATE vault.secrets SET name = 'was-other' WHERE name = 'other'; UPDATE vault.secrets SET name = 'other' WHERE name = 'victim'; UPDATE vault.secrets SET name = 'victim' WHERE name = 'was-other'`,
		"the old one made current": `UPDATE vault.secrets SET current_version = 1 WHERE name = 'victim'`,
		"the current row deleted":  `DELETE FROM vault.secret_versions WHERE version = 2`,
		"another format":           `UPDATE vault.secrets SET format = 'userpass' WHERE name = 'victim'`,
	}
	for what, sql := range edits {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			ctx := context.Background()
			f.automatic("victim", 3600)
			f.put("other", "the other's value")
			s, err := f.vault.Rotate(ctx, f.admin, vault.RotateRequest{Name: "victim"})
			must(t, err)
			value := s.Material.Value.Clone()
			s.Release()
			f.db.Exec(t, sql)

			_, err = f.vault.Read(ctx, f.as("read"), vault.ReadRequest{Name: "victim"})
			wantKind(t, err, fault.Internal)
			_, code, message, _ := fault.Public(err)
			if code != "internal" || strings.Contains(message, "verify") {
				t.Errorf("the caller was told %q %q", code, message)
			}
			if got := f.outcomes("read"); !slices.Equal(got, []string{"secret.read unverifiable"}) {
				t.Errorf("records %v", got)
			}
			if !strings.Contains(f.log.String(), "integrity alarm") {
				t.Error("the log has no alarm")
			}
			if n, err := testutil.GatherAndCount(f.metrics, "sealkeep_vault_integrity_failures_total"); err != nil || n == 0 {
				t.Errorf("the counter wasn't raised (%v)", err)
			}
			_, err = f.vault.ReadBatch(ctx, f.admin, []string{"victim", "other"})
			wantKind(t, err, fault.Internal)
			_, err = f.vault.Verify(ctx, f.as("verify"), "victim", vault.Given{Value: value})
			if what == "the old one made current" {
				// verify looks at every valid version; which one is current is the row MACs' to protect.
				return
			}
			wantKind(t, err, fault.Unavailable)
		})
	}
}

func TestBatchOmitsWhatIsMissingOrDeniedAlike(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, name := range []string{"a/1", "a/2", "b/1"} {
		f.put(name, "value of "+name)
	}
	c := f.token("batcher", access.Permission{Action: access.Read, Path: "a/*"})
	got, err := f.vault.ReadBatch(context.Background(), c, []string{"a/2", "b/1", "a/none", "a/1", "a/2"})
	must(t, err)
	var names []string
	for _, s := range got {
		names = append(names, s.Name)
		if want := "value of " + s.Name; string(s.Material.Value.Reveal()) != want {
			t.Errorf("%s holds another value", s.Name)
		}
		s.Release()
	}
	if !slices.Equal(names, []string{"a/2", "a/1"}) {
		t.Errorf("names %v", names)
	}
	outcomes := map[string]string{}
	for _, r := range f.records("batcher") {
		outcomes[*r.Name] = r.Outcome
	}
	want := map[string]string{"a/2": "ok", "a/1": "ok", "b/1": "denied", "a/none": "not_found"}
	if fmt.Sprint(outcomes) != fmt.Sprint(want) {
		t.Errorf("records %v, want %v", outcomes, want)
	}
}

func TestBatchIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var names []string
	for i := range 65 {
		names = append(names, fmt.Sprintf("large/%d", i))
		f.put(names[i], strings.Repeat("x", secret.MaxValueBytes))
	}
	got, err := f.vault.ReadBatch(context.Background(), f.admin, names[:64])
	must(t, err)
	for _, s := range got {
		s.Release()
	}
	_, err = f.vault.ReadBatch(context.Background(), f.admin, names)
	wantKind(t, err, fault.TooLarge)
}

func TestListShowsWhatTheRoleCanActOnPageByPage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := context.Background()
	for _, name := range []string{"B", "a", "a/1", "a/2", "a-b", "a0", "b/1", "b_1", "z"} {
		f.put(name, "x")
	}
	list := func(c vault.Caller, prefix string, limit int) (names []string) {
		t.Helper()
		for cursor := ""; ; {
			page, err := f.vault.List(ctx, c, vault.ListRequest{Prefix: prefix, Limit: limit, Cursor: cursor})
			must(t, err)
			for _, m := range page.Items {
				names = append(names, m.Name)
			}
			if cursor = page.NextCursor; cursor == "" {
				return names
			}
		}
	}
	c := f.token("lister", access.Permission{Action: access.Rotate, Path: "a/*"}, access.Permission{Action: access.Read, Path: "b_1"})
	for _, limit := range []int{1, 2, 9, 100} {
		if got := list(f.admin, "", limit); !slices.Equal(got, []string{"B", "a", "a-b", "a/1", "a/2", "a0", "b/1", "b_1", "z"}) {
			t.Errorf("limit %d: %v", limit, got)
		}
		if got := list(f.admin, "a", limit); !slices.Equal(got, []string{"a", "a-b", "a/1", "a/2", "a0"}) {
			t.Errorf("limit %d: prefix a: %v", limit, got)
		}
		if got := list(c, "", limit); !slices.Equal(got, []string{"a/1", "a/2", "b_1"}) {
			t.Errorf("limit %d: in scope: %v", limit, got)
		}
	}
	for _, r := range []vault.ListRequest{{Limit: -1}, {Limit: 1001}, {Cursor: "!"}, {Prefix: "a b"}} {
		_, err := f.vault.List(ctx, f.admin, r)
		wantKind(t, err, fault.Invalid)
	}
}
