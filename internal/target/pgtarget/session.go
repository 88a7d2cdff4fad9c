package pgtarget

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sealkeep/sealkeep/internal/target"
)

const (
	// maxMessage bounds what a server can make us hold, in bytes; maxRows is more than any statement of ours gives.
	maxMessage = 1 << 16
	maxRows    = 2
)

// session is one login at a server, for one goroutine.
type session struct {
	host  host
	wire  *wire
	front *pgproto3.Frontend
	major int  // of the server's version; 0 if it hasn't said
	over  bool // nothing more can be said
}

func newSession(h host, w *wire) *session {
	s := &session{host: h, wire: w, front: pgproto3.NewFrontend(w, w)}
	s.front.SetMaxBodyLen(maxMessage)
	return s
}

// receive sends what waits to be sent and returns the next message, which is valid until the one after it.
func (s *session) receive() (pgproto3.BackendMessage, error) {
	if err := s.front.Flush(); err != nil {
		s.over = true
		return nil, err
	}
	message, err := s.front.Receive()
	if err != nil {
		s.over = true
	}
	return message, err
}

// note keeps the version that a server says it has.
func (s *session) note(p *pgproto3.ParameterStatus) {
	if p.Name == "server_version" {
		digits := p.Value[:len(p.Value)-len(strings.TrimLeft(p.Value, "0123456789"))]
		s.major, _ = strconv.Atoi(digits)
	}
}

// result is what one statement, or the last of several, gave.
type result struct {
	row    []string // the first row as text; NULL is ""
	tag    string
	warned bool // the server had something to say that is more than a notice
}

// run runs statements by the simple protocol, which knows no parameters and prepares nothing.
func (s *session) run(ctx context.Context, sql string) (result, error) {
	if s.over {
		return result{}, errProtocol
	}
	release := bind(ctx, s.wire.raw)
	s.front.Send(&pgproto3.Query{String: sql})
	r, err := s.results()
	if !release() && err == nil {
		err = context.Cause(ctx)
		s.over = true
	}
	return r, err
}

func (s *session) results() (r result, refused error) {
	rows := 0
	for {
		message, err := s.receive()
		if err != nil {
			if refused != nil {
				return r, refused // a fatal error, after which the server hangs up
			}
			return r, err
		}
		switch message := message.(type) {
		case *pgproto3.ReadyForQuery:
			return r, refused
		case *pgproto3.ErrorResponse:
			if refused == nil {
				refused = pgconn.ErrorResponseToPgError(message)
			}
		case *pgproto3.DataRow:
			if rows++; rows > maxRows {
				s.over = true
				return r, errProtocol
			}
			r.row = r.row[:0]
			for _, value := range message.Values {
				r.row = append(r.row, string(bytes.Clone(value)))
			}
		case *pgproto3.RowDescription:
			r.row = nil
		case *pgproto3.CommandComplete:
			r.tag = string(bytes.Clone(message.CommandTag))
		case *pgproto3.NoticeResponse:
			r.warned = r.warned || message.SeverityUnlocalized == "WARNING"
		case *pgproto3.ParameterStatus, *pgproto3.NotificationResponse, *pgproto3.EmptyQueryResponse:
		default:
			s.over = true
			return r, errProtocol
		}
	}
}

// checkPrimary is errNotPrimary at a standby. That new transactions may be read-only by default doesn't matter: ours says that it isn't.
// The name is written out, as what a role or a database has for its search_path may hold a function of the same name.
func (s *session) checkPrimary(ctx context.Context) error {
	r, err := s.run(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	switch {
	case err != nil:
		return refuse(target.Transient, err, "%s can't say whether it is the primary (%s)", s.host.address, shown(err))
	case len(r.row) != 1 || r.row[0] != "f":
		return errNotPrimary
	}
	return nil
}

// close says good-bye and hangs up.
func (s *session) close() {
	if !s.over {
		s.front.Send(&pgproto3.Terminate{})
		_ = s.front.Flush()
	}
	_ = s.wire.Close()
}
