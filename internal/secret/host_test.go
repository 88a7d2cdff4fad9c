package secret

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestParseHost(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"db":                               "db:5432",
		"db:5433":                          "db:5433",
		"DB-1.Example.COM:5432":            "db-1.example.com:5432",
		"my_db":                            "my_db:5432",
		"xn--bcher-kva.example":            "xn--bcher-kva.example:5432",
		"1.db.2x":                          "1.db.2x:5432",
		"10.0.0.7":                         "10.0.0.7:5432",
		"10.0.0.7:1":                       "10.0.0.7:1",
		"127.0.0.1:65535":                  "127.0.0.1:65535",
		"[::1]":                            "[::1]:5432",
		"[2001:DB8:0:0::7]:5433":           "[2001:db8::7]:5433",
		"[::ffff:10.0.0.7]":                "10.0.0.7:5432",
		"[::ffff:a00:7]:5433":              "10.0.0.7:5433",
		strings.Repeat("a.", 126) + "a":    strings.Repeat("a.", 126) + "a:5432",
		strings.Repeat("a", 63) + ".db:80": strings.Repeat("a", 63) + ".db:80",
	} {
		got, err := ParseHost(s)
		if err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", s, got, err, want)
		}
		if again, err := ParseHost(got); err != nil || again != got {
			t.Errorf("%s is %s, %v", got, again, err)
		}
	}
	for claim, c := range map[string]struct{ s, says string }{
		"nothing":                      {"", "1 to 253"},
		"a port alone":                 {":5432", "1 to 253"},
		"254 characters":               {strings.Repeat("a.", 126) + "aa", "1 to 253"},
		"a label of 64":                {strings.Repeat("a", 64), "1 to 63"},
		"an empty port":                {"db:", "port must be"},
		"port 0":                       {"db:0", "port must be"},
		"port 65536":                   {"db:65536", "port must be"},
		"a port with a zero before it": {"db:05432", "port must be"},
		"a signed port":                {"db:+5432", "port must be"},
		"a named port":                 {"db:postgresql", "port must be"},
		"a dot at the end":             {"db.example.com.", "leave out a dot"},
		"a dot at the beginning":       {".db", "labels"},
		"two dots":                     {"db..example", "labels"},
		"a dash at the end":            {"db-", "labels"},
		"a dash at the beginning":      {"-db.example", "labels"},
		"a space":                      {"db 1", "labels"},
		"a list":                       {"db1,db2", "labels"},
		"a socket":                     {"/var/run/postgresql", "labels"},
		"a user":                       {"vault@db", "labels"},
		"a query":                      {"db?sslmode=disable", "labels"},
		"letters beyond ASCII":         {"bücher.example", "xn--"},
		"a letter that is lower K":     {"\u212a.example", "xn--"},
		"NUL":                          {"db\x00", "labels"},
		"IPv6 without brackets":        {"2001:db8::7", "in brackets"},
		"a URL":                        {"postgres://db:5432", "in brackets"},
		"an open bracket":              {"[::1", "bracket"},
		"text behind the bracket":      {"[::1]5432", "bracket"},
		"empty brackets":               {"[]:5432", "brackets are for"},
		"IPv4 in brackets":             {"[10.0.0.7]:5432", "brackets are for"},
		"a name in brackets":           {"[db]:5432", "brackets are for"},
		"a zone":                       {"[fe80::1%eth0]:5432", "zone"},
		"two numbers":                  {"10.1", "end in a number"},
		"one number":                   {"2130706433", "end in a number"},
		"octal numbers":                {"0177.0.0.01", "end in a number"},
		"a hexadecimal number":         {"0x7f000001", "end in a number"},
		"five numbers":                 {"10.0.0.0.7", "end in a number"},
		"every IPv4 address":           {"0.0.0.0", "no host's"},
		"every IPv6 address":           {"[::]:5432", "no host's"},
		"every IPv4 address, mapped":   {"[::ffff:0.0.0.0]", "no host's"},
		"a group":                      {"224.0.0.1", "no host's"},
	} {
		t.Run("refuses "+claim, func(t *testing.T) {
			t.Parallel()
			got, err := ParseHost(c.s)
			message := wantFault(t, err, fault.Invalid)
			if got != "" || !strings.Contains(message, c.says) {
				t.Errorf("%q; %q is not in: %s", got, c.says, message)
			}
		})
	}
	if _, err := ParseHost("hunter2canary_é"); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("I11: %v", err)
	}
}

func TestCanonicalHosts(t *testing.T) {
	t.Parallel()
	given := []string{"db-2", "DB-1:5432", "db-1", "[::1]:5432", "10.0.0.7:5433", "[::ffff:10.0.0.7]:5433"}
	before := slices.Clone(given)
	got, err := CanonicalHosts(given)
	if want := []string{"10.0.0.7:5433", "[::1]:5432", "db-1:5432", "db-2:5432"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if !slices.Equal(given, before) {
		t.Error("the caller's list was changed")
	}
	if got, err := CanonicalHosts(nil); got != nil || err != nil {
		t.Errorf("none are %q, %v", got, err)
	}
	if got, err := CanonicalHosts(slices.Repeat([]string{"db"}, 64)); len(got) != 1 || err != nil {
		t.Errorf("64 times one is %q, %v", got, err)
	}
	got, err = CanonicalHosts(slices.Repeat([]string{"db"}, 65))
	if message := wantFault(t, err, fault.Invalid); got != nil || !strings.Contains(message, "at most 64") {
		t.Error(message)
	}
	got, err = CanonicalHosts([]string{"db", "db:0"})
	if message := wantFault(t, err, fault.Invalid); got != nil || !strings.HasPrefix(message, "login_hosts: ") || !strings.Contains(message, "port must be") {
		t.Error(message)
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"", "db", "DB:5432", "[::1]", "[::ffff:10.0.0.7]:1", "10.1", "a:b:c", "[]:1", "[", "]", "x.0x1", "[fe80::1%a]", "db.", "K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := ParseHost(s)
		if err != nil {
			wantFault(t, err, fault.Invalid)
			return
		}
		if again, err := ParseHost(host); err != nil || again != host {
			t.Fatalf("%q is %q, which is %q, %v", s, host, again, err)
		}
		if host != strings.ToLower(host) || len(host) > maxHostBytes+len(":65535") || strings.ContainsAny(host, "/@%?#, ") {
			t.Fatalf("%q is %q", s, host)
		}
	})
}
