// Package corpus sends the vault what no client should: ten thousand requests, half of them valid ones with one thing
// changed, drawn from the seeds in testdata and always the same.
package corpus

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestSeeds_EachHasItsStatus sends every seed as it is. The valid ones must succeed, or the corpus would consist of requests
// that fail for a reason of their own; each malformed one has its status and a message.
func TestSeeds_EachHasItsStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for folder, least := range map[string]int{"valid": 200, "malformed": 400} {
		for _, q := range seeds(t, folder) {
			t.Run(folder+"/"+q.name, func(t *testing.T) {
				c := &client{address: strings.TrimPrefix(w.vault.URL, "http://")}
				defer c.close()
				a, err := c.send(q, w.bytes(t, q))
				if err != nil {
					t.Fatal(err)
				}
				if a.status != q.want {
					t.Errorf("status %d, want %d: %.300s", a.status, q.want, a.body)
				}
				if q.want < least || (folder == "valid") != (q.want < 300) {
					t.Errorf("the seed is in the wrong folder for a %d", q.want)
				}
				if problem := a.wellFormed(); problem != "" {
					t.Errorf("%s: %.300s", problem, a.body)
				}
				if a.status >= 400 && w.echoes(string(a.body)) {
					t.Errorf("the value is echoed: %.300s", a.body)
				}
			})
		}
	}
}

func TestGenerate_IsAlwaysTheSameAndHalfMutated(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("draws the corpus twice")
	}
	valid, malformed := seeds(t, "valid"), seeds(t, "malformed")
	first, second := generate(valid, malformed), generate(valid, malformed)
	kinds, different := map[string]int{}, map[string]bool{}
	for i := range first {
		one := first[i].render(templates)
		if first[i].name != second[i].name || string(one) != string(second[i].render(templates)) {
			t.Fatalf("request %d differs from run to run: %s", i, first[i].name)
		}
		different[string(one)] = true
		if _, mutation, ok := strings.Cut(first[i].name, ": "); ok && i < corpusSize/2 {
			kinds[mutation]++
		}
	}
	if len(first) != corpusSize || len(different) != corpusSize {
		t.Errorf("the corpus has %d requests, %d of them different", len(first), len(different))
	}
	for _, m := range mutations {
		if kinds[m.name] == 0 {
			t.Errorf("nothing in the first half has %q", m.name)
		}
	}
}

func TestI1I11_MalformedRequestsFailCleanly(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("sends ten thousand requests")
	}
	w := newWorld(t)
	corpus := generate(seeds(t, "valid"), seeds(t, "malformed"))

	var (
		mu       sync.Mutex
		statuses = map[int]int{}
		senders  sync.WaitGroup
		queue    = make(chan request)
	)
	for range 8 {
		senders.Go(func() {
			c := &client{address: strings.TrimPrefix(w.vault.URL, "http://")}
			defer c.close()
			for q := range queue {
				raw := w.bytes(t, q)
				a, err := c.send(q, raw)
				if err != nil {
					t.Errorf("%s: %v", q.name, err)
				}
				mu.Lock()
				statuses[a.status]++
				mu.Unlock()
				if problem := w.judge(q, a); problem != "" {
					t.Errorf("%s: %s: status %d: %.300s\nsent: %.400q", q.name, problem, a.status, a.body, raw)
				}
			}
		})
	}
	stop := w.readOn(t)
	for _, q := range corpus {
		queue <- q
	}
	close(queue)
	senders.Wait()
	reads := stop()
	w.aftermath(t)

	succeeded, refused := 0, 0
	for status, n := range statuses {
		if status/100 == 2 {
			succeeded += n
		} else if status/100 == 4 {
			refused += n
		}
	}
	if statuses[0] > corpusSize/50 {
		t.Errorf("%d requests got no answer", statuses[0])
	}
	if succeeded < 100 || refused < corpusSize/2 {
		t.Errorf("%d succeeded and %d were refused: such a corpus proves little", succeeded, refused)
	}
	lines := ""
	for _, status := range slices.Sorted(maps.Keys(statuses)) {
		lines += fmt.Sprintf(" %d×%d", status, statuses[status])
	}
	t.Logf("%d requests:%s; %d reads went on beside them", len(corpus), lines, reads)
}

// judge says what is wrong with an answer; "" if nothing is.
func (w *world) judge(q request, a answered) string {
	switch {
	case a.status >= 500 && a.status != http.StatusServiceUnavailable:
		return "a failure of ours"
	case a.status == http.StatusServiceUnavailable && !q.broken:
		return "nothing was unavailable" // of a broken one the client is gone, which ends it
	case a.status >= 400 && w.echoes(string(a.body)):
		return "the value is echoed"
	}
	for _, lines := range a.header {
		if w.echoes(strings.Join(lines, "\n")) {
			return "the value is in a header"
		}
	}
	return a.wellFormed()
}

// readOn reads one secret over and over beside the corpus: what one client sends never fails another's read.
func (w *world) readOn(t *testing.T) (stop func() int) {
	t.Helper()
	ended, reads := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-ended:
				reads <- n
				return
			default:
			}
			read, err := w.vault.Try(t, http.MethodGet, "/v1/secrets/"+steady, nil)
			if err != nil || read.Status != http.StatusOK || read.Text("value") != w.canary {
				t.Errorf("a read beside the corpus: %v, %v", read, err)
			}
			n++
		}
	}()
	return func() int {
		close(ended)
		return <-reads
	}
}

// aftermath looks for what must not have happened within.
func (w *world) aftermath(t *testing.T) {
	t.Helper()
	metrics, err := http.Get(w.vault.MetricsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	text := new(strings.Builder)
	if err := metrics.Write(text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "\nsealkeep_httpapi_panics_total 0\n") {
		t.Error("there were panics, or nobody counts them")
	}
	log := w.vault.Log.String()
	for what, place := range map[string]string{"metrics": text.String(), "log": log} {
		if w.echoes(place) {
			t.Errorf("the %s holds the value or the token", what)
		}
	}
	if !strings.Contains(log, `"msg":"request"`) || !w.echoes(log+w.canary) {
		t.Error("the search of the log proves nothing")
	}
	for _, r := range w.vault.Audit(t, "") {
		if w.echoes(fmt.Sprint(r)) {
			t.Errorf("an audit record holds the value: %v", r)
		}
	}
	vaulttest.Eventually(t, "the vault serves on", func() bool {
		return w.vault.Do(t, http.MethodGet, "/v1/secrets/"+steady, nil).Status == http.StatusOK
	})
	w.vault.VerifyClean(t)
}
