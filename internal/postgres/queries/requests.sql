-- name: LockRequest :exec
-- Of requests with one key only one is made at a time, until its transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('vault.idempotency_keys/' || @request::text, 0));

-- name: KeptRequest :one
SELECT request_mac, secret_id, version_uid, job_id, expires_at FROM vault.idempotency_keys
WHERE token_id = @token_id AND key = @key AND expires_at > now();

-- name: KeepRequest :execrows
INSERT INTO vault.idempotency_keys (token_id, key, request_mac, secret_id, version_uid, job_id, expires_at)
VALUES (@token_id, @key, @request_mac, @secret_id, @version_uid, @job_id, @expires_at) ON CONFLICT DO NOTHING;

-- name: ForgetRequest :exec
-- One whose time has passed, so that its key can be used again.
DELETE FROM vault.idempotency_keys WHERE token_id = @token_id AND key = @key AND expires_at <= now();

-- name: PurgeRequests :execrows
-- Those whose time has passed, at most so many.
DELETE FROM vault.idempotency_keys i
USING (SELECT token_id, key FROM vault.idempotency_keys WHERE expires_at <= now() ORDER BY expires_at LIMIT @max_rows) old
WHERE i.token_id = old.token_id AND i.key = old.key;
