package httpapi

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// canary is what errors must never repeat.
const canary = "Zk3mQ8canaryT1xP"

// decoders are all that read a body, by name.
var decoders = map[string]func([]byte) error{
	"create":   func(b []byte) error { r, err := decodeCreate(b); release(r.Given); return err },
	"update":   func(b []byte) error { r, err := decodeUpdate(b); release(r.Given); return err },
	"verify":   func(b []byte) error { g, err := decodeVerify(b); release(g); return err },
	"empty":    decodeEmpty,
	"rollback": func(b []byte) error { return decodeRollback(b, &vault.RollbackRequest{}) },
	"batch":    func(b []byte) error { _, err := decodeBatch(b); return err },
	"role":     func(b []byte) error { _, err := decodeRole(b); return err },
	"rules":    func(b []byte) error { _, err := decodePermissions(b); return err },
	"token":    func(b []byte) error { _, err := decodeToken(b); return err },
}

func TestMalformedBodiesAreExplained(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 20000)
	for _, c := range []struct{ decoder, body, says string }{
		// No object.
		{"create", ` `, "a body is required"},
		{"create", `null`, "the body must be an object, not null"},
		{"create", `[]`, "the body must be an object, not an array"},
		{"create", `"` + canary + `"`, "the body must be an object, not a string"},
		{"create", `12`, "the body must be an object, not a number"},
		{"create", `true`, "the body must be an object, not a boolean"},
		{"create", `{}`, "name is required"},
		{"create", `{"name":"a"}`, "kind is required"},
		{"create", `{"name":"","kind":"manual"}`, "name is required"},

		// No JSON.
		{"create", canary, "not valid JSON, at byte 0"},
		{"create", `{`, "ends before"},
		{"create", `{"value":"` + canary, "ends before"},
		{"create", `{"value":"` + canary + `"`, "ends before"},
		{"create", `{"value":"` + canary + `",`, "ends before"},
		{"create", `{"value"`, "ends before"},
		{"create", `{"value":`, "ends before"},
		{"create", `{"value":"` + canary + `",}`, "not valid JSON"},
		{"create", `{"value":"` + canary + `" "x":1}`, "not valid JSON"},
		{"create", `{value:1}`, "not valid JSON"},
		{"create", `{'value':1}`, "not valid JSON"},
		{"create", `{1:2}`, "not valid JSON"},
		{"create", `{"value":}`, "not valid JSON"},
		{"create", `{"value"=1}`, "not valid JSON"},
		{"create", `{"value":'` + canary + `'}`, "not valid JSON"},
		{"create", "{\"value\":\"a\nb\"}", "not valid JSON"},
		{"create", `{"value":"\x"}`, "not valid JSON"},
		{"create", `{"value":"\ud800"}`, "not valid JSON"},
		{"create", `{"value":"\u12"}`, "not valid JSON"},
		{"create", `{"target":nul}`, "not valid JSON"},
		{"create", `{"rotation_interval_secs":01}`, "not valid JSON"},
		{"create", `{"rotation_interval_secs":+1}`, "not valid JSON"},
		{"create", `{"rotation_interval_secs":1.}`, "not valid JSON"},
		{"create", `{"rotation_interval_secs":NaN}`, "not valid JSON"},
		{"create", "\ufeff{}", "not valid JSON, at byte 0"},
		{"create", "{} // " + canary, "goes on after"},
		{"create", "/* */ {}", "not valid JSON"},
		{"create", "{\"value\":\"" + canary + "\xff\"}", "not valid UTF-8"},
		{"create", "\xff\xfe{\x00}\x00", "not valid UTF-8"},

		// Something behind it.
		{"create", `{}{}`, "goes on after"},
		{"create", `{} null`, "goes on after"},
		{"create", `{}}`, "goes on after"},
		{"create", `{},`, "goes on after"},
		{"create", "{}\x00", "goes on after"},
		{"empty", `{} "` + canary + `"`, "goes on after"},

		// Names.
		{"create", `{"valeu":"` + canary + `"}`, `unknown field "valeu": known here are custom_metadata, description`},
		{"create", `{"Value":"` + canary + `"}`, `unknown field "Value"`},
		{"create", `{"format":"opaque"}`, `unknown field "format"`},
		{"create", `{"":1}`, `unknown field: known here are`},
		{"create", `{"` + canary + ` said":1}`, `unknown field: known here are`},
		{"create", `{"` + canary + strings.Repeat("a", 64) + `":1}`, `unknown field: known here are`},
		{"create", `{"value":"` + canary + `","value":"x"}`, `a field is given twice: "value"`},
		{"create", `{"value":"` + canary + `","v\u0061lue":"x"}`, `a field is given twice: "value"`},
		{"create", `{"custom_metadata":{"a":"x","a":"y"}}`, `a field is given twice: "a"`},
		{"create", `{"custom_metadata":{"a b":"x","a b":"y"}}`, `a field is given twice: its name isn't shown`},
		{"empty", `{"value":"` + canary + `"}`, `unknown field "value"`},

		// Types.
		{"create", `{"name":1}`, "name must be a string, not a number"},
		{"create", `{"name":null}`, "name must be a string, not null"},
		{"create", `{"name":["` + canary + `"]}`, "name must be a string, not an array"},
		{"create", `{"kind":true}`, "kind must be a string, not a boolean"},
		{"create", `{"value":12345678901234}`, "value must be a string, not a number"},
		{"create", `{"value":null}`, "value must be a string, not null"},
		{"create", `{"value":{"a":"` + canary + `"}}`, "value must be a string, not an object"},
		{"create", `{"value":["` + canary + `"]}`, "value must be a string, not an array"},
		{"create", `{"value":` + deep + `}`, "value must be a string, not an array"},
		{"create", `{"value_base64":7}`, "value_base64 must be a string, not a number"},
		{"create", `{"username":false}`, "username must be a string, not a boolean"},
		{"create", `{"password":{}}`, "password must be a string, not an object"},
		{"create", `{"description":{}}`, "description must be a string, not an object"},
		{"create", `{"rotation_interval_secs":"60"}`, "rotation_interval_secs must be an integer, not a string"},
		{"create", `{"rotation_interval_secs":1.5}`, "rotation_interval_secs must be an integer, without a fraction"},
		{"create", `{"rotation_interval_secs":1e3}`, "rotation_interval_secs must be an integer, without a fraction or exponent"},
		{"create", `{"grace_period_secs":9223372036854775808}`, "grace_period_secs must be an integer"},
		{"create", `{"grace_period_secs":[]}`, "grace_period_secs must be an integer, not an array"},
		{"create", `{"custom_metadata":"` + canary + `"}`, "custom_metadata must be an object of strings, not a string"},
		{"create", `{"custom_metadata":{"a":1}}`, "each value in custom_metadata must be a string, not a number"},
		{"create", `{"custom_metadata":{"a":{"b":"` + canary + `"}}}`, "each value in custom_metadata must be a string, not an object"},
		{"create", `{"custom_metadata":{"a":null}}`, "each value in custom_metadata must be a string, not null"},

		// Base64.
		{"create", `{"value_base64":"` + canary + `!"}`, "value_base64 must be standard base64"},
		{"create", `{"value_base64":"AAE"}`, "value_base64 must be standard base64"},
		{"create", `{"value_base64":"AB=="}`, "value_base64 must be standard base64"}, // bits that mean nothing
		{"create", `{"value_base64":"AA==AA=="}`, "value_base64 must be standard base64"},
		{"create", `{"value_base64":"__8="}`, "value_base64 must be standard base64"},
		{"create", `{"value_base64":"AAEC\n"}`, "without line breaks"},

		// Fields with rules of their own.
		{"create", `{"target":{"hosts":[]}}`, "target.type is required"},
		{"create", `{"target":{"type":"` + canary + `"}}`, "target.type must be postgres or webhook"},
		{"create", `{"target":{"url":"x","type":"postgres"}}`, "target.url doesn't go with the type postgres"},
		{"create", `{"target":{"type":"webhook","mode":null}}`, "target.mode doesn't go with the type webhook"},
		{"create", `{"target":{"type":"webhook","port":1}}`, `unknown field "port" in target: known here are ca, database, hosts`},
		{"create", `{"target":{"type":"postgres","hosts":"a"}}`, "target.hosts must be an array, not a string"},
		{"create", `{"target":{"type":"postgres","hosts":[1]}}`, "each of target.hosts must be a string, not a number"},
		{"create", `{"target":""}`, "target must be an object, not a string"},
		{"update", `{"target":[]}`, "target must be an object, not an array"},
		{"create", `{"rotation_schedule":{}}`, "rotation_schedule.cron is required"},
		{"create", `{"rotation_schedule":{"cron":"@daily","window_secs":"60"}}`, "rotation_schedule.window_secs must be an integer, not a string"},
		{"update", `{"rotation_schedule":"@daily"}`, "rotation_schedule must be an object, not a string"},
		{"create", `{"password_policy":{"length":4294967296}}`, "password_policy.length is too large"},
		{"create", `{"password_policy":{"classes":"lower"}}`, "password_policy.classes must be an array, not a string"},
		{"create", `{"login_hosts":{}}`, "login_hosts must be an array, not an object"},
		{"create", `{"rotate_on_create":1}`, "rotate_on_create must be a boolean, not a number"},
		{"update", `{"rotate_on_create":true}`, `unknown field "rotate_on_create"`},
		{"rollback", `{}`, "version is required"},
		{"rollback", `{"version":"1"}`, "version must be an integer, not a string"},
		{"update", `{"name":"x"}`, "name can't be changed"},
		{"update", `{"kind":null}`, "kind can't be changed"},
		{"update", `{"format":"opaque"}`, "format can't be changed"},
		{"update", `{"value":null}`, "value must be a string, not null"},
		{"update", `{"description":7}`, "description must be a string, not a number"},
		{"update", `{"custom_metadata":[]}`, "custom_metadata must be an object of strings, not an array"},
		{"verify", `{"password":"` + canary + `"}`, `unknown field "password"`},
		{"batch", `{}`, "names is required"},
		{"batch", `{"names":null}`, "names must be an array, not null"},
		{"batch", `{"names":"a"}`, "names must be an array, not a string"},
		{"batch", `{"names":["a",1]}`, "names[1] must be a string, not a number"},
		{"batch", `{"names":[["a"]]}`, "names[0] must be a string, not an array"},
		{"batch", `{"names":["a"`, "ends before"},
		{"batch", `{"names":["a"}`, "not valid JSON"},
		{"batch", `{"names":["a",]}`, "not valid JSON"},
		{"batch", `{"names":[` + strings.Repeat(`"a",`, 256) + `"a"]}`, "names must be at most 256"},
		{"role", `{"name":"r"}`, "permissions is required"},
		{"role", `{"permissions":[]}`, "name is required"},
		{"role", `{"is_admin":"yes"}`, "is_admin must be a boolean, not a string"},
		{"role", `{"permissions":{}}`, "permissions must be an array, not an object"},
		{"role", `{"permissions":["read"]}`, "permissions[0] must be an object, not a string"},
		{"role", `{"permissions":[{"action":1}]}`, "permissions[0].action must be a string, not a number"},
		{"role", `{"permissions":[{"act":"read"}]}`, `unknown field "act" in permissions[0]: known here are action, path`},
		{"rules", `{}`, "permissions is required"},
		{"token", `{"name":"t"}`, "role is required"},
		{"token", `{"role":"r"}`, "name is required"},
		{"token", `{"name":"t","role":"r","expires_in_secs":"1h"}`, "expires_in_secs must be an integer, not a string"},
	} {
		err := decoders[c.decoder]([]byte(c.body))
		if err == nil {
			t.Errorf("%s: %.80q is accepted", c.decoder, c.body)
			continue
		}
		kind, code, message, _ := fault.Public(err)
		if kind != fault.Invalid || code != "invalid_request" || !strings.Contains(message, c.says) {
			t.Errorf("%s: %.80q is %v, %q; want %q", c.decoder, c.body, kind, message, c.says)
		}
		if strings.Contains(err.Error(), canary) || len(message) > 400 {
			t.Errorf("%s: %.80q is repeated: %.200q", c.decoder, c.body, err)
		}
	}
}

