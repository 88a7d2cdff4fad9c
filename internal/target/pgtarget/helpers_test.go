package pgtarget

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/target"
)

// want checks the class of an error, "" for none, and that its text has these parts.
func want(t *testing.T, what string, err error, class target.Class, parts ...string) {
	t.Helper()
	if class == "" {
		if err != nil {
			t.Errorf("%s: %v (%v)", what, err, causes(err))
		}
		return
	}
	if err == nil || target.ClassOf(err) != class {
		t.Errorf("%s: got %v (%v), want %s", what, err, causes(err), class)
		return
	}
	if strings.Contains(err.Error(), odd) || strings.Contains(err.Error(), strings.ReplaceAll(odd, `"`, `""`)) {
		t.Errorf("%s: %q names a user", what, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q doesn't say %q", what, err, part)
		}
	}
}

// causes is what an error keeps out of its text.
func causes(err error) (text string) {
	for err != nil {
		text += fmt.Sprintf(" < %v", err)
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	return text
}

// dialing makes connections on which every write goes through look first.
func dialing(look func(conn net.Conn, p []byte) error) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &looked{conn, look}, nil
	}
}

type looked struct {
	net.Conn
	look func(conn net.Conn, p []byte) error
}

func (l *looked) Write(p []byte) (int, error) {
	if err := l.look(l.Conn, p); err != nil {
		return 0, err
	}
	return l.Conn.Write(p)
}
