package process

import (
	"io"
	"net"
)

// listener gives connections of which no copy of what they carried stays in the buffers of net/http (I1).
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &conn{TCPConn: tcp}, err
	}
	return c, err
}

// conn is a client's connection. The server keeps a buffer for what it reads from it and two for what it writes, and zeroes none
// of them: a value would stay there until chance writes over it, or for good if the buffer is given up.
//
// Requests: all of the buffer that is to be read into is zeroed first, as [io.Reader] allows. A server reads on as soon as it
// has answered, with its buffer empty: while a connection waits for its next request, nothing of the last one is there.
//
// Answers: one that holds plaintext isn't copied into buffers at all. Between Hold and Release the server's writes are kept,
// which is the head of an answer; ReadFrom, to which http.ResponseWriter's method of that name leads once the head is
// flushed, sends the head and then the body from where it lies, in one system call.
type conn struct {
	*net.TCPConn
	hold    bool
	held    []byte // the head of an answer; never a body
	vector  [2][]byte
	buffers net.Buffers
}

// Read zeroes p before it waits for data.
func (c *conn) Read(p []byte) (int, error) {
	clear(p)
	return c.TCPConn.Read(p)
}

// Hold keeps what is written from now on, until ReadFrom or Release.
func (c *conn) Hold() { c.hold = true }

// Release sends what was kept and no body followed, and ends Hold.
func (c *conn) Release() error {
	c.hold = false
	if len(c.held) == 0 {
		return nil
	}
	_, err := c.TCPConn.Write(c.held)
	c.held = c.held[:0]
	return err
}

// Write writes p, or keeps it after Hold.
func (c *conn) Write(p []byte) (int, error) {
	if c.hold {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.TCPConn.Write(p)
}

// ReadFrom sends what was kept and then all of src. One that is an io.WriterTo, as a bytes.Reader is, is not copied.
func (c *conn) ReadFrom(src io.Reader) (int64, error) { return io.Copy(body{c}, src) }

// body writes the body of an answer behind its head.
type body struct{ c *conn }

func (b body) Write(p []byte) (int, error) {
	c := b.c
	head := len(c.held)
	c.vector = [2][]byte{c.held, p}
	c.buffers = c.vector[:]
	n, err := c.buffers.WriteTo(c.TCPConn)
	c.vector, c.held, c.hold = [2][]byte{}, c.held[:0], false
	return max(0, int(n)-head), err
}
