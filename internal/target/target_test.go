package target

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestI7_OnlyAKnownClassIsAVerdict(t *testing.T) {
	t.Parallel()
	for _, class := range []Class{Transient, Authentication, Policy, Permanent, Outdated} {
		err := fmt.Errorf("outer: %w", &Error{Class: class, Message: "no"})
		if got := ClassOf(err); got != class {
			t.Errorf("%s is taken for %s", class, got)
		}
	}
	for name, err := range map[string]error{
		"an unknown error": errors.New("policy"), "no class": &Error{}, "a class that there is not": &Error{Class: "fatal"},
		"a nil *Error": (*Error)(nil), "nil": nil,
	} {
		if got := ClassOf(err); got != Transient {
			t.Errorf("%s is taken for %s", name, got)
		}
	}
}

func TestI1_TextHoldsNeitherCauseNorCredential(t *testing.T) {
	t.Parallel()
	const canary = "Zk7-canary-Qv9"
	cause := errors.New(canary)
	err := &Error{Class: Policy, Message: "SQLSTATE 22023", Err: cause}
	credential := Credential{Username: "app", Password: sensitive.CopyString(canary)}
	defer credential.Password.Release()
	if text := fmt.Sprintf("%v %s %q %+v", err, fmt.Errorf("outer: %w", err), error(err), credential); strings.Contains(text, canary) {
		t.Errorf("the text is %s", text)
	}
	if err.Error() != "policy: SQLSTATE 22023" || !errors.Is(err, cause) {
		t.Errorf("error %q, or its cause is lost", err)
	}
}
