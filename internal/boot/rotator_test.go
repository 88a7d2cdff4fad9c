package boot_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// automatic makes a secret that is due every second.
func automatic(t *testing.T, v *sealkeeptest.Vault, name string) {
	t.Helper()
	v.Do(t, http.MethodPost, "/v1/secrets", map[string]any{"name": name, "kind": "automatic", "rotation_interval_secs": 1}).Want(t, http.StatusCreated)
}

// until asks for something until it is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for !so() {
		select {
		case <-t.Context().Done():
			t.Fatalf("not before the end of the test: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func count(t *testing.T, v *sealkeeptest.Vault, of string) int64 {
	t.Helper()
	return pgtest.Query[int64](t, v.DB, "SELECT count(*) FROM "+of)[0]
}

const rotations = "vault.audit_log WHERE action = 'secret.rotate' AND outcome = 'ok'"

func TestI7_ADueSecretIsRotatedOncePerDueTime(t *testing.T) {
	t.Parallel()
	for rotators := 1; rotators <= 2; rotators++ {
		t.Run(fmt.Sprintf("by %d side by side", rotators), func(t *testing.T) {
			t.Parallel()
			v := sealkeeptest.New(t)
			const secrets = 5
			for i := range secrets {
				automatic(t, v, fmt.Sprintf("app/%d", i))
			}
			before := v.Do(t, http.MethodGet, "/v1/secrets/app/0", nil).Want(t, http.StatusOK)
			var all []*sealkeeptest.Rotator
			for range rotators {
				all = append(all, v.StartRotator(t))
			}
			until(t, "three rotations of each", func() bool {
				return count(t, v, "vault.secrets WHERE current_version > 3") == secrets
			})
			after := v.Do(t, http.MethodGet, "/v1/secrets/app/0", nil).Want(t, http.StatusOK)
			if after.Number("version") <= before.Number("version") || after.Text("value") == before.Text("value") || len(after.Text("value")) < 40 {
				t.Errorf("%s became %s", before.Body, after.Body)
			}
			for _, r := range all {
				r.Stop(t)
			}

			made := pgtest.Query[int64](t, v.DB, "SELECT current_version FROM vault.secrets ORDER BY name")
			for i, version := range made {
				// Every version but the first one has one record, in the order in which they were made.
				versions := pgtest.Query[int64](t, v.DB, fmt.Sprintf("SELECT version FROM %s AND secret_name = 'app/%d' ORDER BY at, version", rotations, i))
				for at, got := range versions {
					if got != int64(at)+2 {
						t.Fatalf("app/%d: the records' versions are %v", i, versions)
					}
				}
				if int64(len(versions)) != version-1 {
					t.Errorf("app/%d is at version %d, and the trail has %v", i, version, versions)
				}
			}
			if doubled := pgtest.Query[int64](t, v.DB, "SELECT count(*) FROM (SELECT FROM vault.rotation_jobs GROUP BY secret_id, due_at HAVING count(*) > 1) d"); doubled[0] != 0 {
				t.Errorf("%d due times have more than one job", doubled[0])
			}
			if others := count(t, v, rotations+" AND actor NOT LIKE 'process:rotator/%'"); others != 0 {
				t.Errorf("%d rotations are somebody else's", others)
			}
			if actors := pgtest.Query[int64](t, v.DB, "SELECT count(DISTINCT actor) FROM "+rotations); actors[0] > int64(rotators) {
				t.Errorf("%d rotators made %d", rotators, actors[0])
			}
			if open := count(t, v, "vault.audit_streams WHERE process LIKE 'rotator/%' AND state = 'open'"); open != 0 {
				t.Errorf("%d streams were left open", open)
			}
			for _, r := range all {
				if text := r.Log.String(); strings.Contains(text, after.Text("value")) || strings.Contains(text, before.Text("value")) {
					t.Error("I1: the log holds a value")
				}
			}
		})
	}
}

// hold lets nobody finish a change of a secret until release.
func hold(t *testing.T, v *sealkeeptest.Vault) (release func()) {
	t.Helper()
	v.DB.Exec(t, `CREATE TABLE public.held (); INSERT INTO public.held DEFAULT VALUES;
		CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
			'BEGIN WHILE EXISTS (SELECT FROM public.held) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NEW; END';
		CREATE TRIGGER hold BEFORE UPDATE ON vault.secrets FOR EACH ROW EXECUTE FUNCTION public.hold()`)
	return func() { v.DB.Exec(t, "DELETE FROM public.held") }
}

// held are the rotators' sessions that are being held.
const held = "pg_stat_activity WHERE application_name LIKE 'rotator/%' AND wait_event = 'PgSleep' AND datname = current_database()"

// stopping stops a rotator and returns when that has begun. done ends when it is over.
func stopping(t *testing.T, r *sealkeeptest.Rotator) (done *sync.WaitGroup) {
	t.Helper()
	done = &sync.WaitGroup{}
	done.Go(func() { r.Stop(t) })
	until(t, "it is stopping", func() bool { return strings.Contains(r.Log.String(), "stopping: what is in flight") })
	return done
}

func TestRotatorThatIsStoppedFinishesWhatItHasBegunAndGivesBackTheRest(t *testing.T) {
	t.Parallel()
	v := sealkeeptest.New(t)
	automatic(t, v, "app/a")
	automatic(t, v, "app/b")
	until(t, "both are due", func() bool { return count(t, v, "vault.secrets WHERE next_rotation_at <= now()") == 2 })
	release := hold(t, v)
	// One worker is held at one of them and doesn't come to the other.
	r := v.StartRotator(t, "VAULT_ROTATION_WORKERS=1", "VAULT_ROTATION_LEASE_SECS=600")
	until(t, "both are claimed", func() bool {
		return count(t, v, "vault.rotation_jobs WHERE claim_id IS NOT NULL") == 2 && count(t, v, held) == 1
	})
	done := stopping(t, r)
	const givenBack = "vault.rotation_jobs WHERE claim_id IS NULL AND completed_at IS NULL AND attempt = 0 AND run_at <= now()"
	until(t, "the one is given back while the other is under way", func() bool { return count(t, v, givenBack) == 1 })
	release()
	done.Wait()
	if rotated := count(t, v, "vault.secrets WHERE current_version = 2"); rotated != 1 {
		t.Fatalf("%d were rotated by the one that was stopped", rotated)
	}
	if evidence := count(t, v, rotations); evidence != 1 {
		t.Errorf("%d records of it", evidence)
	}
	v.StartRotator(t)
	until(t, "another one rotates the other", func() bool { return count(t, v, "vault.secrets WHERE current_version > 1") == 2 })
}

func TestRotationThatTakesTooLongIsCutOffBeforeItsEvidenceIs(t *testing.T) {
	t.Parallel()
	// The connection on which it is held can't be let go in time: its server is busy.
	v := sealkeeptest.New(t, sealkeeptest.WithUncleanStop())
	automatic(t, v, "app/a")
	release := hold(t, v)
	r := v.StartRotator(t, "VAULT_DRAIN_SECS=1")
	until(t, "it is held", func() bool { return count(t, v, held) == 1 })
	r.Stop(t)
	if open := count(t, v, "vault.audit_streams WHERE process LIKE 'rotator/%' AND state = 'open'"); open != 0 {
		t.Errorf("%d streams were left open", open)
	}
	if !strings.Contains(r.Log.String(), "rotations that took too long were cut off") {
		t.Error("nothing was cut off")
	}
	if claimed := count(t, v, "vault.rotation_jobs WHERE claim_id IS NOT NULL"); claimed != 1 {
		t.Fatalf("%d claims are left to lapse", claimed)
	}
	release()
	v.DB.Exec(t, "UPDATE vault.rotation_jobs SET run_at = now() WHERE completed_at IS NULL") // as if it had lapsed
	v.StartRotator(t)
	until(t, "another one rotates it", func() bool { return count(t, v, "vault.secrets WHERE current_version > 1") == 1 })
}

func TestRotatorTellsHowItIs(t *testing.T) {
	t.Parallel()
	v := sealkeeptest.New(t)
	automatic(t, v, "app/a")
	r := v.StartRotator(t)
	until(t, "a rotation is counted", func() bool { return r.Metric(t, `sealkeep_rotation_attempts_total{outcome="done"}`) > 0 })
	if r.Metric(t, `sealkeep_database_connections{state="limit"}`) != 8 || r.Metric(t, `sealkeep_build_info{program="api"}`) != 0 {
		t.Error("its metrics are another process's")
	}
	r.Stop(t)
	if r.Process.Ready(t.Context()) == nil {
		t.Error("ready after it stopped")
	}
}
