package rotation

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/targetpg"
)

type secretRow struct {
	Name     string
	Current  int64
	NotDue   bool
	Versions string
}

type jobRow struct {
	ID      string
	Name    string
	Reason  string
	DueAt   time.Time
	Base    int64
	Attempt int
	Outcome string // empty while it is open
}

type recordRow struct {
	Name    string
	Action  string
	Outcome string
	Version int64
	Job     string
}

// judge holds all that is left against what had to come of it.
func (c *chaos) judge(f *fleet, apps *applications, looks *looks) {
	c.t.Helper()
	jobs := map[string]jobRow{}
	attempts := map[int]int{}
	reclaimed := 0
	for _, j := range pgtest.Query[jobRow](c.t, c.vault.DB, `SELECT j.id::text, s.name, j.reason, j.due_at, j.base_version, j.attempt, coalesce(j.outcome, '')
		FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id`) {
		jobs[j.ID] = j
		if attempts[j.Attempt]++; j.Attempt > 1 {
			reclaimed++
		}
	}
	c.judgeRecords(jobs)
	c.judgeSecrets()
	c.judgeLooks(looks)
	c.readAll()
	c.vault.VerifyClean(c.t)

	faults := f.faults
	c.t.Logf("%d secrets; %d rotators killed, %d of them while stopped; %d stopped, %d of them for longer than a lease; %d crashes and %d restarts of the database",
		len(c.due), faults.killed, faults.killedStopped, faults.stopped, faults.stoppedLong, c.crashes, c.restarts)
	c.t.Logf("%d jobs were open when the faults ended; %d were claimed more than once: jobs by attempts %v", c.openAfter, reclaimed, attempts)
	c.t.Logf("%d logins of applications, %d refused, each within %d fetches of one that worked", apps.logins, apps.refused, apps.most)
	c.t.Logf("what rotators said: %v", said(f.logged()))
	least := c.scale.seconds / 10
	if faults.killed < 2*least || faults.stopped < least || faults.stoppedLong < least/2 || c.crashes != 1 || c.restarts != 1 {
		c.t.Error("there were too few faults to prove anything")
	}
	if reclaimed == 0 {
		c.t.Error("no job was ever claimed again, so no fault met any")
	}
	if apps.refused == 0 {
		c.t.Error("no application ever used what had been rotated")
	}
	for _, own := range f.own {
		c.t.Errorf("a rotator ended by itself: %s", own)
	}
}

// judgeRecords looks for one record of one rotation of each secret that was due, and for its job.
func (c *chaos) judgeRecords(jobs map[string]jobRow) {
	c.t.Helper()
	byName := map[string]map[string][]recordRow{}
	for _, r := range pgtest.Query[recordRow](c.t, c.vault.DB, `SELECT secret_name, action, outcome, coalesce(version, 0),
		coalesce(convert_from(detail, 'UTF8')::jsonb->>'job_id', '')
		FROM vault.audit_log WHERE secret_name LIKE 'chaos/%' AND action NOT IN ('secret.read') ORDER BY at, seq`) {
		if byName[r.Name] == nil {
			byName[r.Name] = map[string][]recordRow{}
		}
		what := r.Action + " " + r.Outcome
		byName[r.Name][what] = append(byName[r.Name][what], r)
	}
	perSecret := map[string][]jobRow{}
	for _, j := range jobs {
		perSecret[j.Name] = append(perSecret[j.Name], j)
	}
	kinds := map[string]int{}
	for name, due := range c.due {
		records := byName[name]
		for what, r := range records {
			kinds[what] += len(r)
		}
		rotated := records["secret.rotate ok"]
		if len(rotated) != 1 || rotated[0].Version != 2 || len(records["secret.create ok"]) != 1 {
			c.t.Errorf("I7: %s was due once, and the trail has %v", name, records)
			continue
		}
		job, known := jobs[rotated[0].Job]
		if !known || job.Name != name || job.Reason != "scheduled" || !job.DueAt.Equal(due) || job.Base != 1 || job.Outcome != "rotated" {
			c.t.Errorf("I7: %s was due at %v, and the job that its record names is %+v", name, due, job)
		}
		if len(perSecret[name]) != 1 {
			c.t.Errorf("%s was due once, and its jobs are %+v", name, perSecret[name])
		}
	}
	for _, s := range c.targeted {
		// A second one would be a second value.
		if prepared := byName[s.name]["rotation.prepare ok"]; len(prepared) != 1 {
			c.t.Errorf("%s was prepared %d times", s.name, len(prepared))
		}
	}
	if len(jobs) < len(c.due) {
		c.t.Errorf("there are %d jobs", len(jobs))
	}
	c.t.Logf("records: %v", kinds)
}

