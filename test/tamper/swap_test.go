package tamper

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// row is a version's row, by its place.
type row struct {
	secret  string
	version int
}

// swap exchanges columns between two rows. Doing it again repairs it.
func (b *bench) swap(t *testing.T, columns []string, one, other row) {
	t.Helper()
	pick := func(table string) string {
		where := map[string]row{"one": one, "other": other}[table]
		return fmt.Sprintf(`CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT v.* FROM vault.secret_versions v
			JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = '%s' AND v.version = %d;`, table, where.secret, where.version)
	}
	all := b.columns(t)
	mixed := func(own, others string) string {
		var from []string
		for _, column := range all {
			if slices.Contains(columns, column) {
				from = append(from, others+"."+column)
			} else {
				from = append(from, own+"."+column)
			}
		}
		return "SELECT " + strings.Join(from, ", ") + " FROM one, other"
	}
	b.DB.Exec(t, "BEGIN;"+pick("one")+pick("other")+`
		DELETE FROM vault.secret_versions v USING one WHERE (v.secret_id, v.version) = (one.secret_id, one.version);
		DELETE FROM vault.secret_versions v USING other WHERE (v.secret_id, v.version) = (other.secret_id, other.version);
		INSERT INTO vault.secret_versions (`+strings.Join(all, ", ")+") "+mixed("one", "other")+" UNION ALL "+mixed("other", "one")+"; COMMIT")
}

func (b *bench) columns(t *testing.T) []string {
	t.Helper()
	return pgtest.Query[string](t, b.DB, `
		SELECT attname::text FROM pg_attribute WHERE attrelid = 'vault.secret_versions'::regclass AND attnum > 0 AND NOT attisdropped
		ORDER BY attnum`)
}

// TestI5_SwappedRowsFailClosed exchanges what is sealed between secrets, and between versions of one, over and over, while
// the vault serves.
func TestI5_SwappedRowsFailClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	value := func(name string, version int) string {
		return fmt.Sprintf("the value of %s in version %d", name, version)
	}
	for _, name := range []string{"swap/one", "swap/other"} {
		b.create(t, name, object{"value": value(name, 1), "grace_period_secs": 3600})
		b.answers(t, update(name, object{"value": value(name, 2)}))
	}
	for _, name := range []string{"swap/db-one", "swap/db-other"} {
		b.create(t, name, object{"username": name, "password": value(name, 1), "grace_period_secs": 3600})
		b.answers(t, update(name, object{"password": value(name, 2)}))
	}
	b.create(t, "swap/bystander", object{"value": value("bystander", 1)})

	place := []string{"secret_id", "version"}
	whole := slices.DeleteFunc(b.columns(t), func(column string) bool { return slices.Contains(place, column) })
	sets := map[string][]string{
		"the ciphertext":                      {"ciphertext"},
		"nonce and ciphertext":                {"nonce", "ciphertext"},
		"the wrapped DEK":                     {"wrapped_dek"},
		"wrapped DEK, nonce and ciphertext":   {"wrapped_dek", "nonce", "ciphertext"},
		"all that is sealed and version_uid":  {"version_uid", "kms_key_id", "wrapped_dek", "nonce", "ciphertext"},
		"the whole row, its place left aside": whole,
	}
	pairs := map[string][2]row{
		"two secrets":                {{"swap/one", 2}, {"swap/other", 2}},
		"two versions of one secret": {{"swap/one", 1}, {"swap/one", 2}},
		"two user names":             {{"swap/db-one", 2}, {"swap/db-other", 2}},
		"two versions of a password": {{"swap/db-one", 1}, {"swap/db-one", 2}},
	}
	for between, pair := range pairs {
		for what, columns := range sets {
			t.Run(what+" between "+between, func(t *testing.T) {
				b.swap(t, columns, pair[0], pair[1])
				for i, r := range pair {
					if r.version == 2 {
						b.failsClosed(t, read(r.secret))
						b.failsClosed(t, read(r.secret), sealkeeptest.WithHeader("If-None-Match", "*"))
						b.failsClosed(t, batch(r.secret, "swap/bystander", r.secret))
						b.failsClosed(t, b.change(r.secret))
					}
					b.failsClosed(t, readVersion(r.secret, r.version))
					// The right value, the other row's, and a wrong one get the same answer.
					other := pair[1-i]
					for _, v := range []string{value(r.secret, r.version), value(other.secret, other.version), "wrong"} {
						b.failsClosed(t, verify(r.secret, v))
					}
				}
				b.answers(t, read("swap/bystander"))

				b.swap(t, columns, pair[0], pair[1])
				for _, r := range pair {
					answer := b.answers(t, readVersion(r.secret, r.version))
					if got := answer.Text("value") + answer.Text("password"); got != value(r.secret, r.version) {
						t.Errorf("repaired, %s holds %q", r.secret, got)
					}
					if b.answers(t, verify(r.secret, value(r.secret, r.version))).JSON["valid"] != true {
						t.Errorf("repaired, %s doesn't verify", r.secret)
					}
					b.answers(t, read(r.secret))
					b.answers(t, batch("", r.secret, "swap/bystander"))
				}
			})
		}
	}
	b.VerifyClean(t)
}

