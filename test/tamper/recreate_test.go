package tamper

import (
	"net/http"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// TestI5_ARecreatedNameIsAnotherPlace deletes a secret, makes another under its name, and puts the old one's rows back by
// hand in every way that the tables allow.
func TestI5_ARecreatedNameIsAnotherPlace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const name, old, fresh = "again/key", "the value that was deleted", "the value that is there now"
	oldTag := b.create(t, name, object{"value": old, "grace_period_secs": 3600}).Header.Get("ETag")
	b.answers(t, update(name, object{"value": old + ", again"}))
	b.DB.Exec(t, "CREATE TABLE public.old AS SELECT * FROM vault.secret_versions")
	b.Do(t, http.MethodDelete, path(name), nil).Want(t, http.StatusNoContent)
	newTag := b.create(t, name, object{"value": fresh, "grace_period_secs": 3600}).Header.Get("ETag")
	b.DB.Exec(t, "CREATE TABLE public.new AS SELECT * FROM vault.secret_versions; CREATE TABLE public.new_secret AS SELECT * FROM vault.secrets")

	t.Run("for which no old entity tag counts", func(t *testing.T) {
		if oldTag == newTag || oldTag[:3] != newTag[:3] {
			t.Fatalf("the tags %s and %s are not of one version number", oldTag, newTag)
		}
		is := func(tag string) sealkeeptest.RequestOption { return sealkeeptest.WithHeader("If-Match", tag) }
		not := func(tag string) sealkeeptest.RequestOption { return sealkeeptest.WithHeader("If-None-Match", tag) }
		if got := b.Do(t, http.MethodGet, path(name), nil, not(oldTag)).Want(t, http.StatusOK).Text("value"); got != fresh {
			t.Errorf("read %q", got)
		}
		b.Do(t, http.MethodGet, path(name), nil, not("W/"+oldTag)).Want(t, http.StatusOK)
		b.Do(t, http.MethodPut, path(name), object{"value": "lost"}, is(oldTag)).Want(t, http.StatusPreconditionFailed)
		b.Do(t, http.MethodDelete, path(name), nil, is(oldTag)).Want(t, http.StatusPreconditionFailed)
		// The new one does count.
		b.Do(t, http.MethodGet, path(name), nil, not(oldTag+", "+newTag)).Want(t, http.StatusNotModified)
		b.Do(t, http.MethodPut, path(name), object{"description": "kept"}, is(newTag)).Want(t, http.StatusOK)
	})

	const sealed = "kms_key_id = o.kms_key_id, wrapped_dek = o.wrapped_dek, nonce = o.nonce, ciphertext = o.ciphertext"
	for how, sql := range map[string]string{
		"its first version under the new id":         "UPDATE vault.secret_versions v SET version_uid = o.version_uid, " + sealed + " FROM public.old o WHERE o.version = 1",
		"its first version under the new id and uid": "UPDATE vault.secret_versions v SET " + sealed + " FROM public.old o WHERE o.version = 1",
		"its last version as the first":              "UPDATE vault.secret_versions v SET version_uid = o.version_uid, " + sealed + " FROM public.old o WHERE o.version = 2",
		"its last version behind the new one": `
			UPDATE vault.secret_versions SET state = 'superseded', expires_at = now() + interval '1 hour';
			INSERT INTO vault.secret_versions SELECT (json_populate_record(o, json_build_object('secret_id', n.secret_id))).* FROM public.old o, public.new n WHERE o.version = 2;
			UPDATE vault.secrets SET current_version = 2`,
		"all its versions in place of the new one": `
			DELETE FROM vault.secret_versions;
			INSERT INTO vault.secret_versions SELECT (json_populate_record(o, json_build_object('secret_id', n.secret_id))).* FROM public.old o, public.new n;
			UPDATE vault.secrets SET current_version = 2`,
		"all its versions, the last under the new uid": `
			DELETE FROM vault.secret_versions;
			INSERT INTO vault.secret_versions SELECT (json_populate_record(o, json_build_object('secret_id', n.secret_id,
				'version_uid', CASE o.version WHEN 2 THEN n.version_uid ELSE o.version_uid END))).* FROM public.old o, public.new n;
			UPDATE vault.secrets SET current_version = 2`,
	} {
		t.Run("where its old rows don't open: "+how, func(t *testing.T) {
			b.DB.Exec(t, sql)
			b.failsClosed(t, read(name))
			b.failsClosed(t, batch(name, name))
			for _, value := range []string{old, old + ", again", fresh} {
				b.failsClosed(t, verify(name, value))
			}
			b.DB.Exec(t, `
				DELETE FROM vault.secret_versions; INSERT INTO vault.secret_versions SELECT * FROM public.new;
				UPDATE vault.secrets s SET current_version = n.current_version FROM public.new_secret n`)
			if got := b.answers(t, read(name)).Text("value"); got != fresh {
				t.Errorf("repaired, it holds %q", got)
			}
			if b.answers(t, verify(name, old)).JSON["valid"] != false {
				t.Error("the deleted value verifies")
			}
		})
	}
}
