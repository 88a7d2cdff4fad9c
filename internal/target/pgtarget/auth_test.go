package pgtarget

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sealkeep/sealkeep/internal/target"
)

var md5Answer = regexp.MustCompile("md5[0-9a-f]{32}")

// inClear tells whether what was sent or logged holds the password in a form that it can be taken from, or as MD5 would have it.
func inClear(text string, c target.Credential) bool {
	password := c.Password.Reveal()
	for _, form := range []string{
		string(password), hex.EncodeToString(password), strings.TrimRight(base64.StdEncoding.EncodeToString(password), "="),
	} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return md5Answer.MatchString(text)
}

func TestI1_AServerThatAsksForAnythingButSCRAMGetsNothing(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]script{
		"cleartext": send(&pgproto3.AuthenticationCleartextPassword{}),
		"MD5":       send(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}}),
		"GSS":       send(&pgproto3.AuthenticationGSS{}),
		"SSPI":      send(raw(pgproto3.AuthTypeSSPI)),
		"SCM":       send(raw(pgproto3.AuthTypeSCMCreds)),
		"unknown":   send(raw(99)),
		"OAuth":     send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"OAUTHBEARER"}}),
		"cleartext after a notice": send(&pgproto3.NoticeResponse{Severity: "WARNING", Message: "your password, please"},
			&pgproto3.AuthenticationCleartextPassword{}),
		"cleartext after SCRAM": scram(rightPassword, asIs, asIs, func(b *pgproto3.Backend) {
			b.Send(&pgproto3.AuthenticationCleartextPassword{})
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := serve(t, play)
			pg := newTarget(t, Config{Hosts: []string{h.address}})
			c := credential(t, "app", rightPassword)
			for what, err := range map[string]error{
				"Try": pg.Try(t.Context(), c), "Test": pg.Test(t.Context(), c), "Apply": pg.Apply(t.Context(), c, fresh(t, c), 1),
			} {
				want(t, what, err, target.Permanent, "scram-sha-256")
			}
			if sent := h.sent(); inClear(sent, c) || strings.Contains(name, "SCRAM") != strings.Contains(sent, "n=,r=") {
				t.Errorf("it was sent %q", sent)
			}
			if !strings.Contains(h.sent(), "client_encoding") {
				t.Error("what is sent isn't kept, so this proves nothing")
			}
		})
	}
}

func TestI4_AServerThatLetsAnybodyInIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		play script
		says string
	}{
		"at once":             {func(b *pgproto3.Backend, _ string) { letIn(b) }, "without a password"},
		"with no signature":   {scram(rightPassword, asIs, func(string) string { return "" }, letIn), "does not prove"},
		"with a wrong one":    {scram("another", asIs, asIs, letIn), "does not prove"},
		"few iterations":      {scram(rightPassword, replacing("4096", "4095"), asIs, letIn), "iterations"},
		"too many iterations": {scram(rightPassword, replacing("4096", "1000001"), asIs, letIn), "iterations"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg := newTarget(t, Config{Hosts: []string{serve(t, test.play).address}})
			c := credential(t, "app", rightPassword)
			want(t, "Try", pg.Try(t.Context(), c), target.Permanent, test.says)
			want(t, "Test", pg.Test(t.Context(), c), target.Permanent, test.says)
			want(t, "Apply", pg.Apply(t.Context(), c, fresh(t, c), 1), target.Permanent, test.says)
		})
	}
}

