-- +goose Up
-- Group roles, the schema's ownership, and who may reach the database at all. Needs CREATEROLE and ownership of the
-- database, never superuser. Login roles are made by the operator (`sealkeep migrate roles --print`).

-- The migration library keeps its own table in this schema, so the schema may be there already.
CREATE SCHEMA IF NOT EXISTS vault;

-- +goose StatementBegin
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['vault_owner', 'vault_api', 'vault_rotator', 'vault_auditship', 'vault_operator'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION
            -- Roles belong to the whole cluster: another vault on it may have made them, perhaps at this very moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;

    -- What was there before may not be more than a group. Who its members are is for the operator to look at: one cluster is
    -- for one vault, as group roles, and with them the logins' rights, are the whole cluster's.
    SELECT r.rolname INTO wanted FROM pg_roles r
    WHERE r.rolname IN ('vault_owner', 'vault_api', 'vault_rotator', 'vault_auditship', 'vault_operator')
      AND (r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication);
    IF FOUND THEN
        RAISE EXCEPTION 'the role % exists already and is more than a group: rename it, or use a cluster of its own for the vault', wanted
            USING ERRCODE = 'duplicate_object';
    END IF;

    IF NOT pg_has_role(session_user, 'vault_owner', 'USAGE') THEN
        EXECUTE format('GRANT vault_owner TO %I', session_user);
    END IF;

    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO vault_owner, vault_api, vault_rotator, vault_auditship, vault_operator',
        current_database());
    EXECUTE format('GRANT CREATE ON DATABASE %I TO vault_owner', current_database());
END
$$;
-- +goose StatementEnd

ALTER SCHEMA vault OWNER TO vault_owner;
ALTER TABLE vault.schema_version OWNER TO vault_owner;

SET LOCAL ROLE vault_owner;

REVOKE ALL ON SCHEMA vault FROM PUBLIC;
GRANT USAGE ON SCHEMA vault TO vault_api, vault_rotator, vault_auditship, vault_operator;

-- Functions are executable by PUBLIC unless their creator's defaults say otherwise.
ALTER DEFAULT PRIVILEGES FOR ROLE vault_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

ALTER TABLE vault.schema_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.schema_version FORCE ROW LEVEL SECURITY;
CREATE POLICY migrations ON vault.schema_version FOR ALL TO vault_owner USING (true) WITH CHECK (true);
CREATE POLICY known_to_processes ON vault.schema_version FOR SELECT
    TO vault_api, vault_rotator, vault_auditship, vault_operator USING (true);
GRANT SELECT ON vault.schema_version TO vault_api, vault_rotator, vault_auditship, vault_operator;

RESET ROLE;
