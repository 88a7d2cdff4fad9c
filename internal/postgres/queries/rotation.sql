-- name: EnqueueDue :execrows
-- Jobs for secrets that are due and have none, the longest due first. A secret that somebody is changing is left to the next pass: whoever
-- changes one may be about to make its job, and would wait for this while this waits for them.
-- OFFSET 0 keeps the planner from joining: whether a secret has a job is looked up for each, whatever the statistics say of how many are
-- open. Jobs come in thousands at once, and a join that was planned for a few compares each with each.
WITH due AS (
    SELECT s.id, s.next_rotation_at, s.current_version
    FROM vault.secrets s
    WHERE s.next_rotation_at <= now()
      AND NOT EXISTS (SELECT FROM vault.rotation_jobs j WHERE j.secret_id = s.id AND j.completed_at IS NULL OFFSET 0)
    ORDER BY s.next_rotation_at LIMIT @max_rows FOR KEY SHARE OF s SKIP LOCKED
)
INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
SELECT gen_random_uuid(), due.id, 'scheduled', due.next_rotation_at, due.current_version, due.next_rotation_at FROM due
ON CONFLICT DO NOTHING;

-- name: PlanByKeys :exec
-- Until the transaction ends no table is read from end to end if there is an index.
SELECT set_config('enable_seqscan', 'off', true);

-- name: ClaimJobs :many
-- Takes jobs that may run: those that wait, and those whose lease has lapsed. @may_start bounds how many of them have never been claimed.
-- First come those whose target may have the new value while the vault still gives out the old one, however long the queue is: what
-- they stopped at keeps applications out. Where the target itself refused, it is no such haste: it may be away for long.
WITH urgent AS (
    SELECT j.id, j.run_at FROM vault.rotation_jobs j
    WHERE j.completed_at IS NULL AND j.dead_at IS NULL AND j.step = 'applying' AND j.class IS NULL AND j.run_at <= now()
    ORDER BY j.run_at LIMIT @max_rows FOR UPDATE OF j SKIP LOCKED
), runnable AS (
    SELECT j.id, j.run_at, j.started_at IS NULL AS fresh
    FROM vault.rotation_jobs j
    WHERE j.completed_at IS NULL AND j.dead_at IS NULL AND j.run_at <= now() AND (@may_start::bigint > 0 OR j.started_at IS NOT NULL)
      AND (j.step <> 'applying' OR j.class IS NOT NULL)
    ORDER BY j.run_at LIMIT @max_rows FOR UPDATE OF j SKIP LOCKED
), chosen AS (
    SELECT o.id FROM (
        SELECT u.id, u.run_at, 0 AS turn FROM urgent u
        UNION ALL
        SELECT r.id, r.run_at, 1 FROM (SELECT id, run_at, fresh, count(*) FILTER (WHERE fresh) OVER (ORDER BY fresh, id) AS n FROM runnable) r
        WHERE NOT r.fresh OR r.n <= @may_start::bigint
    ) o ORDER BY o.turn, o.run_at LIMIT @max_rows
), claimed AS (
    UPDATE vault.rotation_jobs j
    SET claim_id = @claim_id, claimed_by = @claimed_by, lease_expires_at = now() + make_interval(secs => @lease_secs),
        run_at = now() + make_interval(secs => @lease_secs), started_at = coalesce(j.started_at, now()), attempt = j.attempt + 1
    FROM chosen WHERE j.id = chosen.id
    RETURNING j.id, j.secret_id, j.reason, j.due_at, j.base_version, j.attempt, j.step
)
SELECT c.id, c.secret_id, s.name, c.reason, c.due_at, c.base_version, c.attempt, c.step, (s.target IS NOT NULL)::boolean AS targeted
FROM claimed c JOIN vault.secrets s ON s.id = c.secret_id;

-- name: StartedSince :one
-- How many jobs were first claimed lately. Whoever asks holds the lock that all who cap them take.
SELECT count(*) FROM vault.rotation_jobs WHERE started_at > now() - make_interval(secs => @secs);

