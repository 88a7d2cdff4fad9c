package pgtarget

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/target"
)

// remedies are the statements that messages give.
var remedies = regexp.MustCompile(`ALTER ROLE <login> CREATEROLE|GRANT [^;]* TO <login>( WITH ADMIN OPTION)?`)

// remedied changes a role's password, does what each refusal says, and returns how many there were.
func remedied(t *testing.T, s *server, login, role target.Credential) (refusals int) {
	t.Helper()
	pg, next := s.at(t, asksSCRAM), fresh(t, role)
	before := s.state(t, role.Username)
	for ; refusals < 4; refusals++ {
		err := pg.Apply(t.Context(), login, next, 1)
		if err == nil {
			want(t, "the new password", pg.Test(t.Context(), next), "")
			return refusals
		}
		want(t, "a lack of rights", err, target.Permanent, "42501")
		if after := s.state(t, role.Username); after != before {
			t.Errorf("a refusal left %s", after)
		}
		statements := remedies.FindAllString(err.Error(), -1)
		if len(statements) == 0 {
			t.Fatalf("no statement in %v (%s)", err, causes(err))
		}
		for _, statement := range statements {
			s.exec(t, strings.NewReplacer("<login>", identifier(login.Username), "<role>", identifier(role.Username)).Replace(statement))
		}
	}
	t.Fatal("what the refusals say is not enough")
	return 0
}

func TestPrivileges_WhatARefusalSaysIsEnough(t *testing.T) {
	t.Parallel()
	s := setup(t)
	t.Run("the role itself needs the parameter", func(t *testing.T) {
		t.Parallel()
		role := s.bareRole(t, "LOGIN")
		if n := remedied(t, s, role, role); n != 1 {
			t.Errorf("%d refusals", n)
		}
	})
	t.Run("another needs CREATEROLE as well, and from 16 on the role", func(t *testing.T) {
		t.Parallel()
		if n := remedied(t, s, s.bareRole(t, "LOGIN"), s.bareRole(t, "LOGIN")); n != 2 {
			t.Errorf("%d refusals", n)
		}
	})
	t.Run("a superuser needs nothing", func(t *testing.T) {
		t.Parallel()
		if n := remedied(t, s, s.bareRole(t, "LOGIN SUPERUSER"), s.bareRole(t, "LOGIN SUPERUSER REPLICATION")); n != 0 {
			t.Errorf("%d refusals", n)
		}
	})
	t.Run("a superuser's takes a superuser", func(t *testing.T) {
		t.Parallel()
		err := s.at(t, asksSCRAM).Apply(t.Context(), s.role(t, "CREATEROLE"), fresh(t, s.bareRole(t, "LOGIN SUPERUSER")), 1)
		want(t, "the change", err, target.Permanent, "takes a superuser")
	})
	t.Run("with REPLICATION the role itself may from 16 on", func(t *testing.T) {
		t.Parallel()
		for _, attribute := range []string{"REPLICATION", "BYPASSRLS"} {
			role := s.role(t, attribute)
			err := s.at(t, asksSCRAM).Apply(t.Context(), role, fresh(t, role), 1)
			if s.major(t) >= 16 || attribute == "BYPASSRLS" {
				want(t, attribute, err, "")
				continue
			}
			want(t, attribute, err, target.Permanent, "before PostgreSQL 16")
		}
	})
	t.Run("who may not connect to the database is told so", func(t *testing.T) {
		t.Parallel()
		closed := s.named("closed")
		s.exec(t, "CREATE DATABASE "+identifier(closed))
		s.exec(t, "REVOKE ALL ON DATABASE "+identifier(closed)+" FROM PUBLIC")
		role := s.role(t, "")
		want(t, "the login", s.at(t, closed).Try(t.Context(), role), target.Permanent, "GRANT CONNECT ON DATABASE")
		want(t, "no database", s.at(t, "missing").Try(t.Context(), role), target.Permanent, "does not exist")
	})
}

func TestPrivileges_WhatIsMissingDependsOnTheServer(t *testing.T) {
	t.Parallel()
	for major, says := range map[int][2]string{
		14: {"only a superuser", "CREATEROLE"}, 15: {"GRANT SET ON PARAMETER", "CREATEROLE"},
		16: {"GRANT SET ON PARAMETER", "WITH ADMIN OPTION"}, 0: {"GRANT SET ON PARAMETER", "WITH ADMIN OPTION"},
	} {
		c := change{session: &session{major: major}, login: "a", role: "b"}
		if text := c.grantParameter(); !strings.Contains(text, says[0]) {
			t.Errorf("%d: %s", major, text)
		}
		if text := c.grantRole(); !strings.Contains(text, says[1]) || strings.Contains(text, "ADMIN OPTION") != (says[1] == "WITH ADMIN OPTION") {
			t.Errorf("%d: %s", major, text)
		}
	}
}