func TestLogin_AServerThatIsNotOneIsTransient(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]script{
		"challenge of another's nonce": scram(rightPassword, replacing("r=", "r=x"), asIs, letIn),
		"challenge of our nonce alone": scram(rightPassword, replacing("more,", ","), asIs, letIn),
		"challenge without salt":       scram(rightPassword, func(s string) string { return strings.Split(s, ",s=")[0] + ",s=,i=4096" }, asIs, letIn),
		"challenge without anything":   scram(rightPassword, func(string) string { return "" }, asIs, letIn),
		"an error at the end":          scram(rightPassword, asIs, func(string) string { return "e=other-error" }, letIn),
		"ready without having let in":  scram(rightPassword, asIs, asIs, func(b *pgproto3.Backend) { b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'}) }),
		"rows":                         send(&pgproto3.DataRow{Values: [][]byte{[]byte("x")}}),
		"a message of a gigabyte":      send(&huge{}),
		"the end":                      send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "starting up"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := serve(t, play)
			pg := newTarget(t, Config{Hosts: []string{h.address}, Timeout: limit / 20})
			c := credential(t, "app", rightPassword)
			err := pg.Try(t.Context(), c)
			want(t, "Try", err, target.Transient)
			want(t, "Apply", pg.Apply(t.Context(), c, fresh(t, c), 1), target.Transient)
			if strings.HasPrefix(name, "challenge") && strings.Contains(h.sent(), ",p=") {
				t.Error("it got a proof")
			}
			if broken := name != "the end" && name != "a message of a gigabyte"; errors.Is(err, errProtocol) != broken {
				t.Errorf("got %v", causes(err))
			}
			var tooLong *pgproto3.ExceededMaxBodyLenErr
			if strings.Contains(name, "gigabyte") && !errors.As(err, &tooLong) {
				t.Errorf("it was waited for: %v", causes(err))
			}
		})
	}
}

// huge is the head of a message that is never to be read whole.
type huge struct{}

func (*huge) Backend()                          {}
func (*huge) Decode([]byte) error               { return nil }
func (*huge) Encode(dst []byte) ([]byte, error) { return append(dst, 'E', 0x40, 0, 0, 0), nil }

func TestI4_AWrongPasswordThatIsAcceptedIsNoTest(t *testing.T) {
	t.Parallel()
	// It knows the verifier, and answers queries as a primary does; it doesn't care what the client proves.
	careless := func(b *pgproto3.Backend) {
		letIn(b)
		_ = b.Flush()
		if _, err := b.Receive(); err != nil {
			return
		}
		b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("pg_is_in_recovery")}}})
		b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("f")}})
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	h := serve(t, scram(rightPassword, asIs, asIs, careless))
	pg := newTarget(t, Config{Hosts: []string{h.address}})
	c := credential(t, "app", rightPassword)
	want(t, "Try", pg.Try(t.Context(), c), "")
	want(t, "Test", pg.Test(t.Context(), c), target.Permanent, "accepts a wrong password")

	s := setup(t)
	role := s.role(t, "")
	with := newTarget(t, Config{Hosts: []string{s.address}, Standbys: []string{s.address}})
	want(t, "an honest one beside", with.Test(t.Context(), role), "")
}

func TestI1_ServersThatAskForOtherProofs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	role := s.role(t, "")
	hashed := s.role(t, "")
	conn, err := s.connect(t.Context(), asksSCRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range []string{
		"SET password_encryption = md5",
		fmt.Sprintf("ALTER ROLE %s PASSWORD %s", identifier(hashed.Username), literal(string(hashed.Password.Reveal()))),
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		database string
		c        target.Credential
		class    target.Class
		says     string
	}{
		"password":                 {asksCleartext, role, target.Permanent, "scram-sha-256"},
		"md5 with an MD5 verifier": {asksMD5, hashed, target.Permanent, "scram-sha-256"},
		"md5 with a SCRAM one":     {asksMD5, role, "", ""},
		"trust":                    {asksNothing, role, target.Permanent, "without a password"},
		"SCRAM with an MD5 one":    {asksSCRAM, hashed, target.Authentication, "28P01"},
	} {
		var sent bytes.Buffer
		pg := newTarget(t, Config{Hosts: []string{s.address}, Database: test.database, Dial: dialing(func(_ net.Conn, p []byte) error {
			sent.Write(p)
			return nil
		})})
		want(t, name, pg.Test(t.Context(), test.c), test.class, test.says)
		want(t, name, pg.Try(t.Context(), test.c), test.class, test.says)
		if test.class != "" {
			want(t, name, pg.Apply(t.Context(), test.c, fresh(t, test.c), 1), test.class, test.says)
		}
		if inClear(sent.String(), test.c) {
			t.Errorf("%s: %q was sent", name, sent.String())
		}
	}
}

