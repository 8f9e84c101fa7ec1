-- SPDX-License-Identifier: GPL-3.0-or-later
-- What a login role may do is rows, so that a migration which adds a view or a function adds a row for it.

CREATE TABLE diskengine.privilege (
    purpose   text NOT NULL,
    privilege text NOT NULL CHECK (privilege IN ('SELECT', 'EXECUTE')),
    object    text NOT NULL,
    PRIMARY KEY (purpose, object)
);
COMMENT ON COLUMN diskengine.privilege.purpose IS 'what the role is for';
COMMENT ON COLUMN diskengine.privilege.object IS 'a view, or a function with the types of its arguments, in this schema';

INSERT INTO diskengine.privilege (purpose, privilege, object) VALUES
    ('convergence', 'SELECT', 'v_node'),
    ('convergence', 'SELECT', 'v_disk'),
    ('convergence', 'SELECT', 'v_lvol'),
    ('convergence', 'SELECT', 'v_snapshot'),
    ('convergence', 'SELECT', 'v_volume'),
    ('convergence', 'SELECT', 'v_mapping'),
    ('convergence', 'EXECUTE', 'record_disks(jsonb)'),
    ('convergence', 'EXECUTE', 'record_lvols(jsonb)'),
    ('convergence', 'EXECUTE', 'record_snapshots(jsonb)'),
    ('convergence', 'EXECUTE', 'record_mappings(jsonb)'),
    ('convergence', 'EXECUTE', 'register_disks(text, jsonb)'),
    ('convergence', 'EXECUTE', 'lvol_nqn(text, bigint, bigint)');

-- Gives a role exactly what its purpose needs, and takes what else it had in this schema.
CREATE FUNCTION diskengine.grant_purpose(role name, purpose text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA diskengine FROM %I', role);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA diskengine FROM %I', role);
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA diskengine FROM %I', role);
    EXECUTE format('REVOKE ALL ON SCHEMA diskengine FROM %I', role);
    EXECUTE format('GRANT USAGE ON SCHEMA diskengine TO %I', role);
    FOR item IN SELECT p.* FROM diskengine.privilege AS p WHERE p.purpose = grant_purpose.purpose LOOP
        EXECUTE format('GRANT %s ON %s diskengine.%s TO %I', item.privilege,
                       CASE item.privilege WHEN 'EXECUTE' THEN 'FUNCTION' ELSE 'TABLE' END, item.object, role);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION diskengine.grant_convergence(role name) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
    RETURN diskengine.grant_purpose(role, 'convergence');

REVOKE ALL ON FUNCTION diskengine.grant_purpose(name, text) FROM PUBLIC;
REVOKE ALL ON TABLE diskengine.privilege FROM PUBLIC;
