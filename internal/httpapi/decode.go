package httpapi

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// decoder reads one JSON document (RFC 8259, and of RFC 7493 that names are unique and text is UTF-8) field by field,
// so that values go from the body into sensitive.Bytes directly, and so that only what is asked for is ever entered:
// nesting is as deep as our own types.
//
// Its errors are of kind Invalid. They name fields and positions and never repeat what a field holds.
type decoder struct{ json *jsontext.Decoder }

// members says what to do with each member of an object. It is handed the field's full name, for errors.
type members map[string]func(field string) error

// decodeDocument reads body, which must be one object and nothing else. It keeps nothing of body, and overwrites some
// of it.
func decodeDocument(body []byte, m func(d decoder) members) error {
	if !utf8.Valid(body) {
		return fault.New(fault.Invalid, "the body is not valid UTF-8: send bytes that are not text as base64")
	}
	// A bytes.Buffer is read in place; of any other reader the decoder would make a copy that nobody zeroes.
	d := decoder{json: jsontext.NewDecoder(bytes.NewBuffer(body))}
	if err := d.object("the body", "", m(d)); err != nil {
		return err
	}
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "the body goes on after its JSON object")
	}
	return nil
}

// object reads an object that is called what in errors. prefix goes before the names of its fields.
func (d decoder) object(what, prefix string, m members) error {
	if err := d.expect(what, "an object", jsontext.KindBeginObject); err != nil {
		return err
	}
	return d.each(func(name string) error {
		read, known := m[name]
		if !known {
			return fault.Newf(fault.Invalid, "unknown field%s%s: known here are %s", shown(name), within(prefix),
				strings.Join(slices.Sorted(maps.Keys(m)), ", "))
		}
		return read(prefix + name)
	})
}

func within(prefix string) string {
	if prefix == "" {
		return ""
	}
	return " in " + strings.TrimSuffix(prefix, ".")
}

// each enters the object that comes next and calls read for each of its names, which must read the value.
func (d decoder) each(read func(name string) error) error {
	if _, err := d.json.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for d.json.PeekKind() != jsontext.KindEndObject {
		token, err := d.json.ReadToken()
		if err != nil {
			return syntaxError(err)
		}
		if err := read(token.String()); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return syntaxError(err)
}

// array enters the array that comes next and calls read for each element, which must read it.
func (d decoder) array(field string, read func(i int) error) error {
	if err := d.expect(field, "an array", jsontext.KindBeginArray); err != nil {
		return err
	}
	if _, err := d.json.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for i := 0; d.json.PeekKind() != jsontext.KindEndArray; i++ {
		if err := read(i); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return syntaxError(err)
}

// expect looks at what comes next, and refuses it unless it is of one of the kinds.
func (d decoder) expect(field, want string, kinds ...jsontext.Kind) error {
	got := d.json.PeekKind()
	if slices.Contains(kinds, got) {
		return nil
	}
	if name := kindName(got); name != "" {
		return fault.Newf(fault.Invalid, "%s must be %s, not %s", field, want, name)
	}
	_, err := d.json.ReadToken()
	return syntaxError(err)
}

func kindName(k jsontext.Kind) string {
	switch k {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	default:
		return "" // the end of something, or nothing that is JSON
	}
}

// null reads a null, if that is what comes next, and tells so.
func (d decoder) null() (bool, error) {
	if d.json.PeekKind() != jsontext.KindNull {
		return false, nil
	}
	_, err := d.json.ReadToken()
	return err == nil, syntaxError(err)
}

// text reads a string that is no secret.
func (d decoder) text(field string) (string, error) {
	if err := d.expect(field, "a string", jsontext.KindString); err != nil {
		return "", err
	}
	token, err := d.json.ReadToken()
	if err != nil {
		return "", syntaxError(err)
	}
	return token.String(), nil
}

func (d decoder) boolean(field string) (bool, error) {
	if err := d.expect(field, "a boolean", jsontext.KindTrue, jsontext.KindFalse); err != nil {
		return false, err
	}
	token, err := d.json.ReadToken()
	if err != nil {
		return false, syntaxError(err)
	}
	return token.Bool(), nil
}

// integer reads a number without fraction or exponent that fits 64 bits.
func (d decoder) integer(field string) (int64, error) {
	if err := d.expect(field, "an integer", jsontext.KindNumber); err != nil {
		return 0, err
	}
	raw, err := d.json.ReadValue()
	if err != nil {
		return 0, syntaxError(err)
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return 0, fault.Newf(fault.Invalid, "%s must be an integer, without a fraction or exponent, that fits 64 bits", field)
	}
	return n, nil
}

// textMap reads an object of strings that are no secrets.
func (d decoder) textMap(field string) (map[string]string, error) {
	if err := d.expect(field, "an object of strings", jsontext.KindBeginObject); err != nil {
		return nil, err
	}
	m := map[string]string{}
	err := d.each(func(name string) error {
		value, err := d.text("each value in " + field)
		m[name] = value
		return err
	})
	return m, err
}

// sensitiveText reads a string as plaintext. The caller releases it.
func (d decoder) sensitiveText(field string) (sensitive.Bytes, error) {
	plain, err := d.unquoted(field)
	if err != nil {
		return sensitive.Bytes{}, err
	}
	return sensitive.Take(plain), nil
}

// sensitiveBase64 reads a string of standard base64 with padding (RFC 4648, section 4) as plaintext bytes. The caller
// releases it.
func (d decoder) sensitiveBase64(field string) (sensitive.Bytes, error) {
	encoded, err := d.unquoted(field)
	if err != nil {
		return sensitive.Bytes{}, err
	}
	defer sensitive.Zero(encoded)
	plain := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Strict().Decode(plain, encoded)
	// The decoder skips line breaks, which the standard doesn't allow.
	if err != nil || bytes.ContainsAny(encoded, "\r\n") {
		sensitive.Zero(plain)
		return sensitive.Bytes{}, fault.Newf(fault.Invalid,
			"%s must be standard base64 (RFC 4648, section 4) with padding and without line breaks", field)
	}
	return sensitive.Take(plain[:n]), nil
}

// unquoted reads a string into a buffer of its own, which the caller zeroes.
func (d decoder) unquoted(field string) ([]byte, error) {
	if err := d.expect(field, "a string", jsontext.KindString); err != nil {
		return nil, err
	}
	raw, err := d.json.ReadValue() // a part of the body
	if err != nil {
		return nil, syntaxError(err)
	}
	// Unquoting never makes text longer, so this never grows and leaves no copy behind.
	plain, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), []byte(raw))
	if err != nil {
		sensitive.Zero(plain)
		return nil, syntaxError(err)
	}
	return plain, nil
}

// syntaxError turns an error of the JSON decoder, whose text repeats parts of the document, into one of ours.
func syntaxError(err error) error {
	if err == nil {
		return nil
	}
	var at *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF):
		return errBodyRequired
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Invalid, "the body ends before its JSON is complete")
	case !errors.As(err, &at):
		return fault.New(fault.Invalid, "the body is not valid JSON")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fault.Newf(fault.Invalid, "a field is given twice:%s", cmp.Or(shown(at.JSONPointer.LastToken()), " its name isn't shown"))
	}
	return fault.Newf(fault.Invalid, "the body is not valid JSON, at byte %d", at.ByteOffset)
}
