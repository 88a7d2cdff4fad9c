package dataset

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

const n = 100

// parts gives a request's path and body.
func parts(w Workload, number uint64) (path, body string) {
	return string(w.Path.Clone().Fill(number)), string(w.Body.Clone().Fill(number))
}

func expected(w Workload, number uint64) (all []string) {
	for _, t := range w.Expect {
		all = append(all, string(t.Clone().Fill(number)))
	}
	return all
}

func TestReadsGoRoundAndExpectTheValueOfTheName(t *testing.T) {
	t.Parallel()
	w := Read(Hot, n)
	for _, number := range []uint64{7, n + 7} {
		path, body := parts(w, number)
		if path != "/v1/secrets/"+Name(Hot, 7) || body != "" {
			t.Errorf("%s %s", path, body)
		}
		if want := []string{`"name":"` + Name(Hot, 7) + `"`, `"value":"` + Value(7) + `"`}; !slices.Equal(expected(w, number), want) {
			t.Errorf("got %q, want %q", expected(w, number), want)
		}
	}
}

func TestScatteredReadsExpectTheValueOfTheirName(t *testing.T) {
	t.Parallel()
	w := ReadScattered(Wide, n)
	names := map[string]bool{}
	for number := range uint64(20 * n) {
		path, _ := parts(w, number)
		name := strings.TrimPrefix(path, "/v1/secrets/")
		names[name] = true
		digits := strings.TrimPrefix(name, Wide)
		if e := expected(w, number); !strings.Contains(e[0], name) || !strings.Contains(e[1], digits+"-") {
			t.Fatalf("%s expects %q", name, e)
		}
	}
	if len(names) != n {
		t.Errorf("%d names of %d were asked for", len(names), n)
	}
}

func TestValuesHaveOneSizeAndNamesAreOrdered(t *testing.T) {
	t.Parallel()
	if len(Value(0)) != valueBytes || len(Value(9_999_999)) != valueBytes || Value(1) == Value(2) {
		t.Errorf("%q %q", Value(0), Value(9_999_999))
	}
	if Name(Hot, 3) != "bench/db/0000003" {
		t.Error(Name(Hot, 3))
	}
}

func TestABatchAsksForDifferentSecretsAndExpectsAllInOrder(t *testing.T) {
	t.Parallel()
	w := Batch(Hot, n, 64)
	_, body := parts(w, 1)
	var request struct{ Names []string }
	if err := json.Unmarshal([]byte(body), &request); err != nil {
		t.Fatal(err)
	}
	if len(request.Names) != 64 || request.Names[0] != Name(Hot, 64) || request.Names[36] != Name(Hot, 0) {
		t.Errorf("%q", request.Names)
	}
	if slices.Sort(request.Names); len(slices.Compact(request.Names)) != 64 {
		t.Errorf("some are asked for twice: %q", request.Names)
	}
	if e := expected(w, 1); len(e) != 128 || e[72] != `"name":"`+Name(Hot, 0)+`"` || e[73] != `"value":"`+Value(0)+`"` || w.PerRequest != 64 {
		t.Errorf("%q", e)
	}
}

func TestVerificationsAndChanges(t *testing.T) {
	t.Parallel()
	var body struct{ Name, Kind, Value string }
	decode := func(w Workload, number uint64) string {
		t.Helper()
		body.Name, body.Kind, body.Value = "", "", ""
		path, text := parts(w, number)
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return path
	}
	if path := decode(Verify(Hot, n), n+5); path != "/v1/secrets/"+Name(Hot, 5)+"/verify" || body.Value != Value(5) {
		t.Errorf("%s %+v", path, body)
	}
	if path := decode(Create(Fresh), 12345); path != "/v1/secrets" || body.Name != Name(Fresh, 12345) || body.Kind != "manual" || body.Value != Value(12345) {
		t.Errorf("%s %+v", path, body)
	}
	// The next time round a secret gets another value.
	if path := decode(Update(Changed, n), n+5); path != "/v1/secrets/"+Name(Changed, 5) || body.Value != Value(n+5) {
		t.Errorf("%s %+v", path, body)
	}
}

func TestASpecCarriesTheHeaders(t *testing.T) {
	t.Parallel()
	s := Read(Hot, n).Spec("127.0.0.1:1", "Authorization: Bearer x\r\n")
	if text := string(s.Request.Text); !strings.Contains(text, "\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer x\r\n\r\n") || s.Status != 200 {
		t.Errorf("%q", text)
	}
}
