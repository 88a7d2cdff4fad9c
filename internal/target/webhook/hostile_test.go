package webhook

import (
	"io"
	"net"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

// forever writes a piece until nobody listens any more.
func forever(conn net.Conn, piece string) {
	piece = strings.Repeat(piece, 1+4096/len(piece))
	for {
		if _, err := io.WriteString(conn, piece); err != nil {
			return
		}
	}
}

// Send may take an hour here, so what returns has found an end by itself.
func TestSend_WhateverAReceiverDoesIsBounded(t *testing.T) {
	t.Parallel()
	wait := func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) } // until the other side is gone
	for name, tc := range map[string]struct {
		handle func(conn net.Conn)
		class  target.Class
		says   string
	}{
		"headers without end": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			forever(conn, "X: "+canary+"\r\n")
		}, target.Transient, "64 KiB"},
		"a header without end": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
			forever(conn, canary)
		}, target.Transient, "64 KiB"},
		"a first line without end": {func(conn net.Conn) {
			readRequest(conn)
			forever(conn, canary)
		}, target.Transient, "64 KiB"},
		"provisional answers without end": {func(conn net.Conn) {
			readRequest(conn)
			forever(conn, "HTTP/1.1 103 Early Hints\r\nX: "+canary+"\r\n\r\n")
		}, target.Transient, "64 KiB"},
		"a body without end, of which nothing is read": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			forever(conn, canary)
		}, "", ""},
		"a body that never comes": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
			wait(conn)
		}, "", ""},
		"a conflict without end": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 409 Conflict\r\n\r\n")
			forever(conn, canary)
		}, target.Permanent, "409"},
		"a conflict whose pieces carry more than they hold": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n")
			forever(conn, "1;"+strings.Repeat("x", 512)+"\r\na\r\n")
		}, target.Permanent, "409"},
		"a conflict that breaks off": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 409 Conflict\r\nContent-Length: 40\r\n\r\n"+`{"code":"older_generation"}`)
		}, target.Transient, ""},
		"something else, with the value in it": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, readRequest(conn)+"\r\n\r\n")
		}, target.Transient, "isn't HTTP"},
		"the value for a status": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 "+canary+"\r\n\r\n")
		}, target.Transient, "isn't HTTP"},
		"the value for a reason": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 404 "+canary+"\r\n\r\n")
		}, target.Permanent, "404 Not Found"},
		"the value for a length": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+canary+"\r\n\r\n")
		}, target.Transient, "isn't HTTP"},
		"another version": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/3.0 200 OK\r\n\r\n")
		}, target.Transient, "isn't HTTP"},
		"another protocol": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
		}, target.Permanent, "101"},
		"a provisional answer, and then one": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
		}, "", ""},
		"a provisional answer alone": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 102 Processing\r\n\r\n")
		}, target.Transient, "without an answer"},
		"nothing": {func(conn net.Conn) { readRequest(conn) }, target.Transient, "without an answer"},
		"half a line": {func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 20")
		}, target.Transient, "without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := newTarget(t, serve(t, tc.handle)).Send(t.Context(), event(), keys(keyA))
			if tc.class != "" {
				wantClass(t, err, tc.class, tc.says)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSend_AnAnswerBeforeTheEndOfTheRequestCounts(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	cfg := serve(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
		_, _ = io.WriteString(conn, "HTTP/1.1 422 Unprocessable Content\r\n\r\n")
		<-read
	})
	e := event()
	e.Value = sensitive.CopyString(strings.Repeat(canary, 2600))
	err := newTarget(t, cfg).Send(t.Context(), e, keys(keyA))
	close(read)
	wantClass(t, err, target.Policy, "422")
}

// It isn't parallel: the garbage collector, which closes what was forgotten, is held up meanwhile.
func TestSend_ConnectionIsClosedWhateverCameOfIt(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for name, answer := range map[string]string{
		"taken": "HTTP/1.1 204 No Content\r\n\r\n", "refused": "HTTP/1.1 404 Not Found\r\n\r\n", "a conflict": "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n",
		"no answer": "something else\r\n\r\n",
	} {
		closed := make(chan struct{})
		cfg := serve(t, func(conn net.Conn) {
			defer close(closed)
			readRequest(conn)
			_, _ = io.WriteString(conn, answer)
			_, _ = conn.Read(make([]byte, 1))
		})
		_ = newTarget(t, cfg).Send(t.Context(), event(), keys(keyA))
		select {
		case <-closed:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: the connection is still open", name)
		}
	}
}
