package vault_test

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// useCase is a method of Vault that takes a Caller, found by reflection: a new one is covered the day it is written.
type useCase struct {
	name string
	call func(c vault.Caller) error
}

// useCases enumerates them, with arguments that are valid and speak of the secret, role or token called "probe".
func useCases(v *vault.Vault) []useCase {
	arguments := map[reflect.Type]reflect.Value{}
	for _, a := range []any{
		context.Background(), "probe",
		[]string{"probe"},
		text("x"), sensitive.CopyString("svf_"),
		vault.Precondition{},
		vault.CreateRequest{Name: "probe", Kind: "manual", Given: text("x")},
		vault.ReadRequest{Name: "probe"},
		vault.UpdateRequest{Name: "probe", Given: text("x")},
		vault.ListRequest{},
		vault.RotateRequest{Name: "probe"},
		vault.RollbackRequest{Name: "probe", Version: 1},
		vault.JobsRequest{},
		uuid.UUID{1},
		vault.EventsRequest{},
		vault.RoleRequest{Name: "probe"},
		vault.TokenRequest{Name: "probe", Role: "probe"},
		[]access.Permission{{Action: access.Read, Path: "*"}},
	} {
		arguments[reflect.TypeOf(a)] = reflect.ValueOf(a)
	}
	callerType := reflect.TypeFor[vault.Caller]()
	contextType := reflect.TypeFor[context.Context]()
	var found []useCase
	value := reflect.ValueOf(v)
	for i := range value.NumMethod() {
		method, description := value.Method(i), value.Type().Method(i)
		if method.Type().NumIn() < 2 || method.Type().In(1) != callerType {
			continue
		}
		found = append(found, useCase{name: description.Name, call: func(c vault.Caller) error {
			var in []reflect.Value
			for p := range method.Type().NumIn() {
				switch t := method.Type().In(p); t {
				case callerType:
					in = append(in, reflect.ValueOf(c))
				case contextType:
					in = append(in, reflect.ValueOf(context.Background()))
				default:
					a, ok := arguments[t]
					if !ok {
						panic("no argument of type " + t.String() + " for " + description.Name)
					}
					in = append(in, a)
				}
			}
			out := method.Call(in)
			err, _ := out[len(out)-1].Interface().(error)
			return err
		}})
	}
	return found
}

func TestI4_EveryUseCaseDeniesWhoMayNot(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("probe", "value")
	powerless := f.token("powerless", access.Permission{Action: access.Read, Path: "elsewhere/*"})
	cases := useCases(f.vault)
	if len(cases) < 15 {
		t.Fatalf("only %d use cases were found", len(cases))
	}
	outside := netip.MustParseAddr("198.51.100.7")
	stranger := sensitive.CopyString("svk_" + strings.Repeat("0", access.TokenLength-4))
	well, _, err := access.NewToken(nil2random{})
	must(t, err)
	callers := map[string]vault.Caller{
		"anonymous":              {Address: f.admin.Address},
		"anonymous-outside":      {Address: outside},
		"unknown-address":        {},
		"malformed-token":        {Address: f.admin.Address, Token: stranger},
		"unknown-token":          {Address: f.admin.Address, Token: well},
		"powerless":              {Address: f.admin.Address, Token: powerless.Token},
		"admin-from-nowhere":     {Token: f.admin.Token},
		"powerless-from-nowhere": {Token: powerless.Token},
	}
	// What a valid token may do without any right: see a list that is empty for it, and batches that omit everything.
	harmless := map[string]bool{"List": true, "ReadBatch": true, "Jobs": true}
	// What asks for a token of its own, whatever a role's token may do.
	own := map[string]bool{"Fetch": true}
	// What is answered as if it didn't exist, because its secret's name is known only once it was found.
	hidden := map[string]bool{"Job": true, "RetryJob": true, "CancelJob": true}
	for who, caller := range callers {
		for i, u := range cases {
			caller.RequestID = who + "-" + u.name
			if who == "powerless" {
				// An address of its own for each, so that every denial is recorded by itself.
				caller.Address = netip.AddrFrom4([4]byte{127, 0, 1, byte(i)})
			}
			err := u.call(caller)
			if who == "powerless" && harmless[u.name] {
				must(t, err)
				continue
			}
			if err == nil {
				t.Errorf("%s may %s", who, u.name)
				continue
			}
			if who == "powerless" && hidden[u.name] {
				wantKind(t, err, fault.NotFound)
				continue
			}
			if kind := fault.KindOf(err); kind != fault.Denied && kind != fault.Unauthenticated {
				t.Errorf("%s: %s is refused as %s: %v", who, u.name, kind, err)
			}
		}
	}
	t.Run("and the denials are recorded", func(t *testing.T) {
		for _, u := range cases {
			if harmless[u.name] || own[u.name] || hidden[u.name] {
				continue
			}
			got := f.records("powerless-" + u.name)
			if len(got) != 1 || got[0].Outcome != "denied" || got[0].Actor != "token:powerless" {
				t.Errorf("%s left %+v", u.name, got)
			}
		}
	})
	t.Run("and the admin may do all of it", func(t *testing.T) {
		for _, u := range cases {
			if err := u.call(f.as("admin-" + u.name)); err != nil && !own[u.name] {
				if kind := fault.KindOf(err); kind == fault.Denied || kind == fault.Unauthenticated {
					t.Errorf("the admin may not %s: %v", u.name, err)
				}
			}
		}
	})
}

