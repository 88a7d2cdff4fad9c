package httpapi

import (
	"net/http"
	"sync/atomic"
	"time"
)

// The names of headers as http.Header has them for keys: canonical, which is what its methods make of a name each time
// that they are called.
const (
	authorization       = "Authorization"
	cacheControl        = "Cache-Control"
	contentEncoding     = "Content-Encoding"
	contentLength       = "Content-Length"
	contentType         = "Content-Type"
	date                = "Date"
	etag                = "Etag"
	idempotencyKey      = "Idempotency-Key"
	ifMatch             = "If-Match"
	ifNoneMatch         = "If-None-Match"
	location            = "Location"
	traceparent         = "Traceparent"
	xContentTypeOptions = "X-Content-Type-Options"
	xForwardedFor       = "X-Forwarded-For"
	xRequestID          = "X-Request-Id"
)

// The values of headers that are the same in all answers, which share them: nobody may write into them.
var (
	jsonOnly = []string{"application/json"}
	noSniff  = []string{"nosniff"}
	noStore  = []string{"no-store"}
)

// set sets a header of the answer to one value. name is canonical.
func (x *exchange) set(h http.Header, name, value string) {
	if x.valuesSet == len(x.values) {
		h[name] = []string{value}
		return
	}
	i := x.valuesSet
	x.valuesSet++
	x.values[i] = value
	h[name] = x.values[i : i+1 : i+1]
}

// dates makes the Date header of answers once a second. The server would make it for each.
type dates struct{ last atomic.Pointer[dated] }

type dated struct {
	second int64
	values []string // shared: nobody may write into them
}

func (d *dates) at(t time.Time) []string {
	last := d.last.Load()
	if last == nil || last.second != t.Unix() {
		last = &dated{second: t.Unix(), values: []string{t.UTC().Format(http.TimeFormat)}}
		d.last.Store(last)
	}
	return last.values
}
