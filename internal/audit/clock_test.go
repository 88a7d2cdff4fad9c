package audit

import (
	"testing"
	"time"
)

// A commit may take long after the statement has read the database's clock. What has expired there meanwhile must have
// expired here: the clock is never behind.
func TestI9_TheClockIsNotBehindAfterASlowCommit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.started("api")
	must(t, trail.Change(t.Context(), addRole("first"))) // opens the lane
	f.db.Exec(t, `
		CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER dawdle AFTER UPDATE ON vault.audit_streams DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION public.dawdle()`)
	for name, commit := range map[string]func() error{
		"a round":  func() error { return trail.Append(t.Context(), record("slow")) },
		"a change": func() error { return trail.Change(t.Context(), addRole("slow")) },
	} {
		must(t, commit())
		there := one[time.Time](f, "SELECT clock_timestamp()")
		if here := trail.DatabaseTime(); here.Before(there) {
			t.Errorf("after %s it is %s there, and %s here", name, there.UTC().Format(time.StampMicro), here.Format(time.StampMicro))
		}
	}
}
