package webhook

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// piece is how many bytes of a body are sent at once; a body is filled up with spaces to whole ones, so that its length tells little of the
// value's, too.
//
// TLS 1.3 copies what it sends into a buffer and encrypts it there. If the buffer has room for the plaintext and not for the 17 bytes
// that encryption adds, it is given up with the plaintext in it. A record of a piece takes 1024 bytes, which is one of the sizes that memory is
// given out in, so that a buffer which has grown for the plaintext has room for the rest; and it is a record that TLS doesn't split.
const piece = 1024 - 5 - 17

const (
	maxHead    = 64 << 10 // bytes of an answer before its body, with all that is provisional
	maxBody    = 64 << 10
	maxOnWire  = 2 * maxBody // what a body may take with what its encoding adds, which net/http bounds, too
	maxInterim = 8           // answers with a 1xx before the answer
)

var (
	errNotHTTP = errors.New("webhook: what was answered isn't an answer of HTTP/1")
	errTooMuch = errors.New("webhook: the answer is too long")
)

// connect makes a connection to the receiver, which has proven who it is.
func (t *Target) connect(ctx context.Context) (*tls.Conn, error) {
	raw, err := t.dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, notReached(ctx, err)
	}
	conn := tls.Client(raw, t.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, notTrusted(ctx, err)
	}
	return conn, nil
}

// post sends the request and judges the answer. It closes the connection.
func post(ctx context.Context, conn *tls.Conn, head, body []byte) error {
	// Saying goodbye in TLS could wait for a receiver that doesn't read, and nothing depends on it: the request says where it ends.
	raw := conn.NetConn()
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	// A receiver may answer and close before it has read everything, so what it said is looked for also if writing fails.
	_, sendErr := conn.Write(head)
	sensitive.Do(func() {
		for rest := body; len(rest) > 0 && sendErr == nil; rest = rest[piece:] {
			_, sendErr = conn.Write(rest[:piece])
		}
	})
	from := &bounded{conn: conn, left: maxHead}
	answer, err := readAnswer(from)
	if err != nil {
		return notAnswered(ctx, errors.Join(sendErr, err))
	}
	defer func() { // closing a body reads the rest of it, which a closed connection hasn't got
		_ = raw.Close()
		_ = answer.Body.Close()
	}()
	if answer.StatusCode != http.StatusConflict {
		return judge(answer.StatusCode)
	}
	from.left = maxOnWire
	code, err := readCode(answer.Body)
	if err != nil && from.failed() {
		return notAnswered(ctx, from.err)
	}
	return judgeConflict(code)
}

// readAnswer reads up to the body of the first answer that isn't provisional. Its errors are the connection's or of this package: those
// of the parser repeat what they couldn't read.
func readAnswer(from *bounded) (*http.Response, error) {
	buffered := bufio.NewReader(from)
	request := &http.Request{Method: http.MethodPost}
	for range maxInterim {
		answer, err := http.ReadResponse(buffered, request)
		switch {
		case err != nil && from.err != nil:
			return nil, from.err
		case err != nil, answer.ProtoMajor != 1, answer.StatusCode < 100, answer.StatusCode > 599:
			return nil, errNotHTTP
		case answer.StatusCode >= 200, answer.StatusCode == http.StatusSwitchingProtocols:
			return answer, nil
		}
	}
	return nil, errTooMuch
}

// readCode reads the code that a receiver gives with its answer, as the API's own errors have it. It is empty if there is none.
func readCode(body io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	defer sensitive.Zero(text) // it may repeat what it was told
	if err != nil || len(text) > maxBody {
		return "", err
	}
	var told struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(text, &told) != nil {
		return "", nil //  it isn't JSON, and so has no code
	}
	return told.Code, nil
}

// bounded reads so much of a connection, and remembers why it can't read on.
type bounded struct {
	conn net.Conn
	left int
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left == 0 {
		b.err = errTooMuch
		return 0, b.err
	}
	n, err := b.conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	b.err = err
	return n, err
}

// failed tells whether the connection broke, which leaves open what the rest would have said.
func (b *bounded) failed() bool {
	return b.err != nil && !errors.Is(b.err, errTooMuch)
}