func TestDecodeCreate(t *testing.T) {
	t.Parallel()
	r, err := decodeCreate([]byte(` { "name" : "app/key", "kind":"automatic", "username":"\u00e9\"\\\/", "password":"p\u0000",
		"description":"d", "rotation_interval_secs":60, "grace_period_secs":-5, "custom_metadata":{"a":"b","":""},
		"target":null } ` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer release(r.Given)
	switch {
	case r.Name != "app/key", r.Kind != "automatic", r.Description != "d":
		t.Errorf("%+v", r)
	case r.RotationIntervalSecs == nil, *r.RotationIntervalSecs != 60, r.GracePeriodSecs != -5:
		t.Errorf("%+v", r)
	case len(r.CustomMetadata) != 2, r.CustomMetadata["a"] != "b":
		t.Errorf("%+v", r)
	case string(r.Given.Username.Reveal()) != `é"\/`, string(r.Given.Password.Reveal()) != "p\x00":
		t.Errorf("%q %q", r.Given.Username.Reveal(), r.Given.Password.Reveal())
	case !r.Given.Value.IsZero(), !r.Given.Binary.IsZero():
		t.Error("what is absent is there")
	}
}

func TestNullIsAbsentInCreate(t *testing.T) {
	t.Parallel()
	r, err := decodeCreate([]byte(`{"name":"a","kind":"manual","value":"","description":null,"rotation_interval_secs":null,
		"grace_period_secs":null,"custom_metadata":null,"target":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if r.Description != "" || r.RotationIntervalSecs != nil || r.GracePeriodSecs != 0 || r.CustomMetadata != nil {
		t.Errorf("%+v", r)
	}
	if r.Given.Value.IsZero() || r.Given.Value.Len() != 0 {
		t.Error("an empty value must be there, so that it can be refused")
	}
}

func TestDecodeUpdateTellsAbsentFromNull(t *testing.T) {
	t.Parallel()
	r, err := decodeUpdate([]byte(`{"description":null,"grace_period_secs":0,"custom_metadata":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case !r.Description.Set, !r.Description.Null:
		t.Errorf("null: %+v", r.Description)
	case !r.GracePeriodSecs.Set, r.GracePeriodSecs.Null, r.GracePeriodSecs.Value != 0:
		t.Errorf("zero: %+v", r.GracePeriodSecs)
	case !r.CustomMetadata.Set, r.CustomMetadata.Null, r.CustomMetadata.Value == nil:
		t.Errorf("empty: %+v", r.CustomMetadata)
	case r.RotationIntervalSecs.Set, r.RotationIntervalSecs.Null:
		t.Errorf("absent: %+v", r.RotationIntervalSecs)
	}
}

func TestDecodeBinary(t *testing.T) {
	t.Parallel()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	body := `{"value_base64":"` + strings.ReplaceAll(base64.StdEncoding.EncodeToString(all), "/", `\/`) + `"}`
	g, err := decodeVerify([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	defer release(g)
	if !slices.Equal(g.Binary.Reveal(), all) {
		t.Errorf("%x", g.Binary.Reveal())
	}
}

func TestDecodeAdmin(t *testing.T) {
	t.Parallel()
	role, err := decodeRole([]byte(`{"name":"r","description":"d","is_admin":true,"permissions":[{"path":"app/*","action":"*"}]}`))
	if err != nil || role.Name != "r" || role.Description != "d" || !role.IsAdmin || len(role.Permissions) != 1 ||
		role.Permissions[0].Action != "*" || role.Permissions[0].Path != "app/*" {
		t.Errorf("%+v, %v", role, err)
	}
	list, err := decodePermissions([]byte(`{"permissions":[]}`))
	if err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	// What permissions say is for the vault to judge.
	list, err = decodePermissions([]byte(`{"permissions":[{"action":"fly","path":"//"},{}]}`))
	if want := []access.Permission{{Action: "fly", Path: "//"}, {}}; err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v", list, err)
	}
	token, err := decodeToken([]byte(`{"name":"t","role":"r","expires_in_secs":null}`))
	if err != nil || token.Name != "t" || token.Role != "r" || token.ExpiresInSecs != nil {
		t.Errorf("%+v, %v", token, err)
	}
	names, err := decodeBatch([]byte(`{"names":["b","a","b"]}`))
	if err != nil || !slices.Equal(names, []string{"b", "a", "b"}) {
		t.Errorf("%q, %v", names, err)
	}
	for _, body := range []string{"", "{}", " { } "} {
		if err := decodeEmpty([]byte(body)); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// FuzzDecode holds every decoder to it that no body makes anything but an error of kind Invalid, that nothing of a value
// is in it, and that what is accepted is accepted again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` `, `null`, `[]`, `{"name":"a","kind":"manual","value":"VALUE"}`, `{"value":"VALUE"}`, `{"value_base64":"VkFMVUU="}`,
		`{"names":["a","b"]}`, `{"name":"r","permissions":[{"action":"read","path":"a/*"}]}`, `{"permissions":[{}]}`,
		`{"name":"t","role":"r","expires_in_secs":1}`, `{"description":null,"custom_metadata":{"a":"b"}}`, `{"target":null}`, `{"version":1}`,
		`{"target":{"type":"postgres","hosts":["a"],"mode":"single"},"rotation_schedule":{"cron":"@daily"},"password_policy":{"classes":["lower"]}}`,
		`{"value":"VALUE`, `{"value":"\ud800"}`, `{"value":{"VALUE":1}}`, `{"value":"VALUE","value":1}`, "{\"value\":\"\xff\"}",
		`{"rotation_interval_secs":1e999}`, `{"username":"u","password":"VALUE"} x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, decode := range decoders {
			err := decode(slices.Clone(body))
			if again := decode(slices.Clone(body)); (err == nil) != (again == nil) {
				t.Fatalf("%s: %q is once %v and once %v", name, body, err, again)
			}
			if err == nil {
				continue
			}
			kind, _, message, _ := fault.Public(err)
			if kind != fault.Invalid || message == "" || len(message) > 1024 {
				t.Fatalf("%s: %q is %v: %q", name, body, kind, message)
			}
		}
	})
}

// TestI1_TheBodyIsDecodedInPlace: a decoder with a buffer of its own would leave a copy of the body that nobody zeroes.
func TestI1_TheBodyIsDecodedInPlace(t *testing.T) {
	t.Parallel()
	body := []byte(`{"value":"secret","other":"secret"}`)
	err := decodeDocument(body, func(d decoder) members {
		inPlace := func(string) error {
			plain, err := d.sensitiveText("value")
			plain.Release()
			if rest := d.json.UnreadBuffer(); len(rest) == 0 || &rest[len(rest)-1] != &body[len(body)-1] {
				t.Error("what the decoder reads is not the body")
			}
			return err
		}
		return members{"value": inPlace, "other": inPlace}
	})
	if err != nil {
		t.Error(err)
	}
}
