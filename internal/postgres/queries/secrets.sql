-- name: InsertSecret :exec
-- A secret and its first version, in one statement.
WITH secret AS (
    INSERT INTO vault.secrets (id, name, kind, format, description, rotation_interval_secs, grace_period_secs, current_version,
                               next_rotation_at, target, rotation, custom_metadata, created_at, updated_at, revision, versions_digest, mac, key_id)
    VALUES (@id, @name, @kind, @format, @description, @rotation_interval_secs, @grace_period_secs, 1,
            @next_rotation_at, @target, @rotation, @custom_metadata, @created_at, @created_at, 1, @versions_digest, @mac, @key_id)
)
INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext,
                                   created_at, wrapped_at, mac, key_id)
VALUES (@id, 1, @version_uid, 'current', @kms_key_id, @wrapped_dek, @nonce, @ciphertext, @created_at, @created_at, @version_mac, @key_id);

-- name: InsertVersion :exec
INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext,
                                   created_at, wrapped_at, mac, key_id)
VALUES (@secret_id, @version, @version_uid, @state, @kms_key_id, @wrapped_dek, @nonce, @ciphertext, @created_at, @created_at,
        @mac, @key_id);

-- name: LockSecret :one
SELECT sqlc.embed(s), now()::timestamptz AS read_at,
       EXISTS (SELECT FROM vault.deleted_secrets d WHERE d.secret_id = s.id)::boolean AS deleted
FROM vault.secrets s WHERE s.name = $1 FOR UPDATE OF s;

-- name: SecretByName :one
SELECT sqlc.embed(s), now()::timestamptz AS read_at,
       EXISTS (SELECT FROM vault.deleted_secrets d WHERE d.secret_id = s.id)::boolean AS deleted
FROM vault.secrets s WHERE s.name = $1;

-- name: Versions :many
-- All versions of a secret, with the hash of each ciphertext. Read under the secret's lock, or in one snapshot with it.
SELECT secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, sha256(ciphertext)::bytea AS ciphertext_sha256,
       created_at, expires_at, wrapped_at, mac, key_id
FROM vault.secret_versions WHERE secret_id = $1 ORDER BY version;

-- name: Ciphertext :one
-- That of one version, of a secret whose row is locked.
SELECT ciphertext FROM vault.secret_versions WHERE secret_id = @secret_id AND version = @version AND version_uid = @version_uid;

-- name: VersionsToRewrap :many
-- A page of all versions by secret and number, behind a given one, with how they are wrapped.
SELECT v.secret_id, s.name, v.version, v.version_uid, v.kms_key_id, v.wrapped_dek, v.wrapped_at
FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
WHERE (v.secret_id, v.version) > (@secret_id::uuid, @version::bigint)
ORDER BY v.secret_id, v.version LIMIT @max_rows;

-- name: TakeWork :one
-- Whether this session got to do some work alone, until it ends.
SELECT pg_try_advisory_lock(hashtextextended('vault.' || @work::text, 0))::boolean AS taken;

-- name: RewrapVersion :execrows
UPDATE vault.secret_versions
SET kms_key_id = @kms_key_id, wrapped_dek = @wrapped_dek, wrapped_at = @wrapped_at, mac = @mac, key_id = @key_id
WHERE secret_id = @secret_id AND version = @version AND version_uid = @version_uid AND wrapped_dek = @old_wrapped_dek;

-- name: SupersedeVersion :execrows
UPDATE vault.secret_versions
SET state = 'superseded', expires_at = @expires_at, mac = @mac, key_id = @key_id
WHERE secret_id = @secret_id AND version = @version AND version_uid = @version_uid AND state = 'current';

-- name: RemoveEndedVersions :execrows
DELETE FROM vault.secret_versions
WHERE secret_id = @secret_id AND version = ANY (@versions::bigint[]) AND state = 'superseded' AND expires_at <= now();

-- name: UpdateSecret :execrows
-- Everything of a secret that changes.
UPDATE vault.secrets
SET description = @description, rotation_interval_secs = @rotation_interval_secs, grace_period_secs = @grace_period_secs,
    current_version = @current_version, next_rotation_at = @next_rotation_at, target = @target, rotation = @rotation,
    custom_metadata = @custom_metadata,
    updated_at = @updated_at, revision = @revision, versions_digest = @versions_digest, mac = @mac, key_id = @key_id
WHERE id = @id AND revision = @base_revision;

-- name: DeleteSecret :execrows
-- What remains of it is written in the same statement.
WITH tombstone AS (
    INSERT INTO vault.deleted_secrets (secret_id, name, revision, deleted_at, mac, key_id)
    VALUES (@id, @name, @revision, @deleted_at, @mac, @key_id)
)
DELETE FROM vault.secrets s WHERE s.id = @id AND s.revision = @base_revision;

-- name: DeletedSecret :one
SELECT secret_id, name, revision, deleted_at, mac, key_id FROM vault.deleted_secrets WHERE secret_id = $1;

-- name: ListSecrets :many
-- By name in byte order. Bounds on name let the index serve a prefix; @upper is the first name past the prefix, NULL when
-- there is none. The caller's scope is either everything, or exact names and prefixes.
SELECT sqlc.embed(s),
       EXISTS (SELECT FROM vault.deleted_secrets d WHERE d.secret_id = s.id)::boolean AS deleted
FROM vault.secrets s
WHERE s.name > @after AND s.name >= @prefix AND (sqlc.narg(upper)::text IS NULL OR s.name < sqlc.narg(upper)::text)
  AND (@everything::boolean
       OR s.name = ANY (@exact::text[])
       OR EXISTS (SELECT FROM unnest(@prefixes::text[]) AS p WHERE starts_with(s.name, p)))
ORDER BY s.name
LIMIT @max_rows;

-- name: SecretTotals :one
SELECT (SELECT count(*) FROM vault.secrets)::bigint AS secrets,
       (SELECT count(*) FROM vault.secret_versions)::bigint AS versions,
       (SELECT count(*) FROM vault.secrets WHERE next_rotation_at <= now())::bigint AS overdue;
