package kms_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
)

// The tests rest on a server that is strict; these hold it to that, with the SDK alone.

func client(t *testing.T, s *kmstest.Server, region string) *awskms.Client {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(region))
	if err != nil {
		t.Fatal(err)
	}
	return awskms.NewFromConfig(cfg, func(o *awskms.Options) {
		o.BaseEndpoint, o.Retryer = aws.String(s.URL), aws.NopRetryer{}
	})
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestServer_IsStrict(t *testing.T) {
	t.Parallel()
	s := kmstest.Start(t)
	key, other := s.CreateKey(t, kmsd.CreateKey{Alias: "alias/a"}), s.CreateKey(t, kmsd.CreateKey{})
	c := client(t, s, kmstest.Region)
	ec := map[string]string{"use": "test", "name": "a"}
	made, err := c.GenerateDataKey(t.Context(), &awskms.GenerateDataKeyInput{KeyId: aws.String("alias/a"), KeySpec: types.DataKeySpecAes256, EncryptionContext: ec})
	if err != nil || aws.ToString(made.KeyId) != key || len(made.Plaintext) != 32 {
		t.Fatalf("no data key: %v", err)
	}
	decrypt := func(c *awskms.Client, id string, blob []byte, ec map[string]string) error {
		in := &awskms.DecryptInput{CiphertextBlob: blob, EncryptionContext: ec}
		if id != "" {
			in.KeyId = aws.String(id)
		}
		out, err := c.Decrypt(t.Context(), in)
		if err == nil && !bytes.Equal(out.Plaintext, made.Plaintext) {
			t.Error("it decrypts to something else")
		}
		return err
	}
	damaged := bytes.Clone(made.CiphertextBlob)
	damaged[len(damaged)-1] ^= 1
	for name, one := range map[string]struct {
		id   string
		blob []byte
		ec   map[string]string
		want string
	}{
		"as it was made":       {key, made.CiphertextBlob, ec, ""},
		"without naming a key": {"", made.CiphertextBlob, ec, ""},
		"by the alias":         {"alias/a", made.CiphertextBlob, ec, ""},
		"another value":        {key, made.CiphertextBlob, map[string]string{"use": "test", "name": "b"}, "InvalidCiphertextException"},
		"a pair less":          {key, made.CiphertextBlob, map[string]string{"use": "test"}, "InvalidCiphertextException"},
		"a pair more":          {key, made.CiphertextBlob, map[string]string{"use": "test", "name": "a", "x": ""}, "InvalidCiphertextException"},
		"another case":         {key, made.CiphertextBlob, map[string]string{"Use": "test", "name": "a"}, "InvalidCiphertextException"},
		"no context":           {key, made.CiphertextBlob, nil, "InvalidCiphertextException"},
		"damaged":              {key, damaged, ec, "InvalidCiphertextException"},
		"cut off":              {key, made.CiphertextBlob[:20], ec, "InvalidCiphertextException"},
		"another key":          {other, made.CiphertextBlob, ec, "IncorrectKeyException"},
		"no such key":          {gone, made.CiphertextBlob, ec, "NotFoundException"},
		"another Region's key": {strings.Replace(key, kmstest.Region, "us-east-1", 1), made.CiphertextBlob, ec, "NotFoundException"},
		"no such alias":        {"alias/none", made.CiphertextBlob, ec, "NotFoundException"},
	} {
		if got := code(decrypt(c, one.id, one.blob, one.ec)); got != one.want {
			t.Errorf("%s: %q, want %q", name, got, one.want)
		}
	}
	if got := code(decrypt(client(t, s, "us-east-1"), key, made.CiphertextBlob, ec)); got != "NotFoundException" {
		t.Errorf("a Region without the key: %q", got)
	}
	s.Deny(t, key, "Decrypt")
	s.State(t, key, kmsd.Disabled)
	if got := code(decrypt(c, key, made.CiphertextBlob, ec)); got != "AccessDeniedException" {
		t.Errorf("who may not call learns of the key's state: %q", got)
	}
	s.Allow(t, key, "Decrypt")
	if got := code(decrypt(c, key, made.CiphertextBlob, ec)); got != "DisabledException" {
		t.Errorf("disabled: %q", got)
	}
	s.State(t, key, kmsd.PendingDeletion)
	if got := code(decrypt(c, key, made.CiphertextBlob, ec)); got != "KMSInvalidStateException" {
		t.Errorf("to be deleted: %q", got)
	}
	s.State(t, key, kmsd.Enabled)
	if got := code(decrypt(c, key, bytes.Repeat([]byte{1}, 6145), ec)); got != "ValidationException" {
		t.Errorf("longer than any ciphertext: %q", got)
	}
	s.Throttle(t, 0)
	if got := code(decrypt(c, key, made.CiphertextBlob, ec)); got != "ThrottlingException" {
		t.Errorf("throttled: %q", got)
	}
}

