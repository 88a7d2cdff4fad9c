// Package races lets many clients change the same thing at once: nothing that was acknowledged is lost, and of those that
// can't all win exactly one does.
package races

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// together runs n of them at once and returns what each was answered. None has begun before all are ready.
func together(t *testing.T, n int, do func(i int) (*sealkeeptest.Response, error)) []*sealkeeptest.Response {
	t.Helper()
	answers, errs := make([]*sealkeeptest.Response, n), make([]error, n)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			answers[i], errs[i] = do(i)
		})
	}
	ready.Wait()
	close(begin)
	done.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

// count says how many were answered with each status.
func count(answers []*sealkeeptest.Response) map[int]int {
	n := map[int]int{}
	for _, a := range answers {
		n[a.Status]++
	}
	return n
}

func create(t *testing.T, v *vaulttest.Vault, name, value string) {
	t.Helper()
	v.Do(t, "POST", "/v1/secrets", map[string]any{"name": name, "kind": "manual", "value": value}).Want(t, http.StatusCreated)
}

func TestI13_NoUpdateIsLost(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	create(t, v, "hot", "first")
	const writers, each = 8, 20
	type acknowledged struct{ etag, value string }
	var mu sync.Mutex
	acks := map[int64]acknowledged{} // by version
	contended := 0
	together(t, writers, func(i int) (*sealkeeptest.Response, error) {
		for n := range each {
			value := fmt.Sprintf("value-%d-%d", i, n)
			a, err := v.Try(t, "PUT", "/v1/secrets/hot", map[string]any{"value": value})
			if err != nil {
				return nil, err
			}
			mu.Lock()
			version := int64(a.Number("version"))
			switch _, taken := acks[version]; {
			case a.Status == http.StatusConflict && a.Text("code") == "contended":
				contended++
			case a.Status != http.StatusOK:
				t.Errorf("a writer was answered %d: %s", a.Status, a.Body)
			case taken:
				t.Errorf("two writers were told that theirs is version %d", version)
			default:
				acks[version] = acknowledged{a.Header.Get("ETag"), value}
			}
			mu.Unlock()
		}
		return nil, nil
	})

	// Every acknowledged update made the next version: none is missing, and the last ones are there with what was written. Of those
	// that have ended the oldest are gone.
	for version := range int64(len(acks)) {
		if _, ok := acks[version+2]; !ok {
			t.Errorf("nobody was told that theirs is version %d", version+2)
		}
	}
	stored := v.Stored(t, "hot")
	if want := min(1+secret.MaxEndedVersions, 1+len(acks)); len(stored) != want {
		t.Fatalf("%d versions are stored, not %d", len(stored), want)
	}
	newest := int64(1 + len(acks))
	for i, s := range stored {
		if s.Version != newest-int64(len(stored)-1-i) {
			t.Errorf("version %d is the %dth of those stored, of which the newest is %d", s.Version, i+1, newest)
		}
		if (s.State == "current") != (i == len(stored)-1) {
			t.Errorf("version %d is %s", s.Version, s.State)
		}
		ack := acks[s.Version]
		if s.Version > 1 && (ack.value != s.Value || ack.etag != fmt.Sprintf(`"%d-%s"`, s.Version, s.UID)) {
			t.Errorf("version %d holds %q with uid %s, and its writer was told %q, %s", s.Version, s.Value, s.UID, ack.value, ack.etag)
		}
	}
	if len(acks)+contended != writers*each || len(acks) <= secret.MaxEndedVersions {
		t.Errorf("%d acknowledged updates, %d contended", len(acks), contended)
	}
	last := stored[len(stored)-1]
	if read := v.Do(t, "GET", "/v1/secrets/hot", nil).Want(t, http.StatusOK); read.Text("value") != last.Value {
		t.Errorf("what is read is %q, the last version holds %q", read.Text("value"), last.Value)
	}
	t.Logf("%d updates acknowledged, %d told to try again", len(acks), contended)
	v.VerifyClean(t)
}

func TestIfMatch_LetsExactlyOneWin(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	create(t, v, "a", "first")
	const rivals = 12
	for round := range 6 {
		etag := v.Do(t, "GET", "/v1/secrets/a", nil).Want(t, http.StatusOK).Header.Get("ETag")
		answers := together(t, rivals, func(i int) (*sealkeeptest.Response, error) {
			return v.Try(t, "PUT", "/v1/secrets/a", map[string]any{"value": fmt.Sprintf("%d-%d", round, i)}, sealkeeptest.WithHeader("If-Match", etag))
		})
		if n := count(answers); n[http.StatusOK] != 1 || n[http.StatusPreconditionFailed] != rivals-1 {
			t.Fatalf("round %d: %v", round, n)
		}
		read := v.Do(t, "GET", "/v1/secrets/a", nil).Want(t, http.StatusOK)
		for i, a := range answers {
			if a.Status == http.StatusOK && read.Text("value") != fmt.Sprintf("%d-%d", round, i) {
				t.Errorf("%d won, and the value is %s", i, read.Text("value"))
			}
		}
	}
}

