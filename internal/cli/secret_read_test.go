package cli

import (
	"net/http"
	"testing"
)

func TestI1_AnswerWithItsEntityTagLeavesNoCopy(t *testing.T) {
	t.Parallel()
	read := []byte(`{"name":"a","value":"canary"}`)
	answered := &answer{header: http.Header{"Etag": {`"1-x"`}}, body: read}
	answered.addEntityTag()
	tagged := answered.body
	if want := `{"etag":"1-x","name":"a","value":"canary"}`; string(tagged) != want {
		t.Fatalf("got %s", tagged)
	}
	answered.release()
	for name, body := range map[string][]byte{"as it was read": read, "with the tag": tagged} {
		for _, b := range body {
			if b != 0 {
				t.Errorf("the body %s is still there: %s", name, body)
				break
			}
		}
	}

	for _, c := range []answer{{body: []byte(`{"a":1}`)}, {header: http.Header{"Etag": {`"1-x"`}}, body: []byte(`[1,2]`)}} {
		before := string(c.body)
		c.addEntityTag()
		if string(c.body) != before {
			t.Errorf("%s became %s", before, c.body)
		}
	}
}
