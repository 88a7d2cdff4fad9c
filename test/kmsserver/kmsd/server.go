package kmsd

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// apiError is an error as AWS names it.
type apiError struct{ Type, Message string }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

type server struct {
	store *store

	mu      sync.Mutex
	calls   map[string]int // that arrived, by operation
	fault   Fault
	changed chan struct{} // closed when the fault changes
	tokens  float64
	filled  time.Time
}

// input is all that the operations take.
type input struct {
	KeyID                        string            `json:"KeyId"`
	KeySpec                      string            `json:"KeySpec"`
	EncryptionContext            map[string]string `json:"EncryptionContext"`
	CiphertextBlob               []byte            `json:"CiphertextBlob"`
	Plaintext                    []byte            `json:"Plaintext"`
	SourceKeyID                  string            `json:"SourceKeyId"`
	SourceEncryptionContext      map[string]string `json:"SourceEncryptionContext"`
	DestinationKeyID             string            `json:"DestinationKeyId"`
	DestinationEncryptionContext map[string]string `json:"DestinationEncryptionContext"`
	Limit                        int               `json:"Limit"`
	Marker                       string            `json:"Marker"`
}

func (s *server) serveKMS(w http.ResponseWriter, r *http.Request) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	s.count(operation)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	w.Header().Set("X-Amzn-Requestid", hex.EncodeToString(id))
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if s.misbehave(w, r) {
		return
	}
	if !ok || r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		fail(w, http.StatusBadRequest, &apiError{"UnknownOperationException", ""})
		return
	}
	region, failed := authenticate(r, body)
	if failed != nil {
		fail(w, http.StatusBadRequest, failed)
		return
	}
	var in input
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		fail(w, http.StatusBadRequest, &apiError{"SerializationException", err.Error()})
		return
	}
	out, failed := s.run(operation, region, &in)
	if failed != nil {
		fail(w, http.StatusBadRequest, failed)
		return
	}
	if s.lies() && out["KeyId"] != nil {
		out["KeyId"] = "arn:aws:kms:" + region + ":" + Account + ":key/00000000-0000-0000-0000-000000000001"
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (s *server) lies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault.Lie
}

func fail(w http.ResponseWriter, status int, e *apiError) {
	w.Header().Set("X-Amzn-Errortype", e.Type)
	w.WriteHeader(status)
	body := map[string]string{"__type": e.Type}
	if e.Message != "" {
		body["message"] = e.Message
	}
	_ = json.NewEncoder(w).Encode(body)
}

// usable finds a key and checks, in this order, that the caller may do the action and that the key's state serves.
func (s *server) usable(region, name, action string) (*replica, *material, *apiError) {
	r, failed := s.store.resolve(region, name)
	switch {
	case failed != nil:
		return nil, nil, failed
	case r.Denied[action]:
		return nil, nil, r.allows(action)
	case r.State == Disabled:
		return nil, nil, &apiError{"DisabledException", r.arn() + " is disabled."}
	case r.State != Enabled:
		return nil, nil, &apiError{"KMSInvalidStateException", r.arn() + " is pending deletion."}
	}
	return r, s.store.Materials[r.ID], nil
}

// allows tells that the caller may not do the action, if it may not.
func (r *replica) allows(action string) *apiError {
	if !r.Denied[action] {
		return nil
	}
	return &apiError{
		"AccessDeniedException", "User: arn:aws:sts::" + Account + ":assumed-role/vault/test is not authorized to perform: kms:" + action + " on resource: " + r.arn(),
	}
}

// opened decrypts, under the key that is named or, without a name, the one that the ciphertext names.
func (s *server) opened(region, name, action string, blob []byte, ec map[string]string) (*replica, []byte, *apiError) {
	if len(blob) < 1 || len(blob) > 6144 {
		return nil, nil, &apiError{"ValidationException", "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint"}
	}
	id, _, _, ok := header(blob)
	if name == "" {
		if !ok {
			return nil, nil, errCiphertext
		}
		name = id
	}
	r, m, failed := s.usable(region, name, action)
	switch {
	case failed != nil:
		return nil, nil, failed
	case !ok:
		return nil, nil, errCiphertext
	case id != r.ID:
		return nil, nil, &apiError{"IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."}
	}
	plaintext, failed := m.open(blob, ec)
	return r, plaintext, failed
}

