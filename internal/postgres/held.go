package postgres

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// lying is the row that lies in a place: who it is, and the transaction that wrote it.
type lying struct {
	place uint64 // block and offset
	xmin  uint32
	id    uuid.UUID
}

func placeOf(t Tuple) uint64 { return uint64(t.Block)<<16 | uint64(t.Offset) }

// judge tells which held rows are no longer what they were, by the columns of the statement that validates: three arrays each
// of what lies where the secrets' and the versions' rows were, and the numbers of valid versions where they were asked for.
func (w *wire) judge(columns [][]byte, held []Held) (stale []int, err error) {
	if len(columns) < 6 {
		return nil, errUnexpectedRow
	}
	if w.secrets, err = appendLying(w.secrets[:0], columns[:3]); err != nil {
		return nil, err
	}
	if w.versions, err = appendLying(w.versions[:0], columns[3:6]); err != nil {
		return nil, err
	}
	var valid []byte
	if len(columns) > 6 {
		if valid, err = elements(columns[6], 8); err != nil {
			return nil, err
		}
	}
	w.stale = w.stale[:0]
	for i := range held {
		h := &held[i]
		same := lies(w.secrets, h.Secret, h.SecretID) && lies(w.versions, h.Version, h.VersionUID)
		if h.Valid > 0 {
			if len(valid) < 12 {
				return nil, errUnexpectedRow
			}
			same = same && getInt64(valid[4:12]) == int64(h.Valid)
			valid = valid[12:]
		}
		if !same {
			w.stale = append(w.stale, i)
		}
	}
	return w.stale, nil
}

// lies tells whether the row of that id lies where it did, as the transaction wrote it that did then.
func lies(rows []lying, t Tuple, id uuid.UUID) bool {
	i, found := slices.BinarySearchFunc(rows, placeOf(t), func(r lying, place uint64) int { return cmp.Compare(r.place, place) })
	return found && rows[i].xmin == t.Xmin && rows[i].id == id
}

// appendLying decodes three arrays in step: tid[], xid[] and uuid[]. The rows come back in the order of their places.
func appendLying(rows []lying, columns [][]byte) ([]lying, error) {
	places, err := elements(columns[0], 6)
	if err != nil {
		return nil, err
	}
	xmins, err := elements(columns[1], 4)
	if err != nil {
		return nil, err
	}
	ids, err := elements(columns[2], 16)
	if err != nil {
		return nil, err
	}
	n := len(places) / (4 + 6)
	if len(xmins) != n*(4+4) || len(ids) != n*(4+16) {
		return nil, fmt.Errorf("%w: arrays of different lengths", errUnexpectedRow)
	}
	for range n {
		place := uint64(binary.BigEndian.Uint32(places[4:]))<<16 | uint64(binary.BigEndian.Uint16(places[8:]))
		rows = append(rows, lying{place: place, xmin: binary.BigEndian.Uint32(xmins[4:]), id: uuid.UUID(ids[4:20])})
		places, xmins, ids = places[10:], xmins[8:], ids[20:]
	}
	// The server reads places in their order today, and promises nothing.
	byPlace := func(a, b lying) int { return cmp.Compare(a.place, b.place) }
	if !slices.IsSortedFunc(rows, byPlace) {
		slices.SortFunc(rows, byPlace)
	}
	return rows, nil
}

// elements gives the elements of a one-dimensional array, each behind its length of 4 bytes, which is always size. NULL is an
// array without elements.
func elements(b []byte, size int) ([]byte, error) {
	const emptyHeader, header = 12, 20
	if b == nil || len(b) == emptyHeader {
		return nil, nil
	}
	if len(b) < header || (len(b)-header)%(4+size) != 0 {
		return nil, fmt.Errorf("%w: an array of %d bytes", errUnexpectedRow, len(b))
	}
	b = b[header:]
	length := binary.BigEndian.AppendUint32(make([]byte, 0, 4), uint32(size)) //nolint:gosec // 16 at most
	for at := 0; at < len(b); at += 4 + size {
		if !bytes.Equal(b[at:at+4], length) {
			return nil, fmt.Errorf("%w: an array with NULL in it", errUnexpectedRow)
		}
	}
	return b, nil
}
