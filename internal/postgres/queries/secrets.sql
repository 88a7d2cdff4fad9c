-- name: InsertSecret :one
INSERT INTO vault.secrets (id, name, kind, format, description, rotation_interval_secs, grace_period_secs,
                           current_version, next_rotation_at, custom_metadata)
VALUES (@id, @name, @kind, @format, @description, @rotation_interval_secs, @grace_period_secs,
        1, now() + make_interval(secs => sqlc.narg(next_rotation_in_secs)::float8), @custom_metadata)
RETURNING created_at;

-- name: InsertVersion :one
INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext)
VALUES (@secret_id, @version, @version_uid, 'current', @kms_key_id, @wrapped_dek, @nonce, @ciphertext)
RETURNING created_at;

-- name: LockSecret :one
SELECT id, name, kind, format, description, rotation_interval_secs, grace_period_secs, current_version,
       next_rotation_at, target, custom_metadata, created_at, updated_at, now()::timestamptz AS read_at
FROM vault.secrets WHERE name = $1 FOR UPDATE;

-- name: CurrentVersion :one
-- A secret with its current version. One whose current version's row is missing still yields a row, so that damage is told
-- from absence.
SELECT s.id AS secret_id, s.name, s.kind, s.format, s.created_at, s.current_version,
       v.version, v.version_uid, v.state, v.kms_key_id, v.wrapped_dek, v.nonce, v.ciphertext,
       v.created_at AS version_created_at, v.expires_at, now()::timestamptz AS read_at
FROM vault.secrets s
LEFT JOIN vault.secret_versions v ON v.secret_id = s.id AND v.version = s.current_version
WHERE s.name = $1;

-- name: CountValidVersions :one
SELECT count(*) FROM vault.secret_versions
WHERE secret_id = $1 AND (state IN ('current', 'pending') OR (state = 'superseded' AND expires_at > now()));

-- name: CurrentVersionUID :one
SELECT version_uid FROM vault.secret_versions WHERE secret_id = $1 AND version = $2 AND state = 'current';

-- name: SupersedeVersion :execrows
UPDATE vault.secret_versions
SET state = 'superseded', expires_at = now() + make_interval(secs => @grace_period_secs::float8)
WHERE secret_id = @secret_id AND version = @version AND version_uid = @version_uid AND state = 'current';

-- name: AdvanceSecret :execrows
UPDATE vault.secrets
SET current_version = @version, updated_at = now(),
    next_rotation_at = now() + make_interval(secs => sqlc.narg(next_rotation_in_secs)::float8)
WHERE id = @id AND current_version = @base_version;

-- name: UpdateSettings :one
-- A changed interval starts to count now; an unchanged one keeps its due time.
UPDATE vault.secrets
SET description = @description, rotation_interval_secs = @rotation_interval_secs,
    grace_period_secs = @grace_period_secs, custom_metadata = @custom_metadata, updated_at = now(),
    next_rotation_at = CASE
        WHEN rotation_interval_secs IS NOT DISTINCT FROM @rotation_interval_secs THEN next_rotation_at
        ELSE now() + make_interval(secs => @rotation_interval_secs::float8) END
WHERE id = @id
RETURNING next_rotation_at, updated_at;

-- name: DeleteSecret :execrows
DELETE FROM vault.secrets WHERE id = $1;

-- name: Versions :many
SELECT version, version_uid, state, kms_key_id, created_at, expires_at, now()::timestamptz AS read_at
FROM vault.secret_versions WHERE secret_id = $1 ORDER BY version DESC;

-- name: ListSecrets :many
-- By name in byte order. Bounds on name let the index serve a prefix; @upper is the first name past the prefix, NULL when
-- there is none. The caller's scope is either everything, or exact names and prefixes.
SELECT name, kind, format, description, rotation_interval_secs, grace_period_secs, current_version,
       next_rotation_at, custom_metadata, created_at, updated_at
FROM vault.secrets
WHERE name > @after AND name >= @prefix AND (sqlc.narg(upper)::text IS NULL OR name < sqlc.narg(upper)::text)
  AND (@everything::boolean
       OR name = ANY (@exact::text[])
       OR EXISTS (SELECT FROM unnest(@prefixes::text[]) AS p WHERE starts_with(name, p)))
ORDER BY name
LIMIT @max_rows;

-- name: SecretTotals :one
SELECT (SELECT count(*) FROM vault.secrets)::bigint AS secrets,
       (SELECT count(*) FROM vault.secret_versions)::bigint AS versions,
       (SELECT count(*) FROM vault.secrets WHERE next_rotation_at <= now())::bigint AS overdue;
