package pgtarget

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"io"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const (
	// iterations of a verifier that is made here: what RFC 7677 asks for at least, and PostgreSQL's default. What they would add
	// to a generated password of full entropy they would take from every login.
	iterations = 4096
	// maxIterations is the most that a server may have us do.
	maxIterations = 1_000_000
	saltSize      = 16
	nonceSize     = 18
)

var b64 = base64.StdEncoding

// keys are what SCRAM makes of a password (RFC 5802, section 3).
type keys struct {
	client, stored, server [sha256.Size]byte
}

// derive makes the keys. What it leaves on the way is erased where the toolchain can.
func derive(password sensitive.Bytes, salt []byte, count int) (k keys, err error) {
	sensitive.Do(func() {
		var salted []byte
		if salted, err = pbkdf2.Key(sha256.New, string(password.Reveal()), salt, count, sha256.Size); err != nil {
			return
		}
		defer sensitive.Zero(salted)
		k.client = mac(salted, "Client Key")
		k.stored = sha256.Sum256(k.client[:])
		k.server = mac(salted, "Server Key")
	})
	return k, err
}

func mac(key []byte, message string) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, message)
	h.Sum(out[:0])
	return out
}

// verifier is what PostgreSQL keeps in the place of a password (src/common/scram-common.c, scram_build_secret). Given one in
// ALTER ROLE … PASSWORD it stores it as it is, so that the password itself never reaches it.
func verifier(password sensitive.Bytes, salt []byte) (string, error) {
	k, err := derive(password, salt, iterations)
	if err != nil {
		return "", err
	}
	return "SCRAM-SHA-256$" + strconv.Itoa(iterations) + ":" + b64.EncodeToString(salt) +
		"$" + b64.EncodeToString(k.stored[:]) + ":" + b64.EncodeToString(k.server[:]), nil
}

// exchange is the client's side of one SCRAM-SHA-256 exchange (RFC 5802 and 7677).
type exchange struct {
	user      string // empty: PostgreSQL takes that of the start-up message
	nonce     string
	header    string // the GS2 header, which says whether the channel is bound
	binding   []byte // what it is bound to, or nil
	signature [sha256.Size]byte
}

// first is the message that opens the exchange.
func (e *exchange) first() []byte { return []byte(e.header + e.bare()) }

func (e *exchange) bare() string { return "n=" + e.user + ",r=" + e.nonce }

// answer returns the client's proof. A nonce that isn't ours would be another exchange, replayed; and few iterations would make the
// proof cheap to search, so that RFC 7677 has clients refuse them.
func (e *exchange) answer(challenge []byte, password sensitive.Bytes) ([]byte, error) {
	fields := strings.Split(string(challenge), ",")
	if len(fields) != 3 {
		return nil, errProtocol
	}
	nonce, isNonce := strings.CutPrefix(fields[0], "r=")
	encoded, isSalt := strings.CutPrefix(fields[1], "s=")
	number, isCount := strings.CutPrefix(fields[2], "i=")
	if !isNonce || !isSalt || !isCount || !strings.HasPrefix(nonce, e.nonce) || len(nonce) == len(e.nonce) {
		return nil, errProtocol
	}
	salt, err := b64.DecodeString(encoded)
	if err != nil || len(salt) == 0 {
		return nil, errProtocol
	}
	count, err := strconv.Atoi(number)
	if err != nil || count < iterations || count > maxIterations {
		return nil, errIterations
	}
	k, err := derive(password, salt, count)
	if err != nil {
		return nil, err
	}
	unproven := "c=" + b64.EncodeToString(append([]byte(e.header), e.binding...)) + ",r=" + nonce
	message := e.bare() + "," + string(challenge) + "," + unproven
	proof := mac(k.stored[:], message)
	subtle.XORBytes(proof[:], proof[:], k.client[:])
	e.signature = mac(k.server[:], message)
	k = keys{}
	return []byte(unproven + ",p=" + b64.EncodeToString(proof[:])), nil
}

// proven tells that the server has the verifier of the password that was proven to it.
func (e *exchange) proven(final []byte) error {
	encoded, isSignature := bytes.CutPrefix(final, []byte("v="))
	signature, err := b64.DecodeString(string(encoded))
	if !isSignature || err != nil {
		return errProtocol
	}
	if subtle.ConstantTimeCompare(signature, e.signature[:]) != 1 {
		return errImpostor
	}
	return nil
}
