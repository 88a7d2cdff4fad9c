package cli

import (
	"encoding/base64"
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// object builds a JSON object in one buffer that the caller zeroes: an encoder would leave copies of values in its own.
type object struct {
	buffer []byte
	err    error
}

// newObject makes an empty object that can take the given number of bytes of values without moving.
func newObject(room int) *object {
	// An escape takes at most six bytes for one. What else an object holds is bounded by the API's limits.
	return &object{buffer: append(make([]byte, 0, 6*room+1024), '{')}
}

func (o *object) key(name string) {
	if len(o.buffer) > 1 {
		o.buffer = append(o.buffer, ',')
	}
	o.quote([]byte(name))
	o.buffer = append(o.buffer, ':')
}

func (o *object) quote(text []byte) {
	quoted, err := jsontext.AppendQuote(o.buffer, text)
	if err != nil {
		o.err = err
		return
	}
	o.buffer = quoted
}

// set adds something that isn't secret, as encoding/json writes it.
func (o *object) set(name string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		o.err = err
		return
	}
	o.key(name)
	o.buffer = append(o.buffer, text...)
}

// secretText adds UTF-8 text.
func (o *object) secretText(name string, text []byte) {
	o.key(name)
	o.quote(text)
}

// secretValue adds a value in the form that suits it.
func (o *object) secretValue(value []byte) {
	if isText(value) {
		o.secretText("value", value)
		return
	}
	o.key("value_base64")
	o.buffer = append(o.buffer, '"')
	o.buffer = base64.StdEncoding.AppendEncode(o.buffer, value)
	o.buffer = append(o.buffer, '"')
}

// bytes ends the object. The buffer is the caller's, who zeroes it.
func (o *object) bytes() ([]byte, error) {
	if o.err != nil {
		clear(o.buffer)
		return nil, o.err
	}
	return append(o.buffer, '}'), nil
}

// hidden is a JSON string of an answer that may be secret: it is unquoted into a buffer of its own, and never prints.
type hidden struct{ sensitive.Bytes }

// UnmarshalJSON implements json.Unmarshaler. A null leaves it as it was.
func (h *hidden) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	unquoted, err := jsontext.AppendUnquote(make([]byte, 0, len(text)), text)
	if err != nil {
		clear(unquoted)
		return err
	}
	h.Bytes = sensitive.Take(unquoted)
	return nil
}
