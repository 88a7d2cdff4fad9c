package kms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sealkeep/sealkeep/internal/fault"
)

// Class is what kind of failure a KMS's is. The names are labels of metrics and are shown in status.
type Class string

// The classes. What time or an operator can mend is 503 to a caller, what is damage is 500.
const (
	ClassThrottled         Class = "throttled"          // KMS, or our own pace after it did, refuses so many calls
	ClassUnavailable       Class = "unavailable"        // 5xx, the network, time running out
	ClassCredentials       Class = "credentials"        // there are none, or KMS doesn't take them
	ClassDenied            Class = "access_denied"      // a policy doesn't allow the call
	ClassDisabled          Class = "disabled"           // the key is disabled, or in another state that doesn't serve
	ClassPendingDeletion   Class = "pending_deletion"   // the key is about to be deleted
	ClassNotFound          Class = "not_found"          // there is no such key or alias
	ClassInvalidCiphertext Class = "invalid_ciphertext" // damaged, or of another encryption context: KMS doesn't say which
	ClassIncorrectKey      Class = "incorrect_key"      // wrapped under another key than its row says
	ClassNotAllowed        Class = "key_not_allowed"    // its row names a key that isn't allowed; KMS wasn't asked
	ClassCanceled          Class = "canceled"           // nobody waits for the answer any more
	ClassUnknown           Class = "unknown"            // anything else
)

// Classes lists the classes in a fixed order.
func Classes() []Class {
	return []Class{
		ClassThrottled, ClassUnavailable, ClassCredentials, ClassDenied, ClassDisabled, ClassPendingDeletion, ClassNotFound,
		ClassInvalidCiphertext, ClassIncorrectKey, ClassNotAllowed, ClassCanceled, ClassUnknown,
	}
}

// isLoss tells of classes that may mean that the key is lost for good.
func (c Class) isLoss() bool {
	return c == ClassDisabled || c == ClassPendingDeletion || c == ClassNotFound
}

// callError is a call to KMS that failed.
type callError struct {
	operation, key string // the key as KMS was asked for it
	class          Class
	err            error
}

func (e *callError) Error() string {
	return fmt.Sprintf("kms: %s under %.200s: %s: %v", e.operation, e.key, e.class, e.err)
}

func (e *callError) Unwrap() error { return e.err }

// Advice is what an operator can do about an error of a call to KMS; empty for any other.
func Advice(err error) string {
	var e *callError
	if !errors.As(err, &e) {
		return ""
	}
	return e.advice()
}

// advice is logged, or shown to who runs a command.
func (e *callError) advice() string {
	switch e.class {
	case ClassThrottled:
		return "KMS throttles: calls are slowed down; raise the account's quota or VAULT_DEK_CACHE_TTL_SECS"
	case ClassUnavailable:
		return "KMS doesn't answer: reads go on from the cache of data keys until its TTL"
	case ClassCredentials:
		return "there are no AWS credentials that KMS takes: look at the role or the AWS_* variables of this process"
	case ClassDenied:
		if e.operation == "ReEncrypt" {
			return "KMS denies kms:ReEncryptFrom on " + e.key + ", or kms:ReEncryptTo on the key in use: their policies or the role must allow it, and none may forbid it"
		}
		return "KMS denies kms:" + e.operation + " on " + e.key + ": the key's policy or the role must allow it, and neither may forbid it"
	case ClassDisabled:
		if e.operation == "ReEncrypt" {
			return "the KMS key " + e.key + ", or the one in use, is disabled or not usable: enable it"
		}
		return "the KMS key " + e.key + " is disabled or not usable: enable it"
	case ClassPendingDeletion:
		return "the KMS key " + e.key + " is to be deleted: cancel that now, for nothing that is wrapped under it opens without it"
	case ClassNotFound:
		return "KMS knows no key " + e.key + ": look at the variable that names it, the Region and the account"
	case ClassInvalidCiphertext:
		return "a wrapped key is damaged or belongs to another place: KMS doesn't say which"
	case ClassIncorrectKey:
		return "a wrapped key is under another KMS key than its row says"
	case ClassNotAllowed:
		return "a row names a KMS key that isn't allowed and wasn't asked for: if it is one of yours, add its ARN to VAULT_KMS_ALLOWED_KEY_IDS"
	default:
		return "KMS failed in a way that isn't known"
	}
}

