package config

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestDatabaseURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://u:p@h/d":                                  "host='h' port='5432' user='u' password='p' dbname='d' sslmode='verify-full' target_session_attrs='read-write'",
		"postgresql://u@h:6000/d":                             "host='h' port='6000' user='u' dbname='d' sslmode='verify-full' target_session_attrs='read-write'",
		"postgres://u@h1:1,h2:2,h3/d":                         "host='h1,h2,h3' port='1,2,5432' user='u' dbname='d' sslmode='verify-full' target_session_attrs='read-write'",
		"postgres://u@[fd00::1]:1,[::1]/d":                    "host='fd00::1,::1' port='1,5432' user='u' dbname='d' sslmode='verify-full' target_session_attrs='read-write'",
		"postgres://u@127.0.0.1,localhost,[::1]/d":            "host='127.0.0.1,localhost,::1' port='5432,5432,5432' user='u' dbname='d' sslmode='prefer' target_session_attrs='read-write'",
		"postgres://u@/d?host=/run/pg&port=1":                 "host='/run/pg' port='1' user='u' dbname='d' sslmode='prefer' target_session_attrs='read-write'",
		"postgres:///d?host=/run/pg&user=u":                   "host='/run/pg' port='5432' user='u' dbname='d' sslmode='prefer' target_session_attrs='read-write'",
		"postgres://u@%2Frun%2Fpg/d":                          "host='/run/pg' port='5432' user='u' dbname='d' sslmode='prefer' target_session_attrs='read-write'",
		"postgres://u@127.0.0.1,h/d":                          "host='127.0.0.1,h' port='5432,5432' user='u' dbname='d' sslmode='verify-full' target_session_attrs='read-write'",
		"postgres://u:a%20%27b%5C@h/d%2Fe":                    `host='h' port='5432' user='u' password='a \'b\\' dbname='d/e' sslmode='verify-full' target_session_attrs='read-write'`,
		"postgres://u:p@ss@h/d":                               "host='h' port='5432' user='u' password='p@ss' dbname='d' sslmode='verify-full' target_session_attrs='read-write'",
		"postgres://u@h/d?sslmode=require":                    "host='h' port='5432' user='u' dbname='d' sslmode='require' target_session_attrs='read-write'",
		"postgres://u@h/d?target_session_attrs=read-write":    "host='h' port='5432' user='u' dbname='d' sslmode='verify-full' target_session_attrs='read-write'",
		"postgres://u@h/d?sslrootcert=system&sslpassword=%27": `host='h' port='5432' user='u' dbname='d' sslmode='verify-full' target_session_attrs='read-write' sslrootcert='system' sslpassword='\''`,
	} {
		d, err := LoadDatabase(map[string]string{"VAULT_DATABASE_URL": url})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := d.ConnString(); got != want {
			t.Errorf("%s\n gives %s\n want  %s", url, got, want)
		}
	}
}

func TestDatabaseURLThatIsRefused(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]error{
		"host=h user=u":                                   errURLForm,
		"mysql://u@h/d":                                   errURLForm,
		"postgres://u@[::1/d":                             errURLForm,
		"postgres://u@[::1]x/d":                           errURLForm,
		"postgres://u@h h/d":                              errURLForm,
		"postgres://u@a%2Cb/d":                            errURLForm,
		"postgres://u@/d":                                 errURLHost,
		"postgres://u@h,,/d":                              errURLHost,
		"postgres:///":                                    errURLHost,
		"postgres://u@h:0/d":                              errURLPort,
		"postgres://u@h:65536/d":                          errURLPort,
		"postgres://u@h:x/d":                              errURLPort,
		"postgres://u:se/cret@h/d":                        errURLPort,
		"postgres://u:100%@h/d":                           errURLEscape,
		"postgres://u@h/d?sslmode=%zz":                    errURLEscape,
		"postgres://u@h/d?sslmode=strong":                 errURLMode,
		"postgres://u@h/d?ssl=true":                       errURLParameter,
		"postgres://u@h/d?options=-c+x":                   errURLParameter,
		"postgres://u@h/d?service=other":                  errURLParameter,
		"postgres://u@h/d?synchronous_commit=0":           errURLParameter,
		"postgres://u@h/d?target_session_attrs=any":       errURLParameter,
		"postgres://u@h/d?host=other":                     errURLRepeated,
		"postgres://u@h/d?sslmode=require&sslmode=prefer": errURLRepeated,
		"postgres://h/d":                                  errURLLogin,
		"postgres://u@h":                                  errURLDatabase,
		"postgres://u@h/d%00":                             errURLZero,
		"postgres://u@h/d?sslrootcert=/absent":            nil,
	} {
		_, err := parseDatabaseURL(url)
		if err == nil || (want != nil && err.Error() != want.Error()) {
			t.Errorf("%s: got %v, want %v", url, err, want)
		}
	}
}

