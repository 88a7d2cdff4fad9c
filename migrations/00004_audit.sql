-- +goose Up
-- The audit trail: append-only streams of chained records, partitioned by day. What a record may hold is said by the types of its
-- columns, whose checks a plan keeps; CHECK constraints of a table are prepared anew by every statement, and every audited read
-- runs one. A stream's fixed columns are checked by a trigger that appends don't fire.
SET LOCAL ROLE vault_owner;

-- The bounds are those of internal/audit.
CREATE DOMAIN vault.text_64 AS text CONSTRAINT sound CHECK (octet_length(VALUE) <= 64);
CREATE DOMAIN vault.text_128 AS text CONSTRAINT sound CHECK (octet_length(VALUE) <= 128);
CREATE DOMAIN vault.text_256 AS text CONSTRAINT sound CHECK (octet_length(VALUE) <= 256);
CREATE DOMAIN vault.text_1024 AS text CONSTRAINT sound CHECK (octet_length(VALUE) <= 1024);
CREATE DOMAIN vault.bytes_65536 AS bytea CONSTRAINT sound CHECK (octet_length(VALUE) <= 65536);
CREATE DOMAIN vault.mac AS bytea CONSTRAINT sound CHECK (octet_length(VALUE) = 32);
CREATE DOMAIN vault.seq AS bigint CONSTRAINT sound CHECK (VALUE > 0);
REVOKE ALL ON TYPE vault.text_64, vault.text_128, vault.text_256, vault.text_1024, vault.bytes_65536, vault.mac, vault.seq FROM PUBLIC;

CREATE TABLE vault.audit_streams (
    stream_id       uuid PRIMARY KEY,
    process         text NOT NULL,
    kind            text NOT NULL,
    opened_at       timestamptz NOT NULL,
    state           text NOT NULL DEFAULT 'open',
    head_seq        bigint NOT NULL DEFAULT 0,
    head_mac        bytea NOT NULL,
    head_at         timestamptz NOT NULL,
    closed_at       timestamptz,
    system_id       text NOT NULL,
    timeline        bigint NOT NULL,
    predecessor     uuid,
    predecessor_seq bigint,
    predecessor_mac bytea,
    key_id          uuid NOT NULL REFERENCES vault.keyring (key_id),
    CHECK (head_seq >= 0 AND octet_length(head_mac) = 32)
) WITH (fillfactor = 40); -- the head moves with every append: leave room for HOT updates
CREATE INDEX audit_streams_open ON vault.audit_streams (stream_id) WHERE state = 'open';
CREATE INDEX audit_streams_closed ON vault.audit_streams (closed_at) WHERE closed_at IS NOT NULL;
COMMENT ON COLUMN vault.audit_streams.head_mac IS 'The mac of record head_seq; the opening''s own mac while head_seq is 0.';

CREATE TABLE vault.audit_log (
    stream_id   uuid NOT NULL,
    seq         vault.seq NOT NULL,
    at          timestamptz NOT NULL,
    actor       vault.text_256 NOT NULL,
    client_ip   inet,
    action      vault.text_64 NOT NULL,
    secret_name vault.text_1024 COLLATE "C",
    version     bigint,
    outcome     vault.text_64 NOT NULL,
    request_id  vault.text_128 NOT NULL,
    trace_id    vault.text_64,
    detail      vault.bytes_65536,
    mac         vault.mac NOT NULL,
    key_id      uuid NOT NULL,
    PRIMARY KEY (stream_id, seq, at)
) PARTITION BY RANGE (at);

CREATE TABLE vault.ship_cursors (
    sink         text NOT NULL,
    stream_id    uuid NOT NULL,
    shipped_seq  bigint NOT NULL CHECK (shipped_seq >= 0),
    global_index bigint NOT NULL CHECK (global_index >= 0),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    mac          bytea,
    key_id       uuid,
    PRIMARY KEY (sink, stream_id)
);

-- +goose StatementBegin
CREATE FUNCTION vault.refuse_audit_rewrite() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'audit is append-only: % on %.% is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd

-- A stream's fixed columns, and the two that say whether it is closed. Appends, which move the head alone, don't come here.
-- +goose StatementBegin
CREATE FUNCTION vault.refuse_unsound_stream() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF octet_length(NEW.process) NOT BETWEEN 1 AND 256
       OR NEW.kind NOT IN ('read', 'change', 'denial', 'offline')
       OR NEW.state NOT IN ('open', 'closed')
       OR octet_length(NEW.system_id) > 64 OR octet_length(NEW.predecessor_mac) <> 32
       OR (NEW.state = 'closed') <> (NEW.closed_at IS NOT NULL)
       OR (NEW.predecessor IS NULL) <> (NEW.predecessor_seq IS NULL)
       OR (NEW.predecessor IS NULL) <> (NEW.predecessor_mac IS NULL) THEN
        RAISE EXCEPTION 'an audit stream has a column out of bounds, or two that contradict each other'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'sound';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vault.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite();
ALTER TABLE vault.audit_log ENABLE ALWAYS TRIGGER append_only;

