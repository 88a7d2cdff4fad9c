-- name: SecretsPage :many
-- All secrets by id, behind a given one.
SELECT sqlc.embed(s), EXISTS (SELECT FROM vault.deleted_secrets d WHERE d.secret_id = s.id)::boolean AS deleted
FROM vault.secrets s WHERE s.id > @after ORDER BY s.id LIMIT @max_rows;

-- name: VersionsOf :many
-- All versions of some secrets, by secret and number, each with the hash of its ciphertext.
SELECT v.secret_id, v.version, v.version_uid, v.state, v.kms_key_id, v.wrapped_dek, v.nonce, vault.ciphertext_sha256(v.secret_id, v.version)::bytea AS ciphertext_sha256,
       v.created_at, v.expires_at, v.wrapped_at, v.mac, v.key_id
FROM vault.secret_versions v
WHERE v.secret_id = ANY (@secret_ids::uuid[])
ORDER BY v.secret_id, v.version;

-- name: DeletedSecretsPage :many
-- What remains of all deleted secrets, by id, behind a given one. An infinite time comes as one that no mac matches.
SELECT secret_id, name, revision, (CASE WHEN isfinite(deleted_at) THEN deleted_at ELSE 'epoch' END)::timestamptz AS deleted_at, mac, key_id
FROM vault.deleted_secrets WHERE secret_id > @after ORDER BY secret_id LIMIT @max_rows;

-- name: FetchesPage :many
-- What lets somebody fetch, behind a given one. An infinite time comes as one that no mac matches.
SELECT token_sha256, secret_id, version_uid, (CASE WHEN isfinite(created_at) THEN created_at ELSE 'epoch' END)::timestamptz AS created_at,
       (CASE WHEN isfinite(expires_at) THEN expires_at ELSE 'epoch' END)::timestamptz AS expires_at, mac, key_id
FROM vault.rotation_fetches WHERE token_sha256 > @after ORDER BY token_sha256 LIMIT @max_rows;

-- name: OpenTables :many
-- Tables of the schema on which row security is off, or not forced on their owner.
SELECT c.relname::text AS table_name FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
ORDER BY 1;

-- name: Guards :many
-- Triggers, policies, constraints, unique indexes and functions of the schema, each with what of it tells whether it does what it should
-- and is the same in every version of PostgreSQL.
SELECT 'trigger'::text AS kind, c.relname::text AS table_name, t.tgname::text AS name,
       concat_ws(' ', n.nspname || '.' || f.proname, t.tgtype, t.tgenabled, t.tgattr, t.tgqual IS NULL)::text AS definition
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE c.relnamespace = 'vault'::regnamespace AND NOT t.tgisinternal
UNION ALL
SELECT 'policy', p.tablename, p.policyname, concat_ws(' ', p.permissive, p.cmd, array_to_string(p.roles, ','), p.qual, p.with_check)
FROM pg_catalog.pg_policies p WHERE p.schemaname = 'vault'
UNION ALL
SELECT 'constraint', c.relname, k.conname, k.contype::text
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = 'vault'::regnamespace AND k.contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT 'unique index', c.relname, x.relname, ''
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'vault'::regnamespace AND i.indisunique
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid)
UNION ALL
SELECT 'function', '', f.proname, concat_ws(' ', pg_get_function_identity_arguments(f.oid), f.prosecdef, array_to_string(f.proconfig, ';'),
                                            encode(sha256(convert_to(f.prosrc, 'UTF8')), 'hex'))
FROM pg_catalog.pg_proc f WHERE f.pronamespace = 'vault'::regnamespace
ORDER BY 1, 2, 3;

-- name: StrongLogins :many
-- Members of the group roles that pass by row security.
SELECT DISTINCT l.rolname::text AS login
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles l ON l.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE g.rolname IN ('vault_api', 'vault_rotator', 'vault_auditship', 'vault_operator') AND l.rolcanlogin AND (l.rolsuper OR l.rolbypassrls)
ORDER BY 1;

-- name: AuditPartitions :many
-- The days that the audit trail has a partition for, as names, from the first on.
SELECT c.relname::text AS leaf FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'vault.audit_log'::regclass ORDER BY 1;

-- name: NewestStream :one
-- The stream that was written last, and on which server.
SELECT (CASE WHEN isfinite(head_at) THEN head_at ELSE 'epoch' END)::timestamptz AS head_at, system_id, timeline
FROM vault.audit_streams ORDER BY audit_streams.head_at DESC, stream_id LIMIT 1;
