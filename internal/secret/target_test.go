package secret

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// certificate gives one that vouches for itself, in PEM, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: noon.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("CERTIFICATE", der), text("PRIVATE KEY", pkcs8)
}

func single(change func(*PostgresTarget)) *Target {
	p := &PostgresTarget{Hosts: []string{"db"}, Mode: ModeSingle}
	change(p)
	return &Target{Postgres: p}
}

func alternating(change func(*PostgresTarget)) *Target {
	p := &PostgresTarget{
		Hosts: []string{"db-1", "db-2:5433"}, Standbys: []string{"db-3"}, Mode: ModeAlternating, Usernames: []string{"app_a", "app_b"}, LoginSecret: "db/admin",
	}
	change(p)
	return &Target{Postgres: p}
}

func webhook(change func(*WebhookTarget)) *Target {
	w := &WebhookTarget{URL: "https://example.com/rotated", SigningSecret: "hooks/key"}
	change(w)
	return &Target{Webhook: w}
}

func hosts(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("db-%d", i))
	}
	return list
}

func TestTargetValidate(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	const day = 24 * time.Hour
	none := func(*PostgresTarget) {}

	for claim, c := range map[string]struct {
		t      *Target
		format Format
		grace  time.Duration
	}{
		"no target":                        {nil, Opaque, day},
		"one role":                         {single(none), Userpass, 0},
		"one role whose password is reset": {single(func(p *PostgresTarget) { p.LoginSecret = "db/admin" }), Userpass, 0},
		"two roles":                        {alternating(none), Userpass, day},
		"two roles without a grace":        {alternating(none), Userpass, 0},
		"16 hosts and 16 standbys": {single(func(p *PostgresTarget) {
			p.Hosts = hosts(32)[:16]
			p.Standbys = hosts(32)[16:]
		}), Userpass, 0},
		"the limits": {alternating(func(p *PostgresTarget) {
			p.Database = strings.Repeat("d", 63)
			p.Usernames = []string{strings.Repeat("a", 63), "Größe \"'"}
			p.LoginSecret = strings.Repeat("n", 255)
			p.ProbeSecs = 86400
		}), Userpass, MaxGracePeriod},
		"a probe every 10 s":             {single(func(p *PostgresTarget) { p.ProbeSecs = 10 }), Userpass, 0},
		"a certificate":                  {single(func(p *PostgresTarget) { p.CA = cert }), Userpass, 0},
		"certificates and space":         {single(func(p *PostgresTarget) { p.CA = "\n" + cert + "\r\n\r\n" + cert + " " }), Userpass, 0},
		"a webhook":                      {webhook(func(*WebhookTarget) {}), Opaque, day},
		"a webhook for a userpass":       {webhook(func(w *WebhookTarget) { w.SendValue = true }), Userpass, 0},
		"a webhook with all in its URL":  {webhook(func(w *WebhookTarget) { w.URL = "https://10.0.0.7:8443/a%20b?c=d&e" }), Opaque, 0},
		"a webhook to an IPv6 address":   {webhook(func(w *WebhookTarget) { w.URL = "HTTPS://[2001:db8::7]" }), Opaque, 0},
		"a webhook with its certificate": {webhook(func(w *WebhookTarget) { w.CA = cert }), Opaque, 0},
	} {
		t.Run("accepts "+claim, func(t *testing.T) {
			t.Parallel()
			if err := c.t.Validate(c.format, c.grace); err != nil {
				t.Error(err)
			}
		})
	}

	for claim, c := range map[string]struct {
		t    *Target
		says string
	}{
		"nothing":                        {&Target{}, "exactly one of"},
		"both":                           {&Target{Postgres: single(none).Postgres, Webhook: &WebhookTarget{}}, "exactly one of"},
		"no mode":                        {single(func(p *PostgresTarget) { p.Mode = "" }), "mode must be"},
		"another mode":                   {single(func(p *PostgresTarget) { p.Mode = "Single" }), "mode must be"},
		"usernames of one role":          {single(func(p *PostgresTarget) { p.Usernames = []string{"app"} }), "usernames are"},
		"no usernames":                   {alternating(func(p *PostgresTarget) { p.Usernames = nil }), "two different roles"},
		"one of two":                     {alternating(func(p *PostgresTarget) { p.Usernames = p.Usernames[:1] }), "two different roles"},
		"three":                          {alternating(func(p *PostgresTarget) { p.Usernames = []string{"a", "b", "c"} }), "two different roles"},
		"one twice":                      {alternating(func(p *PostgresTarget) { p.Usernames = []string{"a", "a"} }), "two different roles"},
		"a role without a name":          {alternating(func(p *PostgresTarget) { p.Usernames = []string{"a", ""} }), "usernames must be 1 to 63"},
		"a role of 64 bytes":             {alternating(func(p *PostgresTarget) { p.Usernames[0] = strings.Repeat("a", 64) }), "usernames must be 1 to 63"},
		"a role with a break":            {alternating(func(p *PostgresTarget) { p.Usernames[0] = "a\n" }), "usernames must be 1 to 63"},
		"a role that is not UTF-8":       {alternating(func(p *PostgresTarget) { p.Usernames[1] = "a\xff" }), "usernames must be 1 to 63"},
		"two roles and no login":         {alternating(func(p *PostgresTarget) { p.LoginSecret = "" }), "login_secret must name"},
		"a login that can't be one":      {alternating(func(p *PostgresTarget) { p.LoginSecret = "a//b" }), "login_secret: names are"},
		"the same for one role":          {single(func(p *PostgresTarget) { p.LoginSecret = "a/rotate" }), "login_secret: names are"},
		"no host":                        {single(func(p *PostgresTarget) { p.Hosts = nil }), "hosts must be 1 to 16"},
		"17 hosts":                       {single(func(p *PostgresTarget) { p.Hosts = hosts(17) }), "hosts must be 1 to 16"},
		"17 standbys":                    {single(func(p *PostgresTarget) { p.Standbys = hosts(17) }), "standbys must be at most 16"},
		"a host that can't be one":       {single(func(p *PostgresTarget) { p.Hosts = []string{"db,db2"} }), "labels"},
		"a standby that can't be one":    {single(func(p *PostgresTarget) { p.Standbys = []string{"db:0"} }), "port must be"},
		"a host twice":                   {single(func(p *PostgresTarget) { p.Hosts = []string{"db", "DB:5432"} }), "each host once"},
		"a host that is a standby":       {single(func(p *PostgresTarget) { p.Standbys = []string{"db:5432"} }), "each host once"},
		"a database of 64 bytes":         {single(func(p *PostgresTarget) { p.Database = strings.Repeat("d", 64) }), "database must be"},
		"a database with NUL":            {single(func(p *PostgresTarget) { p.Database = "d\x00" }), "database must be"},
		"a probe every 9 s":              {single(func(p *PostgresTarget) { p.ProbeSecs = 9 }), "probe_secs must be"},
		"a negative probe":               {single(func(p *PostgresTarget) { p.ProbeSecs = -10 }), "probe_secs must be"},
		"a probe after a day":            {single(func(p *PostgresTarget) { p.ProbeSecs = 86401 }), "probe_secs must be"},
		"a private key":                  {single(func(p *PostgresTarget) { p.CA = key }), "postgres.ca must hold certificates"},
		"a private key at the end":       {single(func(p *PostgresTarget) { p.CA = cert + key }), "must hold certificates"},
		"a private key at the beginning": {single(func(p *PostgresTarget) { p.CA = key + cert }), "must hold certificates"},
		"a broken key before one":        {single(func(p *PostgresTarget) { p.CA = strings.ReplaceAll(key, "END", "FIN") + cert }), "must hold certificates"},
		"a broken certificate before one": {single(func(p *PostgresTarget) {
			p.CA = strings.ReplaceAll(cert, "-----END", "key") + cert
		}), "must hold certificates"},
		"text between certificates":    {single(func(p *PostgresTarget) { p.CA = cert + "# and another\n" + cert }), "must hold certificates"},
		"headers":                      {single(func(p *PostgresTarget) { p.CA = strings.Replace(cert, "\n", "\nComment: x\n\n", 1) }), "must hold certificates"},
		"no PEM":                       {single(func(p *PostgresTarget) { p.CA = "/etc/ssl/ca.pem" }), "must hold certificates"},
		"white space":                  {single(func(p *PostgresTarget) { p.CA = " \n" }), "or be left out"},
		"a block that is none":         {single(func(p *PostgresTarget) { p.CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }), "can't be read"},
		"32 KiB and a byte":            {single(func(p *PostgresTarget) { p.CA = strings.Repeat("\n", 32<<10) + "x" }), "at most 32 KiB"},
		"no URL":                       {webhook(func(w *WebhookTarget) { w.URL = "" }), "begin with https"},
		"http":                         {webhook(func(w *WebhookTarget) { w.URL = "http://example.com" }), "begin with https"},
		"a host alone":                 {webhook(func(w *WebhookTarget) { w.URL = "example.com" }), "begin with https"},
		"a URL without a host":         {webhook(func(w *WebhookTarget) { w.URL = "https:///rotated" }), "must name a host"},
		"a URL without slashes":        {webhook(func(w *WebhookTarget) { w.URL = "https:example.com" }), "a URL like"},
		"a port alone in a URL":        {webhook(func(w *WebhookTarget) { w.URL = "https://:443/" }), "must name a host"},
		"an empty port in a URL":       {webhook(func(w *WebhookTarget) { w.URL = "https://example.com:/" }), "must name a host"},
		"a host that can't be a URL's": {webhook(func(w *WebhookTarget) { w.URL = "https://0x7f.1/" }), "must name a host"},
		"an escaped host":              {webhook(func(w *WebhookTarget) { w.URL = "https://ex%61mple.com/" }), "a URL like"},
		"a user":                       {webhook(func(w *WebhookTarget) { w.URL = "https://user@example.com/" }), "no user"},
		"a password":                   {webhook(func(w *WebhookTarget) { w.URL = "https://:pass@example.com/" }), "no user"},
		"a fragment":                   {webhook(func(w *WebhookTarget) { w.URL = "https://example.com/#top" }), "no fragment"},
		"an empty fragment":            {webhook(func(w *WebhookTarget) { w.URL = "https://example.com/#" }), "no fragment"},
		"a space in a URL":             {webhook(func(w *WebhookTarget) { w.URL = "https://example.com/a b" }), "printable ASCII"},
		"a break in a URL":             {webhook(func(w *WebhookTarget) { w.URL = "https://example.com/\r\nX: y" }), "printable ASCII"},
		"letters beyond ASCII":         {webhook(func(w *WebhookTarget) { w.URL = "https://bücher.example/" }), "printable ASCII"},
		"a bad escape":                 {webhook(func(w *WebhookTarget) { w.URL = "https://example.com/%zz" }), "a URL like"},
		"2049 characters":              {webhook(func(w *WebhookTarget) { w.URL = "https://example.com/" + strings.Repeat("a", 2029) }), "at most 2048"},
		"no signing secret":            {webhook(func(w *WebhookTarget) { w.SigningSecret = "" }), "signing_secret must name"},
		"one that can't be one":        {webhook(func(w *WebhookTarget) { w.SigningSecret = "../key" }), "signing_secret: names are"},
		"a key for the webhook":        {webhook(func(w *WebhookTarget) { w.CA = key }), "webhook.ca must hold certificates"},
	} {
		t.Run("refuses "+claim, func(t *testing.T) {
			t.Parallel()
			if message := wantFault(t, c.t.Validate(Userpass, 0), fault.Invalid); !strings.Contains(message, c.says) {
				t.Errorf("%q is not in: %s", c.says, message)
			}
		})
	}

	t.Run("a postgres target needs a userpass secret", func(t *testing.T) {
		t.Parallel()
		for _, format := range []Format{Opaque, "", "USERPASS"} {
			if message := wantFault(t, alternating(none).Validate(format, 0), fault.Invalid); !strings.Contains(message, "needs a userpass secret") {
				t.Error(message)
			}
		}
	})
	t.Run("I9 one role has no grace, and it is said why", func(t *testing.T) {
		t.Parallel()
		message := wantFault(t, single(none).Validate(Userpass, time.Second), fault.Invalid)
		if message != "one role has one password: the old one stops working the moment the new one is set; "+
			"set grace_period_secs to 0, or use mode alternating with two roles" {
			t.Error(message)
		}
	})
}

