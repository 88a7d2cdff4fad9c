package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestKeyring_ListsRotatesAndSaysWhatItDid(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	sh := operator(t, d)
	sh.run("keyring list").ends(1).says("initialised: run `sealkeep init`")
	sh.run("init").ok()
	type item struct {
		KeyID   string `json:"key_id"`
		Purpose string
		State   string
	}
	list := func() (items []item) {
		var listed struct{ Items []item }
		if err := json.Unmarshal([]byte(sh.run("keyring list --json").ok().stdout), &listed); err != nil {
			t.Fatal(err)
		}
		return listed.Items
	}
	states := func() map[string]int {
		count := map[string]int{}
		for _, i := range list() {
			count[i.Purpose+" "+i.State]++
		}
		return count
	}
	want := func(all map[string]int) {
		t.Helper()
		got := states()
		if len(got) != len(all) {
			t.Errorf("keys %v, want %v", got, all)
		}
		for what, n := range all {
			if got[what] != n {
				t.Errorf("keys %v, want %v", got, all)
			}
		}
	}
	want(map[string]int{"row active": 1, "audit active": 1, "idempotency active": 1, "checkpoint active": 1})
	sh.run("keyring list").ok().shows("KEY ID", "STATE", "active", "checkpoint", "local:")

	sh.run("keyring rotate --resume").ok().shows("nothing is left to do")
	sh.run("keyring rotate --purpose rows").ends(2).says("--purpose is")
	sh.run("keyring rotate x").ends(2)
	sh.run("keyring rotate").ok().shows("is the active row key", "is the active audit key", "is retired")
	want(map[string]int{
		"row active": 1, "row retired": 1, "audit active": 1, "audit verifies": 1, "idempotency active": 1, "idempotency verifies": 1,
		"checkpoint active": 1,
	})
	sh.run("audit verify --database").ends(0)
	sh.run("token recover spare").ok()
	sh.run("keyring rotate --purpose checkpoint --json").ok().shows(`"purpose": "checkpoint"`, `"retired": []`)
	sh.run("keyring fill --json").ok().shows(`"filled": 0`)
	sh.run("keyring fill").ok().shows("every key is wrapped as it should be")
	sh.with("VAULT_LOCAL_MASTER_KEY", newMasterKey(t)).run("keyring list").ends(1).says("KMS key")

	d.Exec(t, "UPDATE vault.admin_tokens SET expires_at = now() + interval '1 year'")
	sh.run("keyring rotate").ends(1).says("no key was retired", "token")
	d.Exec(t, "UPDATE vault.keyring SET retired_at = NULL WHERE retired_at IS NOT NULL")
	sh.run("keyring list").ends(1).says("somebody changed it")
}

func TestKeyringFill_SaysHowManyWereWrappedAgain(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "every key is wrapped as it should be\n", 1: "1 key was wrapped again\n", 4: "4 keys were wrapped again\n"} {
		var text, object strings.Builder
		if err := (&app{Invocation: Invocation{Stdout: &text}}).printFilled(n, false); err != nil || text.String() != want {
			t.Errorf("%q, %v", text.String(), err)
		}
		err := (&app{Invocation: Invocation{Stdout: &object}}).printFilled(n, true)
		var said struct{ Filled int }
		if err != nil || json.Unmarshal([]byte(object.String()), &said) != nil || said.Filled != n || !strings.Contains(object.String(), "filled") {
			t.Errorf("%q, %v", object.String(), err)
		}
	}
}
