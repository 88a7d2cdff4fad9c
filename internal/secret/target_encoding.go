package secret

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// ErrMalformedTarget says that stored bytes are not what Target.Encode gives.
var ErrMalformedTarget = errors.New("secret: malformed target")

// Encode gives the one JSON text of t in its canonical form: an object as RFC 8785 (JCS) writes it, without the fields that have
// their zero value. The bytes are stored and authenticated as they are. A nil t gives nil. What Validate refuses has no defined
// result.
func (t *Target) Encode() []byte {
	if t == nil {
		return nil
	}
	t = t.Canonical()
	var o object
	if t.Postgres != nil {
		o.object("postgres", t.Postgres.fields())
	}
	if t.Webhook != nil {
		o.object("webhook", t.Webhook.fields())
	}
	return o.bytes()
}

func (p *PostgresTarget) fields() (o object) {
	o.text("ca", p.CA)
	o.text("database", p.Database)
	o.texts("hosts", p.Hosts)
	o.text("login_secret", p.LoginSecret)
	o.text("mode", p.Mode)
	o.number("probe_secs", p.ProbeSecs)
	o.texts("standbys", p.Standbys)
	o.texts("usernames", p.Usernames)
	return o
}

func (w *WebhookTarget) fields() (o object) {
	o.text("ca", w.CA)
	o.flag("send_value", w.SendValue)
	o.text("signing_secret", w.SigningSecret)
	o.text("url", w.URL)
	return o
}

// DecodeTarget reads what Target.Encode gave; nil and empty bytes are no target. It is strict about structure and leaves the
// limits to Validate. Bytes that would be encoded otherwise are an error of kind Internal that wraps ErrMalformedTarget.
func DecodeTarget(b []byte) (*Target, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var t Target
	// Encoding again and comparing refuses everything that the decoder lets pass, fields that it doesn't know among it.
	if err := json.Unmarshal(b, &t); err != nil || t.Type() == "" || t.Postgres != nil && t.Webhook != nil || !bytes.Equal(t.Encode(), b) {
		return nil, fault.Wrap(fault.Internal, ErrMalformedTarget, "")
	}
	return &t, nil
}