func TestServer_ReEncryptsAndListsRotations(t *testing.T) {
	t.Parallel()
	s := kmstest.Start(t)
	key, other := s.CreateKey(t, kmsd.CreateKey{}), s.CreateKey(t, kmsd.CreateKey{})
	c := client(t, s, kmstest.Region)
	ec := map[string]string{"use": "test"}
	sealed, err := c.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String(key), Plaintext: []byte("data"), EncryptionContext: ec})
	if err != nil {
		t.Fatal(err)
	}
	s.Rotate(t, key)
	moved, err := c.ReEncrypt(t.Context(), &awskms.ReEncryptInput{
		CiphertextBlob: sealed.CiphertextBlob, SourceKeyId: aws.String(key), SourceEncryptionContext: ec,
		DestinationKeyId: aws.String(other), DestinationEncryptionContext: ec,
	})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := c.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: moved.CiphertextBlob, KeyId: aws.String(other), EncryptionContext: ec})
	if err != nil || string(opened.Plaintext) != "data" {
		t.Errorf("what was moved doesn't open: %v", err)
	}
	reEncrypt := func(source string, from, to map[string]string) error {
		_, err := c.ReEncrypt(t.Context(), &awskms.ReEncryptInput{
			CiphertextBlob: sealed.CiphertextBlob, SourceKeyId: aws.String(source), SourceEncryptionContext: from,
			DestinationKeyId: aws.String(other), DestinationEncryptionContext: to,
		})
		return err
	}
	if got := code(reEncrypt(key, map[string]string{"use": "other"}, ec)); got != "InvalidCiphertextException" {
		t.Errorf("another context: %q", got)
	}
	if got := code(reEncrypt(other, ec, ec)); got != "IncorrectKeyException" {
		t.Errorf("another key: %q", got)
	}
	s.State(t, other, kmsd.Disabled)
	if got := code(reEncrypt(key, ec, ec)); got != "DisabledException" {
		t.Errorf("to a disabled key: %q", got)
	}
	s.Deny(t, key, "ReEncryptFrom")
	if got := code(reEncrypt(key, ec, ec)); got != "AccessDeniedException" {
		t.Errorf("denied: %q", got)
	}
	rotations, err := c.ListKeyRotations(t.Context(), &awskms.ListKeyRotationsInput{KeyId: aws.String(key)})
	if err != nil || len(rotations.Rotations) != 1 {
		t.Errorf("rotations: %v, %v", rotations, err)
	}
	s.Rotate(t, key)
	page, err := c.ListKeyRotations(t.Context(), &awskms.ListKeyRotationsInput{KeyId: aws.String(key), Limit: aws.Int32(1)})
	if err != nil || len(page.Rotations) != 1 || !page.Truncated {
		t.Errorf("the first page of rotations: %v, %v", page, err)
	}
	page, err = c.ListKeyRotations(t.Context(), &awskms.ListKeyRotationsInput{KeyId: aws.String(key), Limit: aws.Int32(1), Marker: page.NextMarker})
	if err != nil || len(page.Rotations) != 1 || page.Truncated {
		t.Errorf("the second page of rotations: %v, %v", page, err)
	}
	s.Deny(t, key, "ListKeyRotations")
	_, err = c.ListKeyRotations(t.Context(), &awskms.ListKeyRotationsInput{KeyId: aws.String(key)})
	if got := code(err); got != "AccessDeniedException" {
		t.Errorf("rotations, denied: %q", got)
	}
	described, err := c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String(key)})
	if err != nil || described.KeyMetadata.KeyState != types.KeyStateEnabled {
		t.Errorf("described: %v", err)
	}
}

func TestI5_AKeyThatExistsIsWrappedForItsPlace(t *testing.T) {
	t.Parallel()
	s := kmstest.Start(t)
	arn := s.CreateKey(t, kmsd.CreateKey{})
	keeper, err := kms.NewAWS(t.Context(), kms.AWSConfig{KeyID: arn, Region: kmstest.Region, Endpoint: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	key := sensitive.Copy(bytes.Repeat([]byte{7}, kms.DataKeySize))
	here, elsewhere := kms.NewContext(kms.Text("name", "a")), kms.NewContext(kms.Text("name", "b"))
	wrapped, keyID, err := keeper.WrapKey(t.Context(), key, here)
	if err != nil || keyID != arn {
		t.Fatalf("wrapped under %s: %v", keyID, err)
	}
	opened, err := keeper.Decrypt(t.Context(), wrapped, keyID, here)
	if err != nil || !sensitive.Equal(opened, key) {
		t.Errorf("it doesn't open: %v", err)
	}
	if _, err := keeper.Decrypt(t.Context(), wrapped, keyID, elsewhere); !errors.Is(err, kms.ErrInvalidCiphertext) || fault.KindOf(err) != fault.Internal {
		t.Errorf("in another place: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := keeper.Decrypt(ctx, wrapped, keyID, here); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("for nobody: %v", err)
	}
	if state := keeper.Status().State; state != "ok" {
		t.Errorf("a caller that left makes KMS %s", state)
	}
}