-- name: LockStarts :exec
SELECT pg_advisory_xact_lock(hashtextextended('vault.rotation_starts', 0));

-- name: RenewClaims :many
-- Prolongs the leases of claims that still hold.
UPDATE vault.rotation_jobs
SET lease_expires_at = now() + make_interval(secs => @lease_secs), run_at = now() + make_interval(secs => @lease_secs)
WHERE claim_id = ANY (@claim_ids::uuid[]) AND id = ANY (@ids::uuid[]) AND completed_at IS NULL AND dead_at IS NULL
RETURNING id;

-- name: ReleaseClaims :exec
-- Gives back what a process that ends will not come to.
UPDATE vault.rotation_jobs
SET claim_id = NULL, claimed_by = NULL, lease_expires_at = NULL, run_at = now(), attempt = attempt - 1
WHERE claim_id = ANY (@claim_ids::uuid[]) AND id = ANY (@ids::uuid[]) AND completed_at IS NULL AND dead_at IS NULL;

-- name: MoveJob :execrows
-- A step forward, of whoever holds the claim.
UPDATE vault.rotation_jobs SET step = @step
WHERE id = @id AND claim_id = @claim_id AND completed_at IS NULL AND dead_at IS NULL;

-- name: PostponeJob :execrows
-- Gives the claim back: it runs again then, and the attempt doesn't count.
UPDATE vault.rotation_jobs
SET claim_id = NULL, claimed_by = NULL, lease_expires_at = NULL, attempt = attempt - 1,
    run_at = coalesce(sqlc.narg(until)::timestamptz, now()) + make_interval(secs => @pause_secs)
WHERE id = @id AND claim_id = @claim_id AND completed_at IS NULL AND dead_at IS NULL;

-- name: FailJob :execrows
-- Gives the claim back after a failure: it runs again after a pause, or is dead.
UPDATE vault.rotation_jobs
SET claim_id = NULL, claimed_by = NULL, lease_expires_at = NULL, run_at = now() + make_interval(secs => @pause_secs),
    class = @class, error = @error, dead_at = CASE WHEN @dead::boolean THEN now() END
WHERE id = @id AND claim_id = @claim_id AND completed_at IS NULL AND dead_at IS NULL;

-- name: CompleteJob :execrows
UPDATE vault.rotation_jobs
SET completed_at = now(), outcome = @outcome, claim_id = NULL, lease_expires_at = NULL,
    class = CASE WHEN @outcome <> 'rotated' THEN class END, error = CASE WHEN @outcome <> 'rotated' THEN error END
WHERE id = @id AND claim_id = @claim_id AND completed_at IS NULL AND dead_at IS NULL;

-- name: NextWork :one
-- How long until something is to be done, in seconds: to a secret's due time, or a job's next run; a year if nothing is.
SELECT coalesce(extract(epoch FROM least(
    (SELECT min(s.next_rotation_at) FROM vault.secrets s WHERE s.next_rotation_at > now()),
    (SELECT min(j.run_at) FROM vault.rotation_jobs j WHERE j.completed_at IS NULL AND j.dead_at IS NULL)) - clock_timestamp()), 31536000)::double precision AS secs;

-- name: OpenJob :one
-- The job of a secret whose row is locked, if it has one that isn't over.
SELECT id, secret_id, reason, due_at, base_version, enqueued_at, run_at, attempt, claimed_by, claim_id, lease_expires_at, step, started_at, dead_at, class, error
FROM vault.rotation_jobs WHERE secret_id = $1 AND completed_at IS NULL FOR UPDATE;

-- name: InsertJob :execrows
INSERT INTO vault.rotation_jobs (id, secret_id, reason, due_at, base_version, run_at)
VALUES (@id, @secret_id, @reason, @due_at, @base_version, now())
ON CONFLICT DO NOTHING;

-- name: WakeRotators :exec
SELECT pg_notify('vault_rotation', '');

