package webhook

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	eventID    = "0190c8a4-3f5e-7c6b-9d2a-1b2c3d4e5f60"
	signedAt   = 1_800_000_000
	signedBody = `{"event_id":"0190c8a4-3f5e-7c6b-9d2a-1b2c3d4e5f60"}`
)

// headers gives those of a request that was signed by these keys, without any code of the product.
func headers(timestamp, event, body string, keys ...[]byte) http.Header {
	var signatures []string
	for _, key := range keys {
		signatures = append(signatures, "v1="+hex.EncodeToString(byDefinition(key, []byte("v1:"+timestamp+":"+event+":"+body))))
	}
	return http.Header{
		"Sealkeep-Event-Id": {event}, "Sealkeep-Timestamp": {timestamp}, "Sealkeep-Signature": {strings.Join(signatures, ", ")},
	}
}

func TestVerify_TakesWhatWasSignedAndNothingElse(t *testing.T) {
	t.Parallel()
	good := func() http.Header { return headers("1800000000", eventID, signedBody, keyA) }
	now := time.Unix(signedAt, 0)
	minutes := func(n time.Duration) time.Time { return now.Add(n * time.Minute) }
	for name, tc := range map[string]struct {
		header http.Header
		change func(http.Header)
		body   string
		keys   [][]byte
		now    time.Time
		want   error
	}{
		"as it was sent":              {},
		"one of two keys":             {keys: [][]byte{keyB, keyA}},
		"one of two signatures":       {header: headers("1800000000", eventID, signedBody, keyB, keyA)},
		"signatures without a space":  {change: func(h http.Header) { h.Set(HeaderSignature, "v1=00,"+h.Get(HeaderSignature)) }},
		"with one of a later scheme":  {change: func(h http.Header) { h.Set(HeaderSignature, "v2=abc, "+h.Get(HeaderSignature)) }},
		"at the edge of the past":     {now: minutes(5)},
		"at the edge of the future":   {now: minutes(-5)},
		"too old":                     {now: minutes(5).Add(time.Second), want: errTimestamp},
		"ahead":                       {now: minutes(-5).Add(-time.Second), want: errTimestamp},
		"long ago":                    {now: time.Unix(1<<40, 0), want: errTimestamp},
		"before all time":             {now: time.Time{}, want: errTimestamp},
		"another key":                 {keys: [][]byte{keyB}, want: errSignature},
		"another body":                {body: strings.Replace(signedBody, "event", "Event", 1), want: errSignature},
		"a longer body":               {body: signedBody + " ", want: errSignature},
		"no body":                     {body: " ", want: errSignature},
		"a later time":                {change: func(h http.Header) { h.Set(HeaderTimestamp, "1800000001") }, want: errSignature},
		"another event":               {change: func(h http.Header) { h.Set(HeaderEventID, strings.Replace(eventID, "0190", "0191", 1)) }, want: errSignature},
		"another scheme":              {change: func(h http.Header) { h.Set(HeaderSignature, strings.Replace(h.Get(HeaderSignature), "v1", "v2", 1)) }, want: errSignature},
		"half a signature":            {change: func(h http.Header) { h.Set(HeaderSignature, h.Get(HeaderSignature)[:35]) }, want: errSignature},
		"an empty signature":          {change: func(h http.Header) { h.Set(HeaderSignature, "v1=") }, want: errSignature},
		"no signature":                {change: func(h http.Header) { h.Del(HeaderSignature) }, want: errHeaders},
		"no timestamp":                {change: func(h http.Header) { h.Del(HeaderTimestamp) }, want: errHeaders},
		"no event":                    {change: func(h http.Header) { h.Del(HeaderEventID) }, want: errHeaders},
		"two signature headers":       {change: func(h http.Header) { h.Add(HeaderSignature, h.Get(HeaderSignature)) }, want: errHeaders},
		"two timestamps":              {change: func(h http.Header) { h.Add(HeaderTimestamp, "1800000000") }, want: errHeaders},
		"two events":                  {change: func(h http.Header) { h.Add(HeaderEventID, eventID) }, want: errHeaders},
		"signatures beyond measure":   {change: func(h http.Header) { h.Set(HeaderSignature, h.Get(HeaderSignature)+strings.Repeat(",v1=", 300)) }, want: errHeaders},
		"a timestamp with a sign":     {header: headers("+1800000000", eventID, signedBody, keyA), want: errHeaders},
		"a timestamp with zeros":      {header: headers("01800000000", eventID, signedBody, keyA), want: errHeaders},
		"a negative timestamp":        {header: headers("-1", eventID, signedBody, keyA), want: errHeaders},
		"a timestamp with a fraction": {header: headers("1800000000.5", eventID, signedBody, keyA), want: errHeaders},
		"a timestamp of aeons":        {header: headers("9223372036854775807", eventID, signedBody, keyA), want: errHeaders},
		"an event that is no UUID":    {header: headers("1800000000", "1", signedBody, keyA), want: errHeaders},
		"an event in other letters":   {header: headers("1800000000", strings.ToUpper(eventID), signedBody, keyA), want: errHeaders},
		"a colon moved": {
			header: func() http.Header {
				h := headers("1800000000", eventID, signedBody, keyA)
				h.Set(HeaderTimestamp, "1800000000:"+eventID)
				return h
			}(), want: errHeaders,
		},
		"no key":      {keys: [][]byte{}, want: errKeys},
		"a short key": {header: headers("1800000000", eventID, signedBody, keyA[:31]), keys: [][]byte{keyA[:31]}, want: errKeys},
		"an empty key beside a good one": {
			header: headers("1800000000", eventID, signedBody, nil), keys: [][]byte{keyA, {}}, want: errKeys,
		},
	} {
		if tc.header == nil {
			tc.header = good()
		}
		if tc.change != nil {
			tc.change(tc.header)
		}
		if tc.body == "" {
			tc.body = signedBody
		}
		if tc.keys == nil {
			tc.keys = [][]byte{keyA}
		}
		if tc.now.IsZero() && name != "before all time" {
			tc.now = now
		}
		id, err := Verify(tc.header, []byte(tc.body), tc.keys, tc.now, 5*time.Minute)
		if !errors.Is(err, tc.want) || (err == nil) != (id == eventID) {
			t.Errorf("%s: got %q, %v, want %v", name, id, err, tc.want)
		}
	}
	for _, tolerance := range []time.Duration{0, -time.Minute} {
		if _, err := Verify(good(), []byte(signedBody), [][]byte{keyA}, now, tolerance); !errors.Is(err, errTolerance) {
			t.Errorf("a tolerance of %s: %v", tolerance, err)
		}
	}
}

