package pgtarget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/target"
)

func TestApply_SetsThePasswordAndTheGeneration(t *testing.T) {
	t.Parallel()
	s := setup(t)
	pg := s.at(t, asksSCRAM)
	admin := s.role(t, "SUPERUSER")
	for name, login := range map[string]*target.Credential{"by the role itself": nil, "by another": &admin} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := s.role(t, "")
			next := fresh(t, old)
			by := old
			if login != nil {
				by = *login
			}
			want(t, "the new password before", pg.Try(t.Context(), next), target.Authentication)
			want(t, "the change", pg.Apply(t.Context(), by, next, 7), "")
			want(t, "the new password", pg.Test(t.Context(), next), "")
			want(t, "the old password", pg.Test(t.Context(), old), target.Authentication, "28P01")
			if state := s.state(t, old.Username); !strings.HasPrefix(state, "sealkeep.generation=7 SCRAM-SHA-256$4096:") {
				t.Errorf("the role has %s", state)
			}
			if login == nil {
				by = next
			}
			last := fresh(t, old)
			want(t, "the next change", pg.Apply(t.Context(), by, last, 8), "")
			want(t, "the last password", pg.Test(t.Context(), last), "")
		})
	}
}

func TestI7_OnlyANewerGenerationIsApplied(t *testing.T) {
	t.Parallel()
	s := setup(t)
	pg := s.at(t, asksSCRAM)
	current := s.role(t, "")
	s.exec(t, fmt.Sprintf(`ALTER ROLE %s SET "SealKeep.Generation" = 41`, identifier(current.Username)))
	before := s.state(t, current.Username)
	for _, generation := range []int64{1, 40, 41} {
		want(t, fmt.Sprint(generation), pg.Apply(t.Context(), current, fresh(t, current), generation), target.Outdated)
	}
	want(t, "none", pg.Apply(t.Context(), current, fresh(t, current), 0), target.Permanent)
	if after := s.state(t, current.Username); after != before {
		t.Errorf("the role had %s and has %s", before, after)
	}
	want(t, "42", pg.Apply(t.Context(), current, fresh(t, current), 42), "")
	if state := strings.ToLower(s.state(t, current.Username)); !strings.HasPrefix(state, "sealkeep.generation=42 ") {
		t.Errorf("the role has %s", state)
	}
}

func TestI7_OfManyAtOnceTheNewestIsLeft(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin, role := s.role(t, "SUPERUSER"), s.role(t, "")
	var all sync.WaitGroup
	var mu sync.Mutex
	var newest int64
	passwords := map[int64]target.Credential{}
	for generation := int64(1); generation <= 8; generation++ {
		database := asksSCRAM
		if generation%2 == 0 {
			database = another
		}
		next := fresh(t, role)
		passwords[generation] = next
		pg := s.at(t, database)
		all.Go(func() {
			err := pg.Apply(t.Context(), admin, next, generation)
			mu.Lock()
			defer mu.Unlock()
			switch class := target.ClassOf(err); {
			case err == nil:
				newest = max(newest, generation)
			case class != target.Outdated && class != target.Transient:
				t.Errorf("generation %d: %v (%s)", generation, err, causes(err))
			}
		})
	}
	all.Wait()
	if newest == 0 {
		t.Fatal("none took effect")
	}
	if state := s.state(t, role.Username); !strings.HasPrefix(state, fmt.Sprintf("sealkeep.generation=%d ", newest)) {
		t.Errorf("generation %d took effect, and the role has %s", newest, state)
	}
	want(t, "the newest password", s.at(t, asksSCRAM).Test(t.Context(), passwords[newest]), "")
}

