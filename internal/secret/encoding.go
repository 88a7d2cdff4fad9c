package secret

import (
	"encoding/binary"
	"errors"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// What is sealed says by itself what it is, so that shapes can be added without touching stored rows:
//
//	byte 0   version of this encoding, 0x01
//	byte 1   shape: 0x01 opaque text, 0x02 opaque binary, 0x03 userpass
//	then     each field as u32 big-endian length and its bytes:
//	         opaque: value; userpass: user name, password
//
// Nothing follows the last field. Every material has exactly one encoding, and every encoding one material.
const (
	encodingVersion = 0x01

	shapeText     = 0x01
	shapeBinary   = 0x02
	shapeUserpass = 0x03
)

// ErrMalformedMaterial says that bytes which opened in their place are not an encoding of material.
var ErrMalformedMaterial = errors.New("secret: malformed material")

// shape gives the shape byte, or 0 for what can't be encoded.
func (m Material) shape() byte {
	switch {
	case m.Format == Opaque && !m.Binary:
		return shapeText
	case m.Format == Opaque:
		return shapeBinary
	case m.Format == Userpass && !m.Binary:
		return shapeUserpass
	}
	return 0
}

// Encode gives the bytes to seal; they are the caller's to release, and m stays as it is. Material without a
// known shape, and material that was released, panics: sealing what can't be decoded again would lose it.
func (m Material) Encode() sensitive.Bytes {
	shape := m.shape()
	var fields [][]byte
	switch shape {
	case shapeText, shapeBinary:
		fields = [][]byte{m.Value.Reveal()}
	case shapeUserpass:
		fields = [][]byte{m.Username.Reveal(), m.Value.Reveal()}
	default:
		panic("secret: Encode of material that Validate refuses")
	}
	size := 2
	for _, f := range fields {
		size += 4 + len(f)
	}
	// The exact size at once: growing would leave copies of the plaintext behind.
	out := append(make([]byte, 0, size), encodingVersion, shape)
	for _, f := range fields {
		out = binary.BigEndian.AppendUint32(out, uint32(len(f))) //nolint:gosec // at most 64 KiB, by Validate
		out = append(out, f...)
	}
	return sensitive.Take(out)
}

// DecodeMaterial reads what Encode gave. The fields are copies: the caller releases both them and encoded.
// It is strict about structure and leaves the limits to Validate, so that a limit which is lowered one day makes
// no stored value unreadable. Errors are of kind Internal and wrap ErrMalformedMaterial.
func DecodeMaterial(encoded sensitive.Bytes) (Material, error) {
	if encoded.Len() < 2 {
		return Material{}, malformed
	}
	b := encoded.Reveal()
	if b[0] != encodingVersion {
		return Material{}, malformed
	}
	shape := b[1]
	fields, n, ok := splitFields(b[2:])
	if !ok {
		return Material{}, malformed
	}
	switch {
	case (shape == shapeText || shape == shapeBinary) && n == 1:
		return Material{Format: Opaque, Value: sensitive.Copy(fields[0]), Binary: shape == shapeBinary}, nil
	case shape == shapeUserpass && n == 2:
		return Material{
			Format: Userpass, Username: sensitive.Copy(fields[0]), Value: sensitive.Copy(fields[1]),
		}, nil
	}
	return Material{}, malformed
}

var malformed = fault.Wrap(fault.Internal, ErrMalformedMaterial, "")

// splitFields cuts b into its n length-prefixed fields, which point into b. No shape has more than two.
func splitFields(b []byte) (fields [2][]byte, n int, ok bool) {
	for len(b) > 0 {
		if len(b) < 4 || n == len(fields) {
			return fields, 0, false
		}
		size := binary.BigEndian.Uint32(b)
		b = b[4:]
		if uint64(size) > uint64(len(b)) {
			return fields, 0, false
		}
		fields[n] = b[:size:size]
		n++
		b = b[size:]
	}
	return fields, n, true
}