// FuzzVerify holds that nothing verifies but what is signed, by the definition, over exactly what is given.
func FuzzVerify(f *testing.F) {
	h := headers("1800000000", eventID, signedBody, keyA)
	f.Add("1800000000", eventID, h.Get(HeaderSignature), []byte(signedBody))
	f.Add("1800000000", eventID, "v1=, v1", []byte(signedBody))
	f.Add("-1", "", ",,,", []byte{})
	f.Fuzz(func(t *testing.T, timestamp, event, signature string, body []byte) {
		header := http.Header{}
		header.Set(HeaderTimestamp, timestamp)
		header.Set(HeaderEventID, event)
		header.Set(HeaderSignature, signature)
		id, err := Verify(header, body, [][]byte{keyB, keyA}, time.Unix(signedAt, 0), time.Hour)
		if err != nil {
			if id != "" {
				t.Error("an error and an id")
			}
		} else {
			message := append([]byte("v1:"+timestamp+":"+event+":"), body...)
			if s := strings.ToLower(signature); id != event || (!strings.Contains(s, fmt.Sprintf("%x", byDefinition(keyA, message))) &&
				!strings.Contains(s, fmt.Sprintf("%x", byDefinition(keyB, message)))) {
				t.Errorf("verified %q %q %q %q", timestamp, event, signature, body)
			}
		}
		// What is signed properly verifies, whatever the body.
		if _, err := Verify(headers("1800000000", eventID, string(body), keyA), body, [][]byte{keyA}, time.Unix(signedAt, 0), time.Hour); err != nil {
			t.Error(err)
		}
	})
}
