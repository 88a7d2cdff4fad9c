package pgproxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// message is one message of the protocol, whole: for all but the first of a connection a type byte, then a length that
// counts itself, then the rest (PostgreSQL documentation, "Message Formats").
type message struct {
	kind byte
	raw  []byte
}

func (m message) body() []byte { return m.raw[5:] }

// maxMessage bounds what is kept in memory at once.
const maxMessage = 16 << 20

var errFraming = errors.New("that is no message of the protocol")

func readMessage(r *bufio.Reader) (message, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return message{}, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > maxMessage {
		return message{}, errFraming
	}
	raw := make([]byte, 1+length)
	copy(raw, head)
	_, err := io.ReadFull(r, raw[5:])
	return message{kind: head[0], raw: raw}, err
}

// Codes that stand in place of a protocol version in a connection's first message.
const (
	codeCancel = 80877102
	codeTLS    = 80877103
	codeGSS    = 80877104
)

// readStartup reads a first message, which has no type byte.
func readStartup(r *bufio.Reader) (raw []byte, code uint32, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, 0, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < 8 || length > maxMessage {
		return nil, 0, errFraming
	}
	raw = make([]byte, length)
	copy(raw, head)
	_, err = io.ReadFull(r, raw[8:])
	return raw, binary.BigEndian.Uint32(head[4:]), err
}

// Types of messages that faults are aimed at. What the client sends:
const (
	Query    byte = 'Q'
	Parse    byte = 'P'
	Bind     byte = 'B'
	Describe byte = 'D'
	Execute  byte = 'E'
	Sync     byte = 'S'
)

// What the server sends:
const (
	ParseComplete   byte = '1'
	BindComplete    byte = '2'
	RowDescription  byte = 'T'
	DataRow         byte = 'D'
	CommandComplete byte = 'C'
	ReadyForQuery   byte = 'Z'
)

const terminate byte = 'X'

// flush asks the server for the answers that it has so far, without ending the transaction as Sync does.
var flush = []byte{'H', 0, 0, 0, 4}

// cString cuts a zero-terminated string off b.
func cString(b []byte) (s string, rest []byte) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:]
		}
	}
	return "", nil
}
