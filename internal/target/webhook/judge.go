package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/sealkeep/sealkeep/internal/target"
)

// olderGeneration is the code by which a receiver says that it has seen a newer generation.
const olderGeneration = "older_generation"

// judge says what an answer means.
func judge(status int) error {
	answered := "the receiver answered " + strconv.Itoa(status)
	if text := http.StatusText(status); text != "" {
		answered += " " + text
	}
	refusal := func(class target.Class, what string) error {
		return &target.Error{Class: class, Message: answered + what}
	}
	switch {
	case status >= 200 && status <= 299:
		return nil
	case status >= 300 && status <= 399:
		return refusal(target.Permanent, ", and redirects aren't followed: make the target's URL the one that it leads to")
	case status == http.StatusUnprocessableEntity:
		return refusal(target.Policy, ": its rules don't admit this value")
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return refusal(target.Authentication, ": it doesn't take the signature; give it the signing secret's current value, and look at its clock")
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return refusal(target.Transient, ": it may take the event later")
	case status == http.StatusConflict:
		return refusal(target.Permanent, " without the code "+olderGeneration+": look at the receiver")
	}
	return refusal(target.Permanent, ": look at the target's URL and at the receiver")
}

// judgeConflict says what a 409 with this code means.
func judgeConflict(code string) error {
	if code == olderGeneration {
		return &target.Error{Class: target.Outdated, Message: "the receiver has seen a newer generation"}
	}
	return judge(http.StatusConflict)
}

func transient(ctx context.Context, message string, cause error) error {
	if ctx.Err() != nil { // the cause only says which call it was that the end of the time interrupted
		message, cause = "the receiver didn't take and answer the event in time", ctx.Err()
		if errors.Is(cause, context.Canceled) {
			message = "the event was given up before it was answered"
		}
	}
	return &target.Error{Class: target.Transient, Message: message, Err: cause}
}

// notReached says why there is no connection.
func notReached(ctx context.Context, err error) error {
	var refused *refusedAddress
	var resolving *net.DNSError
	switch {
	case errors.As(err, &refused):
		return &target.Error{
			Class: target.Permanent, Err: err,
			Message: "the receiver's host is " + refused.class + ", which webhooks don't reach: if it is meant, add it to " + allowedSetting,
		}
	case errors.As(err, &resolving) && resolving.IsNotFound:
		return transient(ctx, "the receiver's host has no address: look at the target's URL and at the DNS", err)
	case errors.As(err, &resolving):
		return transient(ctx, "the receiver's host can't be looked up: look at the DNS", err)
	}
	return transient(ctx, "the receiver can't be reached", err)
}

// notTrusted says why a connection isn't used. Certificates are renewed, and wrong ones are put right by whoever runs the receiver,
// so all of this may pass.
func notTrusted(ctx context.Context, err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		other     *tls.CertificateVerificationError
		plain     tls.RecordHeaderError
	)
	message := "the receiver didn't complete the TLS handshake"
	switch {
	case errors.As(err, &authority):
		message = "the receiver's certificate is of no known authority: have it renewed, or set the target's CA"
	case errors.As(err, &name):
		message = "the receiver's certificate is for another host: have one made for the host in the target's URL"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		message = "the receiver's certificate has expired, or isn't valid yet: have it renewed"
	case errors.As(err, &other):
		message = "the receiver's certificate isn't valid: have it renewed"
	case errors.As(err, &plain):
		message = "the receiver doesn't speak TLS at the port in the target's URL"
	}
	return transient(ctx, message, err)
}

// notAnswered says that nothing is known of an event that was sent.
func notAnswered(ctx context.Context, err error) error {
	message := "the connection to the receiver broke before it answered"
	switch {
	case errors.Is(err, errNotHTTP):
		message = "the receiver answered what isn't HTTP/1"
	case errors.Is(err, errTooMuch):
		message = "the receiver's answer begins with more than 64 KiB of headers"
	case errors.Is(err, io.EOF):
		message = "the receiver closed the connection without an answer"
	}
	return transient(ctx, message, err)
}