func TestDatabaseFromItsParts(t *testing.T) {
	t.Parallel()
	parts := map[string]string{
		"VAULT_PG_HOSTS": "db1.example, db2.example,[fd00::1]", "VAULT_PG_PORT": "6432", "VAULT_PG_USER": "u'", "VAULT_PG_PASSWORD": `p\ `, "VAULT_PG_DBNAME": "d",
	}
	d, err := LoadDatabase(parts)
	if err != nil {
		t.Fatal(err)
	}
	want := `host='db1.example,db2.example,fd00::1' port='6432,6432,6432' user='u\'' password='p\\ ' dbname='d' sslmode='verify-full' target_session_attrs='read-write'`
	if got := d.ConnString(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	t.Run("and from a URL too is refused", func(t *testing.T) {
		t.Parallel()
		_, err := LoadDatabase(map[string]string{"VAULT_DATABASE_URL": "postgres://u@h/d", "VAULT_PG_PORT": "1", "VAULT_PG_PASSWORD_FILE": "/x"})
		wantProblem(t, err, "VAULT_DATABASE_URL", "unset it or VAULT_PG_PORT, VAULT_PG_PASSWORD")
	})
	t.Run("a port or a scheme in a host is refused", func(t *testing.T) {
		t.Parallel()
		for _, hosts := range []string{"db:5432", "postgres://db", "db1,,db2", "a b", ","} {
			_, err := LoadDatabase(map[string]string{"VAULT_PG_HOSTS": hosts, "VAULT_PG_USER": "u", "VAULT_PG_DBNAME": "d"})
			wantProblem(t, err, "VAULT_PG_HOSTS", "VAULT_PG_PORT")
		}
	})
}

func TestI4_ConnectionIsVerifiedUnlessAskedByName(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct {
		mode string
		weak bool
	}{
		"postgres://u@h/d":                               {"verify-full", false},
		"postgres://u@h/d?sslmode=":                      {"verify-full", false},
		"postgres://u@127.0.0.1,h/d":                     {"verify-full", false},
		"postgres://u@localhost.example/d":               {"verify-full", false},
		"postgres://u@[::ffff:127.0.0.1]/d":              {"prefer", false},
		"postgres://u@localhost/d":                       {"prefer", false},
		"postgres://u@localhost/d?sslmode=disable":       {"disable", false},
		"postgres://u@h/d?sslmode=verify-ca":             {"verify-ca", true},
		"postgres://u@h/d?sslmode=disable":               {"disable", true},
		"postgres://u@/d?host=/run/pg,h&sslmode=require": {"require", true},
	} {
		d, err := LoadDatabase(map[string]string{"VAULT_DATABASE_URL": url})
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if d.sslmode != want.mode || d.IsWeak() != want.weak {
			t.Errorf("%s: %s, weak %v", url, d.sslmode, d.IsWeak())
		}
	}
}

// The driver must understand of what ConnString gives exactly what was judged here.
func FuzzDatabaseURL(f *testing.F) {
	for _, seed := range []string{
		"postgres://u:p@h/d", "postgres://u:a%20%27b%5C@h1:1,[::1]:2/d%2Fe?sslmode=disable", "postgres:///d?host=/run/pg&user=u", "postgres://u@%2Frun%2Fpg/d",
		"postgres://u@h/d?sslrootcert=system&sslpassword=%27", "postgres://u@h,127.0.0.1/d", "postgres://u%0A@h/d%09", "postgres://a@b@h/d", "postgres://u:%5C%5C@h/%20",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "ssl") && !strings.Contains(text, "sslmode") {
			return // certificates: files of this machine
		}
		d, err := LoadDatabase(map[string]string{"VAULT_DATABASE_URL": text})
		if err != nil {
			return
		}
		got, err := pgconn.ParseConfig(d.ConnString())
		if err != nil {
			t.Fatalf("%q: the driver refuses %s: %v", text, d.ConnString(), err)
		}
		if got.User != d.user || got.Database != d.name || (!d.password.IsZero() && got.Password != string(d.password.Reveal())) {
			t.Fatalf("%q: the driver understood user %q, database %q of %s", text, got.User, got.Database, d.ConnString())
		}
		attempts := append([]*pgconn.FallbackConfig{{Host: got.Host, Port: got.Port, TLSConfig: got.TLSConfig}}, got.Fallbacks...)
		i := 0
		for _, attempt := range attempts {
			for i < len(d.hosts) && (attempt.Host != d.hosts[i].name || attempt.Port != d.hosts[i].port) {
				i++
			}
			if i == len(d.hosts) {
				t.Fatalf("%q: the driver would connect to %s:%d, out of %s", text, attempt.Host, attempt.Port, d.Hosts())
			}
			if d.sslmode == strongest && !d.hosts[i].isSocket() &&
				(attempt.TLSConfig == nil || attempt.TLSConfig.InsecureSkipVerify || attempt.TLSConfig.ServerName != d.hosts[i].name) {
				t.Fatalf("%q: the connection to %s isn't verified in full", text, attempt.Host)
			}
		}
	})
}
