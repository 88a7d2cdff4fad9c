-- +goose Up
-- What `sealkeep doctor` reads to verify every row: all that a MAC covers, and of a ciphertext its hash alone, so that the operator's
-- login, which has the KMS in hand, still can't open a value past the audit trail.
SET LOCAL ROLE vault_owner;

GRANT SELECT ON vault.secrets, vault.deleted_secrets TO vault_operator;
GRANT SELECT (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, created_at, expires_at, wrapped_at, mac, key_id)
    ON vault.secret_versions TO vault_operator;
CREATE POLICY vault_operator ON vault.deleted_secrets FOR ALL TO vault_operator USING (true) WITH CHECK (true);
CREATE POLICY vault_operator ON vault.secret_versions FOR ALL TO vault_operator USING (true) WITH CHECK (true);

-- The SHA-256 of each ciphertext of some secrets. It reads rows as vault_owner, through that role's own policy.
CREATE FUNCTION vault.ciphertext_hashes(ids uuid[]) RETURNS TABLE (secret_id uuid, version bigint, ciphertext_sha256 bytea)
    LANGUAGE sql
    STABLE
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.secret_id, v.version, sha256(v.ciphertext) FROM vault.secret_versions v WHERE v.secret_id = ANY (ids)
$$;
REVOKE ALL ON FUNCTION vault.ciphertext_hashes(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.ciphertext_hashes(uuid[]) TO vault_operator;
CREATE POLICY hashing ON vault.secret_versions FOR SELECT TO vault_owner USING (true);

RESET ROLE;
