-- +goose Up
-- Rows that can't be forged: what a secret's MAC covers beside its own columns, what remains of a secret that was deleted, and what
-- writing MACs and verifying the grants takes. A vault that was initialised before has no MACs, and no process works on it.
SET LOCAL ROLE vault_owner;

ALTER TABLE vault.secrets
    ADD COLUMN revision bigint NOT NULL DEFAULT 1 CHECK (revision > 0),
    ADD COLUMN versions_digest bytea;
-- Nothing of ours writes an infinite time, which the processes couldn't read, let alone verify.
ALTER TABLE vault.secrets ADD CONSTRAINT secrets_finite
    CHECK (isfinite(created_at) AND isfinite(updated_at) AND isfinite(next_rotation_at)) NOT VALID;
ALTER TABLE vault.secret_versions ADD CONSTRAINT secret_versions_finite
    CHECK (isfinite(created_at) AND isfinite(wrapped_at) AND isfinite(expires_at)) NOT VALID;
COMMENT ON COLUMN vault.secrets.revision IS 'Raised by every change of the secret or of its versions'' rows; it never goes back.';
COMMENT ON COLUMN vault.secrets.versions_digest IS 'SHA-256 over the macs of all its versions'' rows, by version.';

ALTER TABLE vault.keyring ADD COLUMN mac_key_id uuid;
COMMENT ON COLUMN vault.keyring.mac_key_id IS 'The row root that mac is under; key_id is the row''s own.';

CREATE TABLE vault.deleted_secrets (
    secret_id  uuid PRIMARY KEY,
    name       text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    revision   bigint NOT NULL CHECK (revision > 0),
    deleted_at timestamptz NOT NULL,
    mac        bytea,
    key_id     uuid
);
COMMENT ON TABLE vault.deleted_secrets IS 'What remains of a deleted secret, so that one that is merely gone is told from it.';
ALTER TABLE vault.deleted_secrets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
REVOKE ALL ON vault.deleted_secrets FROM PUBLIC;

GRANT UPDATE (revision, versions_digest) ON vault.secrets TO vault_api, vault_rotator;
GRANT SELECT, INSERT ON vault.deleted_secrets TO vault_api;
CREATE POLICY vault_api ON vault.deleted_secrets FOR ALL TO vault_api USING (true) WITH CHECK (true);

-- A data key that lacks the wrapping of one of two master keys gets it.
GRANT UPDATE (wrapped_dek, wrapped_at) ON vault.secret_versions TO vault_api;

-- token recover reads and verifies all grants before it adds one; with --discard-grants it removes them.
GRANT SELECT, DELETE ON vault.role_permissions TO vault_operator;
GRANT DELETE ON vault.roles TO vault_operator;
CREATE POLICY vault_operator ON vault.role_permissions FOR ALL TO vault_operator USING (true) WITH CHECK (true);

-- keyring rotate gives every row a MAC under a new root, keyring fill adds wrappings. Both verify all that a MAC covers, and write nothing
-- else. Of a ciphertext a MAC covers the hash, and that is all that is shown: with the ciphertext and the KMS in hand
-- every value could be opened past the audit trail.
GRANT UPDATE (wrapped_key, retired_at, mac, mac_key_id) ON vault.keyring TO vault_operator;
GRANT UPDATE (mac, key_id) ON vault.role_permissions, vault.admin_tokens TO vault_operator;
GRANT SELECT, UPDATE (revision, versions_digest, mac, key_id) ON vault.secrets TO vault_operator;
GRANT SELECT (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, created_at, expires_at, wrapped_at, mac, key_id),
      UPDATE (mac, key_id) ON vault.secret_versions TO vault_operator;
GRANT SELECT, UPDATE (mac, key_id) ON vault.deleted_secrets TO vault_operator;
CREATE POLICY vault_operator ON vault.secret_versions FOR ALL TO vault_operator USING (true) WITH CHECK (true);
CREATE POLICY vault_operator ON vault.deleted_secrets FOR ALL TO vault_operator USING (true) WITH CHECK (true);

CREATE FUNCTION vault.ciphertext_sha256(of_secret uuid, of_version bigint) RETURNS bytea
    LANGUAGE sql
    STABLE
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(v.ciphertext) FROM vault.secret_versions v WHERE v.secret_id = of_secret AND v.version = of_version
$$;
COMMENT ON FUNCTION vault.ciphertext_sha256(uuid, bigint) IS 'What a version''s MAC covers of its ciphertext, for who may not see that.';
CREATE POLICY hashing ON vault.secret_versions FOR SELECT TO vault_owner USING (true);
GRANT EXECUTE ON FUNCTION vault.ciphertext_sha256(uuid, bigint) TO vault_operator;

RESET ROLE;
