package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// client sends bytes as they are, one request after the other, on a connection that it keeps while it can.
type client struct {
	address string
	conn    *net.TCPConn
	reader  *bufio.Reader
}

// answered is what came back.
type answered struct {
	status int // 0 if there was no answer
	header http.Header
	body   []byte
}

// hangs is far longer than any limit of the server's own.
const hangs = 2 * time.Minute

// send sends a request and reads its answer.
func (c *client) send(q request, raw []byte) (answered, error) {
	for fresh := false; ; fresh = true {
		if c.conn == nil {
			fresh = true
			conn, err := net.Dial("tcp", c.address)
			if err != nil {
				return answered{}, err
			}
			c.conn, c.reader = conn.(*net.TCPConn), bufio.NewReader(conn)
		}
		a, err := c.exchange(q, raw)
		if err == nil {
			return a, nil
		}
		c.close()
		// A connection that is of no more use may be cut; so may one of a request that the server doesn't read to its end,
		// and then a reset can overtake the answer.
		if (q.broken && !isTimeout(err)) || errors.Is(err, syscall.ECONNRESET) {
			return answered{}, nil
		}
		if fresh {
			return answered{}, fmt.Errorf("no answer: %w", err)
		}
		// The server closes idle connections when it likes; that is no answer to this request yet.
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (c *client) exchange(q request, raw []byte) (answered, error) {
	if err := c.conn.SetDeadline(time.Now().Add(hangs)); err != nil {
		return answered{}, err
	}
	// The server may answer and close before it has read all: what can't be written any more is no failure.
	_, writeErr := c.conn.Write(raw)
	if q.broken {
		_ = c.conn.CloseWrite()
	}
	a, err := c.read(q.method)
	if err != nil {
		return answered{}, errors.Join(err, writeErr)
	}
	if q.broken || writeErr != nil || a.header.Get("Connection") == "close" {
		c.close()
	}
	return a, nil
}

func (c *client) read(method string) (answered, error) {
	for {
		response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
		if err != nil {
			return answered{}, err
		}
		if response.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return answered{}, err
		}
		if response.Close {
			response.Header.Set("Connection", "close")
		}
		return answered{status: response.StatusCode, header: response.Header, body: body}, nil
	}
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// wellFormed says what is wrong with the form of an error; "" if nothing is. net/http itself answers what isn't HTTP, in
// plain text.
func (a answered) wellFormed() string {
	if a.status < 400 || len(a.body) == 0 {
		return ""
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		if a.status == http.StatusBadRequest || a.status == http.StatusRequestHeaderFieldsTooLarge || a.status == http.StatusExpectationFailed {
			return ""
		}
		return "an error that isn't JSON"
	}
	var e struct {
		Error     string `json:"error"`
		Code      string `json:"code"`
		RequestID string `json:"request_id"`
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || e.Error == "" || e.Code == "" || e.RequestID != a.header.Get("X-Request-Id") {
		return "an error of another shape"
	}
	return ""
}