// Another may come between the first look and the change.
func TestI7_ANewerGenerationFromAnotherDatabaseIsSeen(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin, role := s.role(t, "SUPERUSER"), s.role(t, "")
	// With a snapshot for all of a transaction nobody would see the newer one.
	s.exec(t, fmt.Sprintf("ALTER ROLE %s SET default_transaction_isolation = 'repeatable read'", identifier(admin.Username)))
	newer := fresh(t, role)
	var once sync.Once
	late := newTarget(t, Config{Hosts: []string{s.address}, Dial: dialing(func(_ net.Conn, p []byte) error {
		if bytes.Contains(p, []byte("ALTER ROLE")) {
			once.Do(func() { want(t, "the newer one", s.at(t, another).Apply(t.Context(), admin, newer, 9), "") })
		}
		return nil
	})})
	want(t, "the late one", late.Apply(t.Context(), admin, fresh(t, role), 8), target.Outdated)
	want(t, "the newer password", s.at(t, asksSCRAM).Test(t.Context(), newer), "")
}

func TestI7_AnUnknownOutcomeIsTransientAndTheNextGenerationIsApplied(t *testing.T) {
	t.Parallel()
	s := setup(t)
	cut := errors.New("cut")
	for name, committed := range map[string]bool{"after the commit was sent": true, "before": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			role := s.role(t, "")
			next := fresh(t, role)
			cutting := newTarget(t, Config{Hosts: []string{s.address}, Dial: dialing(func(conn net.Conn, p []byte) error {
				if !bytes.Contains(p, []byte("COMMIT\x00")) {
					return nil
				}
				if committed {
					if _, err := conn.Write(p); err != nil {
						return err
					}
					_, _ = conn.Read(make([]byte, 1)) // the server has answered
				}
				return cut
			})})
			want(t, "the cut one", cutting.Apply(t.Context(), role, next, 3), target.Transient)
			pg := s.at(t, asksSCRAM)
			if !committed {
				want(t, "the same generation", pg.Apply(t.Context(), role, next, 3), "")
				return
			}
			want(t, "the password", pg.Test(t.Context(), next), "")
			want(t, "the same generation", pg.Apply(t.Context(), next, fresh(t, role), 3), target.Outdated)
			want(t, "the next generation", pg.Apply(t.Context(), next, fresh(t, role), 4), "")
		})
	}
}

// Whoever has the password that is to be replaced may do in a session what it likes.
func TestApply_NobodyElsesSessionHoldsItUp(t *testing.T) {
	t.Parallel()
	s := setup(t)
	role := s.role(t, "")
	holder, err := s.connect(t.Context(), asksSCRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	for key := range 64 {
		if _, err := holder.Exec(t.Context(), fmt.Sprintf("SELECT pg_advisory_lock(%d)", key)); err != nil {
			t.Fatal(err)
		}
	}
	var locks int
	pg := newTarget(t, Config{Hosts: []string{s.address}, Dial: dialing(func(_ net.Conn, p []byte) error {
		if bytes.Contains(p, []byte("advisory")) {
			locks++
		}
		return nil
	})})
	want(t, "the change", pg.Apply(t.Context(), role, fresh(t, role), 1), "")
	if locks > 0 {
		t.Error("it waits for a lock that anybody may take")
	}
}

func TestApply_RolesThatANewPasswordIsOfNoUseTo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.role(t, "SUPERUSER")
	for name, test := range map[string]struct{ attributes, then, says string }{
		"can't log in":       {"NOLOGIN", "", "LOGIN"},
		"has expired":        {"LOGIN VALID UNTIL '2001-01-01'", "", "VALID UNTIL 'infinity'"},
		"generation is none": {"LOGIN", "ALTER ROLE %s SET sealkeep.generation = 'new'", "RESET sealkeep.generation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			role := s.bareRole(t, test.attributes)
			if test.then != "" {
				s.exec(t, fmt.Sprintf(test.then, identifier(role.Username)))
			}
			before := s.state(t, role.Username)
			want(t, "the change", s.at(t, asksSCRAM).Apply(t.Context(), admin, fresh(t, role), 5), target.Permanent, test.says)
			if after := s.state(t, role.Username); after != before {
				t.Errorf("the role had %s and has %s", before, after)
			}
		})
	}
	t.Run("does not exist", func(t *testing.T) {
		t.Parallel()
		nobody := credential(t, "nobody at all", "x")
		want(t, "the change", s.at(t, asksSCRAM).Apply(t.Context(), admin, nobody, 5), target.Permanent, "does not exist")
	})
}

