package sealkeeptest

import (
	"os"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/kms"
)

// KMSEnviron is what vaults of tests have in their environment for their keys: a fresh local master key or, with
// SEALKEEP_TEST_KMS=aws, the AWS KMS that this process's own environment names, which `make test-aws` provides.
func KMSEnviron(t testing.TB) map[string]string {
	t.Helper()
	if os.Getenv("SEALKEEP_TEST_KMS") != "aws" {
		key, err := kms.NewMasterKeyText(nil)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": string(key)}
	}
	environ := map[string]string{"VAULT_KMS_MODE": "aws"}
	for _, name := range []string{"VAULT_KMS_KEY_ID", "AWS_REGION", "AWS_ENDPOINT_URL_KMS"} {
		value := os.Getenv(name)
		if value == "" {
			t.Fatalf("SEALKEEP_TEST_KMS=aws needs %s: run make test-aws", name)
		}
		environ[name] = value
	}
	return environ
}

// OfKMS gives the part of an environment that says where keys come from.
func OfKMS(environ map[string]string) map[string]string {
	part := map[string]string{}
	for name, value := range environ {
		if strings.HasPrefix(name, "VAULT_KMS_") || strings.HasPrefix(name, "VAULT_LOCAL_") || strings.HasPrefix(name, "AWS_") {
			part[name] = value
		}
	}
	return part
}
