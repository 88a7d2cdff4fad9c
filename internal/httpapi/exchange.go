package httpapi

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/telemetry"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// exchange is one request with its answer: what the handlers need to know of the one, and what the log and the metrics
// need to know of the other.
//
// It is the writer that gin is handed, and that exchangeOf finds it by.
type exchange struct {
	recorder
	// out is where the answer is written: gin's writer within its handlers, which keeps gin from adding an answer of its
	// own, else the exchange itself.
	out     http.ResponseWriter
	request *http.Request
	// ctx is the request's with our time limit and the request id, for use cases.
	ctx     context.Context
	limit   limit
	buffers *buffers

	id      string // the request id
	traceID string // or empty
	started time.Time

	address    netip.Addr // invalid if it can't be known
	addressErr error      // why

	token    sensitive.Bytes // zero if there is none or it can't be read
	tokenErr error           // why it can't be read

	route string            // the pattern, which is bounded, never the path
	name  string            // of the secret, role or token in the path
	query map[string]string // the known parameters that were given
	body  []byte            // zeroed when the handler has returned

	disclosure disclosure

	values    [3]string // of headers; see set
	valuesSet int

	err   error  // what failed, for the log
	code  string // its public code
	panic *panicked
}

const unmatched = "unmatched"

// answerTime is what the server leaves for writing an answer once a request's time is up.
const answerTime = 5 * time.Second

func (a *api) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		recorder: recorder{ResponseWriter: w, conn: directOf(r)},
		request:  r,
		buffers:  &a.buffers,
		id:       requestID(r.Header),
		traceID:  traceID(r.Header),
		started:  a.cfg.Clock(),
		route:    unmatched,
	}
	x.out = x
	x.address, x.addressErr = a.cfg.AddressPolicy.ClientAddress(r.RemoteAddr, r.Header[xForwardedFor])
	if x.addressErr != nil {
		x.address = netip.Addr{}
	}
	return x
}

// authenticate takes the token out of the headers. Whoever calls it releases x.token.
func (x *exchange) authenticate() {
	x.token, x.tokenErr = access.ParseAuthorization(x.request.Header[authorization])
}

// prolong lets a request that waits for something take longer than others, and its answer be written then.
func (x *exchange) prolong(by time.Duration, now time.Time) {
	x.ctx = telemetry.WithRequestID(x.limit.prolong(x.request, by), x.id)
	// A writer that knows no deadline has none.
	_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(now.Add(requestTimeout + by + answerTime))
}

func (x *exchange) caller() vault.Caller {
	return vault.Caller{Address: x.address, Token: x.token, RequestID: x.id, TraceID: x.traceID}
}

// write sends an answer. An empty body gives none, and no Content-Type. Whether it arrives is not known.
func (x *exchange) write(status int, body []byte) {
	if len(body) > 0 {
		h := x.out.Header()
		h[contentType] = jsonOnly
		x.set(h, contentLength, strconv.Itoa(len(body)))
	}
	if ctx := x.request.Context(); ctx.Err() != nil && isOverdue(ctx) {
		x.out.Header().Set("Connection", "close") // its context is over, whatever came of the request
	}
	x.out.WriteHeader(status)
	if len(body) > 0 {
		// An error means that the client is gone; the recorder keeps it for the log.
		_, _ = x.out.Write(body)
	}
}

// recorder remembers the status of an answer, 0 while there is none.
type recorder struct {
	http.ResponseWriter
	status   int
	writeErr error

	conn      direct // nil if the connection can't
	plaintext bool   // the next body is sent past the server's buffers
	body      bytes.Reader
}

// direct is a connection that can send the body of an answer from where it lies; see conn of internal/process. The server's
// own buffers are never zeroed.
type direct interface {
	Hold()
	Release() error
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.send(b)
	if err != nil && r.writeErr == nil {
		r.writeErr = err
	}
	return n, err
}

// send writes b, of which no copy is made if it holds plaintext.
func (r *recorder) send(b []byte) (int, error) {
	flusher, canFlush := r.ResponseWriter.(http.Flusher)
	from, canRead := r.ResponseWriter.(io.ReaderFrom)
	if !r.plaintext || r.conn == nil || !canFlush || !canRead {
		return r.ResponseWriter.Write(b)
	}
	r.conn.Hold()
	flusher.Flush() // the head, which waits there
	r.body.Reset(b)
	n, err := from.ReadFrom(&r.body)
	r.body.Reset(nil)
	if released := r.conn.Release(); err == nil {
		err = released
	}
	return int(n), err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
