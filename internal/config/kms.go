package config

// kms reads where data keys come from.
func (s *source) kms() KMS {
	var v struct {
		Mode    string `env:"VAULT_KMS_MODE"`
		KeyID   string `env:"VAULT_KMS_KEY_ID"`
		Allowed string `env:"VAULT_KMS_ALLOWED_KEY_IDS"`
		Retries int64  `env:"VAULT_KMS_MAX_RETRIES"`
		Second  string `env:"VAULT_KMS_RECOVERY_KEY_ID"`
		Recover flag   `env:"VAULT_KMS_USE_RECOVERY"`
	}
	s.parse(&v)
	k := KMS{
		Mode: v.Mode, MasterKey: s.secret("VAULT_LOCAL_MASTER_KEY"),
		KeyID: v.KeyID, AllowedKeyIDs: v.Allowed, MaxRetries: int(v.Retries),
		RecoveryKeyID: v.Second, UseRecovery: bool(v.Recover),
		Region: s.environ["AWS_REGION"], Endpoint: s.environ["AWS_ENDPOINT_URL_KMS"],
	}
	k.MasterKeyVariable = "VAULT_LOCAL_MASTER_KEY"
	if s.environ[k.MasterKeyVariable] == "" && s.environ[k.MasterKeyVariable+"_FILE"] != "" {
		k.MasterKeyVariable += "_FILE"
	}
	if bool(v.Recover) && v.Second == "" {
		s.problem("VAULT_KMS_USE_RECOVERY", "needs VAULT_KMS_RECOVERY_KEY_ID, the key to use")
	}
	if v.Mode == "local" && v.Second != "" {
		s.problem("VAULT_KMS_RECOVERY_KEY_ID", "is a key of AWS KMS: leave it unset with VAULT_KMS_MODE=local")
	}
	switch v.Mode {
	case "local":
		if k.MasterKey.IsZero() && !s.isSet("VAULT_LOCAL_MASTER_KEY") {
			s.problem("VAULT_LOCAL_MASTER_KEY", "write the 32-byte master key as 64 hexadecimal digits or base64, or name a file that holds it in VAULT_LOCAL_MASTER_KEY_FILE")
		}
	case "aws":
		if k.KeyID == "" {
			s.problem("VAULT_KMS_KEY_ID", "name the key of AWS KMS that data keys are wrapped under, or write VAULT_KMS_MODE=local for development without AWS")
		}
	default:
		s.problem("VAULT_KMS_MODE", "write aws, or local for development")
	}
	return k
}