type nil2random struct{}

func (nil2random) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i*7 + 3)
	}
	return len(p), nil
}

func TestI2_EveryUseCaseRefusesWhenEvidenceCannotBeCommitted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("probe", "value")
	must(t, f.trail.Stop(context.Background()))
	for _, u := range useCases(f.vault) {
		if err := u.call(f.as("late-" + u.name)); err == nil {
			t.Errorf("%s answered without evidence", u.name)
		} else if kind := fault.KindOf(err); kind != fault.Unavailable {
			t.Errorf("%s: kind %s, want unavailable: %v", u.name, kind, err)
		}
		if got := f.records("late-" + u.name); len(got) != 0 {
			t.Errorf("%s left a record although the trail was stopped", u.name)
		}
	}
}

func TestI2_EveryAnsweredUseCaseHasItsRecord(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("probe", "value")
	for _, u := range useCases(f.vault) {
		request := "answered-" + u.name
		err := u.call(f.as(request))
		if len(f.records(request)) == 0 {
			t.Errorf("%s (error: %v) left no record", u.name, err)
		}
		for _, r := range f.records(request) {
			if r.Actor != "token:bootstrap" {
				t.Errorf("%s: actor %q", u.name, r.Actor)
			}
			answers := []string{"ok", "match", "mismatch", "unchanged"}
			if u.name == "ReadBatch" { // it answers without the names that are gone by now
				answers = append(answers, "not_found")
			}
			if (err == nil) != slices.Contains(answers, r.Outcome) {
				t.Errorf("%s: outcome %q with error %v", u.name, r.Outcome, err)
			}
		}
	}
}

func TestRightsOpenExactlyTheirUseCases(t *testing.T) {
	t.Parallel()
	f := setup(t)
	// What each right lets its bearer do on a name that it covers.
	rights := map[access.Action][]string{
		access.Read:   {"Read", "Verify"},
		access.Create: {"Create"},
		access.Update: {"Update"},
		access.Delete: {"Delete"},
		access.Rotate: {"Rotate", "Rollback", "Pause", "Resume"},
		access.Target: {},
		access.AnyAction: {
			"Read", "Verify", "Create", "Update", "Delete", "Rotate", "Rollback", "Pause", "Resume",
		},
	}
	// What any right at all opens; the last three ask for a job that doesn't exist.
	always := []string{"Versions", "List", "ReadBatch", "Jobs", "Job", "RetryJob", "CancelJob"}
	for _, action := range access.Actions() {
		allowed, ok := rights[action]
		if !ok {
			t.Fatalf("what right %q opens isn't written down here", action)
		}
		allowed = append(slices.Clone(always), allowed...)
		name := "holder-" + strings.ReplaceAll(string(action), "*", "any")
		caller := f.token(name, access.Permission{Action: action, Path: "pro*"})
		for _, u := range useCases(f.vault) {
			err := u.call(caller)
			denied := err != nil && (fault.KindOf(err) == fault.Denied || fault.KindOf(err) == fault.Unauthenticated)
			if denied == slices.Contains(allowed, u.name) {
				t.Errorf("with right %q, %s: denied is %v (%v)", action, u.name, denied, err)
			}
		}
	}
}

