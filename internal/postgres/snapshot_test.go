package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

func TestSnapshot_SeesOneMoment(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	database := open(t, d.URL("sealkeep_api"))
	add := func(q *db.Queries, name string) error {
		return q.InsertRole(t.Context(), db.InsertRoleParams{ID: uuid.New(), Name: name})
	}
	see := func(q *db.Queries) int64 {
		t.Helper()
		roles, err := q.CountRoles(t.Context())
		if err != nil {
			t.Error(err)
		}
		return roles
	}
	if err := add(database.Queries, "before"); err != nil {
		t.Fatal(err)
	}
	err := database.Snapshot(t.Context(), func(s *postgres.Snapshot) error {
		q := s.Queries
		if n := see(q); n != 1 {
			t.Errorf("there are %d roles at first", n)
		}
		if err := add(database.Queries, "meanwhile"); err != nil {
			t.Fatal(err)
		}
		if now, then := see(database.Queries), see(q); now != 2 || then != 1 {
			t.Errorf("%d roles are seen outside and %d inside", now, then)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	t.Run("and changes nothing", func(t *testing.T) {
		err := database.Snapshot(t.Context(), func(s *postgres.Snapshot) error { return add(s.Queries, "inside") })
		if err == nil || see(database.Queries) != 2 {
			t.Errorf("error %v, %d roles", err, see(database.Queries))
		}
	})
	t.Run("and returns its function's error and the connection", func(t *testing.T) {
		wrong := errors.New("wrong")
		if err := database.Snapshot(t.Context(), func(*postgres.Snapshot) error { return wrong }); !errors.Is(err, wrong) {
			t.Error(err)
		}
		if _, inUse, _ := database.PoolStats(); inUse != 0 {
			t.Errorf("%d connections are in use", inUse)
		}
	})
}
