package pgtarget

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealkeep/sealkeep/internal/target"
)

// What a server did that no error of its own says.
var (
	errUnproven   = errors.New("pgtarget: the server asked for no proof of the password")
	errNotSCRAM   = errors.New("pgtarget: the server asked for a proof other than SCRAM-SHA-256")
	errUnbound    = errors.New("pgtarget: the server's login can't be bound to its TLS connection")
	errImpostor   = errors.New("pgtarget: the server did not prove that it knows the password's verifier")
	errProtocol   = errors.New("pgtarget: the server said something that it shouldn't have")
	errNotPrimary = errors.New("pgtarget: the server is a standby")
	errIterations = errors.New("pgtarget: the verifier has too few iterations, or too many")
	errNoTLS      = errors.New("pgtarget: the server offers no TLS")
)

const (
	adviceSCRAM = "set password_encryption to scram-sha-256, set the role's password anew, and have pg_hba.conf ask for scram-sha-256"
	adviceTrust = "pg_hba.conf lets anyone in without a password (trust, peer, cert or ident); have it ask for scram-sha-256"
)

// SQLSTATEs by name (PostgreSQL documentation, appendix A).
const (
	invalidPassword       = "28P01"
	insufficientPrivilege = "42501"
	undefinedObject       = "42704"
	noSuchDatabase        = "3D000"
)

// refuse makes the error of a class. What is formatted into its message is ours: names and addresses of the configuration, and the
// SQLSTATE, as state gives it.
func refuse(class target.Class, cause error, format string, args ...any) error {
	return &target.Error{Class: class, Message: fmt.Sprintf(format, args...), Err: cause}
}

// stateOf returns the SQLSTATE of a server's error, or "" if there is none that looks like one: it is shown.
func stateOf(err error) string {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || len(refused.Code) != 5 ||
		strings.Trim(refused.Code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return ""
	}
	return refused.Code
}

// shown is how a message says what a server's error was.
func shown(err error) string {
	if state := stateOf(err); state != "" {
		return "SQLSTATE " + state
	}
	return "no SQLSTATE"
}

// classAtLogin says what a server's error before the first statement means.
func classAtLogin(err error) (class target.Class, what string) {
	state := stateOf(err)
	switch {
	case strings.HasPrefix(state, "28"): // invalid_authorization_specification: the password, the role, or pg_hba.conf
		return target.Authentication, "the server refuses this user and password"
	case state == noSuchDatabase:
		return target.Permanent, "the database does not exist"
	case state == insufficientPrivilege:
		return target.Permanent, "the user may not connect to the database: GRANT CONNECT ON DATABASE to it"
	}
	return target.Transient, "the server refuses the connection"
}

// isPolicy tells that the server's error at a change of a password is the verdict of a check on it: passwordcheck says 22023, others
// what they like, and what is written in PL/pgSQL says P0001.
func isPolicy(err error) bool {
	state := stateOf(err)
	return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "28") || state == "P0001" || state == "0A000"
}

// verdict joins what the hosts said where no primary was found. Any that may be it and has given no verdict leaves the question open.
func verdict(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	class := target.Transient
	messages := make([]string, 0, len(errs))
	for i, err := range errs {
		var e *target.Error
		if !errors.As(err, &e) {
			return err
		}
		messages = append(messages, e.Message)
		switch {
		case i == 0:
			class = e.Class
		case target.ClassOf(e) == target.Transient:
			class = target.Transient
		}
	}
	return refuse(class, errors.Join(errs...), "%s", strings.Join(messages, "; "))
}
