package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func status(code int) error {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}}, Err: errors.New("x")}
}

func TestI4_EveryFailureHasItsClassAndKind(t *testing.T) {
	t.Parallel()
	pending := "arn:aws:kms:… is pending deletion."
	all := map[Class][]error{
		ClassThrottled: {
			&smithy.GenericAPIError{Code: "ThrottlingException"}, &smithy.GenericAPIError{Code: "TooManyRequestsException"},
			&types.LimitExceededException{}, status(429), errPaced,
		},
		ClassUnavailable: {
			&types.KMSInternalException{}, &types.DependencyTimeoutException{}, &types.KeyUnavailableException{}, status(500), status(503), errOpen,
			context.DeadlineExceeded, &smithyhttp.RequestSendError{Err: io.EOF}, &net.OpError{Op: "dial", Err: errors.New("refused")},
			&smithy.DeserializationError{Err: io.ErrUnexpectedEOF},
		},
		ClassCredentials: {
			&credentialsError{&net.OpError{Op: "dial", Err: errors.New("no metadata service")}}, &smithy.GenericAPIError{Code: "ExpiredTokenException"},
			&smithy.GenericAPIError{Code: "UnrecognizedClientException"}, &smithy.GenericAPIError{Code: "InvalidSignatureException"},
		},
		ClassDenied:            {&smithy.GenericAPIError{Code: "AccessDeniedException"}},
		ClassDisabled:          {&types.DisabledException{}, &types.KMSInvalidStateException{}},
		ClassPendingDeletion:   {&types.KMSInvalidStateException{Message: &pending}},
		ClassNotFound:          {&types.NotFoundException{}},
		ClassInvalidCiphertext: {&types.InvalidCiphertextException{}},
		ClassIncorrectKey:      {&types.IncorrectKeyException{}, errOtherKey},
		ClassCanceled:          {context.Canceled},
		ClassUnknown:           {errors.New("x"), &smithy.GenericAPIError{Code: "ValidationException"}, status(400), &types.InvalidKeyUsageException{}},
	}
	damage := map[Class]error{ClassInvalidCiphertext: ErrInvalidCiphertext, ClassIncorrectKey: ErrUnknownKey, ClassNotAllowed: ErrUnknownKey}
	for class, errs := range all {
		for _, bare := range errs {
			err := error(&smithy.OperationError{ServiceID: "KMS", OperationName: "Decrypt", Err: fmt.Errorf("no time is left: %w", bare)})
			if got := classify(err); got != class {
				t.Errorf("%v is %s, want %s", err, got, class)
			}
		}
	}
	for _, class := range Classes() {
		if len(all[class]) == 0 && class != ClassNotAllowed {
			t.Errorf("nothing was tried for %s", class)
		}
		err := failure(&callError{"Decrypt", "a-key", class, io.EOF})
		kind := fault.Unavailable
		if damage[class] != nil {
			kind = fault.Internal
			if !errors.Is(err, damage[class]) {
				t.Errorf("%s doesn't say what is damaged", class)
			}
		}
		if fault.KindOf(err) != kind || !errors.Is(err, io.EOF) {
			t.Errorf("%s is %v", class, err)
		}
		if Advice(err) == "" {
			t.Errorf("%s has no advice", class)
		}
	}
}

func TestADenialNamesTheRightAndTheKey(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"GenerateDataKey", "Decrypt", "Encrypt"} {
		advice := Advice(fmt.Errorf("doing something: %w", failure(&callError{operation, "a-key", ClassDenied, io.EOF})))
		if !strings.Contains(advice, "kms:"+operation+" on a-key") || strings.Count(advice, "kms:") != 1 {
			t.Errorf("denied %s: %s", operation, advice)
		}
	}
	if advice := Advice(io.EOF); advice != "" {
		t.Errorf("something else: %s", advice)
	}
}