func TestReadAuthIPNeedsOnlyTheAddress(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *vault.Config) { c.ReadAuth = vault.ReadAuthIP })
	f.put("probe", "value")
	ctx := context.Background()
	for name, token := range map[string]sensitive.Bytes{
		"no token": {}, "an invalid token is ignored": sensitive.CopyString("svk_nonsense"),
	} {
		s, err := f.vault.Read(ctx, vault.Caller{Address: f.admin.Address, Token: token, RequestID: "ip"}, vault.ReadRequest{Name: "probe"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.Release()
	}
	for _, r := range f.records("ip") {
		if r.Actor != "address:127.0.0.1" {
			t.Errorf("actor %q", r.Actor)
		}
	}
	t.Run("and so is one that was revoked or has expired", func(t *testing.T) {
		for name, sql := range map[string]string{
			"revoked": "UPDATE vault.admin_tokens SET revoked_at = now() WHERE name = 'revoked'",
			"expired": "UPDATE vault.admin_tokens SET expires_at = now() WHERE name = 'expired'",
		} {
			c := f.token(name)
			f.made(sql)
			s, err := f.vault.Read(ctx, c, vault.ReadRequest{Name: "probe"})
			must(t, err)
			s.Release()
			if got := f.records(name); len(got) != 1 || got[0].Actor != "address:127.0.0.1" {
				t.Errorf("records of a %s token: %+v", name, got)
			}
		}
	})
	t.Run("a valid token names the actor", func(t *testing.T) {
		s, err := f.vault.Read(ctx, f.as("named"), vault.ReadRequest{Name: "probe"})
		must(t, err)
		s.Release()
		if got := f.records("named"); len(got) != 1 || got[0].Actor != "token:bootstrap" {
			t.Errorf("records %+v", got)
		}
	})
	t.Run("and nothing else opens by address", func(t *testing.T) {
		wantKind(t, f.vault.Delete(ctx, vault.Caller{Address: f.admin.Address}, "probe", vault.Precondition{}), fault.Unauthenticated)
	})
}

func TestI4_AnEmptyAllowlistDeniesEveryRead(t *testing.T) {
	t.Parallel()
	for _, mode := range []vault.ReadAuth{vault.ReadAuthIP, vault.ReadAuthIPToken} {
		f := setup(t, func(c *vault.Config) { c.Allowlist, c.ReadAuth = access.Allowlist{}, mode })
		s, err := f.vault.Create(context.Background(), f.admin, vault.CreateRequest{Name: "a", Kind: "manual", Given: text("x")})
		must(t, err)
		if s.Material != nil {
			t.Error("create disclosed a value to an address that isn't on the list")
		}
		_, err = f.vault.Read(context.Background(), f.admin, vault.ReadRequest{Name: "a"})
		wantKind(t, err, fault.Denied)
		_, err = f.vault.Verify(context.Background(), f.admin, "a", text("x"))
		wantKind(t, err, fault.Denied)
		_, err = f.vault.ReadBatch(context.Background(), f.admin, []string{"a"})
		wantKind(t, err, fault.Denied)
	}
}

func TestDenialDoesNotTellWhetherANameExists(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put("there", "x")
	c := f.token("elsewhere", access.Permission{Action: access.AnyAction, Path: "elsewhere/*"})
	for _, call := range []func(name string) error{
		func(n string) error {
			_, err := f.vault.Read(context.Background(), c, vault.ReadRequest{Name: n})
			return err
		},
		func(n string) error { _, err := f.vault.Versions(context.Background(), c, n); return err },
		func(n string) error {
			_, err := f.vault.Rotate(context.Background(), c, vault.RotateRequest{Name: n})
			return err
		},
		func(n string) error { return f.vault.Delete(context.Background(), c, n, vault.Precondition{}) },
		func(n string) error {
			_, err := f.vault.Create(context.Background(), c, vault.CreateRequest{Name: n, Kind: "manual", Given: text("x")})
			return err
		},
	} {
		there, absent := call("there"), call("absent")
		if there.Error() != absent.Error() {
			t.Errorf("%q differs from %q", there, absent)
		}
	}
}