func TestI1_ErrorsHoldNothingThatAServerSaid(t *testing.T) {
	t.Parallel()
	const canary = "Zk7-canary-Qv9"
	for _, code := range []string{canary, "28P01", "Zk7-c", "28p01", ""} {
		h := serve(t, send(&pgproto3.ErrorResponse{Severity: canary, Code: code, Message: canary, Detail: canary, Hint: canary}))
		c := credential(t, "app", canary)
		err := newTarget(t, Config{Hosts: []string{h.address}}).Try(t.Context(), c)
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %s", err, err, fmt.Errorf("outer: %w", err)), "Zk7") {
			t.Errorf("code %q: %v", code, err)
		}
		if class := target.ClassOf(err); (class == target.Authentication) != (code == "28P01") {
			t.Errorf("code %q is %s", code, class)
		}
	}
}

// The server's log holds each statement, as does pg_stat_activity; the network shows each byte.
func TestI1_ThePasswordReachesNeitherTheServerNorTheNetwork(t *testing.T) {
	t.Parallel()
	s := setup(t)
	role := s.role(t, "")
	next := fresh(t, role)
	blocker, err := s.connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Close(context.Background())
	for _, statement := range []string{"BEGIN", "ALTER ROLE " + identifier(role.Username) + " CONNECTION LIMIT 50"} {
		if _, err := blocker.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	var sent bytes.Buffer
	pg := newTarget(t, Config{Hosts: []string{s.address}, Dial: dialing(func(_ net.Conn, p []byte) error {
		sent.Write(p)
		return nil
	})})
	done := make(chan error)
	go func() { done <- pg.Apply(t.Context(), role, next, 1) }()
	activity := ""
	for !strings.Contains(activity, "PASSWORD E'SCRAM-SHA-256$4096:") && t.Context().Err() == nil {
		activity = s.value(t, "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'sealkeep' AND usename = "+
			literal(role.Username))
		select {
		case err := <-done:
			t.Fatalf("it did not wait for the role's row: %v", err)
		default:
		}
	}
	if _, err := blocker.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	want(t, "the change", <-done, "")
	want(t, "the new password", pg.Test(t.Context(), next), "")
	log, err := os.ReadFile(s.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	seen := s.state(t, role.Username)
	stored := seen[strings.Index(seen, "SCRAM-"):]
	for place, text := range map[string]string{"the log": string(log), "pg_stat_activity": activity, "the network": sent.String()} {
		if !strings.Contains(text, stored) {
			t.Errorf("%s doesn't hold the verifier, so this proves nothing", place)
		}
		if inClear(text, next) || (place != "the log" && inClear(text, role)) { // the test made the role, in clear
			t.Errorf("%s holds a password", place)
		}
	}
}

func TestHosts_WhatOneDoesNotAnswerAnotherMay(t *testing.T) {
	t.Parallel()
	s := setup(t)
	role := s.role(t, "")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	pg := newTarget(t, Config{Hosts: []string{closed.Addr().String(), silent.Addr().String(), s.address}, Timeout: limit / 20})
	want(t, "the third host", pg.Try(t.Context(), role), "")
	want(t, "a wrong password, and hosts that may be the primary", pg.Try(t.Context(), fresh(t, role)), target.Transient)
	first := newTarget(t, Config{Hosts: []string{s.address, closed.Addr().String()}})
	want(t, "a wrong password, and then one", first.Try(t.Context(), fresh(t, role)), target.Transient)
	twice := newTarget(t, Config{Hosts: []string{s.address, s.address}})
	want(t, "a wrong password everywhere", twice.Try(t.Context(), fresh(t, role)), target.Authentication)

	ctx, cancel := context.WithCancel(t.Context())
	hanging := newTarget(t, Config{Hosts: []string{silent.Addr().String()}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		cancel()
		return new(net.Dialer).DialContext(context.WithoutCancel(ctx), network, address)
	}})
	err = hanging.Try(ctx, role)
	want(t, "a caller that gives up", err, target.Transient)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it waited for its own limit: %v", causes(err))
	}
}
