-- name: AuthzState :one
SELECT vault_id, epoch, initialised FROM vault.authz_state;

-- name: InsertAuthzState :exec
INSERT INTO vault.authz_state (vault_id, epoch, initialised) VALUES ($1, 1, true);

-- name: BumpEpoch :one
-- Every change of a grant raises the epoch in the same transaction; the row's lock also serialises such changes.
UPDATE vault.authz_state SET epoch = epoch + 1 RETURNING epoch;

-- name: CountSecrets :one
SELECT count(id) FROM vault.secrets;

-- name: InsertKey :exec
INSERT INTO vault.keyring (key_id, purpose, wrapped_key, public_key, kms_key_id) VALUES ($1, $2, $3, $4, $5);

-- name: Keys :many
SELECT key_id, purpose, wrapped_key, public_key, kms_key_id, created_at, retired_at
FROM vault.keyring ORDER BY created_at, key_id;

-- name: InsertRole :one
INSERT INTO vault.roles (id, name, description, is_admin) VALUES ($1, $2, $3, $4) RETURNING created_at;

-- name: RoleByName :one
SELECT id, name, description, is_admin, created_at FROM vault.roles WHERE name = $1;

-- name: LockRole :one
SELECT id, name, description, is_admin, created_at FROM vault.roles WHERE name = $1 FOR UPDATE;

-- name: Roles :many
SELECT id, name, description, is_admin, created_at FROM vault.roles ORDER BY name;

-- name: DeleteRole :execrows
DELETE FROM vault.roles WHERE id = $1;

-- name: CountLiveTokensOfRole :one
SELECT count(*) FROM vault.admin_tokens
WHERE role_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: DeleteDeadTokensOfRole :exec
DELETE FROM vault.admin_tokens
WHERE role_id = $1 AND (revoked_at IS NOT NULL OR expires_at <= now());

-- name: DeleteDeadToken :exec
-- Frees the name of a token that no longer works.
DELETE FROM vault.admin_tokens
WHERE name = $1 AND (revoked_at IS NOT NULL OR expires_at <= now());

-- name: Permissions :many
SELECT role_id, action, path FROM vault.role_permissions
WHERE role_id = ANY (@role_ids::uuid[]) ORDER BY role_id, path, action;

-- name: DeletePermissions :exec
DELETE FROM vault.role_permissions WHERE role_id = $1;

-- name: InsertPermissions :exec
INSERT INTO vault.role_permissions (role_id, action, path)
SELECT @role_id, unnest(@actions::text[]), unnest(@paths::text[]);

-- name: InsertToken :one
-- The expiry is reckoned on the database's clock, as it is judged by it.
INSERT INTO vault.admin_tokens (id, name, role_id, token_sha256, expires_at)
VALUES (@id, @name, @role_id, @token_sha256, now() + make_interval(secs => sqlc.narg(expires_in_secs)::float8))
RETURNING created_at, expires_at;

-- name: Tokens :many
SELECT t.id, t.name, r.name AS role, t.created_at, t.expires_at, t.revoked_at, u.last_used_at
FROM vault.admin_tokens t
JOIN vault.roles r ON r.id = t.role_id
LEFT JOIN vault.token_uses u ON u.token_id = t.id
ORDER BY t.name;

-- name: LockToken :one
SELECT t.id, t.name, t.revoked_at, t.expires_at, r.is_admin
FROM vault.admin_tokens t JOIN vault.roles r ON r.id = t.role_id
WHERE t.name = $1 FOR UPDATE OF t;

-- name: CountOtherLiveAdminTokens :one
SELECT count(*) FROM vault.admin_tokens t JOIN vault.roles r ON r.id = t.role_id
WHERE r.is_admin AND t.id <> $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now());

-- name: RevokeToken :execrows
UPDATE vault.admin_tokens SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL;

-- name: Grant :one
-- Everything that decides what the bearer of one token may do, read at one instant.
SELECT t.id, t.name, t.token_sha256, t.expires_at, t.revoked_at, r.name AS role, r.is_admin,
       now()::timestamptz AS read_at, (SELECT epoch FROM vault.authz_state)::bigint AS epoch,
       ARRAY(SELECT p.action FROM vault.role_permissions p WHERE p.role_id = r.id ORDER BY p.path, p.action)::text[] AS actions,
       ARRAY(SELECT p.path FROM vault.role_permissions p WHERE p.role_id = r.id ORDER BY p.path, p.action)::text[] AS paths
FROM vault.admin_tokens t JOIN vault.roles r ON r.id = t.role_id
WHERE t.token_sha256 = $1;

-- name: TouchTokens :exec
INSERT INTO vault.token_uses (token_id, last_used_at)
SELECT unnest(@token_ids::uuid[]), unnest(@used_at::timestamptz[])
ON CONFLICT (token_id) DO UPDATE SET last_used_at = greatest(token_uses.last_used_at, excluded.last_used_at);