func TestApply_ACheckOfPasswordsIsPolicy(t *testing.T) {
	t.Parallel()
	s := setup(t)
	conn, err := s.connect(t.Context(), asksSCRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "LOAD 'passwordcheck'"); err != nil {
		t.Skipf("needs the server's own extensions: %v", err)
	}
	role := s.role(t, "")
	name := s.named("password is the name")
	s.exec(t, "ALTER ROLE "+identifier(role.Username)+" RENAME TO "+identifier(name))
	named, bad := credential(t, name, string(role.Password.Reveal())), credential(t, name, name)
	want(t, "the change", s.at(t, checks).Apply(t.Context(), named, bad, 1), target.Policy, "22023")
	want(t, "a better one", s.at(t, checks).Apply(t.Context(), named, fresh(t, named), 1), "")
}

func TestApply_SettingsOfTheRoleAndTheDatabaseDoNotMatter(t *testing.T) {
	t.Parallel()
	s := setup(t)
	role := s.role(t, "")
	owner := s.bareRole(t, "NOLOGIN")
	name, evil := identifier(role.Username), identifier(s.named("evil"))
	conn, err := s.connect(t.Context(), asksSCRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range []string{
		"CREATE SCHEMA " + evil, "GRANT USAGE ON SCHEMA " + evil + " TO PUBLIC",
		"CREATE FUNCTION " + evil + ".pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'",
		"CREATE VIEW " + evil + ".pg_roles AS SELECT rolname, rolcanlogin, rolvaliduntil, '{sealkeep.generation=99}'::text[] AS rolconfig " +
			"FROM pg_catalog.pg_roles",
		"GRANT SELECT ON " + evil + ".pg_roles TO PUBLIC",
		fmt.Sprintf("GRANT %s TO %s", identifier(owner.Username), name),
		fmt.Sprintf("ALTER ROLE %s SET search_path = %s, pg_catalog", name, evil),
		fmt.Sprintf("ALTER ROLE %s SET role = %s", name, literal(owner.Username)),
		fmt.Sprintf("ALTER ROLE %s SET default_transaction_read_only = on", name),
		fmt.Sprintf("ALTER ROLE %s SET default_transaction_isolation = serializable", name),
		fmt.Sprintf("ALTER ROLE %s SET standard_conforming_strings = off", name),
		fmt.Sprintf("ALTER ROLE %s SET client_encoding = 'LATIN1'", name),
		fmt.Sprintf("ALTER ROLE %s SET synchronous_commit = off", name),
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	pg, next := s.at(t, asksSCRAM), fresh(t, role)
	want(t, "the change", pg.Apply(t.Context(), role, next, 12), "")
	want(t, "the new password", pg.Test(t.Context(), next), "")
}

func TestApply_WhatCanNotBeSetIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	t.Parallel()
	pg := newTarget(t, Config{Hosts: []string{"db.invalid:5432"}, Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("it connects")
		return nil, errors.New("no")
	}})
	good := credential(t, "app", "password")
	for name, c := range map[string]target.Credential{
		"an empty password": credential(t, "app", ""), "not ASCII": credential(t, "app", "pässword"), "a NUL": credential(t, "app", "a\x00b"),
	} {
		want(t, name, pg.Apply(t.Context(), good, c, 1), target.Policy)
		want(t, name+" of the login", pg.Apply(t.Context(), c, good, 1), target.Permanent)
		want(t, name+", tried", pg.Try(t.Context(), c), target.Permanent)
		want(t, name+", tested", pg.Test(t.Context(), c), target.Permanent)
	}
	for name, user := range map[string]string{
		"no name": "", "a long name": strings.Repeat("n", 64), "a NUL": "a\x00b", "not UTF-8": "a\xffb",
	} {
		c := credential(t, user, "password")
		want(t, name, pg.Apply(t.Context(), good, c, 1), target.Permanent)
		want(t, name+" of the login", pg.Apply(t.Context(), c, good, 1), target.Permanent)
		want(t, name+", tried", pg.Try(t.Context(), c), target.Permanent)
	}
}
