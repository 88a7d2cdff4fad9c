package pgtarget

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const rightPassword = "Zk7-right-Qv9"

// hostile is a server that plays a script after the start-up message, and keeps what it is sent.
type hostile struct {
	address string
	mu      sync.Mutex
	got     bytes.Buffer
}

// script answers a client that has sent its start-up message. It uses the front end's messages alone.
type script func(b *pgproto3.Backend, user string)

func (h *hostile) sent() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got.String()
}

// Write keeps what the client sends.
func (h *hostile) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got.Write(p)
}

func serve(t *testing.T, play script) *hostile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{address: listener.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				h.play(conn, play)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return h
}

func (h *hostile) play(conn net.Conn, play script) {
	b := pgproto3.NewBackend(&kept{conn, h}, conn)
	for {
		message, err := b.ReceiveStartupMessage()
		if err != nil {
			return
		}
		startup, ok := message.(*pgproto3.StartupMessage)
		if !ok {
			_, _ = conn.Write([]byte("N"))
			continue
		}
		play(b, startup.Parameters["user"])
		_ = b.Flush()
		// Whatever a client would still send; one that asks something believes itself to be logged in, and gets no answer.
		for {
			message, err := b.Receive()
			if _, asks := message.(*pgproto3.Query); asks || err != nil {
				return
			}
		}
	}
}

// kept is the reading side of a connection whose bytes are kept.
type kept struct {
	net.Conn
	h *hostile
}

func (k *kept) Read(p []byte) (int, error) {
	n, err := k.Conn.Read(p)
	_, _ = k.h.Write(p[:n])
	return n, err
}

// raw is an authentication request that the library has no type for.
type raw uint32

func (raw) Backend()            {}
func (raw) Decode([]byte) error { return nil }
func (k raw) Encode(dst []byte) ([]byte, error) {
	return append(dst, 'R', 0, 0, 0, 8, byte(k>>24), byte(k>>16), byte(k>>8), byte(k)), nil
}

func send(messages ...pgproto3.BackendMessage) script {
	return func(b *pgproto3.Backend, _ string) {
		for _, message := range messages {
			b.Send(message)
		}
	}
}

func letIn(b *pgproto3.Backend) {
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "17.2"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// scram goes through a SCRAM exchange with the keys of a password, whatever the client proves, and then on.
func scram(password string, challenge, final func(honest string) string, then func(b *pgproto3.Backend)) script {
	return func(b *pgproto3.Backend, _ string) {
		b.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{plainMechanism}})
		_ = b.Flush()
		_ = b.SetAuthType(pgproto3.AuthTypeSASL)
		message, err := b.Receive()
		first, ok := message.(*pgproto3.SASLInitialResponse)
		if err != nil || !ok {
			return
		}
		bare := strings.TrimPrefix(string(first.Data), "n,,")
		salt := []byte("a salt of 16 byt")
		honest := challenge(strings.TrimPrefix(bare, "n=,") + "more,s=" + b64.EncodeToString(salt) + ",i=4096")
		b.Send(&pgproto3.AuthenticationSASLContinue{Data: []byte(honest)})
		_ = b.Flush()
		_ = b.SetAuthType(pgproto3.AuthTypeSASLContinue)
		message, err = b.Receive()
		response, ok := message.(*pgproto3.SASLResponse)
		if err != nil || !ok {
			return
		}
		unproven, _, _ := strings.Cut(string(response.Data), ",p=")
		secret := sensitive.CopyString(password)
		defer secret.Release()
		k, err := derive(secret, salt, iterations)
		if err != nil {
			return
		}
		signature := mac(k.server[:], bare+","+honest+","+unproven)
		if text := final("v=" + b64.EncodeToString(signature[:])); text != "" {
			b.Send(&pgproto3.AuthenticationSASLFinal{Data: []byte(text)})
		}
		then(b)
	}
}

func asIs(s string) string { return s }

func replacing(old, new string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, new, 1) }
}
