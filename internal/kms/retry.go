package kms

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

const (
	// callTimeout bounds a call with all its attempts, attemptTimeout one attempt. KMS answers within milliseconds.
	callTimeout    = 8 * time.Second
	attemptTimeout = 2 * time.Second
	// The pause before attempt n+1 is random, up to retryBase times 2^(n-1) and at most retryMost.
	retryBase = 50 * time.Millisecond
	retryMost = 2 * time.Second
)

// retryer says when the SDK tries again. The SDK makes the attempts; it asks here before each, and tells what came of it.
// There is one for each call, which knows the call's deadline.
type retryer struct {
	*retry.Standard
	breaker  *breaker
	pace     *pace
	clock    func() time.Time
	deadline time.Time
	attempt  func(Class) // told of each attempt; the class is empty if it succeeded
}

// standardRetryer holds what all calls have in common. The SDK's own quota of retries is off: the breaker and the pace know
// better when to stop.
func standardRetryer(retries int) *retry.Standard {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = retries + 1
		o.RateLimiter = ratelimit.None
	})
}

// IsErrorRetryable is what this package takes for transient, and what the SDK does: it also knows a clock that is off.
func (r *retryer) IsErrorRetryable(err error) bool {
	return classify(err).isTransient() || r.Standard.IsErrorRetryable(err)
}

// RetryDelay gives the random pause before the next attempt, or what the last one found if no time is left for another.
func (r *retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	most := retryMost
	if shift := attempt - 1; shift < 6 { // 50 ms << 6 is more than the most
		most = min(retryMost, retryBase<<max(0, shift))
	}
	delay := jitter(most)
	if !r.clock().Add(delay).Before(r.deadline) {
		return 0, fmt.Errorf("no time is left for another attempt: %w", err)
	}
	return delay, nil
}

// GetAttemptToken returns when an attempt may be made, or why it may not.
func (r *retryer) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	if err := r.breaker.blocks(); err != nil { // before anybody waits for a turn that would come to nothing
		return nil, err
	}
	if err := r.pace.wait(ctx); err != nil {
		return nil, err
	}
	generation, err := r.breaker.allow()
	if err != nil {
		return nil, err
	}
	return func(err error) error {
		var c Class
		o := alive
		if err != nil {
			switch c = classify(err); {
			case c == ClassCanceled, c == ClassCredentials, ctx.Err() != nil:
				o = nothing // what a caller's own deadline cut short tells nothing of KMS
			case c == ClassUnavailable:
				o = dead
			}
		}
		r.breaker.done(generation, o)
		if o == alive {
			r.pace.done(c == ClassThrottled)
		}
		r.attempt(c)
		return nil
	}, nil
}

var _ aws.RetryerV2 = (*retryer)(nil)

// jitter is a random time below d.
func jitter(d time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails: the program would have ended
	return time.Duration(float64(d) * (float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)))
}
