// Package api holds every answer of the API, errors too, against docs/openapi.yaml.
package api

import (
	"strconv"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// unproduced are documented answers that no request brings about, each with the reason. An operation of "" stands for all.
var unproduced = map[string]map[int]string{
	"":                   {429: "nothing is throttled in this release"},
	"createSecret":       {500: "opens no row that was stored"},
	"deleteSecret":       {500: "opens no row that was stored"},
	"listSecrets":        {403: "every valid token may list what its role may act on"},
	"pauseRotation":      {500: "what doesn't verify is shown as such"},
	"resumeRotation":     {500: "what doesn't verify is shown as such"},
	"readRotation":       {500: "what doesn't verify is shown as such"},
	"listJobs":           {403: "every valid token may list those of secrets that its role may act on"},
	"readJob":            {403: "one that may not be seen is a 404"},
	"verifySecret":       {500: "a version that can't be opened is a 503"},
	"listVersions":       {500: "opens no row that was stored"},
	"createRole":         {500: "opens no row that was stored"},
	"listRoles":          {500: "opens no row that was stored"},
	"readRole":           {500: "opens no row that was stored"},
	"deleteRole":         {500: "opens no row that was stored"},
	"setRolePermissions": {409: "nothing of this release forbids it", 500: "opens no row that was stored"},
	"createToken":        {500: "opens no row that was stored"},
	"listTokens":         {500: "opens no row that was stored"},
	"revokeToken":        {500: "opens no row that was stored"},
	"listEvents":         {500: "opens no row that was stored"},
	"status":             {500: "opens no row that was stored"},
	"health":             {500: "asks nobody"},
	"ready":              {500: "whatever is wrong is a 503"},
}

func reason(id string, status int) string {
	if r := unproduced[id][status]; r != "" {
		return r
	}
	return unproduced[""][status]
}

func TestAPI_EveryAnswerIsAsDocumented(t *testing.T) {
	t.Parallel()
	c := loadContract(t)
	v := newValidator(t, c)
	w := newWalk(t, v)
	endpoints := c.endpoints()
	if len(endpoints) == 0 {
		t.Fatal("docs/openapi.yaml has no operations")
	}
	for id := range endpoints {
		if _, ok := plain[id]; !ok {
			t.Fatalf("%s is documented, and nothing here asks for it", id)
		}
	}
	w.succeeds()
	w.refused(endpoints)
	w.rotates()
	w.fetches()
	w.misses()
	w.damaged()
	w.unavailable(endpoints)

	answers := 0
	for id, e := range endpoints {
		for text := range e.op.Responses.Map() {
			status, err := strconv.Atoi(text)
			if err != nil {
				t.Errorf("%s documents %s: every status is documented by itself", id, text)
				continue
			}
			seen := v.seen[id][status]
			answers += seen
			switch why := reason(id, status); {
			case seen == 0 && why == "":
				t.Errorf("%s never answered %d, and there is no reason why it can't", id, status)
			case seen > 0 && why != "":
				t.Errorf("%s answered %d, which it can't: %s", id, status, why)
			}
		}
	}
	t.Logf("%d operations, %d answers", len(endpoints), answers)
}

// TestValidator_NoticesEveryKindOfDifference shows that the walk would fail.
func TestValidator_NoticesEveryKindOfDifference(t *testing.T) {
	t.Parallel()
	c := loadContract(t)
	for name, answer := range differences {
		t.Run(name, func(t *testing.T) {
			err := answer.check(c)
			if (err == nil) != (name == "none") {
				t.Errorf("the validator says %v", err)
			}
		})
	}
}
