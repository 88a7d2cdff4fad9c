package httpapi

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// disclosure is the buffer of an answer that holds plaintext: JSON that is written by hand, so that the plaintext is
// copied once, and into memory that is zeroed. When it grows it zeroes what it leaves behind; release zeroes the rest.
type disclosure struct{ buf []byte }

// disclose writes an answer with plaintext.
func (x *exchange) disclose(status int, fill func(*disclosure) error) error {
	var d disclosure
	defer d.release()
	if err := fill(&d); err != nil {
		return err
	}
	x.write(status, d.buf)
	return nil
}

// reserve makes room for n more bytes.
func (d *disclosure) reserve(n int) {
	if cap(d.buf)-len(d.buf) >= n {
		return
	}
	larger := make([]byte, len(d.buf), max(2*cap(d.buf), len(d.buf)+n))
	copy(larger, d.buf)
	sensitive.Zero(d.buf)
	d.buf = larger
}

func (d *disclosure) release() { sensitive.Zero(d.buf) }

// raw appends JSON as it is.
func (d *disclosure) raw(json string) {
	d.reserve(len(json))
	d.buf = append(d.buf, json...)
}

// text appends a JSON string. Text that is not UTF-8 is an error.
func (d *disclosure) text(s []byte) (err error) {
	d.reserve(quotedLen(s))
	d.buf, err = jsontext.AppendQuote(d.buf, s)
	return err
}

// quotedLen gives how long s is at most as a JSON string: control characters take up to six bytes, quotes and
// backslashes two.
func quotedLen(s []byte) int {
	n := len(s) + 2
	for _, c := range s {
		switch {
		case c < ' ':
			n += 5
		case c == '"', c == '\\':
			n++
		case c >= 0x80: // an invalid byte becomes the three of U+FFFD
			n += 2
		}
	}
	return n
}

// base64 appends a JSON string of standard base64 with padding.
func (d *disclosure) base64(b []byte) {
	d.reserve(base64.StdEncoding.EncodedLen(len(b)) + 2)
	d.buf = append(d.buf, '"')
	d.buf = base64.StdEncoding.AppendEncode(d.buf, b)
	d.buf = append(d.buf, '"')
}

// secret appends a secret in the shape of GET, without the value if there is none to show.
func (d *disclosure) secret(s *vault.Secret) error {
	d.raw(`{"name":`)
	if err := d.text([]byte(s.Name)); err != nil {
		return err
	}
	// Kind, format and time are of a few known characters.
	d.raw(`,"kind":"` + string(s.Kind) + `","format":"` + string(s.Format) + `","version":` + strconv.FormatInt(s.Version, 10))
	if s.Material != nil {
		if err := d.material(s.Material); err != nil {
			return err
		}
	}
	d.raw(`,"created_at":"` + timestamp(s.CreatedAt) + `"}`)
	return nil
}

func (d *disclosure) material(m *secret.Material) error {
	switch {
	case m.Format == secret.Userpass:
		d.raw(`,"username":`)
		if err := d.text(m.Username.Reveal()); err != nil {
			return err
		}
		d.raw(`,"password":`)
		return d.text(m.Value.Reveal())
	case m.Binary:
		d.raw(`,"value_base64":`)
		d.base64(m.Value.Reveal())
		return nil
	}
	d.raw(`,"value":`)
	return d.text(m.Value.Reveal())
}

// token appends a new token.
func (d *disclosure) token(t *vault.IssuedToken) error {
	head, err := marshal(issuedTokenView{Name: t.Name, Role: t.Role, CreatedAt: timestamp(t.CreatedAt), ExpiresAt: optionalTime(t.ExpiresAt)})
	if err != nil {
		return err
	}
	d.raw(string(head[:len(head)-1]) + `,"token":`)
	if err := d.text(t.Token.Reveal()); err != nil {
		return err
	}
	d.raw("}")
	return nil
}

// timestamp gives a time as RFC 3339 has it, in UTC, with microseconds always.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func optionalTime(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := timestamp(*t)
	return &s
}

// answer writes an answer that holds no plaintext.
func (x *exchange) answer(status int, view any) error {
	body, err := marshal(view)
	if err != nil {
		return err
	}
	x.write(status, body)
	return nil
}

// empty writes an answer without a body.
func (x *exchange) empty() error {
	x.write(http.StatusNoContent, nil)
	return nil
}
