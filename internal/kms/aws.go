package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// AWSConfig says which keys of AWS KMS to use, and how. Credentials come from the SDK's standard chain.
type AWSConfig struct {
	// KeyID is the key that new data keys are wrapped under: its id, its ARN, alias/NAME, or an alias's ARN.
	KeyID string
	// Allowed are the other keys that stored data keys may be under.
	Allowed []ARN
	// Region and Endpoint are the standard chain's where they are empty. An endpoint that isn't https is refused unless
	// it is a loopback address.
	Region, Endpoint string
	// Retries is how many more attempts a call makes that finds KMS throttling or unavailable.
	Retries int
	Log     *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: metrics are kept but not registered
	// Clock gives local time with a monotonic reading; nil means time.Now.
	Clock func() time.Time
}

// maxWrapped is the longest ciphertext that KMS takes, in bytes.
const maxWrapped = 6144

// AWS is the keeper that stands for AWS KMS, whose master keys never leave it. It is safe for concurrent use.
//
// A data key is unwrapped only under the key that its row names, and only if that key is allowed; KMS is asked for that key
// by its ARN, and must answer for it. Calls are tried again while KMS throttles or is unavailable, with random pauses and within
// their deadline; they are slowed down after KMS throttled, and fail at once for a moment after it was found down.
type AWS struct {
	client   *kms.Client
	http     *http.Client
	names    *keyNames
	standard *retry.Standard
	breaker  *breaker
	pace     *pace
	health   *health
	clock    func() time.Time
	closed   atomic.Bool
	rotated  atomic.Int64 // when its material was last rotated, in Unix microseconds; 0 as far as is known never
}

// NewAWS returns a keeper, and asks KMS nothing yet: see Resolve. The caller closes it.
func NewAWS(ctx context.Context, cfg AWSConfig) (*AWS, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	// No log mode is set, so that the SDK never logs a request or an answer.
	loaded, err := config.LoadDefaultConfig(ctx, func(o *config.LoadOptions) error {
		o.Region = cfg.Region
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		return nil, errors.New("AWS has no default Region: set AWS_REGION")
	}
	names, err := newKeyNames(cfg.KeyID, cfg.Allowed, loaded.Region)
	if err != nil {
		return nil, err
	}
	if loaded.Credentials == nil {
		loaded.Credentials = aws.AnonymousCredentials{}
	}
	client := newHTTPClient(loaded.HTTPClient)
	a := &AWS{
		http: client, names: names, standard: standardRetryer(cfg.Retries), clock: cfg.Clock,
		breaker: &breaker{clock: cfg.Clock, jitter: jitter}, pace: &pace{clock: cfg.Clock},
	}
	a.health = newHealth(a, cfg)
	a.client = kms.NewFromConfig(loaded, func(o *kms.Options) {
		o.Retryer, o.RetryMaxAttempts = a.standard, 0
		o.HTTPClient = secureOnly{client}
		o.Credentials = aws.NewCredentialsCache(guarded{loaded.Credentials})
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	return a, nil
}

// KeyID is the ARN of the key that new data keys are wrapped under, or what the operator wrote until that is known.
func (a *AWS) KeyID() string {
	if arn, known := a.names.current(); known {
		return arn.String()
	}
	return a.names.configured
}

// Resolve asks KMS which key an alias or a bare id names, by having a data key made that is thrown away: until then nothing
// that is stored could be told from what isn't allowed. A key that is configured by its ARN is known without asking.
func (a *AWS) Resolve(ctx context.Context) error {
	if a.names.byARN {
		return nil
	}
	key, err := a.GenerateDataKey(ctx, NewContext(Text("use", "probe")))
	if err != nil {
		return err
	}
	key.Plaintext.Release()
	return nil
}

// relearn is Resolve for a key that is only to wrap: it asks each time, as an alias may have moved, and needs the right to encrypt alone.
func (a *AWS) relearn(ctx context.Context) error {
	if a.names.byARN {
		return nil
	}
	_, _, err := a.WrapKey(ctx, sensitive.Take(make([]byte, DataKeySize)), NewContext(Text("use", "probe")))
	return err
}

// resolve is Resolve: it asks each time.
func (a *AWS) resolve(ctx context.Context) error { return a.Resolve(ctx) }

// isUnder tells whether the key that new data keys are wrapped under is the one of that id, and whether that can be told yet.
func (a *AWS) isUnder(keyID string) (same, known bool) { return a.names.wraps(keyID) }

// GenerateDataKey returns a fresh 256-bit key of KMS's, wrapped and bound to ec. Its errors are of kind Unavailable, but
// Internal if KMS answered for another key than it was asked for.
func (a *AWS) GenerateDataKey(ctx context.Context, ec Context) (DataKey, error) {
	var key DataKey
	err := a.call(ctx, "GenerateDataKey", a.names.asked, func(ctx context.Context, with func(*kms.Options)) error {
		out, err := a.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
			KeyId: aws.String(a.names.asked), KeySpec: types.DataKeySpecAes256, EncryptionContext: ec.Map(),
		}, with)
		if err != nil {
			return err
		}
		plaintext := sensitive.Take(out.Plaintext)
		if err := a.checkNew(plaintext, out.CiphertextBlob, aws.ToString(out.KeyId)); err != nil {
			plaintext.Release()
			return err
		}
		key = DataKey{Plaintext: plaintext, Wrapped: out.CiphertextBlob, KeyID: aws.ToString(out.KeyId)}
		return nil
	})
	return key, err
}

// WrapKey wraps a data key that exists already, bound to ec; it stays the caller's. Errors are as GenerateDataKey's.
func (a *AWS) WrapKey(ctx context.Context, key sensitive.Bytes, ec Context) (wrapped []byte, keyID string, err error) {
	err = a.call(ctx, "Encrypt", a.names.asked, func(ctx context.Context, with func(*kms.Options)) error {
		out, err := a.client.Encrypt(ctx, &kms.EncryptInput{
			KeyId: aws.String(a.names.asked), Plaintext: key.Reveal(), EncryptionContext: ec.Map(),
		}, with)
		if err != nil {
			return err
		}
		if err := a.checkNew(key, out.CiphertextBlob, aws.ToString(out.KeyId)); err != nil {
			return err
		}
		wrapped, keyID = out.CiphertextBlob, aws.ToString(out.KeyId)
		return nil
	})
	return wrapped, keyID, err
}

// checkNew checks that KMS gave a whole key, under the key that it was asked for, whose ARN it notes.
func (a *AWS) checkNew(plaintext sensitive.Bytes, wrapped []byte, keyID string) error {
	if plaintext.Len() != DataKeySize {
		return errNoWrapped
	}
	return a.checkWrapped(wrapped, keyID)
}

var errNoWrapped = errors.New("KMS gave something that is no wrapped 256-bit key")

// checkWrapped is checkNew where KMS alone sees the key.
func (a *AWS) checkWrapped(wrapped []byte, keyID string) error {
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return errNoWrapped
	}
	before := a.KeyID()
	moved, err := a.names.returned(keyID)
	if moved {
		a.health.log.Warn("the alias names another KMS key now: what is wrapped under the former one opens only if its ARN is in VAULT_KMS_ALLOWED_KEY_IDS",
			"alias", a.names.configured, "former", before, "key", keyID)
	}
	return err
}

