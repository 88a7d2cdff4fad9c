-- +goose Up
-- Secrets and their versions: ciphertext, a wrapped DEK, and metadata. Nothing here opens without the KMS.
SET LOCAL ROLE vault_owner;

CREATE TABLE vault.secrets (
    id                     uuid PRIMARY KEY,
    name                   text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 255),
    kind                   text NOT NULL CHECK (kind IN ('manual', 'automatic')),
    format                 text NOT NULL CHECK (format IN ('opaque', 'userpass')),
    description            text NOT NULL DEFAULT '' CHECK (octet_length(description) <= 1024),
    rotation_interval_secs bigint CHECK (rotation_interval_secs > 0),
    grace_period_secs      bigint NOT NULL DEFAULT 0 CHECK (grace_period_secs >= 0),
    current_version        bigint NOT NULL CHECK (current_version >= 0),
    next_rotation_at       timestamptz,
    target                 bytea,
    custom_metadata        bytea,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    mac                    bytea,
    key_id                 uuid,
    CHECK (kind <> 'automatic' OR rotation_interval_secs IS NOT NULL)
);
CREATE INDEX secrets_due ON vault.secrets (next_rotation_at) WHERE next_rotation_at IS NOT NULL;
COMMENT ON COLUMN vault.secrets.current_version IS 'The version whose state is current; 0 when there is none.';
COMMENT ON COLUMN vault.secrets.custom_metadata IS 'The exact bytes of the canonical JSON, as they are MACed.';

CREATE TABLE vault.secret_versions (
    secret_id   uuid NOT NULL REFERENCES vault.secrets (id) ON DELETE CASCADE,
    version     bigint NOT NULL CHECK (version > 0),
    version_uid uuid NOT NULL UNIQUE,
    state       text NOT NULL CHECK (state IN ('pending', 'current', 'superseded', 'abandoned')),
    kms_key_id  text NOT NULL,
    wrapped_dek bytea NOT NULL,
    nonce       bytea NOT NULL CHECK (octet_length(nonce) = 24),
    ciphertext  bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    wrapped_at  timestamptz NOT NULL DEFAULT now(),
    mac         bytea,
    key_id      uuid,
    PRIMARY KEY (secret_id, version),
    CHECK ((state = 'superseded') = (expires_at IS NOT NULL))
);
-- Ciphertext is incompressible: don't let TOAST spend time on it.
ALTER TABLE vault.secret_versions ALTER COLUMN ciphertext SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX secret_versions_one_current ON vault.secret_versions (secret_id) WHERE state = 'current';
CREATE UNIQUE INDEX secret_versions_one_pending ON vault.secret_versions (secret_id) WHERE state = 'pending';
CREATE INDEX secret_versions_expiry ON vault.secret_versions (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE vault.rotation_jobs (
    id               uuid PRIMARY KEY,
    secret_id        uuid NOT NULL REFERENCES vault.secrets (id) ON DELETE CASCADE,
    reason           text NOT NULL,
    due_at           timestamptz NOT NULL,
    base_version     bigint NOT NULL,
    enqueued_at      timestamptz NOT NULL DEFAULT now(),
    run_at           timestamptz NOT NULL,
    attempt          integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    claimed_by       text,
    claim_id         uuid,
    lease_expires_at timestamptz,
    completed_at     timestamptz,
    outcome          text,
    error            text,
    CHECK ((completed_at IS NULL) = (outcome IS NULL)),
    CHECK ((claim_id IS NULL) = (lease_expires_at IS NULL))
);
CREATE UNIQUE INDEX rotation_jobs_one_open ON vault.rotation_jobs (secret_id) WHERE completed_at IS NULL;
CREATE INDEX rotation_jobs_runnable ON vault.rotation_jobs (run_at) WHERE completed_at IS NULL;

CREATE TABLE vault.idempotency_keys (
    token_id    uuid NOT NULL REFERENCES vault.admin_tokens (id) ON DELETE CASCADE,
    key         text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    request_mac bytea NOT NULL CHECK (octet_length(request_mac) = 32),
    secret_id   uuid NOT NULL,
    version_uid uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (token_id, key)
);
CREATE INDEX idempotency_keys_expiry ON vault.idempotency_keys (expires_at);
COMMENT ON COLUMN vault.idempotency_keys.request_mac IS 'HMAC of the request under an integrity key; never a body, never a plain hash of one.';

RESET ROLE;
