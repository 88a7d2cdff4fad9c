package pgtarget

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

const (
	plainMechanism = "SCRAM-SHA-256"
	boundMechanism = "SCRAM-SHA-256-PLUS" // bound to the TLS channel
)

// primary logs in at the first host that is one.
func (t *Target) primary(ctx context.Context, c target.Credential) (*session, error) {
	var errs []error
	for i, h := range t.hosts {
		s, err := t.connect(ctx, h, c, len(t.hosts)-i)
		if err == nil {
			if err = s.checkPrimary(ctx); err == nil {
				return s, nil
			}
			s.close()
		}
		if !errors.Is(err, errNotPrimary) {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil, refuse(target.Transient, errNotPrimary, "none of the hosts is a primary")
	}
	return nil, verdict(errs)
}

// connect logs in at a host, within one of so many parts of the time that is left.
func (t *Target) connect(ctx context.Context, h host, c target.Credential, parts int) (*session, error) {
	ctx, cancel := share(ctx, parts)
	defer cancel()
	w, err := t.open(ctx, h)
	if err != nil {
		return nil, err
	}
	s := newSession(h, w)
	release := bind(ctx, w.raw)
	err = t.login(s, c)
	if !release() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return s, nil
	}
	_ = w.Close()
	return nil, loginError(h, err)
}

func loginError(h host, err error) error {
	var refused *pgconn.PgError
	switch {
	case errors.Is(err, errUnproven):
		return refuse(target.Permanent, err, "%s: %s", h.address, adviceTrust)
	case errors.Is(err, errUnbound):
		return refuse(target.Permanent, err, "%s doesn't bind a login to its TLS connection: it has to offer SCRAM-SHA-256-PLUS, and a certificate whose "+
			"signature is of RSA or ECDSA; a pooler can't be a target", h.address)
	case errors.Is(err, errNotSCRAM):
		return refuse(target.Permanent, err, "%s doesn't ask for SCRAM, and nothing else is answered: %s", h.address, adviceSCRAM)
	case errors.Is(err, errImpostor):
		return refuse(target.Permanent, err, "%s does not prove that it knows the password's verifier: it may not be the server", h.address)
	case errors.Is(err, errIterations):
		return refuse(target.Permanent, err, "the user's verifier at %s has fewer than %d iterations, or more than %d: "+
			"set scram_iterations in between and the password anew", h.address, iterations, maxIterations)
	case errors.As(err, &refused):
		class, what := classAtLogin(err)
		return refuse(class, err, "%s: %s (%s)", h.address, what, shown(err))
	}
	return refuse(target.Transient, err, "%s did not complete the login", h.address)
}

// login starts a session, of which only these settings are ours: what else a role or a database has set is dealt with where it
// matters, as poolers refuse settings that they don't know.
func (t *Target) login(s *session, c target.Credential) error {
	s.front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": c.Username, "database": t.database, "application_name": "sealkeep", "client_encoding": "UTF8",
	}})
	proven, accepted := false, false
	for {
		message, err := s.receive()
		// Ways to authenticate that the driver doesn't know come as errors.
		if !isSASL(s.front.GetAuthType()) {
			return errNotSCRAM
		}
		if err != nil {
			return err
		}
		switch message := message.(type) {
		case *pgproto3.AuthenticationSASL:
			if proven {
				return errProtocol
			}
			if err := t.prove(s, slices.Clone(message.AuthMechanisms), c.Password); err != nil {
				return err
			}
			proven = true
		case *pgproto3.AuthenticationOk:
			if !proven {
				return errUnproven
			}
			accepted = true
		case *pgproto3.ReadyForQuery:
			if !accepted {
				return errProtocol
			}
			return nil
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(message)
		case *pgproto3.ParameterStatus:
			s.note(message)
		case *pgproto3.BackendKeyData, *pgproto3.NoticeResponse, *pgproto3.NegotiateProtocolVersion:
		default:
			return errProtocol
		}
	}
}

// isSASL tells that a kind of authentication message belongs to a SASL exchange, or ends any.
func isSASL(kind uint32) bool {
	switch kind {
	case pgproto3.AuthTypeOk, pgproto3.AuthTypeSASL, pgproto3.AuthTypeSASLContinue, pgproto3.AuthTypeSASLFinal:
		return true
	}
	return false
}

// prove goes through a SCRAM exchange, bound to the TLS channel where the server can do that.
func (t *Target) prove(s *session, mechanisms []string, password sensitive.Bytes) error {
	nonce := make([]byte, nonceSize)
	if _, err := t.random.Read(nonce); err != nil {
		return err
	}
	e := exchange{nonce: b64.EncodeToString(nonce)}
	mechanism := plainMechanism
	switch bound := slices.Contains(mechanisms, boundMechanism); {
	case bound && s.wire.binding != nil:
		mechanism = boundMechanism
		e.header, e.binding = "p=tls-server-end-point,,", s.wire.binding
	case !bound && !slices.Contains(mechanisms, plainMechanism):
		return errNotSCRAM
	case s.wire.secured():
		// Whoever holds the certificate could carry the login on to another server, and use it there.
		return errUnbound
	default:
		e.header = "n,,"
	}
	s.front.Send(&pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: e.first()})
	challenge, err := s.receiveSASL()
	if err != nil {
		return err
	}
	next, isNext := challenge.(*pgproto3.AuthenticationSASLContinue)
	if !isNext {
		return errProtocol
	}
	answer, err := e.answer(next.Data, password)
	if err != nil {
		return err
	}
	s.front.Send(&pgproto3.SASLResponse{Data: answer})
	outcome, err := s.receiveSASL()
	if err != nil {
		return err
	}
	final, isFinal := outcome.(*pgproto3.AuthenticationSASLFinal)
	if !isFinal {
		return errImpostor // it goes on, so it lets us in without having proven anything
	}
	return e.proven(final.Data)
}

// receiveSASL is receive within an exchange, where an error ends the login.
func (s *session) receiveSASL() (pgproto3.BackendMessage, error) {
	for {
		message, err := s.receive()
		if err != nil {
			return nil, err
		}
		switch message := message.(type) {
		case *pgproto3.ErrorResponse:
			return nil, pgconn.ErrorResponseToPgError(message)
		case *pgproto3.NoticeResponse:
		default:
			return message, nil
		}
	}
}

// wrong is a credential that nobody has.
func (t *Target) wrong(c target.Credential) (target.Credential, error) {
	random := make([]byte, 16)
	if _, err := t.random.Read(random); err != nil {
		return target.Credential{}, refuse(target.Transient, err, "no password could be made up")
	}
	return target.Credential{Username: c.Username, Password: sensitive.CopyString(hex.EncodeToString(random))}, nil
}
