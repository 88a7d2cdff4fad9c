-- name: EndedVersions :many
-- A page of versions whose grace has ended and that may go, the longest ended first, behind a given one. Of a secret with a target that is
-- only so where a prober says that the current version works there.
SELECT v.secret_id, s.name, v.version, v.expires_at::timestamptz AS expires_at
FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
WHERE v.expires_at <= now() AND v.expires_at >= @after_at::timestamptz
  AND (v.expires_at, v.secret_id, v.version) > (@after_at::timestamptz, @after_id::uuid, @after_version::bigint)
  AND (s.target IS NULL
       OR EXISTS (SELECT FROM vault.rotation_probes p
                  JOIN vault.secret_versions c ON c.secret_id = p.secret_id AND c.version = s.current_version AND c.version_uid = p.version_uid
                  WHERE p.secret_id = s.id AND p.ok))
ORDER BY v.expires_at, v.secret_id, v.version LIMIT @max_rows;

-- name: ProvenAtTarget :one
-- Whether a version was tried at its secret's target, and works there.
SELECT EXISTS (SELECT FROM vault.rotation_probes WHERE secret_id = @secret_id AND version_uid = @version_uid AND ok)::boolean AS proven;

-- name: NextExpiry :one
-- How long until the next version's grace ends, in seconds; a year if none does.
SELECT coalesce(extract(epoch FROM (SELECT min(v.expires_at) FROM vault.secret_versions v WHERE v.expires_at > now()) - clock_timestamp()),
                31536000)::double precision AS secs;

-- name: EndedTotal :one
-- How many versions are there still although their grace has ended.
SELECT count(*) FROM vault.secret_versions WHERE expires_at <= now();

-- name: SweepJobs :execrows
DELETE FROM vault.rotation_jobs WHERE id IN (
    SELECT id FROM vault.rotation_jobs WHERE completed_at < now() - make_interval(days => @keep_days::integer) ORDER BY completed_at LIMIT @max_rows);

-- name: SweepIdempotencyKeys :execrows
DELETE FROM vault.idempotency_keys WHERE (token_id, key) IN (
    SELECT token_id, key FROM vault.idempotency_keys WHERE expires_at <= now() ORDER BY expires_at LIMIT @max_rows);

-- name: SweepFetches :execrows
DELETE FROM vault.rotation_fetches WHERE token_sha256 IN (
    SELECT token_sha256 FROM vault.rotation_fetches WHERE expires_at <= now() ORDER BY expires_at LIMIT @max_rows);

-- name: RewrapOrder :one
-- Whether somebody asked for a look through all versions since the last one began, and what is to be wrapped again. What is said to have been asked
-- for in the future counts for nothing: it would never be done.
SELECT coalesce(requested_at <= now() AND (started_at IS NULL OR requested_at > started_at), false)::boolean AS due,
       (CASE WHEN again_before <= now() THEN again_before ELSE 'epoch' END)::timestamptz AS again_before
FROM vault.rewrap_state;

-- name: RequestRewrap :execrows
UPDATE vault.rewrap_state
SET requested_at = now(), again_before = CASE WHEN @again::boolean THEN now() ELSE again_before END;

-- name: CountWrappedElsewhere :one
-- How many versions name another master key, or were wrapped before a time.
SELECT count(*) FROM vault.secret_versions WHERE kms_key_id <> @kms_key_id OR wrapped_at < @before::timestamptz;

-- name: BeginRewrap :execrows
UPDATE vault.rewrap_state
SET state = 'running', worker = @worker, started_at = now(), finished_at = NULL, found = @found, done = 0, failed = 0, error = NULL, note = sqlc.narg(note);

-- name: NoteRewrap :execrows
-- How far the look has come that this process began.
UPDATE vault.rewrap_state SET found = greatest(found, @found), done = @done, failed = @failed WHERE worker = @worker AND state = 'running';

-- name: EndRewrap :execrows
UPDATE vault.rewrap_state
SET state = @state, worker = @worker, finished_at = now(), found = CASE WHEN @state = 'done' THEN @found ELSE greatest(found, @found) END,
    done = @done, failed = @failed, error = sqlc.narg(error)
WHERE worker = @worker OR state <> 'running';

-- name: RewrapState :one
SELECT state, worker, requested_at, again_before, started_at, finished_at, found, done, failed, error, note FROM vault.rewrap_state;
