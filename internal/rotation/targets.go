package rotation

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/target"
	"github.com/sealkeep/sealkeep/internal/target/pgtarget"
	"github.com/sealkeep/sealkeep/internal/target/webhook"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// Reach says what targets there may be.
type Reach struct {
	// PublicURL is where receivers of webhooks reach the API, without a slash at its end; empty where they fetch nothing.
	PublicURL string
	// Allowed are addresses that webhooks may reach although they aren't public ones.
	Allowed []netip.Prefix
	// Timeout bounds what is asked of a target; 0 means 10 s.
	Timeout time.Duration
}

// usualTimeout is what the targets' own packages take 0 to mean.
const usualTimeout = 10 * time.Second

// fetchPath is where the API gives a value once.
const fetchPath = "/v1/rotation/fetch"

// NewTargets speaks to targets as far as reach lets it.
func NewTargets(reach Reach) Targets { return targets(reach) }

type targets Reach

func (t targets) Apply(ctx context.Context, d *vault.Delivery) error {
	if d.Target.Webhook != nil {
		return t.send(ctx, d, webhook.StepApply)
	}
	server, err := t.postgres(d.Target.Postgres)
	if err != nil {
		return err
	}
	ctx, cancel := t.limit(ctx)
	defer cancel()
	next := credential(d.New)
	logins := []target.Credential{credential(d.Login)}
	if d.Target.Postgres.LoginSecret == "" {
		logins = t.own(d, next)
	}
	// A login that is refused changed nothing; after anything else it isn't known, and the generation of this attempt is used up.
	for _, login := range logins {
		if err = server.Apply(ctx, login, next, d.Generation); target.ClassOf(err) != target.Authentication {
			return err
		}
	}
	return err
}

// severalTimes is how much longer than one operation all those may take together that find out which credential a role has.
const severalTimes = 3

func (t targets) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	one := t.Timeout
	if one == 0 {
		one = usualTimeout
	}
	return context.WithTimeout(ctx, severalTimes*one)
}

// own are the credentials by which a role may be known that sets its own password, the likeliest first. The new one is among them: an attempt
// before this one may have taken effect.
func (t targets) own(d *vault.Delivery, next target.Credential) []target.Credential {
	var logins []target.Credential
	for i, m := range d.Before {
		if i == 1 {
			logins = append(logins, next)
		}
		logins = append(logins, as(next.Username, m))
	}
	if len(d.Before) < 2 {
		logins = append(logins, next)
	}
	return logins
}

func (t targets) Test(ctx context.Context, d *vault.Delivery) error {
	if d.Target.Webhook != nil {
		return t.send(ctx, d, webhook.StepTest)
	}
	server, err := t.postgres(d.Target.Postgres)
	if err != nil {
		return err
	}
	return server.Test(ctx, credential(d.New))
}

func (t targets) Try(ctx context.Context, d *vault.Delivery) (works bool, err error) {
	if d.Target.Webhook != nil {
		return false, t.send(ctx, d, webhook.StepTest)
	}
	server, err := t.postgres(d.Target.Postgres)
	if err != nil {
		return false, err
	}
	ctx, cancel := t.limit(ctx)
	defer cancel()
	if err = server.Try(ctx, credential(d.New)); target.ClassOf(err) != target.Authentication {
		return false, err
	}
	for _, m := range d.Before {
		if string(m.Username.Reveal()) == string(d.New.Username.Reveal()) && server.Try(ctx, credential(m)) == nil {
			return true, err
		}
	}
	return false, err
}

func (t targets) postgres(p *secret.PostgresTarget) (*pgtarget.Target, error) {
	server, err := pgtarget.New(pgtarget.Config{
		Hosts: p.Hosts, Standbys: p.Standbys, Database: p.DatabaseOrDefault(), CA: pem(p.CA), Timeout: t.Timeout,
	})
	if err != nil {
		return nil, refused(err)
	}
	return server, nil
}

// send tells a webhook's receiver of a step. Only an apply says anything of the value.
func (t targets) send(ctx context.Context, d *vault.Delivery, step string) error {
	w := d.Target.Webhook
	receiver, err := webhook.New(webhook.Config{URL: w.URL, CA: pem(w.CA), Allowed: t.Allowed, Timeout: t.Timeout})
	if err != nil {
		return refused(err)
	}
	event := webhook.Event{
		ID: d.EventID(step), Step: step, SecretID: d.SecretID, Secret: d.Secret, Version: d.Version, Generation: d.Generation,
	}
	switch {
	case step != webhook.StepApply: // the receiver has the value
	case w.SendValue:
		event.Value, event.Username, event.Binary = d.New.Value, string(d.New.Username.Reveal()), d.New.Binary
	case t.PublicURL == "":
		return &target.Error{Class: target.Permanent, Message: "the receiver is to fetch the value, and VAULT_PUBLIC_URL doesn't say where: set it for the rotators"}
	default:
		event.Fetch = &webhook.Fetch{URL: t.PublicURL + fetchPath, Token: d.Fetch, ExpiresAt: d.FetchUntil}
	}
	return receiver.Send(ctx, event, d.Keys)
}

func credential(m secret.Material) target.Credential {
	return target.Credential{Username: string(m.Username.Reveal()), Password: m.Value}
}

func as(username string, m secret.Material) target.Credential {
	return target.Credential{Username: username, Password: m.Value}
}

func pem(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

// refused is what a target's settings are that can't be used at all.
func refused(err error) error {
	var known *target.Error
	if errors.As(err, &known) {
		return err
	}
	return &target.Error{Class: target.Permanent, Message: "the target's settings can't be used: " + err.Error(), Err: err}
}
