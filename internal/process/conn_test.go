package process

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// pair gives a connection as the server has it, and its other end.
func pair(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	base, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	client, err := net.Dial("tcp", base.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener{base}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return server.(*conn), client
}

func TestI1_WhatWasReadBeforeIsGoneFromTheBuffer(t *testing.T) {
	t.Parallel()
	server, client := pair(t)
	_, _ = io.WriteString(client, "next")
	buffer := []byte("the request before this one")
	n, err := server.Read(buffer)
	if err != nil || string(buffer[:n]) != "next"[:n] || !bytes.Equal(buffer[n:], make([]byte, len(buffer)-n)) {
		t.Errorf("%v, left %q", err, buffer)
	}
}

func TestI1_ABodyIsSentFromWhereItLiesBehindItsHead(t *testing.T) {
	t.Parallel()
	server, client := pair(t)
	server.Hold()
	for _, part := range []string{"he", "ad:"} {
		if n, err := server.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := server.ReadFrom(strings.NewReader("body")); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if bytes.Contains(server.held[:cap(server.held)], []byte("body")) || server.vector[1] != nil {
		t.Error("the body was kept")
	}
	_, _ = io.WriteString(server, ";next;")
	server.Hold()
	_, _ = io.WriteString(server, "a head alone")
	if err := server.Release(); err != nil {
		t.Fatal(err)
	}
	_, _ = server.ReadFrom(strings.NewReader(";no head"))
	_ = server.CloseWrite()
	if all, err := io.ReadAll(client); err != nil || string(all) != "head:body;next;a head alone;no head" {
		t.Errorf("sent %q, %v", all, err)
	}
}

// What conn's users rest on: that http.ResponseWriter hands what it reads from to its connection, after the head.
func TestI1_TheServerSendsABodyByReadFrom(t *testing.T) {
	t.Parallel()
	value := bytes.Repeat([]byte("value"), 10)
	lay := make(chan bool, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "50")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		source := &recognised{Reader: bytes.NewReader(value)}
		_, _ = w.(io.ReaderFrom).ReadFrom(source)
		lay <- source.straight
	})
	s, err := NewServer(t.Context(), "test", "127.0.0.1:0", handler, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(t.Context()) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); err != nil || !slices.Equal(got, value) {
		t.Errorf("got %q, %v", got, err)
	}
	if !<-lay {
		t.Error("the body went through a buffer of the server's")
	}
}

// recognised tells whether it was written to a connection of ours.
type recognised struct {
	*bytes.Reader
	straight bool
}

func (r *recognised) WriteTo(w io.Writer) (int64, error) {
	_, r.straight = w.(body)
	return r.Reader.WriteTo(w)
}
