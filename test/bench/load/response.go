package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// response is one answer at the beginning of what was read.
type response struct {
	status int
	body   []byte // a part of the buffer
	size   int    // of the whole answer
}

var errIncomplete = errors.New("the answer isn't complete yet")

// maxHead bounds the head of an answer, in bytes.
const maxHead = 16 << 10

var (
	headEnd       = []byte("\r\n\r\n")
	version       = []byte("HTTP/1.1 ")
	contentLength = []byte("\r\nContent-Length: ")
)

// parse understands the answers of servers that keep connections alive and say how long their bodies are; any other is an
// error. errIncomplete asks for more bytes.
func parse(buf []byte) (response, error) {
	end := bytes.Index(buf, headEnd)
	if end < 0 {
		if len(buf) > maxHead {
			return response{}, errors.New("the head of an answer doesn't end")
		}
		return response{}, errIncomplete
	}
	head := buf[:end+2] // with the end of the last line
	if !bytes.HasPrefix(head, version) || len(head) < len(version)+3 {
		return response{}, fmt.Errorf("not an answer in HTTP/1.1: %.80q", head)
	}
	status, ok := decimal(head[len(version) : len(version)+3])
	if !ok || status < 200 {
		return response{}, fmt.Errorf("an answer without a final status: %.80q", head)
	}
	length, err := bodyLength(head)
	if err != nil {
		return response{}, err
	}
	start := end + len(headEnd)
	if len(buf) < start+length {
		return response{}, errIncomplete
	}
	return response{status: status, body: buf[start : start+length], size: start + length}, nil
}

func bodyLength(head []byte) (int, error) {
	at := bytes.Index(head, contentLength)
	if at < 0 {
		return 0, fmt.Errorf("an answer that doesn't say how long it is: %.500q", head)
	}
	line := head[at+len(contentLength):]
	length, ok := decimal(line[:bytes.IndexByte(line, '\r')])
	if !ok {
		return 0, fmt.Errorf("an answer with a length that is none: %.500q", head)
	}
	return length, nil
}

// decimal is strconv.Atoi for digits alone.
func decimal(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// checker judges answers.
type checker struct {
	status int
	sample uint64
	expect []Template
}

func newChecker(s *Spec) checker {
	c := checker{status: s.Status, sample: max(s.Sample, 1)}
	for _, t := range s.Expect {
		c.expect = append(c.expect, t.Clone())
	}
	return c
}

// check judges the answer to request n.
func (c *checker) check(n uint64, r response) error {
	if r.status != c.status {
		return fmt.Errorf("request %d was answered with %d in place of %d: %.500s", n, r.status, c.status, r.body)
	}
	if n%c.sample != 0 {
		return nil
	}
	rest := r.body
	for i := range c.expect {
		wanted := c.expect[i].Fill(n)
		at := bytes.Index(rest, wanted)
		if at < 0 {
			return fmt.Errorf("request %d: the answer lacks %s: %.500s", n, strconv.Quote(string(wanted)), r.body)
		}
		rest = rest[at+len(wanted):]
	}
	return nil
}
