package secret

import "strconv"

// object writes a JSON object as RFC 8785 (JCS) asks, if its keys come in order, which is the caller's to see to. A field that has
// the zero value is left out, so that one that is added later changes no bytes of what was stored before.
type object struct{ out []byte }

func (o *object) key(key string) {
	o.out = append(o.out, ',')
	o.out = append(appendJSONString(o.out, key), ':')
}

func (o *object) text(key, value string) {
	if value != "" {
		o.key(key)
		o.out = appendJSONString(o.out, value)
	}
}

func (o *object) texts(key string, values []string) {
	if len(values) == 0 {
		return
	}
	o.key(key)
	for i, value := range values {
		if i == 0 {
			o.out = append(o.out, '[')
		} else {
			o.out = append(o.out, ',')
		}
		o.out = appendJSONString(o.out, value)
	}
	o.out = append(o.out, ']')
}

func (o *object) number(key string, n int64) {
	if n != 0 {
		o.key(key)
		o.out = strconv.AppendInt(o.out, n, 10)
	}
}

func (o *object) flag(key string, set bool) {
	if set {
		o.key(key)
		o.out = append(o.out, "true"...)
	}
}

// object adds one within this one, also when it is empty.
func (o *object) object(key string, inner object) {
	o.key(key)
	o.out = append(o.out, inner.bytes()...)
}

// empty tells whether there is no field yet.
func (o *object) empty() bool { return len(o.out) == 0 }

func (o *object) bytes() []byte {
	if o.empty() {
		return []byte("{}")
	}
	o.out[0] = '{' // in place of the first comma
	return append(o.out, '}')
}