// change is an update whose material is compared with the current one.
func (b *bench) change(name string) question {
	if strings.Contains(name, "/db-") {
		return update(name, object{"password": "another"})
	}
	return update(name, object{"value": "another"})
}

// TestI5_EditedRowsFailClosed edits every column that a ciphertext is bound to, and every byte string in it.
func TestI5_EditedRowsFailClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create(t, "edit/it", object{"value": "the value of version 1", "grace_period_secs": 3600})
	b.answers(t, update("edit/it", object{"value": "the value of version 2"}))
	b.DB.Exec(t, "CREATE TABLE public.kept AS SELECT * FROM vault.secret_versions")
	flip := func(column, at string) string {
		return fmt.Sprintf("UPDATE vault.secret_versions SET %[1]s = set_byte(%[1]s, %[2]s, get_byte(%[1]s, %[2]s) # 1) WHERE version = 2", column, at)
	}
	edits := map[string]string{
		"another version_uid":      "UPDATE vault.secret_versions SET version_uid = gen_random_uuid() WHERE version = 2",
		"a cut ciphertext":         "UPDATE vault.secret_versions SET ciphertext = substr(ciphertext, 1, octet_length(ciphertext) - 1) WHERE version = 2",
		"a longer ciphertext":      `UPDATE vault.secret_versions SET ciphertext = ciphertext || '\x00' WHERE version = 2`,
		"no ciphertext":            `UPDATE vault.secret_versions SET ciphertext = '' WHERE version = 2`,
		"no wrapped DEK":           `UPDATE vault.secret_versions SET wrapped_dek = '' WHERE version = 2`,
		"another KMS key":          "UPDATE vault.secret_versions SET kms_key_id = 'local:0123456789abcdef' WHERE version = 2",
		"another state":            "UPDATE vault.secret_versions SET state = 'abandoned' WHERE version = 2",
		"the row gone":             "DELETE FROM vault.secret_versions WHERE version = 2",
		"ciphertext, first byte":   flip("ciphertext", "0"),
		"ciphertext, last byte":    flip("ciphertext", "octet_length(ciphertext) - 1"),
		"nonce, first byte":        flip("nonce", "0"),
		"nonce, last byte":         flip("nonce", "23"),
		"wrapped DEK, first byte":  flip("wrapped_dek", "0"),
		"wrapped DEK, middle byte": flip("wrapped_dek", "octet_length(wrapped_dek) / 2"),
		"wrapped DEK, last byte":   flip("wrapped_dek", "octet_length(wrapped_dek) - 1"),
	}
	for what, sql := range edits {
		t.Run(what, func(t *testing.T) {
			b.DB.Exec(t, sql)
			b.failsClosed(t, read("edit/it"))
			b.failsClosed(t, batch("edit/it", "edit/it"))
			b.failsClosed(t, verify("edit/it", "the value of version 2"))
			b.failsClosed(t, b.change("edit/it"))
			b.DB.Exec(t, "DELETE FROM vault.secret_versions; INSERT INTO vault.secret_versions SELECT * FROM public.kept")
			if got := b.answers(t, read("edit/it")).Text("value"); got != "the value of version 2" {
				t.Errorf("repaired, it holds %q", got)
			}
		})
	}
}
