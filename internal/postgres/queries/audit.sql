-- name: OpenStream :exec
INSERT INTO vault.audit_streams (stream_id, process, kind, opened_at, head_mac, head_at, system_id, timeline,
                                 predecessor, predecessor_seq, predecessor_mac, key_id)
VALUES (@stream_id, @process, @kind, @opened_at, @head_mac, @opened_at, @system_id, @timeline,
        @predecessor, @predecessor_seq, @predecessor_mac, @key_id);

-- name: LockStream :one
-- Waits out whatever transaction still holds the stream.
SELECT stream_id, state, head_seq, head_mac, (CASE WHEN isfinite(head_at) THEN head_at ELSE 'epoch' END)::timestamptz AS head_at,
       key_id, clock_timestamp()::timestamptz AS read_at
FROM vault.audit_streams WHERE stream_id = $1 FOR UPDATE;

-- name: CloseStream :execrows
UPDATE vault.audit_streams
SET state = 'closed', head_seq = @head_seq, head_mac = @head_mac, head_at = @head_at, closed_at = @head_at
WHERE stream_id = @stream_id AND head_seq = @old_seq AND head_mac = @old_mac AND state = 'open';

-- name: InsertRecord :exec
INSERT INTO vault.audit_log (stream_id, seq, at, actor, client_ip, action, secret_name, version, outcome, request_id,
                             trace_id, detail, mac, key_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: Heads :many
-- The heads of all open streams and of those closed since @since, or of one stream alone, each with the record it names and the
-- mac before that, so that a head can be checked before anybody vouches for it. A foreign record under the same number
-- makes a row of its own. An infinite time, which the driver can't read, would keep everybody from reading all others.
SELECT s.stream_id, s.process, s.kind, (CASE WHEN isfinite(s.opened_at) THEN s.opened_at ELSE 'epoch' END)::timestamptz AS opened_at,
       s.state, s.head_seq, s.head_mac, s.system_id, s.timeline,
       s.predecessor, s.predecessor_seq, s.predecessor_mac, s.key_id,
       l.at, l.actor, coalesce(abbrev(l.client_ip), '')::text AS client_ip, l.action, l.secret_name, l.version, l.outcome,
       l.request_id, l.trace_id, l.detail, l.mac, p.mac AS previous_mac
FROM vault.audit_streams s
LEFT JOIN vault.audit_log l ON l.stream_id = s.stream_id AND l.seq = s.head_seq
LEFT JOIN vault.audit_log p ON p.stream_id = s.stream_id AND p.seq = (CASE WHEN s.head_seq > 0 THEN s.head_seq - 1 END)
WHERE s.stream_id > @after AND (s.stream_id = sqlc.narg(one_stream)::uuid
      OR (sqlc.narg(one_stream)::uuid IS NULL AND (s.state = 'open' OR s.closed_at >= @since)))
ORDER BY s.stream_id LIMIT @max_rows;

-- name: StaleStreams :many
-- Open streams of other processes on which nothing was appended for long: their owners are gone, or will notice.
SELECT stream_id FROM vault.audit_streams
WHERE state = 'open' AND head_at < now() - make_interval(secs => @idle_secs::float8) AND process <> @process
ORDER BY stream_id LIMIT @max_rows;

-- name: Streams :many
-- An infinite time, which nothing of ours writes and the driver can't read, comes as one that no mac matches.
SELECT stream_id, process, kind, (CASE WHEN isfinite(opened_at) THEN opened_at ELSE 'epoch' END)::timestamptz AS opened_at,
       state, head_seq, head_mac, (CASE WHEN isfinite(head_at) THEN head_at ELSE 'epoch' END)::timestamptz AS head_at,
       coalesce(CASE WHEN isfinite(closed_at) THEN closed_at END, 'epoch')::timestamptz AS closed_at,
       (closed_at IS NOT NULL)::boolean AS bears_closing, system_id, timeline, predecessor, predecessor_seq, predecessor_mac, key_id
FROM vault.audit_streams ORDER BY 4, stream_id;

-- name: RecordedStreams :many
-- Every stream id that the log itself holds, whether audit_streams knows it or not.
SELECT DISTINCT stream_id FROM vault.audit_log;

-- name: Records :many
-- The address comes as text, netmask and all, and an infinite time as one that no mac matches, so that what was edited is
-- seen and not an error of the driver.
SELECT stream_id, seq, (CASE WHEN isfinite(at) THEN at ELSE 'epoch' END)::timestamptz AS at, actor, coalesce(abbrev(client_ip), '')::text AS client_ip, action, secret_name, version, outcome, request_id, trace_id, detail, mac, key_id
FROM vault.audit_log WHERE stream_id = @stream_id AND seq > @after_seq ORDER BY seq, audit_log.at, mac LIMIT @max_rows;

-- name: RecentRecords :many
-- The newest records of every stream that moved since @since, merged by time.
SELECT r.stream_id, r.seq, r.at, r.actor, coalesce(abbrev(r.client_ip), '')::text AS client_ip, r.action, r.secret_name, r.version, r.outcome, r.request_id,
       r.trace_id, r.detail
FROM vault.audit_streams s
CROSS JOIN LATERAL (
    SELECT l.* FROM vault.audit_log l
    WHERE l.stream_id = s.stream_id AND l.at >= @since AND l.at <= @until
    ORDER BY l.seq DESC LIMIT @max_rows
) r
WHERE s.head_at >= @since AND s.opened_at <= @until
ORDER BY r.at DESC, r.stream_id, r.seq DESC
LIMIT @max_rows;

-- name: EnsurePartitions :one
SELECT vault.ensure_audit_partitions(@days::integer)::integer AS made;

-- name: ServerIdentity :one
-- The timeline is read from the file that WAL is being written to now; the control file's lags until a checkpoint.
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system_id,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint AS timeline,
       clock_timestamp()::timestamptz AS read_at;

-- name: ReplicationState :one
-- Whether commits wait for a standby, and the clock.
SELECT current_setting('synchronous_standby_names') <> '' AS synchronous, now()::timestamptz AS read_at,
       current_setting('server_version') AS server_version;
