package kmsd

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// States of a key, as AWS names them.
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
)

// material is what all replicas of a key share.
type material struct {
	Backing   [][]byte    `json:"backing"` // by generation; the last one encrypts
	Rotations []time.Time `json:"rotations"`
}

// replica is a key in one Region.
type replica struct {
	ID     string          `json:"id"`
	Region string          `json:"region"`
	State  string          `json:"state"`
	Denied map[string]bool `json:"denied"` // by action, such as Decrypt
}

func (r *replica) arn() string { return "arn:aws:kms:" + r.Region + ":" + Account + ":key/" + r.ID }

// store holds the keys, in a file too if there is one.
type store struct {
	mu        sync.Mutex
	file      string
	Materials map[string]*material `json:"materials"` // by key id
	Replicas  map[string]*replica  `json:"replicas"`  // by ARN
	Aliases   map[string]string    `json:"aliases"`   // key id by "region/alias/NAME"
}

func openStore(file string) (*store, error) {
	s := &store{file: file, Materials: map[string]*material{}, Replicas: map[string]*replica{}, Aliases: map[string]string{}}
	if file == "" {
		return s, nil
	}
	content, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, err
	}
	return s, json.Unmarshal(content, s)
}

// save writes the keys down so that a server that is killed comes back with them. The store is locked.
func (s *store) save() error {
	if s.file == "" {
		return nil
	}
	content, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(s.file+".new", s.file)
}

// CreateKey says what key to make.
type CreateKey struct {
	Region      string `json:"region"`
	Alias       string `json:"alias"` // with alias/ before it; may be empty
	MultiRegion bool   `json:"multi_region"`
}

func (s *store) create(c CreateKey) (arn string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b [16]byte
	_, _ = rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	id := h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	if c.MultiRegion {
		id = "mrk-" + h
	}
	r := &replica{ID: id, Region: c.Region, State: Enabled, Denied: map[string]bool{}}
	s.Materials[id] = &material{Backing: [][]byte{newBacking()}}
	s.Replicas[r.arn()] = r
	if c.Alias != "" {
		s.Aliases[c.Region+"/"+c.Alias] = id
	}
	return r.arn(), s.save()
}

func newBacking() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}

// change runs f on a key and saves.
func (s *store) change(arn string, f func(*replica, *material) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.Replicas[arn]
	if r == nil {
		return fmt.Errorf("there is no key %s", arn)
	}
	if err := f(r, s.Materials[r.ID]); err != nil {
		return err
	}
	return s.save()
}

// resolve finds a key by its id, its ARN, or an alias, as AWS does in a Region.
func (s *store) resolve(region, name string) (*replica, *apiError) {
	if name == "" || len(name) > 2048 {
		return nil, &apiError{"ValidationException", "1 validation error detected: Value at 'keyId' failed to satisfy constraint"}
	}
	if strings.HasPrefix(name, "arn:") {
		parts := strings.Split(name, ":")
		switch {
		case len(parts) != 6 || parts[2] != "kms":
			return nil, &apiError{"InvalidArnException", "Invalid arn"}
		case parts[3] != region:
			return nil, &apiError{"NotFoundException", "Invalid arn " + parts[3]}
		case parts[4] != Account:
			return nil, &apiError{"AccessDeniedException", "The key is in another account"}
		}
		name = strings.TrimPrefix(parts[5], "key/")
	}
	if strings.HasPrefix(name, "alias/") {
		id, ok := s.Aliases[region+"/"+name]
		if !ok {
			return nil, &apiError{"NotFoundException", "Alias arn:aws:kms:" + region + ":" + Account + ":" + name + " is not found."}
		}
		name = id
	}
	r := s.Replicas["arn:aws:kms:"+region+":"+Account+":key/"+name]
	if r == nil {
		return nil, &apiError{"NotFoundException", "Key 'arn:aws:kms:" + region + ":" + Account + ":key/" + name + "' does not exist"}
	}
	return r, nil
}

// magic begins every ciphertext: a version, so that nothing else is taken for one.
const magic = "\x01kmsd\x00"

var errCiphertext = &apiError{"InvalidCiphertextException", ""}

// seal encrypts under the newest backing key: magic, length of the key id, key id, generation, nonce, AES-256-GCM.
func (m *material) seal(id string, plaintext []byte, ec map[string]string) []byte {
	generation := len(m.Backing) - 1
	blob := append([]byte(magic), byte(len(id)))
	blob = binary.BigEndian.AppendUint32(append(blob, id...), uint32(generation))
	header := len(blob)
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	blob = append(blob, nonce...)
	return aead(m.Backing[generation]).Seal(blob, nonce, plaintext, additional(blob[:header], ec))
}

// header reads what a ciphertext says of its key.
func header(blob []byte) (id string, generation uint32, length int, ok bool) {
	rest, found := strings.CutPrefix(string(blob), magic)
	if !found || rest == "" || len(rest) < 1+int(rest[0])+4+12+16 {
		return "", 0, 0, false
	}
	n := int(rest[0])
	return rest[1 : 1+n], binary.BigEndian.Uint32([]byte(rest[1+n:])), len(magic) + 1 + n + 4, true
}

func (m *material) open(blob []byte, ec map[string]string) ([]byte, *apiError) {
	_, generation, length, ok := header(blob)
	if !ok || int(generation) >= len(m.Backing) {
		return nil, errCiphertext
	}
	nonce := blob[length : length+12]
	plaintext, err := aead(m.Backing[generation]).Open(nil, nonce, blob[length+12:], additional(blob[:length], ec))
	if err != nil {
		return nil, errCiphertext
	}
	return plaintext, nil
}

func aead(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

// additional binds a ciphertext to its header and to exactly its encryption context.
func additional(header []byte, ec map[string]string) []byte {
	out := append([]byte(nil), header...)
	names := make([]string, 0, len(ec))
	for name := range ec {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, s := range []string{name, ec[name]} {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(s))), s...)
		}
	}
	return out
}
