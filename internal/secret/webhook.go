package secret

import (
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strings"
)

const httpsPort = "443"

func (w *WebhookTarget) problem() string {
	if problem := urlProblem(w.URL); problem != "" {
		return "target.webhook.url " + problem
	}
	if w.SigningSecret == "" {
		return "target.webhook.signing_secret must name the opaque secret that signs the requests"
	}
	if problem := nameFieldProblem("target.webhook.signing_secret", w.SigningSecret); problem != "" {
		return problem
	}
	return caProblem("target.webhook.ca", w.CA)
}

func urlProblem(s string) string {
	if len(s) > MaxTargetURL {
		return "must be at most 2048 characters long"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
		return "must be printable ASCII without spaces: escape other characters with %, and write the host in its xn-- form"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Opaque != "":
		return "must be a URL like https://example.com/rotated"
	case u.Scheme != "https":
		return "must begin with https://, as what it is told is worth hiding"
	case u.User != nil:
		return "must have no user or password in it: requests are signed with signing_secret"
	case strings.Contains(s, "#"):
		return "must have no fragment: leave out '#' and what follows"
	case u.Host == "":
		return "must name a host"
	}
	if _, problem := parseHost(u.Host, httpsPort); problem != "" {
		return "must name a host: " + hostRule + problem
	}
	return ""
}

// caProblem says what is wrong with certificates in PEM. Nothing but certificates and white space may be in there: text between them is
// where a private key would go unnoticed into what everyone may list.
func caProblem(field, ca string) string {
	if len(ca) > MaxTargetCABytes {
		return field + " must be at most 32 KiB long: leave out the certificates that the servers don't need"
	}
	const begin = "-----BEGIN "
	for rest := strings.TrimSpace(ca); rest != ""; {
		block, after := pem.Decode([]byte(rest))
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 ||
			!strings.HasPrefix(rest, begin) || strings.Count(rest[:len(rest)-len(after)], begin) != 1 {
			return field + " must hold certificates in PEM and nothing else: leave out text between them, and never put a private key there"
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return field + " holds a certificate that can't be read: export it again, in PEM"
		}
		rest = strings.TrimSpace(string(after))
	}
	if ca != "" && strings.TrimSpace(ca) == "" {
		return field + " must hold certificates in PEM, or be left out for those that the system trusts"
	}
	return ""
}
