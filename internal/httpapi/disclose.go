package httpapi

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// disclosure is the buffer of an answer that holds plaintext: JSON that is written by hand, so that the plaintext is
// copied once, and into memory that is zeroed. When it grows it gives back what it leaves behind; release gives back the
// rest.
type disclosure struct {
	buf  []byte
	from *buffers
}

// disclose writes an answer with plaintext.
func (x *exchange) disclose(status int, fill func(*disclosure) error) error {
	d := &x.disclosure
	d.from = x.buffers
	defer d.release()
	if err := fill(d); err != nil {
		return err
	}
	x.plaintext = x.request.Method != http.MethodHead // which has no body
	x.write(status, d.buf)
	return nil
}

// reserve makes room for n more bytes.
func (d *disclosure) reserve(n int) {
	if cap(d.buf)-len(d.buf) >= n {
		return
	}
	larger := append(d.from.get(max(2*cap(d.buf), len(d.buf)+n)), d.buf...)
	d.from.put(d.buf)
	d.buf = larger
}

func (d *disclosure) release() {
	d.from.put(d.buf)
	d.buf = nil
}

// raw appends JSON as it is.
func (d *disclosure) raw(json string) {
	d.reserve(len(json))
	d.buf = append(d.buf, json...)
}

// text appends a JSON string. Text that is not UTF-8 is an error.
func (d *disclosure) text(s []byte) (err error) {
	n := quotedLen(s)
	d.reserve(n)
	if n == len(s)+2 { // as most: there is nothing to escape
		d.buf = append(d.buf, '"')
		d.buf = append(d.buf, s...)
		d.buf = append(d.buf, '"')
		return nil
	}
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
	// Names, kinds, formats and times are of a few known characters.
	d.raw(`{"name":"`)
	d.raw(s.Name)
	d.raw(`","kind":"`)
	d.raw(string(s.Kind))
	d.raw(`","format":"`)
	d.raw(string(s.Format))
	d.raw(`","version":`)
	d.integer(s.Version)
	if s.Material != nil {
		if err := d.material(s.Material); err != nil {
			return err
		}
	}
	d.raw(`,"created_at":"`)
	d.time(s.CreatedAt)
	d.raw(`"}`)
	return nil
}

// secrets appends an array of secrets.
func (d *disclosure) secrets(list []*vault.Secret) error {
	const rest = 192 // is longer than all of a secret's JSON but its name and its material
	n := len("[]")
	for _, s := range list {
		if n += len(s.Name) + rest; s.Material != nil {
			n += s.Material.Username.Len() + s.Material.Value.Len()
		}
	}
	d.reserve(n) // at once; what needs escaping may make it grow
	d.raw("[")
	for i, s := range list {
		if i > 0 {
			d.raw(",")
		}
		if err := d.secret(s); err != nil {
			return err
		}
	}
	d.raw("]")
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

// verdict appends the answer of a verify.
func (d *disclosure) verdict(v vault.Verdict) error {
	if !v.Valid {
		d.raw(`{"valid":false}`)
		return nil
	}
	d.raw(`{"valid":true,"version":`)
	d.integer(v.Version)
	d.raw(`}`)
	return nil
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

func (d *disclosure) integer(n int64) {
	d.reserve(len("-9223372036854775808"))
	d.buf = strconv.AppendInt(d.buf, n, 10)
}

func (d *disclosure) time(t time.Time) {
	d.reserve(2 * len("2006-01-02T15:04:05.000000Z"))
	d.buf = appendTimestamp(d.buf, t)
}

// timestamp gives a time as RFC 3339 has it, in UTC, with microseconds always.
func timestamp(t time.Time) string { return string(appendTimestamp(nil, t)) }

func appendTimestamp(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 { // no times of ours
		return t.AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	}
	hour, minute, second := t.Clock()
	dst = appendDigits(dst, year, 4)
	dst = appendDigits(append(dst, '-'), int(month), 2)
	dst = appendDigits(append(dst, '-'), day, 2)
	dst = appendDigits(append(dst, 'T'), hour, 2)
	dst = appendDigits(append(dst, ':'), minute, 2)
	dst = appendDigits(append(dst, ':'), second, 2)
	dst = appendDigits(append(dst, '.'), t.Nanosecond()/1000, 6)
	return append(dst, 'Z')
}

// appendDigits appends the last digits of n, with leading zeros.
func appendDigits(dst []byte, n, digits int) []byte {
	var text [6]byte
	for i := digits - 1; i >= 0; i-- {
		text[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, text[:digits]...)
}

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
