package load

import (
	"strings"
	"testing"
)

func TestNumbersGoWhereTheirSlotsAre(t *testing.T) {
	t.Parallel()
	inner := Text("n").Number(3, Slot{Times: 1, Modulo: 10}).Add("/")
	whole := Text("<").Join(inner).Number(5, Slot{Times: 2, Plus: 1}).Join(inner).Add(">").Clone()
	for n, want := range map[uint64]string{
		0:      "<n000/00001n000/>",
		7:      "<n007/00015n007/>",
		13:     "<n003/00027n003/>",
		999999: "<n009/99999n009/>", // the digits that don't fit are dropped
	} {
		if got := string(whole.Fill(n)); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	if text := string(inner.Text); text != "n000/" {
		t.Errorf("a template that was joined to another changed to %s", text)
	}
}

func TestScatteredNumbersSpreadOverAllAndRepeatTheirOrder(t *testing.T) {
	t.Parallel()
	const modulo, draws = 100, 20_000
	s := Slot{Times: 1, Modulo: modulo, Scatter: true}
	var drawn [modulo]int
	inOrder := 0
	for n := range uint64(draws) {
		v := s.number(n)
		if v != s.number(n) {
			t.Fatal("another number for the same request")
		}
		if v == n%modulo {
			inOrder++
		}
		drawn[v]++
	}
	for v, times := range drawn {
		if times < draws/modulo/2 || times > draws/modulo*2 {
			t.Errorf("%d was drawn %d times", v, times)
		}
	}
	if inOrder > draws/modulo*2 {
		t.Errorf("%d numbers were in order", inOrder)
	}
}

func TestARequestIsWellFormed(t *testing.T) {
	t.Parallel()
	path := Text("/v1/x/").Number(2, Slot{Times: 1})
	plain := Request("GET", path, "127.0.0.1:1", "A: b\r\n", Template{}).Clone()
	if got, want := string(plain.Fill(4)), "GET /v1/x/04 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nA: b\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	body := Text(`{"n":`).Number(3, Slot{Times: 1}).Add("}")
	post := Request("POST", path, "h", "", body).Clone()
	got := string(post.Fill(5))
	if !strings.Contains(got, "POST /v1/x/05 ") || !strings.HasSuffix(got, "Content-Length: 9\r\n\r\n{\"n\":005}") {
		t.Errorf("got %q", got)
	}
}
