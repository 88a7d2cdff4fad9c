-- +goose Up
-- Rotation: what a secret is told about when and how it rotates, the jobs that rotate it, and what rotators keep of their work.
SET LOCAL ROLE vault_owner;

ALTER TABLE vault.secrets ADD COLUMN rotation bytea;
COMMENT ON COLUMN vault.secrets.rotation IS 'The exact bytes of the canonical JSON, as they are MACed: schedule, password policy, pause, login hosts.';
COMMENT ON COLUMN vault.secrets.target IS 'The exact bytes of the canonical JSON, as they are MACed: what a rotation changes outside the vault.';
CREATE INDEX secrets_targeted ON vault.secrets (id) WHERE target IS NOT NULL;
-- A cron expression takes the place of an interval.
ALTER TABLE vault.secrets DROP CONSTRAINT secrets_check;
ALTER TABLE vault.secrets ADD CONSTRAINT secrets_scheduled
    CHECK (kind <> 'automatic' OR rotation_interval_secs IS NOT NULL OR rotation IS NOT NULL) NOT VALID;

-- A job is work to be done and no authority: what it asks for is done only if the secret's own row, which is MACed, says that it is due.
-- run_at is when somebody may claim it next: its due time, the end of a lease, or that of a pause after a failure. A job that is dead
-- stays open until somebody retries or cancels it.
ALTER TABLE vault.rotation_jobs
    ADD COLUMN step text NOT NULL DEFAULT 'queued' CHECK (step IN ('queued', 'prepared', 'applying')),
    ADD COLUMN started_at timestamptz,
    ADD COLUMN dead_at timestamptz,
    ADD COLUMN class text,
    ADD CONSTRAINT rotation_jobs_finite
        CHECK (isfinite(due_at) AND isfinite(enqueued_at) AND isfinite(run_at) AND isfinite(lease_expires_at) AND isfinite(completed_at)
               AND isfinite(started_at) AND isfinite(dead_at)),
    ADD CONSTRAINT rotation_jobs_dead CHECK (dead_at IS NULL OR completed_at IS NULL),
    ADD CONSTRAINT rotation_jobs_attempts CHECK (attempt < 1000000);
DROP INDEX vault.rotation_jobs_runnable;
CREATE INDEX rotation_jobs_runnable ON vault.rotation_jobs (run_at) WHERE completed_at IS NULL AND dead_at IS NULL;
CREATE INDEX rotation_jobs_urgent ON vault.rotation_jobs (run_at)
    WHERE completed_at IS NULL AND dead_at IS NULL AND step = 'applying' AND class IS NULL;
CREATE INDEX rotation_jobs_started ON vault.rotation_jobs (started_at) WHERE started_at IS NOT NULL;
CREATE INDEX rotation_jobs_completed ON vault.rotation_jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX rotation_jobs_newest ON vault.rotation_jobs (enqueued_at DESC, id DESC);
CREATE INDEX rotation_jobs_secret ON vault.rotation_jobs (secret_id, enqueued_at);
COMMENT ON COLUMN vault.rotation_jobs.claim_id IS 'Fences: whoever holds another one, or none, changes nothing of the job nor by it.';

-- What pauses all rotation. No row: it was never paused.
CREATE TABLE vault.rotation_control (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    paused     boolean NOT NULL,
    revision   bigint NOT NULL CHECK (revision > 0),
    changed_at timestamptz NOT NULL,
    mac        bytea,
    key_id     uuid
);

-- When the current version of a targeted secret was last tried at its target. It decides nothing but when something is tried, and when
-- versions whose grace has long ended go.
CREATE TABLE vault.rotation_probes (
    secret_id   uuid PRIMARY KEY REFERENCES vault.secrets (id) ON DELETE CASCADE,
    version_uid uuid NOT NULL,
    ok          boolean NOT NULL,
    class       text,
    message     text CHECK (octet_length(message) <= 1024),
    checked_at  timestamptz NOT NULL,
    next_at     timestamptz NOT NULL,
    CHECK (isfinite(checked_at) AND isfinite(next_at))
);
CREATE INDEX rotation_probes_next ON vault.rotation_probes (next_at);

-- What lets a webhook's receiver fetch one version once.
CREATE TABLE vault.rotation_fetches (
    token_sha256 bytea PRIMARY KEY CHECK (octet_length(token_sha256) = 32),
    secret_id    uuid NOT NULL REFERENCES vault.secrets (id) ON DELETE CASCADE,
    version_uid  uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    mac          bytea,
    key_id       uuid
);
CREATE INDEX rotation_fetches_secret ON vault.rotation_fetches (secret_id);
CREATE INDEX rotation_fetches_expiry ON vault.rotation_fetches (expires_at);

