package secret

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestRotationEncoding(t *testing.T) {
	t.Parallel()
	due := noon.In(time.FixedZone("east", 7200)).Add(999)
	round := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for claim, c := range map[string]struct {
		r    Rotation
		want string
	}{
		"nothing is nil":           {Rotation{}, ""},
		"an interval is elsewhere": {Rotation{Schedule: Schedule{Interval: time.Hour}}, ""},
		"no classes and no hosts are nothing": {
			Rotation{Policy: PasswordPolicy{Classes: []string{}}, LoginHosts: []string{}}, "",
		},
		"cron alone": {Rotation{Schedule: Schedule{Cron: "@daily"}}, `{"cron":"@daily"}`},
		"everything": {
			Rotation{
				Schedule:   Schedule{Cron: "0 3 * * SUN#1", TimeZone: "Europe/Berlin", Window: time.Hour, Missed: MissedWait},
				Policy:     PasswordPolicy{Length: 30, Alphabet: "\"\\<aA0", Classes: []string{"symbol", "upper"}},
				LoginHosts: []string{"db-2", "DB-1", "db-1:5432"},
				Paused:     true, PausedDue: &due,
			},
			`{"cron":"0 3 * * SUN#1","login_hosts":["db-1:5432","db-2:5432"],"missed":"wait",` +
				`"password":{"alphabet":"\"\\<aA0","classes":["upper","symbol"],"length":30},"paused":true,` +
				`"paused_due":"2026-03-01T12:00:00.123456Z","time_zone":"Europe/Berlin","window_secs":3600}`,
		},
		"paused without a due time":     {Rotation{Paused: true}, `{"paused":true}`},
		"times have all six digits":     {Rotation{Paused: true, PausedDue: &round}, `{"paused":true,"paused_due":"9999-12-31T23:59:59.000000Z"}`},
		"a policy of one field":         {Rotation{Policy: PasswordPolicy{Length: 64}}, `{"password":{"length":64}}`},
		"classes in their order":        {Rotation{Policy: PasswordPolicy{Classes: []string{"symbol", "digit", "upper", "lower"}}}, `{"password":{"classes":["lower","upper","digit","symbol"]}}`},
		"login hosts of a login secret": {Rotation{LoginHosts: []string{"[::1]"}}, `{"login_hosts":["[::1]:5432"]}`},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			got := c.r.Encode()
			if string(got) != c.want || (c.want == "") != (got == nil) {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
			back, err := DecodeRotation(got)
			if err != nil || string(back.Encode()) != c.want {
				t.Errorf("came back as %+v, %v", back, err)
			}
			if back.Schedule.Interval != 0 || back.Schedule.Cron != c.r.Schedule.Cron || back.Schedule.Window != c.r.Schedule.Window ||
				back.Policy.Length != c.r.Policy.Length || back.Policy.Alphabet != c.r.Policy.Alphabet || back.Paused != c.r.Paused {
				t.Errorf("came back as %+v", back)
			}
			if want := c.r.PausedDue; want != nil && (*back.PausedDue != want.UTC().Truncate(time.Microsecond) || back.PausedDue.Location() != time.UTC) {
				t.Errorf("was due at %s", back.PausedDue)
			}
		})
	}
	t.Run("encoding changes nothing of the caller's", func(t *testing.T) {
		t.Parallel()
		given := func() Rotation {
			return Rotation{LoginHosts: []string{"b", "a", "a"}, Policy: PasswordPolicy{Classes: []string{"symbol", "lower"}}}
		}
		r := given()
		if r.Encode(); !reflect.DeepEqual(r, given()) {
			t.Errorf("%+v", r)
		}
	})
}

