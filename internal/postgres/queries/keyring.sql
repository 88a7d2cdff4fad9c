-- name: LockAuthzState :one
-- Whoever changes the keyring or the grants holds this row.
SELECT epoch FROM vault.authz_state FOR UPDATE;

-- name: Keys :many
-- An infinite time, which nothing of ours writes and the driver can't read, comes as one that no mac matches.
SELECT key_id, purpose, wrapped_key, public_key, kms_key_id,
       (CASE WHEN isfinite(created_at) THEN created_at ELSE 'epoch' END)::timestamptz AS created_at,
       (retired_at IS NOT NULL)::boolean AS retired,
       coalesce(CASE WHEN isfinite(retired_at) THEN retired_at END, 'epoch')::timestamptz AS retired_at, mac, mac_key_id
FROM vault.keyring ORDER BY keyring.created_at, key_id;

-- name: InsertKey :exec
INSERT INTO vault.keyring (key_id, purpose, wrapped_key, public_key, kms_key_id, created_at, mac, mac_key_id)
VALUES (@key_id, @purpose, @wrapped_key, @public_key, @kms_key_id, @created_at, @mac, @mac_key_id);

-- name: ChangeKey :execrows
-- All of a key that may ever change.
UPDATE vault.keyring SET wrapped_key = @wrapped_key, kms_key_id = @kms_key_id, retired_at = @retired_at, mac = @mac, mac_key_id = @mac_key_id
WHERE key_id = @key_id AND mac = @old_mac;

-- name: RemacRoles :execrows
UPDATE vault.roles r SET mac = n.mac, key_id = @key_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@macs::bytea[]) AS mac) n WHERE r.id = n.id;

-- name: RemacPermissions :execrows
UPDATE vault.role_permissions p SET mac = n.mac, key_id = @key_id
FROM (SELECT unnest(@role_ids::uuid[]) AS role_id, unnest(@actions::text[]) AS action, unnest(@paths::text[]) AS path,
             unnest(@macs::bytea[]) AS mac) n
WHERE p.role_id = n.role_id AND p.action = n.action AND p.path = n.path;

-- name: RemacTokens :execrows
UPDATE vault.admin_tokens t SET mac = n.mac, key_id = @key_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@macs::bytea[]) AS mac) n WHERE t.id = n.id;

-- name: SecretsToRemac :many
-- Secrets of which a row names another root, locked; those that somebody else holds are left to the next pass.
SELECT sqlc.embed(s), EXISTS (SELECT FROM vault.deleted_secrets d WHERE d.secret_id = s.id)::boolean AS deleted
FROM vault.secrets s
WHERE s.id > @after AND (s.key_id IS DISTINCT FROM @key_id::uuid
      OR EXISTS (SELECT FROM vault.secret_versions v WHERE v.secret_id = s.id AND v.key_id IS DISTINCT FROM @key_id::uuid))
ORDER BY s.id LIMIT @max_rows FOR UPDATE OF s SKIP LOCKED;

-- name: VersionsToRemac :many
-- All versions of locked secrets.
SELECT secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce,
       vault.ciphertext_sha256(secret_id, version)::bytea AS ciphertext_sha256, created_at, expires_at, wrapped_at, mac, key_id
FROM vault.secret_versions WHERE secret_id = ANY (@secret_ids::uuid[]) ORDER BY secret_id, version;

-- name: RemacVersions :execrows
UPDATE vault.secret_versions v SET mac = n.mac, key_id = @key_id
FROM (SELECT unnest(@secret_ids::uuid[]) AS secret_id, unnest(@versions::bigint[]) AS version, unnest(@macs::bytea[]) AS mac) n
WHERE v.secret_id = n.secret_id AND v.version = n.version;

-- name: RemacSecrets :execrows
UPDATE vault.secrets s SET mac = n.mac, key_id = @key_id, versions_digest = n.digest, revision = n.revision
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@revisions::bigint[]) AS revision, unnest(@digests::bytea[]) AS digest,
             unnest(@macs::bytea[]) AS mac) n
WHERE s.id = n.id AND s.revision = n.revision - 1;

-- name: TombstonesToRemac :many
SELECT secret_id, name, revision, (CASE WHEN isfinite(deleted_at) THEN deleted_at ELSE 'epoch' END)::timestamptz AS deleted_at, mac, key_id
FROM vault.deleted_secrets WHERE secret_id > @after AND key_id IS DISTINCT FROM @key_id::uuid
ORDER BY secret_id LIMIT @max_rows FOR UPDATE SKIP LOCKED;

-- name: RemacTombstones :execrows
UPDATE vault.deleted_secrets d SET mac = n.mac, key_id = @key_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@macs::bytea[]) AS mac) n WHERE d.secret_id = n.id;

-- name: StoredControl :one
-- What pauses all rotation. An infinite time comes as one that no mac matches.
SELECT paused, revision, (CASE WHEN isfinite(changed_at) THEN changed_at ELSE 'epoch' END)::timestamptz AS changed_at, mac, key_id
FROM vault.rotation_control;

-- name: RemacControl :execrows
UPDATE vault.rotation_control SET mac = @mac, key_id = @key_id WHERE revision = @revision AND mac = @old_mac;

-- name: RetireFetches :execrows
-- What lets somebody fetch under another root than this one.
DELETE FROM vault.rotation_fetches WHERE key_id IS DISTINCT FROM @key_id::uuid;

-- name: RowsNotUnder :one
-- How many rows name another root than this one.
SELECT (SELECT count(*) FROM vault.secrets WHERE key_id IS DISTINCT FROM @key_id::uuid)::bigint AS secrets,
       (SELECT count(*) FROM vault.secret_versions WHERE key_id IS DISTINCT FROM @key_id::uuid)::bigint AS versions,
       (SELECT count(*) FROM vault.deleted_secrets WHERE key_id IS DISTINCT FROM @key_id::uuid)::bigint AS tombstones,
       (SELECT count(*) FROM vault.rotation_control WHERE key_id IS DISTINCT FROM @key_id::uuid)::bigint AS controls,
       ((SELECT count(*) FROM vault.roles WHERE key_id IS DISTINCT FROM @key_id::uuid)
        + (SELECT count(*) FROM vault.role_permissions WHERE key_id IS DISTINCT FROM @key_id::uuid)
        + (SELECT count(*) FROM vault.admin_tokens WHERE key_id IS DISTINCT FROM @key_id::uuid)
        + (SELECT count(*) FROM vault.authz_state WHERE key_id IS DISTINCT FROM @key_id::uuid))::bigint AS grants;

-- name: Horizon :one
-- Every transaction below oldest has ended; those that begin to write from now on have next or more.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest, pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next;
