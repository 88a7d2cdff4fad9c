package corpus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf16"
)

// mutation changes one thing about a request. It returns false if the request has no such thing.
type mutation struct {
	name  string
	apply func(*rand.Rand, *request) bool
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// member is a field of a JSON object: its name as text and its value as JSON.
type member struct{ name, value string }

func membersOf(body []byte) ([]member, bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	var all []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false
		}
		all = append(all, member{name.(string), string(value)})
	}
	return all, len(all) > 0
}

func object(all []member) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%s":%s`, m.name, m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// onMember makes a mutation of one that changes one field of the body, or the list of them.
func onMember(name string, change func(r *rand.Rand, all []member, i int) []member) mutation {
	return mutation{name, func(r *rand.Rand, q *request) bool {
		all, ok := membersOf(q.body)
		if !ok {
			return false
		}
		q.body = object(change(r, all, r.IntN(len(all))))
		return true
	}}
}

func onValue(name string, change func(r *rand.Rand, value string) string) mutation {
	return onMember(name, func(r *rand.Rand, all []member, i int) []member {
		all[i].value = change(r, all[i].value)
		return all
	})
}

func onBody(name string, change func(r *rand.Rand, body []byte) []byte) mutation {
	return mutation{name, func(r *rand.Rand, q *request) bool {
		if q.body == nil {
			return false
		}
		q.body = change(r, q.body)
		return true
	}}
}

// Values that are of another type than a field's, or at an edge of its type.
var otherValues = []string{
	"null", "true", "false", "0", "-0", "-1", "1", "1.5", "1e3", "1E400", "9223372036854775807", "9223372036854775808",
	"-9223372036854775809", "{{1*5000}}", `""`, `" "`, `"x"`, "[]", "[null]", "[[]]", `[""]`, "{}", `{"a":1}`, `{"":""}`, "NaN", "Infinity",
	"undefined", "'x'", "01", "+1", ".5", "0x10", "{{[*500}}{{]*500}}",
	strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300),
}

// Pieces of text that are put into a string, or make it invalid.
var pieces = []string{
	`\u0000`, `\u0007`, `\u001b[31m`, `\u007f`, `\ud800`, `\udc00`, `\ud800\ud800`, `\u202e`, `\ufeff`, `\uffff`, `\n`, `\r\n`, `\t`, `\\`, `\"`, `"`, `\`, `\x41`, `\u12`,
	"{{x00}}", "{{x01}}", "{{x0a}}", "{{x7f}}", "{{xff}}", "{{xfe}}{{xff}}", "{{xc0}}{{x80}}", "{{xed}}{{xa0}}{{x80}}", "{{xf4}}{{x90}}{{x80}}{{x80}}", "{{xe2}}{{x82}}",
	"{{a*64}}", "{{a*256}}", "{{a*1100}}", "{{a*66000}}", "{{é*600}}", "{{🙂*20}}", " ", "  ", ".", "..", "/", "//", "/../", "%2F", "%00", "*", "**", "?", "#", "ключ",
	"'; DROP TABLE vault.secrets; --", "${jndi:ldap://x}", "<script>", "{{{{", "%s%n%x", "$(id)",
}

// jsonMutations change the body's one object.
var jsonMutations = []mutation{
	onValue("a value of another type", func(r *rand.Rand, _ string) string { return pick(r, otherValues) }),
	onValue("a piece of text put into a string", func(r *rand.Rand, value string) string {
		if !strings.HasPrefix(value, `"`) {
			return pick(r, otherValues)
		}
		inside := value[1 : len(value)-1]
		at := 0
		if r.IntN(2) == 0 || strings.Contains(inside, "{{") {
			at = len(inside) * r.IntN(2)
		} else if len(inside) > 0 {
			at = r.IntN(len(inside))
		}
		return `"` + inside[:at] + pick(r, pieces) + inside[at:] + `"`
	}),
	onValue("a text in place of a value", func(r *rand.Rand, _ string) string { return `"` + pick(r, pieces) + `"` }),
	onValue("a string without its quotes", func(_ *rand.Rand, value string) string { return strings.Trim(value, `"`) }),
	onMember("a field left out", func(_ *rand.Rand, all []member, i int) []member { return slices.Delete(all, i, i+1) }),
	onMember("a field given twice", func(r *rand.Rand, all []member, i int) []member {
		twin := all[i]
		switch r.IntN(3) {
		case 0:
			twin.value = pick(r, otherValues)
		case 1:
			twin.name = fmt.Sprintf(`\u%04x%s`, twin.name[0], twin.name[1:])
		}
		return slices.Insert(all, r.IntN(len(all)+1), twin)
	}),
	onMember("an unknown field", func(r *rand.Rand, all []member, _ int) []member {
		names := []string{
			"id", "mac", "version", "valeu", "", " ", "__proto__", "$ref", "name ", "Ключ", `\u0000`, "{{a*64}}", "{{a*65}}",
			"{{a*5000}}", "is_admin", "state", "format", "password", "role", "names", "{{xff}}",
		}
		return slices.Insert(all, r.IntN(len(all)+1), member{pick(r, names), pick(r, otherValues)})
	}),
	onMember("a field's name changed", func(r *rand.Rand, all []member, i int) []member {
		name := all[i].name
		all[i].name = pick(r, []string{
			strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], name + "s", " " + name, name + `\u0000`, name[1:],
			strings.ReplaceAll(name, "e", "е"), name + "{{xff}}",
		})
		return all
	}),
}

func encodeUTF16(body []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(string(body))) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

// bodyMutations change the body as a whole.
var bodyMutations = []mutation{
	onBody("truncated", func(r *rand.Rand, body []byte) []byte { return body[:r.IntN(len(body))] }),
	onBody("trailing garbage", func(r *rand.Rand, body []byte) []byte {
		return append(body, pick(r, []string{" x", "}", "]", "{}", "null", ",", "\x00", "\xff", " //", "\n\n1", "{{ *200000}}x"})...)
	}),
	onBody("leading garbage", func(r *rand.Rand, body []byte) []byte {
		return append([]byte(pick(r, []string{"\xef\xbb\xbf", ")]}',\n", "x", "\x00", "[", ",", "//\n", "{", `""`})), body...)
	}),
	onBody("another encoding", func(_ *rand.Rand, body []byte) []byte { return encodeUTF16(body) }),
	onBody("wrapped", func(r *rand.Rand, body []byte) []byte {
		return slices.Concat([]byte(pick(r, []string{"[", `{"data":`, `"`})), body, []byte(pick(r, []string{"]", "}", `"`})))
	}),
	onBody("much white space", func(_ *rand.Rand, body []byte) []byte {
		return append([]byte("{{ *300000}}"), body...)
	}),
	onBody("too long", func(_ *rand.Rand, body []byte) []byte { return append(body, "{{ *1100000}}"...) }),
	onBody("single quotes", func(_ *rand.Rand, body []byte) []byte { return bytes.ReplaceAll(body, []byte(`"`), []byte("'")) }),
	onBody("another document", func(r *rand.Rand, _ []byte) []byte { return []byte(pick(r, otherValues)) }),
}
