package config

// kms reads where data keys come from.
func (s *source) kms() KMS {
	var v struct {
		Mode string `env:"VAULT_KMS_MODE"`
	}
	s.parse(&v)
	k := KMS{Mode: v.Mode, MasterKey: s.secret("VAULT_LOCAL_MASTER_KEY")}
	switch v.Mode {
	case "local":
		if k.MasterKey.IsZero() && !s.isSet("VAULT_LOCAL_MASTER_KEY") {
			s.problem("VAULT_LOCAL_MASTER_KEY", "write the 32-byte master key as 64 hexadecimal digits or base64, or name a file that holds it in VAULT_LOCAL_MASTER_KEY_FILE")
		}
	case "aws":
		s.problem("VAULT_KMS_MODE", "AWS KMS, the default, isn't part of this release: write local, which is for development, as its master key lies on this host")
	default:
		s.problem("VAULT_KMS_MODE", "write local, the only mode of this release")
	}
	return k
}
