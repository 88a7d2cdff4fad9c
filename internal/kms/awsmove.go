package kms

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// rotationMargin is how long after a rotation of a key's material what was wrapped may still be under the former one: a key takes a while to be
// the same everywhere in KMS, and nobody's clock is KMS's. A rotation counts once it is that old, so that what is wrapped because of it is new enough.
const rotationMargin = 10 * time.Minute

// ReEncrypt wraps a stored data key under the key that new ones are wrapped under, and its current material. KMS does it: the data key doesn't
// leave it. The encryption context stays as it was, and is checked. Errors are as Decrypt's.
func (a *AWS) ReEncrypt(ctx context.Context, wrapped []byte, keyID string, ec Context) (moved []byte, movedID string, err error) {
	const operation = "ReEncrypt"
	arn, err := a.source(operation, wrapped, keyID)
	if err != nil {
		return nil, "", err
	}
	pairs := ec.Map()
	err = a.call(ctx, operation, arn, func(ctx context.Context, with func(*kms.Options)) error {
		out, err := a.client.ReEncrypt(ctx, &kms.ReEncryptInput{
			CiphertextBlob: wrapped, SourceKeyId: aws.String(arn), SourceEncryptionContext: pairs,
			DestinationKeyId: aws.String(a.names.asked), DestinationEncryptionContext: pairs,
		}, with)
		if err != nil {
			return err
		}
		if aws.ToString(out.SourceKeyId) != arn {
			return errOtherKey
		}
		if err := a.checkWrapped(out.CiphertextBlob, aws.ToString(out.KeyId)); err != nil {
			return err
		}
		moved, movedID = out.CiphertextBlob, aws.ToString(out.KeyId)
		return nil
	})
	return moved, movedID, err
}

// learnRotation asks when the key's material was last rotated. It takes a right that nothing else takes, so that it isn't noted as a failure of
// KMS when that is missing.
func (a *AWS) learnRotation(ctx context.Context) error {
	arn, known := a.names.current()
	if !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	r := &retryer{Standard: a.standard, breaker: a.breaker, pace: a.pace, clock: a.clock, deadline: deadline, attempt: func(Class) {}}
	last, settled := time.Time{}, a.clock().Add(-rotationMargin)
	pages := kms.NewListKeyRotationsPaginator(a.client, &kms.ListKeyRotationsInput{KeyId: aws.String(arn.String())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, func(o *kms.Options) { o.Retryer = r })
		if err != nil {
			class := classify(err)
			if class == ClassDenied {
				return fmt.Errorf("it isn't known when the material of %s was last rotated (kms:ListKeyRotations: %s): allow that, or run `sealkeep rewrap --all` after each rotation", arn, class)
			}
			return fmt.Errorf("it isn't known when the material of %s was last rotated (kms:ListKeyRotations: %s)", arn, class)
		}
		for i := range page.Rotations {
			if at := aws.ToTime(page.Rotations[i].RotationDate); at.After(last) && !at.After(settled) {
				last = at
			}
		}
	}
	if !last.IsZero() {
		a.rotated.Store(last.UnixMicro())
	}
	return nil
}

// isStale tells whether what was wrapped then may be under material that was rotated since.
func (a *AWS) isStale(wrappedAt time.Time) bool {
	rotated := a.rotated.Load()
	return rotated != 0 && wrappedAt.Before(time.UnixMicro(rotated).Add(rotationMargin))
}
