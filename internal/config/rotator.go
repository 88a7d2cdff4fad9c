package config

import (
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// Rotator is the configuration of a rotator process.
type Rotator struct {
	Service
	Poll         time.Duration // how long it sleeps at most before it looks for work
	Workers      int           // how many jobs are under way at once
	Lease        time.Duration // how long a claim holds unless it is renewed; whole seconds
	MaxPerMinute int           // how many jobs all rotators together begin within a minute; 0 doesn't bound them
	MaxAttempts  int           // after how many attempts a job isn't tried again by itself
	// WebhookAllowedIPs is a list as it was written; the caller parses it (see Check).
	WebhookAllowedIPs string
	// PublicURL is where the receivers of webhooks reach the API, without a slash at its end; empty where nothing says so.
	PublicURL          string
	RewrapMaxPerSecond int // how many data keys are wrapped anew in a second at most
}

// LoadRotator reads a rotator's configuration from environ and applies the checks. Its error is an *Error that lists every
// problem.
func LoadRotator(environ map[string]string, checks ...Check[Rotator]) (*Rotator, error) {
	s := read(environ, programRotator)
	var v struct {
		PollSecs           int64   `env:"VAULT_ROTATION_POLL_SECS"`
		Workers            int64   `env:"VAULT_ROTATION_WORKERS"`
		LeaseSecs          int64   `env:"VAULT_ROTATION_LEASE_SECS"`
		MaxPerMinute       int64   `env:"VAULT_ROTATION_MAX_PER_MIN"`
		MaxAttempts        int64   `env:"VAULT_ROTATION_MAX_ATTEMPTS"`
		WebhookAllowedIPs  string  `env:"VAULT_ROTATION_WEBHOOK_ALLOWED_IPS"`
		PublicURL          baseURL `env:"VAULT_PUBLIC_URL"`
		RewrapMaxPerSecond int64   `env:"VAULT_KMS_REWRAP_MAX_PER_SEC"`
	}
	s.parse(&v)
	cfg := &Rotator{
		Service: s.service(),
		Poll:    seconds(v.PollSecs), Workers: int(v.Workers), Lease: seconds(v.LeaseSecs),
		MaxPerMinute: int(v.MaxPerMinute), MaxAttempts: int(v.MaxAttempts),
		WebhookAllowedIPs: v.WebhookAllowedIPs, PublicURL: string(v.PublicURL), RewrapMaxPerSecond: int(v.RewrapMaxPerSecond),
	}
	if err := judge(s, cfg, checks); err != nil {
		cfg.KMS.Release()
		return nil, err
	}
	return cfg, nil
}

// LogValue shows what is safe and useful to see in a log.
func (c *Rotator) LogValue() slog.Value {
	return slog.GroupValue(append([]slog.Attr{
		slog.String("poll", c.Poll.String()),
		slog.Int("workers", c.Workers),
		slog.String("lease", c.Lease.String()),
		slog.Int("max_per_minute", c.MaxPerMinute),
		slog.Int("max_attempts", c.MaxAttempts),
		slog.String("webhook_allowed_ips", c.WebhookAllowedIPs),
		slog.String("public_url", c.PublicURL),
		slog.Int("rewrap_max_per_second", c.RewrapMaxPerSecond),
	}, c.attributes()...)...)
}

// baseURL is where an API is reached. What is appended to it must mean what it seems to: it has neither a query nor a fragment, and no
// slash at its end. A user name or password in it would go into every message to a receiver.
type baseURL string

func (b *baseURL) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	const advice = refusal("write https://HOST, with a port and a path if need be; http:// is for a loopback address alone")
	u, err := url.Parse(string(text))
	if err != nil || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(string(text), "#") {
		return advice
	}
	if !isHost(u.Hostname()) || (u.Port() == "" && strings.HasSuffix(u.Host, ":")) || (u.Port() != "" && !isPort(u.Port(), 1)) {
		return advice
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return advice
	}
	*b = baseURL(strings.TrimRight(u.String(), "/"))
	return nil
}
