package kms

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
)

func TestHealth_OneDenialHidesNoOther(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/k"
	var log bytes.Buffer
	a, err := NewAWS(t.Context(), AWSConfig{KeyID: arn, Region: "eu-central-1", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range 3 {
		for _, operation := range []string{"GenerateDataKey", "Decrypt"} {
			_ = a.failed(&callError{operation, arn, ClassDenied, io.EOF})
		}
	}
	for _, want := range []string{"denies kms:GenerateDataKey on " + arn, "denies kms:Decrypt on " + arn} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", want, n, log.String())
		}
	}
}