// Decrypt unwraps a data key, which the caller releases. Errors are of kind Internal and wrap [ErrUnknownKey] if keyID
// isn't an allowed key, which KMS is never asked for, or if wrapped is under another one, and [ErrInvalidCiphertext] if wrapped is damaged
// or ec is another one. Others are of kind Unavailable.
func (a *AWS) Decrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (sensitive.Bytes, error) {
	arn, err := a.source("Decrypt", wrapped, keyID)
	if err != nil {
		return sensitive.Bytes{}, err
	}
	var key sensitive.Bytes
	err = a.call(ctx, "Decrypt", arn, func(ctx context.Context, with func(*kms.Options)) error {
		out, err := a.client.Decrypt(ctx, &kms.DecryptInput{
			CiphertextBlob: wrapped, KeyId: aws.String(arn), EncryptionContext: ec.Map(),
		}, with)
		if err != nil {
			return err
		}
		plaintext := sensitive.Take(out.Plaintext)
		if aws.ToString(out.KeyId) != arn {
			plaintext.Release()
			return errOtherKey
		}
		if plaintext.Len() != DataKeySize {
			plaintext.Release()
			return fmt.Errorf("%w: it holds no 256-bit key", &types.InvalidCiphertextException{})
		}
		key = plaintext
		return nil
	})
	return key, err
}

// source gives the ARN to ask KMS for to open what is stored. What isn't allowed, or can't be a wrapped key, fails without KMS being asked.
func (a *AWS) source(operation string, wrapped []byte, keyID string) (string, error) {
	arn, ok := a.names.find(keyID)
	if !ok {
		return "", a.failed(&callError{operation, keyID, ClassNotAllowed, fmt.Errorf("the row names the key %.100q", keyID)})
	}
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return "", a.failed(&callError{operation, arn, ClassInvalidCiphertext, fmt.Errorf("a wrapped key of %d bytes", len(wrapped))})
	}
	return arn, nil
}

// failed notes a call that failed, and makes what callers get of it.
func (a *AWS) failed(e *callError) error {
	a.health.failed(e)
	return failure(e)
}

// call runs one call to KMS, about a key, with its attempts, and notes how it went.
func (a *AWS) call(ctx context.Context, operation, key string, do func(context.Context, func(*kms.Options)) error) error {
	if a.closed.Load() {
		return fault.Wrap(fault.Internal, ErrClosed, "")
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	r := &retryer{
		Standard: a.standard, breaker: a.breaker, pace: a.pace, clock: a.clock, deadline: deadline, attempt: a.health.attempted,
	}
	started := a.clock()
	err := do(ctx, func(o *kms.Options) { o.Retryer = r })
	a.health.took(operation, a.clock().Sub(started))
	if err == nil {
		a.health.succeeded()
		return nil
	}
	return a.failed(&callError{operation, key, classify(err), err})
}

// Status tells how KMS is.
func (a *AWS) Status() Status { return a.health.status() }

// Close lets connections go; calls in flight end by themselves. It is idempotent; later calls fail.
func (a *AWS) Close() {
	a.closed.Store(true)
	a.http.CloseIdleConnections()
}
