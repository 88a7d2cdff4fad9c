package kms

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// ARN names a key of AWS KMS: arn:partition:kms:region:account:key/id.
type ARN struct{ partition, region, account, id string }

// multiRegionPrefix begins the id of a multi-Region key, which is the same for all its replicas.
const multiRegionPrefix = "mrk-"

var errNotARN = errors.New("isn't the ARN of a key: write arn:aws:kms:REGION:ACCOUNT:key/ID")

// ParseARN reads the ARN of a key, not of an alias.
func ParseARN(s string) (ARN, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "kms" {
		return ARN{}, errNotARN
	}
	id, ok := strings.CutPrefix(parts[5], "key/")
	if !ok || id == "" || parts[1] == "" || parts[3] == "" || parts[4] == "" || strings.ContainsAny(id, "/ \t\r\n") {
		return ARN{}, errNotARN
	}
	return ARN{partition: parts[1], region: parts[3], account: parts[4], id: id}, nil
}

// ParseARNs reads a list of ARNs, separated by commas or white space.
func ParseARNs(list string) ([]ARN, error) {
	var all []ARN
	for _, one := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
		arn, err := ParseARN(one)
		if err != nil {
			return nil, fmt.Errorf("entry %d %w", len(all)+1, err)
		}
		all = append(all, arn)
	}
	return all, nil
}

func (a ARN) String() string {
	return "arn:" + a.partition + ":kms:" + a.region + ":" + a.account + ":key/" + a.id
}

// Region is the Region that the key is in.
func (a ARN) Region() string { return a.region }

// in is the replica of a multi-Region key in a Region; any other key is itself.
func (a ARN) in(region string) ARN {
	if strings.HasPrefix(a.id, multiRegionPrefix) {
		a.region = region
	}
	return a
}

// keyNames knows the master key that new data keys are wrapped under, and which ones stored data keys may be under.
type keyNames struct {
	configured string // as the operator wrote it
	asked      string // what to ask KMS for: always an ARN if the operator gave one
	region     string
	byARN      bool  // configured is an ARN of a key
	allowed    []ARN // in this Region, where they have a replica

	mu   sync.RWMutex
	last ARN // what KMS last returned for configured; zero before it did
}

func newKeyNames(configured string, allowed []ARN, region string) (*keyNames, error) {
	k := &keyNames{configured: configured, asked: configured, region: region}
	for _, arn := range allowed {
		k.allowed = append(k.allowed, arn.in(region))
	}
	if err := CheckKeyID(configured); err != nil {
		return nil, fmt.Errorf("kms: %q %w", configured, err)
	}
	if arn, err := ParseARN(configured); err == nil {
		k.byARN, k.last = true, arn.in(region)
		k.asked = k.last.String()
	}
	return k, nil
}

// CheckKeyID refuses what can't name a key of AWS KMS: neither the id or ARN of a key nor the name or ARN of an alias.
func CheckKeyID(s string) error {
	if _, err := ParseARN(s); err == nil {
		return nil
	}
	parts := strings.Split(s, ":")
	isAliasARN := len(parts) == 6 && parts[0] == "arn" && parts[2] == "kms"
	alias := strings.TrimPrefix(parts[len(parts)-1], "alias/")
	switch {
	case strings.ContainsAny(s, " \t\r\n,") || alias == "":
	case strings.HasPrefix(parts[len(parts)-1], "alias/") && (len(parts) == 1 || isAliasARN):
		return nil
	case len(parts) == 1 && !strings.Contains(s, "/"):
		return nil
	}
	return errors.New("isn't a key: write its ARN or id, or alias/NAME or an alias's ARN")
}

// current is the ARN of the key that KMS is asked for, and whether it is known.
func (k *keyNames) current() (ARN, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.last, k.last != ARN{}
}

var errOtherKey = errors.New("KMS answered for another key than it was asked for")

// returned notes the ARN that KMS gave for the key that it was asked for, and says whether an alias names another key than it did before.
func (k *keyNames) returned(s string) (moved bool, err error) {
	arn, err := ParseARN(s)
	if err != nil {
		return false, fmt.Errorf("what KMS answered as the key %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byARN && arn != k.last {
		return false, errOtherKey
	}
	moved = k.last != ARN{} && k.last != arn
	k.last = arn
	return moved, nil
}

// wraps tells whether a stored key id is that of the key which KMS is asked for now, or of a replica of it in another Region; known is
// false as long as no answer of KMS has told which key that is.
func (k *keyNames) wraps(stored string) (same, known bool) {
	last, known := k.current()
	arn, err := ParseARN(stored)
	return known && err == nil && arn.in(k.region) == last, known
}

// find gives the ARN to ask this Region's KMS for to unwrap what is stored as being under a key, if that is an allowed one. A
// replica of a multi-Region key is the same key.
func (k *keyNames) find(stored string) (string, bool) {
	arn, err := ParseARN(stored)
	if err != nil {
		return "", false
	}
	arn = arn.in(k.region)
	if last, known := k.current(); known && arn == last {
		return arn.String(), true
	}
	for _, a := range k.allowed {
		if arn == a {
			return arn.String(), true
		}
	}
	return "", false
}