// isDamage tells of classes that neither time nor the KMS's operator mends.
func (c Class) isDamage() bool {
	return c == ClassInvalidCiphertext || c == ClassIncorrectKey || c == ClassNotAllowed
}

// isTransient tells of classes where another attempt may succeed.
func (c Class) isTransient() bool { return c == ClassThrottled || c == ClassUnavailable }

// failure makes what callers get of an error of a class.
func failure(e *callError) error {
	kind, told := fault.Unavailable, *e
	switch e.class {
	case ClassInvalidCiphertext:
		kind, told.err = fault.Internal, fmt.Errorf("%w: %w", ErrInvalidCiphertext, e.err)
	case ClassIncorrectKey, ClassNotAllowed:
		kind, told.err = fault.Internal, fmt.Errorf("%w: %w", ErrUnknownKey, e.err)
	default:
	}
	return fault.Wrap(kind, &told, "")
}

// credentialsError says that no credentials could be had, whatever stood in the way: it isn't KMS that failed then.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "no AWS credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// classify finds the class of what the SDK or this package's own limits returned.
func classify(err error) Class {
	var credentials *credentialsError
	switch {
	case errors.As(err, &credentials):
		return ClassCredentials
	case errors.Is(err, errOpen):
		return ClassUnavailable
	case errors.Is(err, errPaced):
		return ClassThrottled
	case errors.Is(err, errOtherKey):
		return ClassIncorrectKey
	}
	if c := classifyModeled(err); c != "" {
		return c
	}
	if c := classifyCode(err); c != "" {
		return c
	}
	return classifyTransport(err)
}

// classifyModeled knows the errors that the service's model has.
func classifyModeled(err error) Class {
	var (
		disabled       *types.DisabledException
		state          *types.KMSInvalidStateException
		notFound       *types.NotFoundException
		ciphertext     *types.InvalidCiphertextException
		incorrect      *types.IncorrectKeyException
		internal       *types.KMSInternalException
		dependency     *types.DependencyTimeoutException
		keyUnavailable *types.KeyUnavailableException
	)
	switch {
	case errors.As(err, &disabled):
		return ClassDisabled
	case errors.As(err, &state):
		// KMS has one exception for every state that doesn't serve, and names the state in the message alone. No more than
		// a label and an advice rest on it.
		if strings.Contains(strings.ToLower(state.ErrorMessage()), "pending deletion") {
			return ClassPendingDeletion
		}
		return ClassDisabled
	case errors.As(err, &notFound):
		return ClassNotFound
	case errors.As(err, &ciphertext):
		return ClassInvalidCiphertext
	case errors.As(err, &incorrect):
		return ClassIncorrectKey
	case errors.As(err, &internal), errors.As(err, &dependency), errors.As(err, &keyUnavailable):
		return ClassUnavailable
	default:
		return ""
	}
}

// classifyCode knows the errors that every AWS service has and that no model lists.
func classifyCode(err error) Class {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	switch code := api.ErrorCode(); code {
	case "AccessDeniedException":
		return ClassDenied
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch",
		"IncompleteSignature", "IncompleteSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
		"ExpiredTokenException", "ExpiredToken", "RequestExpired", "OptInRequired", "NotAuthorized":
		return ClassCredentials
	default:
		if _, ok := retry.DefaultThrottleErrorCodes[code]; ok {
			return ClassThrottled
		}
		return ""
	}
}

// classifyTransport knows answers without a name, and the lack of an answer.
func classifyTransport(err error) Class {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		switch status := response.HTTPStatusCode(); {
		case status == http.StatusTooManyRequests:
			return ClassThrottled
		case status >= http.StatusInternalServerError:
			return ClassUnavailable
		}
	}
	var send *smithyhttp.RequestSendError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return ClassCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &send), errors.As(err, &network):
		return ClassUnavailable
	}
	var other smithy.APIError
	var deserialization *smithy.DeserializationError
	if errors.As(err, &deserialization) && !errors.As(err, &other) {
		return ClassUnavailable // an answer that broke off, or that isn't KMS's at all
	}
	return ClassUnknown
}
