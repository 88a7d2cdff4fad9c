package httpapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
)

const (
	everySetting = `"rotation_schedule":{"cron":"0 3 * * SUN","time_zone":"Europe/Berlin","window_secs":7200,"missed":"wait"},
		"password_policy":{"length":32,"alphabet":"abc","classes":["lower"]},"login_hosts":["db1:5432"],`
	aPostgres = `{"hosts":["db1:5432","db2:5432"],"standbys":["db3:5432"],"database":"app","mode":"alternating","usernames":["a","b"],
		"login_secret":"db/admin","probe_secs":60,"ca":"pem","type":"postgres"}`
	aWebhook = `{"type":"webhook","url":"https://example.com/rotated","signing_secret":"app/sign","send_value":true,"ca":"pem"}`
)

func TestDecodeWhatIsSaidOfRotation(t *testing.T) {
	t.Parallel()
	schedule := vault.ScheduleRequest{Cron: "0 3 * * SUN", TimeZone: "Europe/Berlin", WindowSecs: 7200, Missed: "wait"}
	policy := secret.PasswordPolicy{Length: 32, Alphabet: "abc", Classes: []string{"lower"}}
	for text, want := range map[string]secret.Target{
		aPostgres: {Postgres: &secret.PostgresTarget{
			Hosts: []string{"db1:5432", "db2:5432"}, Standbys: []string{"db3:5432"}, Database: "app", Mode: "alternating", Usernames: []string{"a", "b"},
			LoginSecret: "db/admin", ProbeSecs: 60, CA: "pem",
		}},
		aWebhook: {Webhook: &secret.WebhookTarget{URL: "https://example.com/rotated", SigningSecret: "app/sign", SendValue: true, CA: "pem"}},
	} {
		c, err := decodeCreate([]byte(`{"name":"a","kind":"automatic","rotate_on_create":true,` + everySetting + `"target":` + text + `}`))
		if err != nil || !c.RotateOnCreate || *c.Schedule != schedule || !reflect.DeepEqual(*c.PasswordPolicy, policy) || len(c.LoginHosts) != 1 || !reflect.DeepEqual(*c.Target, want) {
			t.Errorf("create: %+v, %v", c, err)
		}
		u, err := decodeUpdate([]byte(`{` + everySetting + `"target":` + text + `}`))
		if err != nil || u.Schedule.Value != schedule || !reflect.DeepEqual(u.PasswordPolicy.Value, policy) || len(u.LoginHosts.Value) != 1 || !reflect.DeepEqual(u.Target.Value, want) {
			t.Errorf("update: %+v, %v", u, err)
		}
	}
	nulls := `"rotation_schedule":null,"password_policy":null,"login_hosts":null,"target":null`
	c, err := decodeCreate([]byte(`{"name":"a","kind":"automatic","rotate_on_create":null,` + nulls + `}`))
	if err != nil || c.Schedule != nil || c.PasswordPolicy != nil || c.LoginHosts != nil || c.Target != nil {
		t.Errorf("create: %+v, %v", c, err)
	}
	u, err := decodeUpdate([]byte(`{` + nulls + `}`))
	if err != nil || !u.Schedule.Null || !u.PasswordPolicy.Null || !u.LoginHosts.Null || !u.Target.Null {
		t.Errorf("update: %+v, %v", u, err)
	}
	u, err = decodeUpdate([]byte(`{}`))
	if err != nil || u.Schedule.Set || u.PasswordPolicy.Set || u.LoginHosts.Set || u.Target.Set {
		t.Errorf("update: %+v, %v", u, err)
	}
}

// What an answer shows of a secret's rotation can be sent again, and says the same.
func TestWhatIsShownOfRotationCanBeSentAgain(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]vault.Metadata{
		"all of it, postgres": settled(postgresTarget), "all of it, webhook": settled(webhookTarget),
		"as little as there can be": {
			Rotation: secret.Rotation{Schedule: secret.Schedule{Cron: "@daily"}, Policy: secret.PasswordPolicy{Length: 64}},
			Target:   &secret.Target{Postgres: &secret.PostgresTarget{Hosts: []string{"a:5432"}, Mode: "single"}},
		},
		"nothing": {},
	} {
		text, err := marshal(viewMetadata(m))
		if err != nil {
			t.Fatal(err)
		}
		var shown map[string]json.RawMessage
		if err := json.Unmarshal(text, &shown); err != nil {
			t.Fatal(err)
		}
		body := `{"rotation_schedule":` + string(shown["rotation_schedule"]) + `,"password_policy":` + string(shown["password_policy"]) +
			`,"login_hosts":` + string(shown["login_hosts"]) + `,"target":` + string(shown["target"]) + `}`
		u, err := decodeUpdate([]byte(body))
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, body)
		}
		if got, want := u.Target.Value.Encode(), m.Target.Encode(); m.Target != nil && string(got) != string(want) {
			t.Errorf("%s: the target is %s, then %s", name, want, got)
		}
		if got, want := u.PasswordPolicy.Value, m.Rotation.Policy; got.Length != want.Length || got.Alphabet != want.Alphabet || strings.Join(got.Classes, ",") != strings.Join(want.Classes, ",") {
			t.Errorf("%s: the policy is %+v, then %+v", name, want, got)
		}
		if got, want := u.Schedule.Value, m.Rotation.Schedule; got.Cron != want.Cron || time.Duration(got.WindowSecs)*time.Second != want.Window {
			t.Errorf("%s: the schedule is %+v, then %+v", name, want, got)
		}
	}
}