-- name: AdvanceSecret :execrows
-- What a rotation changes of a secret.
UPDATE vault.secrets
SET current_version = @current_version, next_rotation_at = @next_rotation_at, updated_at = @updated_at, revision = @revision,
    versions_digest = @versions_digest, mac = @mac, key_id = @key_id
WHERE id = @id AND revision = @base_revision;

-- name: MoveVersion :execrows
-- A version's way from pending to current, or to abandoned.
UPDATE vault.secret_versions SET state = @state, mac = @mac, key_id = @key_id
WHERE secret_id = @secret_id AND version = @version AND version_uid = @version_uid AND state = 'pending';

-- name: RemoveAbandoned :execrows
DELETE FROM vault.secret_versions
WHERE secret_id = @secret_id AND version = ANY (@versions::bigint[]) AND state = 'abandoned';

-- name: RotationControl :one
SELECT paused, revision, changed_at, mac, key_id FROM vault.rotation_control;

-- name: EnsureProbes :exec
-- Targeted secrets that were never tried are to be tried now.
INSERT INTO vault.rotation_probes (secret_id, version_uid, ok, class, checked_at, next_at)
SELECT s.id, '00000000-0000-0000-0000-000000000000', false, 'untried', now(), now()
FROM vault.secrets s
WHERE s.target IS NOT NULL AND NOT EXISTS (SELECT FROM vault.rotation_probes p WHERE p.secret_id = s.id)
ORDER BY s.id LIMIT @max_rows
ON CONFLICT DO NOTHING;

-- name: ClaimProbes :many
-- Takes what is to be tried, and leaves it to others again after a while: trying twice does no harm.
WITH due AS (
    SELECT p.secret_id FROM vault.rotation_probes p
    WHERE p.next_at <= now() ORDER BY p.next_at LIMIT @max_rows FOR UPDATE SKIP LOCKED
)
UPDATE vault.rotation_probes p SET next_at = now() + make_interval(secs => @hold_secs)
FROM due, vault.secrets s WHERE p.secret_id = due.secret_id AND s.id = p.secret_id
RETURNING p.secret_id, s.name, p.version_uid, p.ok, coalesce(p.class, '')::text AS class;

-- name: SetProbe :execrows
-- What was found holds for the secret as it was when it was looked at, and for no other.
UPDATE vault.rotation_probes
SET version_uid = @version_uid, ok = @ok, class = sqlc.narg(class), message = sqlc.narg(message), checked_at = now(),
    next_at = now() + make_interval(secs => @pause_secs)
WHERE secret_id = @secret_id AND EXISTS (SELECT FROM vault.secrets s WHERE s.id = @secret_id AND s.revision = @revision::bigint);

-- name: EndRepair :execrows
-- A repair that nobody is at isn't needed any more.
UPDATE vault.rotation_jobs SET completed_at = now(), outcome = 'unneeded', dead_at = NULL
WHERE secret_id = @secret_id AND reason = 'drift' AND completed_at IS NULL AND claim_id IS NULL;

-- name: ProbeSoon :exec
UPDATE vault.rotation_probes SET next_at = now() WHERE secret_id = $1;

-- name: DropProbe :exec
DELETE FROM vault.rotation_probes WHERE secret_id = $1;

-- name: InsertFetch :exec
INSERT INTO vault.rotation_fetches (token_sha256, secret_id, version_uid, created_at, expires_at, mac, key_id)
VALUES (@token_sha256, @secret_id, @version_uid, @created_at, @expires_at, @mac, @key_id);

-- name: FetchByToken :one
SELECT f.token_sha256, f.secret_id, f.version_uid, f.created_at, f.expires_at, f.mac, f.key_id, s.name, now()::timestamptz AS read_at
FROM vault.rotation_fetches f JOIN vault.secrets s ON s.id = f.secret_id WHERE f.token_sha256 = $1;

-- name: UseFetch :execrows
DELETE FROM vault.rotation_fetches WHERE token_sha256 = @token_sha256 AND version_uid = @version_uid AND expires_at > clock_timestamp();
