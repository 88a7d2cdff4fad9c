package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// apiError is a refusal by the server, in its words, with what the user can do about it.
type apiError struct {
	status    int
	code      string // stable, as in docs/openapi.yaml
	message   string
	requestID string
	advice    string // empty when the message says it all
}

func (e *apiError) Error() string {
	text := e.message
	if e.advice != "" {
		text += ": " + e.advice
	}
	if e.requestID != "" {
		text += " (request " + e.requestID + ")"
	}
	return text
}

// refusal turns an answer that isn't a success into an error.
func (c *client) refusal(k call, response *http.Response, body []byte) error {
	if response.StatusCode >= 300 && response.StatusCode <= 399 {
		return fmt.Errorf("%s answers with a redirect, which is not followed: set VAULT_ADDR to the address of Sealkeep itself", c.base)
	}
	var said struct {
		Error     string `json:"error"`
		Code      string `json:"code"`
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error == "" || said.Code == "" {
		return fmt.Errorf("%s answered %q, but not as Sealkeep does: does VAULT_ADDR point to a Sealkeep?", c.base, response.Status)
	}
	e := &apiError{status: response.StatusCode, code: said.Code, message: inOurWords(said.Error), requestID: said.RequestID}
	switch e.status {
	case http.StatusUnauthorized:
		e.advice = "VAULT_TOKEN is unknown, expired or revoked"
		if c.token.IsZero() {
			e.advice = "set VAULT_TOKEN to a token that may do this"
		}
	case http.StatusForbidden:
		e.advice = "the role of VAULT_TOKEN may not do this"
		if k.anonymous {
			e.advice = "your address isn't in VAULT_ALLOWED_IPS of the server, or the role of VAULT_TOKEN may not read it"
		}
	case http.StatusNotFound:
		e.message = "no such " + k.of
	case http.StatusTooManyRequests:
		if after := response.Header.Get("Retry-After"); after != "" {
			e.advice = "wait " + after + " s"
		}
	case http.StatusInternalServerError, http.StatusServiceUnavailable:
		e.advice = "the log of the server has the details"
	}
	return e
}

// ourWords has what the API says of its methods and fields in terms of commands and flags.
var ourWords = strings.NewReplacer(
	"PUT changes it", "`sealkeep secret put` changes it",
	"PUT a new value instead", "`sealkeep secret put` gives it a new value",
	"a value can't replace them", "give --as-password to set a new password, or --username to set both",
	"expires_in_secs is ", "--expires-in in seconds is ",
	"expires_in_secs", "--expires-in",
	"rotation_interval_secs", "--rotation-interval",
	"grace_period_secs", "--grace-period",
	"rotation_schedule", "--cron",
	"window_secs", "--window",
	"time_zone", "--time-zone",
	"login_hosts", "--login-host",
	"rotate_on_create", "--rotate-on-create",
	"POST …/rotate asks", "`sealkeep secret rotate` asks",
	"retry or cancel it", "`sealkeep jobs retry` or `sealkeep jobs cancel` it",
)

func inOurWords(message string) string { return ourWords.Replace(message) }

// isStatus tells whether an error is a refusal with that HTTP status.
func isStatus(err error, status int) bool {
	var refused *apiError
	return errors.As(err, &refused) && refused.status == status
}

// unreachable explains a call that got no answer.
func (c *client) unreachable(ctx context.Context, err error) error {
	var dns *net.DNSError
	var unknownAuthority x509.UnknownAuthorityError
	var wrongHost x509.HostnameError
	var invalid x509.CertificateInvalidError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no Sealkeep answers at %s: is it running? VAULT_ADDR says where", c.base)
	case errors.As(err, &dns):
		return fmt.Errorf("the host of VAULT_ADDR %s is not known: %w", c.base, dns)
	case errors.As(err, &unknownAuthority):
		return fmt.Errorf("the certificate of VAULT_ADDR %s comes from an unknown authority: SSL_CERT_FILE can name its certificate", c.base)
	case errors.As(err, &wrongHost), errors.As(err, &invalid):
		return fmt.Errorf("the certificate of VAULT_ADDR %s is not valid: %w", c.base, err)
	case errors.As(err, &notTLS), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("VAULT_ADDR %s says https, but the server speaks plain HTTP", c.base)
	case isTimeout(err):
		return fmt.Errorf("no answer from VAULT_ADDR %s in time", c.base)
	}
	return fmt.Errorf("VAULT_ADDR %s can't be reached: %w", c.base, err)
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