func TestI4_DecodeRotationRefuses(t *testing.T) {
	t.Parallel()
	for claim, s := range map[string]string{
		"an empty object":               `{}`,
		"null":                          `null`,
		"an unknown field":              `{"cron":"@daily","interval":1}`,
		"an unknown field of a policy":  `{"password":{"length":30,"pin":1}}`,
		"an empty policy":               `{"paused":true,"password":{}}`,
		"a field in capitals":           `{"Paused":true}`,
		"fields in another order":       `{"paused":true,"cron":"@daily"}`,
		"a field twice":                 `{"paused":true,"paused":true}`,
		"a field with its zero value":   `{"cron":"@daily","paused":false}`,
		"white space":                   `{"paused": true}`,
		"trailing bytes":                `{"paused":true}x`,
		"hosts in another order":        `{"login_hosts":["b:5432","a:5432"]}`,
		"a host twice":                  `{"login_hosts":["a:5432","a:5432"]}`,
		"a host in another form":        `{"login_hosts":["a"]}`,
		"classes in another order":      `{"password":{"classes":["upper","lower"]}}`,
		"a due time that isn't paused":  `{"paused_due":"2026-03-01T12:00:00.123456Z"}`,
		"a due time in whole seconds":   `{"paused":true,"paused_due":"2026-03-01T12:00:00Z"}`,
		"a due time in nanoseconds":     `{"paused":true,"paused_due":"2026-03-01T12:00:00.123456789Z"}`,
		"a due time with a comma":       `{"paused":true,"paused_due":"2026-03-01T12:00:00,123456Z"}`,
		"a due time in another zone":    `{"paused":true,"paused_due":"2026-03-01T12:00:00.123456+00:00"}`,
		"a due time in year 10000":      `{"paused":true,"paused_due":"10000-01-01T00:00:00.000000Z"}`,
		"30 February":                   `{"paused":true,"paused_due":"2026-02-30T12:00:00.123456Z"}`,
		"a broken window":               `{"window_secs":1.5}`,
		"a window that no duration is":  `{"window_secs":9223372037}`,
		"a window in another form":      `{"window_secs":6e1}`,
		"another escape":                `{"cron":"\u0040daily"}`,
		"invalid UTF-8":                 "{\"cron\":\"\xff\"}",
		"a number for a text":           `{"cron":1}`,
		"a length that is too large":    `{"password":{"length":9223372036854775808}}`,
		"a null":                        `{"cron":null,"paused":true}`,
		"a text in place of the object": `"cron"`,
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			r, err := DecodeRotation([]byte(s))
			wantFault(t, err, fault.Internal)
			if !reflect.DeepEqual(r, Rotation{}) || !errors.Is(err, ErrMalformedRotation) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	if r, err := DecodeRotation(nil); !reflect.DeepEqual(r, Rotation{}) || err != nil {
		t.Errorf("nil bytes gave %+v, %v", r, err)
	}
}

func TestRotationValidate(t *testing.T) {
	t.Parallel()
	at := func(year int) *time.Time { due := time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC); return &due }
	for claim, r := range map[string]Rotation{
		"nothing":              {},
		"an interval":          {Schedule: Schedule{Interval: time.Hour}},
		"a pause":              {Paused: true},
		"the last year":        {Paused: true, PausedDue: at(9999)},
		"hosts in any form":    {LoginHosts: []string{"db", "DB"}},
		"cron with its window": {Schedule: Schedule{Cron: "@daily", Window: time.Hour, Missed: MissedWait}, Policy: PasswordPolicy{Length: 22}},
	} {
		if err := r.Validate(); err != nil {
			t.Errorf("refuses %s: %v", claim, err)
		}
	}
	for claim, c := range map[string]struct {
		r    Rotation
		says string
	}{
		"a zone alone":                {Rotation{Schedule: Schedule{TimeZone: "UTC"}}, "or cron"},
		"a bad expression":            {Rotation{Schedule: Schedule{Cron: "@never"}}, "cron takes"},
		"a weak policy":               {Rotation{Policy: PasswordPolicy{Length: 8}}, "128 bits"},
		"a bad host":                  {Rotation{LoginHosts: []string{"a,b"}}, "login_hosts: "},
		"a due time without a pause":  {Rotation{PausedDue: at(2026)}, "goes with paused"},
		"a due time after year 9999":  {Rotation{Paused: true, PausedDue: at(10000)}, "years 1 to 9999"},
		"a due time before the first": {Rotation{Paused: true, PausedDue: at(0)}, "years 1 to 9999"},
	} {
		if message := wantFault(t, c.r.Validate(), fault.Invalid); !strings.Contains(message, c.says) {
			t.Errorf("%s: %s", claim, message)
		}
	}
}

func FuzzDecodeRotation(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"paused":true}`, `{"cron":"@daily","time_zone":"Europe/Berlin"}`, `{"paused":true,"paused_due":"2026-03-01T12:00:00.123456Z"}`,
		`{"cron":"0 3 * * SUN#1","login_hosts":["db-1:5432"],"missed":"wait","password":{"alphabet":"aA0","classes":["upper"],"length":64},"window_secs":3600}`,
		`{"window_secs":9223372037}`, `{"login_hosts":["b:1","a:1"]}`, `{"password":{}}`, `{"password":{"length":-1}}`, "{\"cron\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRotation(b)
		if err != nil {
			wantFault(t, err, fault.Internal)
			return
		}
		if again := r.Encode(); string(again) != string(b) {
			t.Fatalf("%q is encoded as %q", b, again)
		}
		_ = r.Validate() // whatever was stored, it doesn't panic
	})
}
