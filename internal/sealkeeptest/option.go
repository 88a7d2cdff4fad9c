package sealkeeptest

import "io"

// Option changes how a vault is set up.
type Option func(*settings)

type settings struct {
	environ  map[string]string
	database func(string) string
	log      io.Writer
	unclean  bool
}

// WithEnv sets a variable of the process's environment; see docs/configuration.md.
func WithEnv(name, value string) Option {
	return func(s *settings) {
		if s.environ == nil {
			s.environ = make(map[string]string)
		}
		s.environ[name] = value
	}
}

// WithAllowedIPs sets the allowlist, which is 127.0.0.0/8 without it. An empty one denies every read.
func WithAllowedIPs(text string) Option { return WithEnv("VAULT_ALLOWED_IPS", text) }

// WithReadAuth sets what a read needs: "ip", which is also what it needs without this option, or "ip+token".
func WithReadAuth(mode string) Option { return WithEnv("VAULT_READ_AUTH", mode) }

// WithTrustProxy makes the process trust the listed proxies to name the client.
func WithTrustProxy(list string) Option {
	return func(s *settings) {
		WithEnv("VAULT_TRUST_PROXY", "true")(s)
		WithEnv("VAULT_TRUSTED_PROXIES", list)(s)
	}
}

// WithDatabaseURL makes the process reach its database by what through returns for the direct URL, which is one over
// TCP, so that a proxy can be put in between.
func WithDatabaseURL(through func(direct string) string) Option {
	return func(s *settings) { s.database = through }
}

// WithLog writes the process's log to w too, a line per Write, by one goroutine at a time.
func WithLog(w io.Writer) Option { return func(s *settings) { s.log = w } }

// WithUncleanStop lets the process end with errors: a test that breaks its database can't have it close its streams.
func WithUncleanStop() Option { return func(s *settings) { s.unclean = true } }
