-- +goose Up
-- What grants power: the vault's identity, its keyring, roles, permissions and tokens. The columns mac and key_id hold a
-- row MAC under a key that only the KMS can unwrap.
SET LOCAL ROLE vault_owner;

CREATE TABLE vault.authz_state (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    vault_id    uuid NOT NULL,
    epoch       bigint NOT NULL CHECK (epoch > 0),
    initialised boolean NOT NULL,
    mac         bytea,
    key_id      uuid
);
COMMENT ON TABLE vault.authz_state IS 'One row: who this vault is, and the epoch that every change of a grant raises.';

CREATE TABLE vault.keyring (
    key_id      uuid PRIMARY KEY,
    purpose     text NOT NULL CHECK (purpose IN ('row', 'audit', 'idempotency', 'checkpoint')),
    wrapped_key bytea NOT NULL,
    public_key  bytea,
    kms_key_id  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz,
    mac         bytea
);
COMMENT ON TABLE vault.keyring IS 'Integrity roots, each wrapped by the KMS. Never a plaintext key.';

CREATE TABLE vault.roles (
    id          uuid PRIMARY KEY,
    name        text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 64),
    description text NOT NULL DEFAULT '',
    is_admin    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    mac         bytea,
    key_id      uuid
);

CREATE TABLE vault.role_permissions (
    role_id uuid NOT NULL REFERENCES vault.roles (id) ON DELETE CASCADE,
    action  text NOT NULL CHECK (action IN ('read', 'create', 'update', 'delete', 'rotate', 'target', '*')),
    path    text COLLATE "C" NOT NULL CHECK (octet_length(path) BETWEEN 1 AND 256),
    mac     bytea,
    key_id  uuid,
    PRIMARY KEY (role_id, action, path)
);

CREATE TABLE vault.admin_tokens (
    id           uuid PRIMARY KEY,
    name         text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 64),
    role_id      uuid NOT NULL REFERENCES vault.roles (id),
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    mac          bytea,
    key_id       uuid
);
CREATE INDEX admin_tokens_role ON vault.admin_tokens (role_id);
COMMENT ON COLUMN vault.admin_tokens.token_sha256 IS 'SHA-256 of a token of 256 random bits; the token itself is stored nowhere.';

CREATE TABLE vault.token_uses (
    token_id     uuid PRIMARY KEY REFERENCES vault.admin_tokens (id) ON DELETE CASCADE,
    last_used_at timestamptz NOT NULL
);

CREATE TABLE vault.auth_lockouts (
    client_ip    inet PRIMARY KEY,
    failures     integer NOT NULL CHECK (failures >= 0),
    window_start timestamptz NOT NULL,
    locked_until timestamptz
);

RESET ROLE;
