package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

// The headers that a receiver verifies.
const (
	HeaderEventID   = "Sealkeep-Event-Id"
	HeaderTimestamp = "Sealkeep-Timestamp" // Unix time in seconds
	HeaderSignature = "Sealkeep-Signature" // v1=HEX[, v1=HEX]
)

const (
	minKey  = 32 // bytes: fewer than the hash has would make guessing the key the shorter way
	maxKeys = 2  // a signing secret that is being rotated has two

	scheme = "v1"
)

func checkKeys(keys []sensitive.Bytes) error {
	if len(keys) == 0 || len(keys) > maxKeys {
		return &target.Error{Class: target.Permanent, Message: "there is no value to sign with: a webhook's signing secret has one or two valid ones"}
	}
	for _, key := range keys {
		if key.Len() < minKey {
			return &target.Error{
				Class:   target.Permanent,
				Message: "the signing secret is shorter than 32 bytes: make a longer one, best a generated one, and give it to the receiver",
			}
		}
	}
	return nil
}

// signed begins what is signed: v1:TIMESTAMP:EVENT:BODY. Neither a timestamp nor an id holds a colon, so no other three make the same.
func signed(timestamp, event string) []byte {
	return []byte(scheme + ":" + timestamp + ":" + event + ":")
}

// sum computes HMAC-SHA256 under key.
func sum(key, prefix, body []byte) [sha256.Size]byte {
	var out [sha256.Size]byte
	sensitive.Do(func() { // the MAC keeps what it made of the key
		mac := hmac.New(sha256.New, key)
		mac.Write(prefix)
		mac.Write(body)
		mac.Sum(out[:0])
	})
	return out
}

// head gives the request up to its body.
func (t *Target) head(event string, body sensitive.Bytes, keys []sensitive.Bytes) []byte {
	timestamp := strconv.FormatInt(t.now().Unix(), 10)
	head := "POST " + t.uri + " HTTP/1.1\r\n" +
		"Host: " + t.host + "\r\n" +
		"User-Agent: sealkeep\r\n" +
		"Connection: close\r\n" +
		"Content-Type: application/json\r\n" +
		"Content-Length: " + strconv.Itoa(body.Len()) + "\r\n" +
		HeaderEventID + ": " + event + "\r\n" +
		HeaderTimestamp + ": " + timestamp + "\r\n" +
		HeaderSignature + ": "
	for i, key := range keys {
		if i > 0 {
			head += ", "
		}
		mac := sum(key.Reveal(), signed(timestamp, event), body.Reveal())
		head += scheme + "=" + hex.EncodeToString(mac[:])
	}
	return []byte(head + "\r\n\r\n")
}