// TestIfMatch_MakesACounter reads, adds one and writes back, with many at once.
func TestIfMatch_MakesACounter(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	create(t, v, "counter", "0")
	const clients, each = 5, 8
	together(t, clients, func(int) (*sealkeeptest.Response, error) {
		for added := 0; added < each; {
			read, err := v.Try(t, "GET", "/v1/secrets/counter", nil)
			if err != nil {
				return nil, err
			}
			n, err := strconv.Atoi(read.Text("value"))
			if err != nil {
				return nil, err
			}
			written, err := v.Try(t, "PUT", "/v1/secrets/counter", map[string]any{"value": strconv.Itoa(n + 1)},
				sealkeeptest.WithHeader("If-Match", read.Header.Get("ETag")))
			if err != nil {
				return nil, err
			}
			switch written.Status {
			case http.StatusOK:
				added++
			case http.StatusPreconditionFailed, http.StatusConflict:
			default:
				return nil, fmt.Errorf("status %d: %s", written.Status, written.Body)
			}
		}
		return nil, nil
	})
	if read := v.Do(t, "GET", "/v1/secrets/counter", nil).Want(t, http.StatusOK); read.Text("value") != strconv.Itoa(clients*each) {
		t.Errorf("it counted to %s", read.Text("value"))
	}
}

func TestCreate_OneOfManyWinsAndDeleteToo(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	const rivals = 12
	for round := range 4 {
		answers := together(t, rivals, func(i int) (*sealkeeptest.Response, error) {
			return v.Try(t, "POST", "/v1/secrets", map[string]any{"name": "a", "kind": "manual", "value": fmt.Sprint(i)})
		})
		if n := count(answers); n[http.StatusCreated] != 1 || n[http.StatusConflict] != rivals-1 {
			t.Fatalf("round %d, create: %v", round, n)
		}
		read := v.Do(t, "GET", "/v1/secrets/a", nil).Want(t, http.StatusOK)
		for i, a := range answers {
			if a.Status == http.StatusCreated && (read.Text("value") != fmt.Sprint(i) || read.Header.Get("ETag") != a.Header.Get("ETag")) {
				t.Errorf("%d won, and what is there is %s", i, read.Body)
			}
		}
		answers = together(t, rivals, func(int) (*sealkeeptest.Response, error) { return v.Try(t, "DELETE", "/v1/secrets/a", nil) })
		if n := count(answers); n[http.StatusNoContent] != 1 || n[http.StatusNotFound] != rivals-1 {
			t.Fatalf("round %d, delete: %v", round, n)
		}
	}
	v.VerifyClean(t)
}

func TestRotate_EachAnswerHasItsOwnVersionAndValue(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "a", "kind": "automatic", "rotation_interval_secs": 3600}).Want(t, http.StatusCreated)
	answers := together(t, 10, func(int) (*sealkeeptest.Response, error) { return v.Try(t, "POST", "/v1/secrets/a/rotate", nil) })
	stored := v.Stored(t, "a")
	rotated := 0
	for _, a := range answers {
		switch {
		case a.Status == http.StatusConflict && a.Text("code") == "contended":
		case a.Status != http.StatusOK:
			t.Errorf("status %d: %s", a.Status, a.Body)
		case int(a.Number("version")) > len(stored) || stored[int(a.Number("version"))-1].Value != a.Text("value"):
			t.Errorf("what was answered is not what is stored as version %v", a.Number("version"))
		default:
			rotated++
		}
	}
	if len(stored) != 1+rotated || rotated == 0 {
		t.Errorf("%d versions of %d rotations", len(stored), rotated)
	}
}

// TestRevoke_TheLastAdminTokenStays lets as many administrators as there are revoke each other at once.
func TestRevoke_TheLastAdminTokenStays(t *testing.T) {
	t.Parallel()
	v := vaulttest.New(t, vaulttest.Config{})
	const admins = 6
	tokens, names := []string{v.AdminToken}, []string{"bootstrap"}
	for i := 1; i < admins; i++ {
		names = append(names, fmt.Sprintf("admin-%d", i))
		tokens = append(tokens, v.Do(t, "POST", "/v1/tokens", map[string]any{"name": names[i], "role": "admin"}).Want(t, http.StatusCreated).Text("token"))
	}
	together(t, admins, func(i int) (*sealkeeptest.Response, error) {
		for n := range admins { // every one but itself, and then itself
			if a, err := v.Try(t, "DELETE", "/v1/tokens/"+names[(i+1+n)%admins], nil, sealkeeptest.WithToken(tokens[i])); err != nil {
				return a, err
			}
		}
		return nil, nil
	})
	var live []int
	for i, token := range tokens {
		if v.Do(t, "GET", "/v1/status", nil, sealkeeptest.WithToken(token)).Status == http.StatusOK {
			live = append(live, i)
		}
	}
	if len(live) != 1 {
		t.Errorf("of %d administrators %v are left", admins, live)
	}
}
