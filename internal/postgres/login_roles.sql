-- The login users of Sealkeep's programs, each in the group role that holds its grants. Run this after `sealkeep migrate
-- up`, as the role that ran it or as a superuser:
--
--     sealkeep migrate roles --print | psql -v ON_ERROR_STOP=1
--
-- It changes nothing that is there already and holds no passwords. Set one for each user in psql, where neither the
-- server's log nor a shell's history sees it:
--
--     \password sealkeep_api
--     \password sealkeep_rotator
--     \password sealkeep_auditship
--     \password sealkeep_operator
DO $$
DECLARE
    pair text[];
BEGIN
    FOREACH pair SLICE 1 IN ARRAY ARRAY[
        ['sealkeep_api', 'vault_api'],
        ['sealkeep_rotator', 'vault_rotator'],
        ['sealkeep_auditship', 'vault_auditship'],
        ['sealkeep_operator', 'vault_operator']
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = pair[2]) THEN
            RAISE EXCEPTION 'there is no role %: run `sealkeep migrate up` first', pair[2];
        END IF;
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = pair[1]) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I LOGIN', pair[1]);
        END IF;
        -- Said again this would be a notice.
        IF NOT EXISTS (
            SELECT FROM pg_catalog.pg_auth_members
            WHERE roleid = pair[2]::pg_catalog.regrole AND member = pair[1]::pg_catalog.regrole
        ) THEN
            EXECUTE pg_catalog.format('GRANT %I TO %I', pair[2], pair[1]);
        END IF;
    END LOOP;
END
$$;
