package httpapi

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"testing"
)

func notZero(b []byte) bool {
	return slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}

func TestBuffersHaveTheRoomThatWasAskedFor(t *testing.T) {
	t.Parallel()
	var kept buffers
	for _, b := range []*buffers{nil, &kept} {
		for _, n := range []int{0, 1, smallBuffer, smallBuffer + 1, largeBuffer, largeBuffer + 1, 1 << 20} {
			for range 3 {
				buf := b.get(n)
				if len(buf) != 0 || cap(buf) < n {
					t.Errorf("for %d bytes: %d of %d", n, len(buf), cap(buf))
				}
				b.put(buf)
			}
		}
	}
	kept.put(nil)
}

// TestI1_KeptBuffersAreZero fills buffers of all sizes, gives them back, and looks at what is in them and in the next
// ones.
func TestI1_KeptBuffersAreZero(t *testing.T) {
	t.Parallel()
	var b buffers
	for _, n := range []int{1, smallBuffer, smallBuffer + 1, largeBuffer, largeBuffer + 1} {
		for range 10 {
			buf := b.get(n)
			if notZero(buf[:cap(buf)]) {
				t.Fatalf("one of %d bytes is handed out that isn't zero", n)
			}
			whole := append(buf, bytes.Repeat([]byte{'s'}, cap(buf))...)
			b.put(whole[:cap(whole)/2]) // half of it lies behind the length
			if notZero(whole) {
				t.Fatalf("one of %d bytes is kept that isn't zero", n)
			}
		}
	}
}

// TestI1_ReadsLeaveNothingInKeptMemory follows the memory of answers through the whole handler, while other requests
// use it again.
func TestI1_ReadsLeaveNothingInKeptMemory(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	size := 0
	e.route(route{method: "GET", pattern: "/v1/value"}, func(_ context.Context, x *exchange) error {
		return x.secret(http.StatusOK, sample(text(string(bytes.Repeat([]byte("s\n"), size)))))
	})
	// What fits at once, what grows once and twice, and what is too large to be kept.
	for _, size = range []int{10, smallBuffer, largeBuffer / 4, largeBuffer} {
		for range 3 {
			w := &keepingWriter{header: http.Header{}}
			e.ServeHTTP(w, request("GET", "/v1/value", ""))
			if w.status != 200 || len(w.seen) < 3*size {
				t.Fatal(w.status, len(w.seen))
			}
			if notZero(w.kept[:cap(w.kept)]) {
				t.Errorf("an answer with a value of %d bytes is still there", 2*size)
			}
		}
	}
	// A failure half way leaves nothing either.
	var left []byte
	e.route(route{method: "GET", pattern: "/v1/broken"}, func(_ context.Context, x *exchange) error {
		return x.disclose(http.StatusOK, func(d *disclosure) error {
			if err := d.secret(sample(text("whole"))); err != nil {
				return err
			}
			err := d.secret(sample(text("a\xffb")))
			left = d.buf
			return err
		})
	})
	wantError(t, e.do(request("GET", "/v1/broken", "")), 500)
	if len(left) == 0 || notZero(left[:cap(left)]) {
		t.Errorf("%q", left)
	}
}