// judgeSecrets holds the tables: the versions are consecutive, and nothing is left half way.
func (c *chaos) judgeSecrets() {
	c.t.Helper()
	single := map[string]bool{}
	for _, s := range c.targeted {
		single[s.name] = s.kind != alternating
	}
	rows := pgtest.Query[secretRow](c.t, c.vault.DB, `SELECT s.name, s.current_version, coalesce(s.next_rotation_at > now() + interval '300 days', false),
		(SELECT string_agg(v.version || ' ' || v.state, ',' ORDER BY v.version) FROM vault.secret_versions v WHERE v.secret_id = s.id)
		FROM vault.secrets s WHERE name LIKE 'chaos/%'`)
	for _, s := range rows {
		// Without a grace version 1 may be gone.
		kept := s.Versions == "1 superseded,2 current" || single[s.Name] && s.Versions == "2 current"
		if s.Current != 2 || !s.NotDue || !kept {
			c.t.Errorf("%s is at version %d of %q, with its next rotation set: %v", s.Name, s.Current, s.Versions, s.NotDue)
		}
	}
	if len(rows) != len(c.due) {
		c.t.Errorf("%d secrets are left of %d", len(rows), len(c.due))
	}
}

// judgeLooks holds every look at a target against what the vault kept then. "A login works" means: the password that the server has is that of
// the current version or of the pending one, which becomes the current one within the same job. With two roles each version that the vault gives or
// gave out is the password of its role.
func (c *chaos) judgeLooks(l *looks) {
	c.t.Helper()
	type of struct {
		name    string
		version string
	}
	values := map[of]string{}
	roles := map[of]string{}
	for _, s := range c.targeted {
		values[of{s.name, "1"}], roles[of{s.name, "1"}] = s.passwords[0], s.roles[0]
		for _, v := range c.vault.Stored(c.t, s.name) {
			at := of{s.name, fmt.Sprint(v.Version)}
			if known, ok := values[at]; ok && known != v.Value {
				c.t.Errorf("%s, version %d, has changed", s.name, v.Version)
			}
			values[at], roles[at] = v.Value, v.Username
		}
	}
	kinds := map[string]string{}
	for _, s := range c.targeted {
		kinds[s.name] = s.kind
	}
	total, between := 0, 0
	for seen, n := range l.seen {
		total += n
		current, pending := false, false
		for text := range strings.SplitSeq(seen.versions, ",") {
			version, state, _ := strings.Cut(text, " ")
			at := of{seen.name, version}
			if roles[at] != seen.role {
				continue
			}
			has := targetpg.Matches(c.t, seen.verifier, values[at])
			switch {
			case state == "current":
				current = has
			case state == "pending":
				pending = has
			}
			if kinds[seen.name] == alternating && (state == "current" || state == "superseded") && !has {
				c.t.Errorf("I9: at a look the target didn't take version %s (%s) of %s", version, seen.versions, seen.name)
			}
		}
		if pending {
			between += n
		}
		if kinds[seen.name] != alternating && !current && !pending {
			c.t.Errorf("at a look the target had neither the current nor the pending version of %s (%s)", seen.name, seen.versions)
		}
	}
	c.t.Logf("%d looks at the target, %d of them between its change and the vault's", total, between)
	if between == 0 {
		c.t.Error("no look came between a change of the target and that of the vault")
	}
}

// readAll reads every secret as an application does.
func (c *chaos) readAll() {
	c.t.Helper()
	const batch = 250
	for names := range slices.Chunk(slices.Sorted(maps.Keys(c.due)), batch) {
		answer := c.vault.Do(c.t, http.MethodPost, "/v1/batch/secrets", map[string]any{"names": names}).Want(c.t, http.StatusOK)
		var items []struct {
			Name            string
			Version         int64
			Value, Password string
		}
		answer.Decode(c.t, &items)
		if len(items) != len(names) {
			c.t.Errorf("%d of %d secrets are read", len(items), len(names))
		}
		for _, item := range items {
			if item.Version != 2 || len(item.Value+item.Password) < 20 {
				c.t.Errorf("%s is read as version %d", item.Name, item.Version)
			}
		}
	}
}

// said counts the lines of a log that are more than news.
func said(log string) map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(log) {
		var l struct{ Level, Msg, Outcome string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			counts["no JSON: "+strings.TrimSpace(line)]++
		} else if l.Level != "INFO" {
			counts[strings.TrimSpace(l.Level+" "+l.Msg+" "+l.Outcome)]++
		}
	}
	return counts
}
