package httpapi

import (
	"maps"
	"slices"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// What requests say of a secret's rotation. The vault judges it; here it is only read. A null in an object leaves a field out, so that
// what an answer shows can be sent again.

// texts reads an array of strings that are no secrets.
func (d decoder) texts(field string) ([]string, error) {
	list := []string{}
	err := d.array(field, func(int) error {
		text, err := d.text("each of " + field)
		list = append(list, text)
		return err
	})
	return list, err
}

// number reads an integer that an int holds.
func (d decoder) number(field string) (int, error) {
	n, err := d.integer(field)
	if err == nil && int64(int32(n)) != n { //nolint:gosec // that is what is asked
		err = fault.Newf(fault.Invalid, "%s is too large", field)
	}
	return int(n), err
}

func (d decoder) schedule(field string) (s vault.ScheduleRequest, err error) {
	err = d.object(field, field+".", members{
		"cron":        into(d.text, &s.Cron),
		"time_zone":   orNull(d, d.text, &s.TimeZone),
		"window_secs": orNull(d, d.integer, &s.WindowSecs),
		"missed":      orNull(d, d.text, &s.Missed),
	})
	if err == nil && s.Cron == "" {
		err = required(field + ".cron")
	}
	return s, err
}

func (d decoder) policy(field string) (p secret.PasswordPolicy, err error) {
	err = d.object(field, field+".", members{
		"length":   orNull(d, d.number, &p.Length),
		"alphabet": orNull(d, d.text, &p.Alphabet),
		"classes":  orNull(d, d.texts, &p.Classes),
	})
	return p, err
}

// target reads what a rotation changes outside the vault. Its type may come after its fields, so that which belong together is told
// at its end.
func (d decoder) target(field string) (t secret.Target, err error) {
	var (
		kind string
		p    secret.PostgresTarget
		w    secret.WebhookTarget
		ca   string
		seen = map[string]bool{}
	)
	types := map[string]members{
		"postgres": {
			"hosts": orNull(d, d.texts, &p.Hosts), "standbys": orNull(d, d.texts, &p.Standbys), "database": orNull(d, d.text, &p.Database),
			"mode": orNull(d, d.text, &p.Mode), "usernames": orNull(d, d.texts, &p.Usernames), "login_secret": orNull(d, d.text, &p.LoginSecret),
			"probe_secs": orNull(d, d.integer, &p.ProbeSecs),
		},
		"webhook": {
			"url": orNull(d, d.text, &w.URL), "signing_secret": orNull(d, d.text, &w.SigningSecret), "send_value": orNull(d, d.boolean, &w.SendValue),
		},
	}
	all := members{"type": into(d.text, &kind), "ca": orNull(d, d.text, &ca)}
	for _, fields := range types {
		for name, read := range fields {
			all[name] = func(full string) error { seen[name] = true; return read(full) }
		}
	}
	if err := d.object(field, field+".", all); err != nil {
		return t, err
	}
	own, known := types[kind]
	switch {
	case kind == "":
		return t, required(field + ".type")
	case !known:
		return t, fault.Newf(fault.Invalid, "%s.type must be postgres or webhook", field)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if own[name] == nil {
			return t, fault.Newf(fault.Invalid, "%s.%s doesn't go with the type %s: leave it out", field, name, kind)
		}
	}
	p.CA, w.CA = ca, ca
	if kind == "webhook" {
		return secret.Target{Webhook: &w}, nil
	}
	return secret.Target{Postgres: &p}, nil
}

type scheduleView struct {
	Cron       string `json:"cron"`
	TimeZone   string `json:"time_zone"`
	WindowSecs *int64 `json:"window_secs"`
	Missed     string `json:"missed"`
}

func viewSchedule(s secret.Schedule) *scheduleView {
	if s.Cron == "" {
		return nil
	}
	v := &scheduleView{Cron: s.Cron, TimeZone: s.TimeZone, WindowSecs: orNil(int64(s.Window.Seconds())), Missed: string(s.Missed)}
	if v.TimeZone == "" {
		v.TimeZone = "UTC"
	}
	if v.Missed == "" {
		v.Missed = string(secret.MissedCatchUp)
	}
	return v
}

type policyView struct {
	Length   *int     `json:"length"`
	Alphabet *string  `json:"alphabet"`
	Classes  []string `json:"classes"`
}

func viewPolicy(p secret.PasswordPolicy) *policyView {
	if p.IsZero() {
		return nil
	}
	return &policyView{Length: orNil(p.Length), Alphabet: orNil(p.Alphabet), Classes: p.Classes}
}

type postgresView struct {
	Type        string   `json:"type"`
	Hosts       []string `json:"hosts"`
	Standbys    []string `json:"standbys"`
	Database    *string  `json:"database"`
	Mode        string   `json:"mode"`
	Usernames   []string `json:"usernames"`
	LoginSecret *string  `json:"login_secret"`
	ProbeSecs   *int64   `json:"probe_secs"`
	CA          *string  `json:"ca"`
}

type webhookView struct {
	Type          string  `json:"type"`
	URL           string  `json:"url"`
	SigningSecret string  `json:"signing_secret"`
	SendValue     bool    `json:"send_value"`
	CA            *string `json:"ca"`
}

// viewTarget gives the view of a target by its type, or nil.
func viewTarget(t *secret.Target) any {
	switch {
	case t == nil:
		return nil
	case t.Webhook != nil:
		w := t.Webhook
		return webhookView{Type: t.Type(), URL: w.URL, SigningSecret: w.SigningSecret, SendValue: w.SendValue, CA: orNil(w.CA)}
	case t.Postgres == nil:
		return nil
	}
	p := t.Postgres
	return postgresView{
		Type: t.Type(), Hosts: p.Hosts, Standbys: p.Standbys, Database: orNil(p.Database), Mode: p.Mode, Usernames: p.Usernames,
		LoginSecret: orNil(p.LoginSecret), ProbeSecs: orNil(p.ProbeSecs), CA: orNil(p.CA),
	}
}