func (s *server) run(operation, region string, in *input) (map[string]any, *apiError) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	switch operation {
	case "GenerateDataKey":
		r, m, failed := s.usable(region, in.KeyID, operation)
		if failed != nil {
			return nil, failed
		}
		if in.KeySpec != "AES_256" {
			return nil, &apiError{"ValidationException", "KeySpec must be AES_256 here"}
		}
		plaintext := newBacking()
		return map[string]any{"KeyId": r.arn(), "Plaintext": plaintext, "CiphertextBlob": m.seal(r.ID, plaintext, in.EncryptionContext)}, nil
	case "Encrypt":
		r, m, failed := s.usable(region, in.KeyID, operation)
		if failed != nil {
			return nil, failed
		}
		if len(in.Plaintext) < 1 || len(in.Plaintext) > 4096 {
			return nil, &apiError{"ValidationException", "Plaintext has 1 to 4096 bytes"}
		}
		return map[string]any{"KeyId": r.arn(), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "CiphertextBlob": m.seal(r.ID, in.Plaintext, in.EncryptionContext)}, nil
	case "Decrypt":
		r, plaintext, failed := s.opened(region, in.KeyID, operation, in.CiphertextBlob, in.EncryptionContext)
		if failed != nil {
			return nil, failed
		}
		return map[string]any{"KeyId": r.arn(), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "Plaintext": plaintext}, nil
	case "ReEncrypt":
		source, plaintext, failed := s.opened(region, in.SourceKeyID, "ReEncryptFrom", in.CiphertextBlob, in.SourceEncryptionContext)
		if failed != nil {
			return nil, failed
		}
		r, m, failed := s.usable(region, in.DestinationKeyID, "ReEncryptTo")
		if failed != nil {
			return nil, failed
		}
		return map[string]any{
			"KeyId": r.arn(), "SourceKeyId": source.arn(), "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
			"DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "CiphertextBlob": m.seal(r.ID, plaintext, in.DestinationEncryptionContext),
		}, nil
	case "DescribeKey":
		return s.describe(region, in.KeyID)
	case "ListKeyRotations":
		return s.rotations(region, in)
	default:
		return nil, &apiError{"UnknownOperationException", ""}
	}
}

// describe works in any state of the key.
func (s *server) describe(region, name string) (map[string]any, *apiError) {
	r, failed := s.store.resolve(region, name)
	if failed != nil {
		return nil, failed
	}
	return map[string]any{"KeyMetadata": map[string]any{
		"AWSAccountId": Account, "KeyId": r.ID, "Arn": r.arn(), "KeyState": r.State, "Enabled": r.State == Enabled,
		"KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", "MultiRegion": strings.HasPrefix(r.ID, "mrk-"),
	}}, nil
}

// rotations lists a key's rotations, the oldest first and a page at a time. It works in any state of the key.
func (s *server) rotations(region string, in *input) (map[string]any, *apiError) {
	r, failed := s.store.resolve(region, in.KeyID)
	if failed != nil {
		return nil, failed
	}
	if failed := r.allows("ListKeyRotations"); failed != nil {
		return nil, failed
	}
	all, limit, from := s.store.Materials[r.ID].Rotations, 100, 0
	if in.Limit != 0 {
		limit = in.Limit
	}
	if in.Marker != "" {
		n, err := strconv.Atoi(in.Marker)
		if err != nil || n < 0 || n > len(all) {
			return nil, &apiError{"InvalidMarkerException", "Invalid marker"}
		}
		from = n
	}
	if limit < 1 || limit > 1000 {
		return nil, &apiError{"ValidationException", "Limit is 1 to 1000"}
	}
	list := []map[string]any{}
	to := min(len(all), from+limit)
	for _, at := range all[from:to] {
		list = append(list, map[string]any{"KeyId": r.ID, "RotationDate": at.Unix(), "RotationType": "ON_DEMAND"})
	}
	out := map[string]any{"Rotations": list, "Truncated": to < len(all)}
	if to < len(all) {
		out["NextMarker"] = strconv.Itoa(to)
	}
	return out, nil
}