-- A record's time is the database's own. This is a policy, and no check, because a dump that is restored brings old records.
CREATE POLICY true_time ON vault.audit_log AS RESTRICTIVE FOR INSERT TO PUBLIC
    WITH CHECK (at BETWEEN now() - interval '5 minutes' AND clock_timestamp() + interval '5 minutes');

CREATE TRIGGER sound
    AFTER INSERT OR UPDATE OF process, kind, state, closed_at, system_id, predecessor, predecessor_seq, predecessor_mac
    ON vault.audit_streams
    FOR EACH ROW EXECUTE FUNCTION vault.refuse_unsound_stream();
ALTER TABLE vault.audit_streams ENABLE ALWAYS TRIGGER sound;

-- A stream's row moves forward but never goes.
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON vault.audit_streams
    FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite();
ALTER TABLE vault.audit_streams ENABLE ALWAYS TRIGGER kept;

-- Makes today's partition and those of the next days. Triggers and forced row security are made here because leaves
-- don't inherit them. LIKE and ATTACH take a weaker lock on the parent than PARTITION OF, and lock_timeout keeps even
-- that from queueing behind a long transaction: the caller retries.
-- +goose StatementBegin
CREATE FUNCTION vault.ensure_audit_partitions(days integer) RETURNS integer
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
    SET lock_timeout = '2s'
    SET timezone = 'GMT'
AS $$
DECLARE
    first_day date := (now() AT TIME ZONE 'GMT')::date;
    day       date;
    leaf      text;
    made      integer := 0;
BEGIN
    IF days IS NULL OR days < 0 OR days > 366 THEN
        RAISE EXCEPTION 'days is 0 to 366, not %', days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('vault.ensure_audit_partitions'));
    -- Yesterday's too: the clock of a new primary may be behind by minutes around midnight.
    FOR offset_days IN -1..days LOOP
        day := first_day + offset_days;
        leaf := 'audit_log_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(format('vault.%I', leaf)) IS NOT NULL;

        EXECUTE format('CREATE TABLE vault.%I (LIKE vault.audit_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf);
        EXECUTE format('ALTER TABLE vault.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', leaf);
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vault.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION vault.refuse_audit_rewrite()', leaf);
        EXECUTE format('ALTER TABLE vault.%I ENABLE ALWAYS TRIGGER append_only', leaf);
        EXECUTE format('ALTER TABLE vault.audit_log ATTACH PARTITION vault.%I FOR VALUES FROM (%L) TO (%L)',
            leaf, day::timestamp AT TIME ZONE 'GMT', (day + 1)::timestamp AT TIME ZONE 'GMT');
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- Drops one day's partition once every record in it has been shipped to every sink. It reads rows as vault_owner, through
-- that role's own policies; row_security = off would turn FORCEd row security into an error on every one of these reads.
-- +goose StatementBegin
CREATE FUNCTION vault.drop_audit_partition(day date) RETURNS bigint
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
    SET timezone = 'GMT'
AS $$
DECLARE
    leaf      text := 'audit_log_' || to_char(day, 'YYYYMMDD');
    unshipped bigint;
    records   bigint;
BEGIN
    IF day IS NULL OR day >= (now() AT TIME ZONE 'GMT')::date THEN
        RAISE EXCEPTION 'only a past day''s partition can be dropped' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_inherits i
                   WHERE i.inhparent = 'vault.audit_log'::regclass
                     AND i.inhrelid = to_regclass(format('vault.%I', leaf))) THEN
        RAISE EXCEPTION 'vault.% is not a partition of vault.audit_log', leaf USING ERRCODE = 'undefined_table';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- An older snapshot would not show what was appended since.
        RAISE EXCEPTION 'a partition is dropped only under read committed' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- Appends that are under way, as around midnight, end first and are then counted; none begins before the partition is gone.
    EXECUTE format('LOCK TABLE vault.%I IN SHARE ROW EXCLUSIVE MODE', leaf);
    IF NOT EXISTS (SELECT FROM vault.ship_cursors) THEN
        RAISE EXCEPTION 'nothing has been shipped: no partition is dropped' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT count(*), count(*) FILTER (WHERE NOT COALESCE(shipped.everywhere, false))
    INTO records, unshipped
    FROM vault.audit_log l
    LEFT JOIN LATERAL (
        -- Every sink that has any cursor must have this record's stream at or past it.
        SELECT bool_and(COALESCE(c.shipped_seq, 0) >= l.seq) AS everywhere
        FROM (SELECT DISTINCT sink FROM vault.ship_cursors) s
        LEFT JOIN vault.ship_cursors c ON c.sink = s.sink AND c.stream_id = l.stream_id
    ) shipped ON true
    WHERE l.at >= day::timestamp AT TIME ZONE 'GMT' AND l.at < (day + 1)::timestamp AT TIME ZONE 'GMT';

    IF unshipped > 0 THEN
        RAISE EXCEPTION '% of % records of % have not been shipped', unshipped, records, day
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('ALTER TABLE vault.audit_log DETACH PARTITION vault.%I', leaf);
    EXECUTE format('DROP TABLE vault.%I', leaf);
    RETURN records;
END
$$;
-- +goose StatementEnd

SELECT vault.ensure_audit_partitions(7);

RESET ROLE;
