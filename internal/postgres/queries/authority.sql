-- name: AuthzState :one
SELECT vault_id, epoch, initialised, mac, key_id FROM vault.authz_state;

-- name: InsertAuthzState :exec
INSERT INTO vault.authz_state (vault_id, epoch, initialised, mac, key_id) VALUES (@vault_id, @epoch, @initialised, @mac, @key_id);

-- name: BumpEpoch :one
-- Every change of a grant raises the epoch in the same transaction; the row's lock also serialises such changes.
UPDATE vault.authz_state SET epoch = epoch + 1 RETURNING epoch;

-- name: SetEpoch :execrows
-- For grants that are made anew whatever the epoch was, under the row's lock.
UPDATE vault.authz_state SET epoch = @epoch;

-- name: SetGrantsMAC :execrows
UPDATE vault.authz_state SET mac = @mac, key_id = @key_id WHERE epoch = @epoch;

-- name: CountSecrets :one
SELECT count(id) FROM vault.secrets;

-- name: CountRoles :one
SELECT count(id) FROM vault.roles;

-- name: InsertRole :exec
INSERT INTO vault.roles (id, name, description, is_admin, created_at, mac, key_id)
VALUES (@id, @name, @description, @is_admin, @created_at, @mac, @key_id);

-- name: DeleteRole :execrows
DELETE FROM vault.roles WHERE id = $1;

-- name: DeletePermissions :execrows
DELETE FROM vault.role_permissions WHERE role_id = $1;

-- name: InsertPermissions :exec
INSERT INTO vault.role_permissions (role_id, action, path, mac, key_id)
SELECT @role_id, unnest(@actions::text[]), unnest(@paths::text[]), unnest(@macs::bytea[]), @key_id;

-- name: InsertToken :exec
INSERT INTO vault.admin_tokens (id, name, role_id, token_sha256, created_at, expires_at, mac, key_id)
VALUES (@id, @name, @role_id, @token_sha256, @created_at, @expires_at, @mac, @key_id);

-- name: RevokeToken :execrows
UPDATE vault.admin_tokens SET revoked_at = @revoked_at, mac = @mac, key_id = @key_id WHERE id = @id AND revoked_at IS NULL;

-- name: DeleteToken :execrows
DELETE FROM vault.admin_tokens WHERE id = $1;

-- name: DiscardTokens :execrows
DELETE FROM vault.admin_tokens;

-- name: DiscardPermissions :execrows
DELETE FROM vault.role_permissions;

-- name: DiscardRoles :execrows
DELETE FROM vault.roles;

-- name: TokenUses :many
SELECT token_id, last_used_at FROM vault.token_uses;

-- name: TouchTokens :exec
INSERT INTO vault.token_uses (token_id, last_used_at)
SELECT unnest(@token_ids::uuid[]), unnest(@used_at::timestamptz[])
ON CONFLICT (token_id) DO UPDATE SET last_used_at = greatest(token_uses.last_used_at, excluded.last_used_at);