func TestI11_TargetErrorsDoNotRepeatTheInput(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, target := range []*Target{
		single(func(p *PostgresTarget) { p.Mode = canary }), single(func(p *PostgresTarget) { p.Hosts = []string{canary + ","} }),
		single(func(p *PostgresTarget) { p.Database = canary + "\n" }), single(func(p *PostgresTarget) { p.CA = canary }),
		single(func(p *PostgresTarget) { p.LoginSecret = canary + "//" }), alternating(func(p *PostgresTarget) { p.Usernames[0] = canary + "\n" }),
		webhook(func(w *WebhookTarget) { w.URL = "https://u:" + canary + "@h/" }), webhook(func(w *WebhookTarget) { w.URL = "https://h/%zz" + canary }),
		webhook(func(w *WebhookTarget) { w.URL = canary }), webhook(func(w *WebhookTarget) { w.SigningSecret = canary + "//" }),
	} {
		if err := target.Validate(Userpass, 0); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("Validate: %v", err)
		}
	}
}

func TestTarget_TypeAndDefaults(t *testing.T) {
	t.Parallel()
	var none *Target
	if none.Type() != "" || (&Target{}).Type() != "" || (&Target{Postgres: &PostgresTarget{}}).Type() != "postgres" || (&Target{Webhook: &WebhookTarget{}}).Type() != "webhook" {
		t.Error("a target has another type")
	}
	p := PostgresTarget{}
	if p.DatabaseOrDefault() != "postgres" || p.ProbeInterval() != 5*time.Minute {
		t.Error("the defaults are others")
	}
	p = PostgresTarget{Database: "app", ProbeSecs: 10}
	if p.DatabaseOrDefault() != "app" || p.ProbeInterval() != 10*time.Second {
		t.Error("the defaults are used where there is something")
	}
	t.Run("the canonical form is a copy", func(t *testing.T) {
		t.Parallel()
		given := alternating(func(p *PostgresTarget) { p.Hosts = []string{"DB", "no host"} })
		c := given.Canonical()
		if got := c.Postgres.Hosts; got[0] != "db:5432" || got[1] != "no host" || c.Postgres.Standbys[0] != "db-3:5432" {
			t.Errorf("%q", got)
		}
		c.Postgres.Usernames[0], c.Postgres.Standbys[0] = "x", "x"
		if !reflect.DeepEqual(given, alternating(func(p *PostgresTarget) { p.Hosts = []string{"DB", "no host"} })) {
			t.Error("what was given changed with it")
		}
		hook := webhook(func(*WebhookTarget) {})
		hook.Canonical().Webhook.URL = "x"
		if hook.Webhook.URL == "x" || none.Canonical() != nil {
			t.Error("it shares a part, or nothing is something")
		}
	})
}
