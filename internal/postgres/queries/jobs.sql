-- What the API asks of rotation's jobs. A job's row carries no MAC: who is shown one is shown the secret's name only once that
-- secret's row was verified, and what anybody wrote into a job has no effect.

-- name: ListJobs :many
-- Newest first. The caller's scope is either everything, or exact names and prefixes. @state is '' for all.
SELECT sqlc.embed(s), EXISTS (SELECT FROM vault.deleted_secrets d WHERE d.secret_id = s.id)::boolean AS deleted,
       sqlc.embed(j), (j.completed_at IS NULL AND j.dead_at IS NULL AND coalesce(j.lease_expires_at > now(), false))::boolean AS running
FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id
WHERE (sqlc.narg(secret_id)::uuid IS NULL OR j.secret_id = sqlc.narg(secret_id)::uuid)
  AND (@state::text = ''
       OR @state::text = 'open' AND j.completed_at IS NULL AND j.dead_at IS NULL
       OR @state::text = 'dead' AND j.dead_at IS NOT NULL
       OR @state::text = 'completed' AND j.completed_at IS NOT NULL)
  AND (sqlc.narg(before_at)::timestamptz IS NULL
       OR (j.enqueued_at, j.id) < (sqlc.narg(before_at)::timestamptz, sqlc.narg(before_id)::uuid))
  AND s.name >= @prefix AND (sqlc.narg(upper)::text IS NULL OR s.name < sqlc.narg(upper)::text)
  AND (@everything::boolean
       OR s.name = ANY (@exact::text[])
       OR EXISTS (SELECT FROM unnest(@prefixes::text[]) AS p WHERE starts_with(s.name, p)))
ORDER BY j.enqueued_at DESC, j.id DESC
LIMIT @max_rows;

-- name: JobByID :one
SELECT sqlc.embed(s), EXISTS (SELECT FROM vault.deleted_secrets d WHERE d.secret_id = s.id)::boolean AS deleted,
       sqlc.embed(j), (j.completed_at IS NULL AND j.dead_at IS NULL AND coalesce(j.lease_expires_at > now(), false))::boolean AS running
FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id
WHERE j.id = $1;

-- name: JobIsOpen :one
-- Whether somebody may still work on a job.
SELECT EXISTS (SELECT FROM vault.rotation_jobs j WHERE j.id = $1 AND j.completed_at IS NULL AND j.dead_at IS NULL)::boolean;

-- name: InsertPreparedJob :execrows
-- A job whose pending version is there already.
INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at, step)
VALUES (@id, @secret_id, @reason, @due_at, @base_version, now(), 'prepared')
ON CONFLICT DO NOTHING;

-- name: RetryJob :execrows
-- It runs now, as if for the first time. Whoever asks holds the secret's lock.
UPDATE vault.rotation_jobs
SET dead_at = NULL, attempt = 0, run_at = now(), claim_id = NULL, claimed_by = NULL, lease_expires_at = NULL
WHERE id = $1 AND completed_at IS NULL;

-- name: CancelJob :execrows
-- Whoever holds a claim on it has lost it. Whoever asks holds the secret's lock.
UPDATE vault.rotation_jobs
SET completed_at = now(), outcome = @outcome, dead_at = NULL, claim_id = NULL, claimed_by = NULL, lease_expires_at = NULL
WHERE id = @id AND completed_at IS NULL;

-- name: RotationTotals :one
SELECT (SELECT count(*) FROM vault.rotation_jobs WHERE completed_at IS NULL AND dead_at IS NULL)::bigint AS open,
       (SELECT count(*) FROM vault.rotation_jobs WHERE completed_at IS NULL AND dead_at IS NULL AND lease_expires_at > now())::bigint AS running,
       (SELECT count(*) FROM vault.rotation_jobs WHERE completed_at IS NULL AND dead_at IS NOT NULL)::bigint AS dead,
       greatest(0, coalesce(extract(epoch FROM now() - least(
           (SELECT min(due_at) FROM vault.rotation_jobs WHERE completed_at IS NULL AND dead_at IS NULL),
           (SELECT min(next_rotation_at) FROM vault.secrets WHERE next_rotation_at <= now()))), 0))::double precision AS oldest_due_secs,
       (SELECT count(*) FROM vault.rotation_probes WHERE NOT ok)::bigint AS drifted,
       (SELECT count(*) FROM vault.secret_versions WHERE expires_at <= now())::bigint AS expired_versions;

-- name: LockRotationControl :one
SELECT paused, revision, changed_at, mac, key_id, now()::timestamptz AS read_at FROM vault.rotation_control FOR UPDATE;

-- name: InsertRotationControl :execrows
INSERT INTO vault.rotation_control (paused, revision, changed_at, mac, key_id)
VALUES (@paused, @revision, @changed_at, @mac, @key_id) ON CONFLICT DO NOTHING;

-- name: UpdateRotationControl :execrows
UPDATE vault.rotation_control
SET paused = @paused, revision = @revision, changed_at = @changed_at, mac = @mac, key_id = @key_id;
