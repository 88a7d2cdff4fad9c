-- +goose Up
-- Row security on every table, and what each binary's group role may do. The tables are taken from the catalogue, so that
-- none can be forgotten; grants are the least that work.
SET LOCAL ROLE vault_owner;

-- +goose StatementBegin
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT c.relname FROM pg_class c
             WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE vault.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t.relname);
        EXECUTE format('REVOKE ALL ON vault.%I FROM PUBLIC', t.relname);
    END LOOP;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA vault FROM PUBLIC;

-- vault_api: serves reads and admin writes. It can't touch shipping cursors or the keyring's rows, and can't move a row: the
-- columns that bind a ciphertext to its place are written once. A row lock (SELECT … FOR UPDATE) needs UPDATE on some column.
GRANT SELECT, UPDATE (epoch, mac, key_id) ON vault.authz_state TO vault_api;
GRANT SELECT ON vault.keyring TO vault_api;
GRANT SELECT, INSERT, DELETE, UPDATE (mac, key_id) ON vault.roles TO vault_api;
GRANT SELECT, INSERT, DELETE ON vault.role_permissions TO vault_api;
GRANT SELECT, INSERT, DELETE, UPDATE (revoked_at, mac, key_id) ON vault.admin_tokens TO vault_api;
GRANT SELECT, INSERT, UPDATE (last_used_at) ON vault.token_uses TO vault_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.auth_lockouts TO vault_api;
GRANT SELECT, INSERT, DELETE, UPDATE (description, rotation_interval_secs, grace_period_secs, current_version, next_rotation_at,
                                      target, custom_metadata, updated_at, mac, key_id) ON vault.secrets TO vault_api;
GRANT SELECT, INSERT, DELETE, UPDATE (state, expires_at, mac, key_id) ON vault.secret_versions TO vault_api;
GRANT SELECT, INSERT, UPDATE ON vault.rotation_jobs TO vault_api;
GRANT SELECT, INSERT, DELETE ON vault.idempotency_keys TO vault_api;
GRANT SELECT, INSERT, UPDATE (state, head_seq, head_mac, head_at, closed_at) ON vault.audit_streams TO vault_api;
GRANT SELECT, INSERT ON vault.audit_log TO vault_api;
GRANT EXECUTE ON FUNCTION vault.ensure_audit_partitions(integer) TO vault_api;

-- vault_rotator: works on versions and jobs, re-wraps DEKs; sees no tokens.
GRANT SELECT ON vault.authz_state, vault.keyring TO vault_rotator;
GRANT SELECT, UPDATE (current_version, next_rotation_at, updated_at, mac, key_id) ON vault.secrets TO vault_rotator;
GRANT SELECT, INSERT, DELETE, UPDATE (state, expires_at, kms_key_id, wrapped_dek, wrapped_at, mac, key_id)
    ON vault.secret_versions TO vault_rotator;
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.rotation_jobs TO vault_rotator;
GRANT SELECT, DELETE ON vault.idempotency_keys TO vault_rotator;
GRANT SELECT, INSERT, UPDATE (state, head_seq, head_mac, head_at, closed_at) ON vault.audit_streams TO vault_rotator;
GRANT SELECT, INSERT ON vault.audit_log TO vault_rotator;
GRANT EXECUTE ON FUNCTION vault.ensure_audit_partitions(integer) TO vault_rotator;

-- vault_auditship: follows the trail; sees no secret and no token.
GRANT SELECT ON vault.authz_state, vault.keyring, vault.audit_streams, vault.audit_log TO vault_auditship;
GRANT SELECT, INSERT, UPDATE ON vault.ship_cursors TO vault_auditship;
GRANT EXECUTE ON FUNCTION vault.drop_audit_partition(date) TO vault_auditship;

-- vault_operator: the CLI's offline commands: init, token recover, audit verify. It sees that secrets exist, not what
-- they hold.
GRANT SELECT, INSERT, UPDATE (epoch, mac, key_id) ON vault.authz_state TO vault_operator;
GRANT SELECT, INSERT ON vault.keyring TO vault_operator;
GRANT SELECT, INSERT, UPDATE (mac, key_id) ON vault.roles TO vault_operator;
GRANT SELECT, INSERT, DELETE ON vault.admin_tokens TO vault_operator;
GRANT SELECT (id) ON vault.secrets TO vault_operator;
GRANT SELECT, INSERT, UPDATE (state, head_seq, head_mac, head_at, closed_at) ON vault.audit_streams TO vault_operator;
GRANT SELECT, INSERT ON vault.audit_log TO vault_operator;
GRANT EXECUTE ON FUNCTION vault.ensure_audit_partitions(integer) TO vault_operator;

-- A grant alone shows no row: each group role that was granted a table gets its policy, taken from the catalogue.
-- +goose StatementBegin
DO $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT DISTINCT c.relname, r.rolname
             FROM pg_class c
             JOIN pg_roles r ON r.rolname IN ('vault_api', 'vault_rotator', 'vault_auditship', 'vault_operator')
             WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_version'
               AND has_any_column_privilege(r.oid, c.oid, 'SELECT') LOOP
        EXECUTE format('CREATE POLICY %I ON vault.%I FOR ALL TO %I USING (true) WITH CHECK (true)',
            g.rolname, g.relname, g.rolname);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- What vault.drop_audit_partition reads as its owner.
CREATE POLICY retention ON vault.audit_log FOR SELECT TO vault_owner USING (true);
CREATE POLICY retention ON vault.ship_cursors FOR SELECT TO vault_owner USING (true);

RESET ROLE;