-- How wrapping data keys again stands, in one row, for whoever asks; and what an operator asked of it. Nothing rests on it: who edits it
-- has work done that nobody needs, or not at once, or tells operators a tale.
CREATE TABLE vault.rewrap_state (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    requested_at timestamptz,
    again_before timestamptz,
    state        text NOT NULL DEFAULT 'never' CHECK (state IN ('never', 'running', 'done', 'failed')),
    worker       text CHECK (octet_length(worker) <= 256),
    started_at   timestamptz,
    finished_at  timestamptz,
    found        bigint NOT NULL DEFAULT 0,
    done         bigint NOT NULL DEFAULT 0,
    failed       bigint NOT NULL DEFAULT 0,
    error        text CHECK (octet_length(error) <= 1024),
    note         text CHECK (octet_length(note) <= 1024),
    CHECK (isfinite(requested_at) AND isfinite(again_before) AND isfinite(started_at) AND isfinite(finished_at))
);
INSERT INTO vault.rewrap_state DEFAULT VALUES;
COMMENT ON COLUMN vault.rewrap_state.again_before IS 'What was wrapped before is to be wrapped again, whichever key it is under.';

-- A request that made a job is answered with that job when it comes again.
ALTER TABLE vault.idempotency_keys ADD COLUMN job_id uuid, ALTER COLUMN version_uid DROP NOT NULL;
ALTER TABLE vault.idempotency_keys ADD CONSTRAINT idempotency_keys_one CHECK (job_id IS NULL OR version_uid IS NULL) NOT VALID;

-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['rotation_control', 'rotation_probes', 'rotation_fetches', 'rewrap_state'] LOOP
        EXECUTE format('ALTER TABLE vault.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('REVOKE ALL ON vault.%I FROM PUBLIC', t);
    END LOOP;
END
$$;
-- +goose StatementEnd

GRANT UPDATE (rotation) ON vault.secrets TO vault_api;
GRANT SELECT, INSERT, UPDATE (paused, revision, changed_at, mac, key_id) ON vault.rotation_control TO vault_api;
GRANT SELECT ON vault.rotation_probes TO vault_api;
GRANT SELECT, DELETE ON vault.rotation_fetches TO vault_api;
GRANT SELECT ON vault.rotation_control, vault.deleted_secrets TO vault_rotator;
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.rotation_probes TO vault_rotator;
GRANT SELECT, INSERT, DELETE ON vault.rotation_fetches TO vault_rotator;
GRANT SELECT, UPDATE (mac, key_id) ON vault.rotation_control TO vault_operator;
-- What lets somebody fetch under a root that is to be retired goes with it: the rotation that made it makes another.
GRANT SELECT, DELETE ON vault.rotation_fetches TO vault_operator;
-- Data keys are wrapped again by rotators alone; who wants that done says so in a row. Roots of the keyring move to another master key, too.
REVOKE UPDATE (wrapped_dek, wrapped_at) ON vault.secret_versions FROM vault_api;
GRANT SELECT ON vault.rewrap_state TO vault_api;
GRANT SELECT, UPDATE (state, worker, started_at, finished_at, found, done, failed, error, note) ON vault.rewrap_state TO vault_rotator;
GRANT SELECT, UPDATE (requested_at, again_before) ON vault.rewrap_state TO vault_operator;
GRANT UPDATE (kms_key_id) ON vault.keyring TO vault_operator;

CREATE POLICY vault_api ON vault.rotation_control FOR ALL TO vault_api USING (true) WITH CHECK (true);
CREATE POLICY vault_rotator ON vault.rotation_control FOR ALL TO vault_rotator USING (true) WITH CHECK (true);
CREATE POLICY vault_operator ON vault.rotation_control FOR ALL TO vault_operator USING (true) WITH CHECK (true);
CREATE POLICY vault_api ON vault.rotation_probes FOR ALL TO vault_api USING (true) WITH CHECK (true);
CREATE POLICY vault_rotator ON vault.rotation_probes FOR ALL TO vault_rotator USING (true) WITH CHECK (true);
CREATE POLICY vault_api ON vault.rotation_fetches FOR ALL TO vault_api USING (true) WITH CHECK (true);
CREATE POLICY vault_rotator ON vault.rotation_fetches FOR ALL TO vault_rotator USING (true) WITH CHECK (true);
CREATE POLICY vault_operator ON vault.rotation_fetches FOR ALL TO vault_operator USING (true) WITH CHECK (true);
CREATE POLICY vault_api ON vault.rewrap_state FOR ALL TO vault_api USING (true) WITH CHECK (true);
CREATE POLICY vault_rotator ON vault.rewrap_state FOR ALL TO vault_rotator USING (true) WITH CHECK (true);
CREATE POLICY vault_operator ON vault.rewrap_state FOR ALL TO vault_operator USING (true) WITH CHECK (true);
CREATE POLICY vault_rotator ON vault.deleted_secrets FOR ALL TO vault_rotator USING (true) WITH CHECK (true);

RESET ROLE;
