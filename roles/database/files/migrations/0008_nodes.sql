-- SPDX-License-Identifier: GPL-3.0-or-later
-- Nodes are wished for by people: which there are, where they are reached, and which are cordoned. A node also knows
-- which maintenance it is in and which it went through last, so that one that was broken off goes on where it stood.

ALTER TABLE diskengine.node
    ADD COLUMN maintaining text CHECK (maintaining <> ''),
    ADD COLUMN maintained text CHECK (maintained <> '');
COMMENT ON COLUMN diskengine.node.maintaining IS 'the maintenance that cordoned the node and has not ended yet';
COMMENT ON COLUMN diskengine.node.maintained IS 'the last maintenance that the node went through';

CREATE OR REPLACE VIEW diskengine.v_node AS
SELECT n.name,
       n.kind,
       n.state,
       n.failure_domain,
       n.hostnqn,
       coalesce(a.addresses, '[]') AS addresses,
       n.revision,
       to_char(n.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
       n.maintaining,
       n.maintained
FROM diskengine.node AS n
LEFT JOIN (
    SELECT node,
           jsonb_agg(jsonb_build_object('trtype', trtype, 'address', host(address), 'port', port)
                     ORDER BY position, trtype, address) AS addresses
    FROM diskengine.node_address
    GROUP BY node
) AS a ON a.node = n.name;

-- Row in:  {"name", and optionally "kind", "state" (GONE to remove it), "failure_domain", "hostnqn", "maintaining",
--          "maintained", "addresses": [{"trtype", "address", "port"}]}. What a row does not have stays as it is.
-- Row out: one per row in, in the same order; before and after hold only what changed.
CREATE FUNCTION diskengine.wish_nodes(rows jsonb)
    RETURNS TABLE (name text, outcome text, reason text, before jsonb, after jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    item jsonb;
    was jsonb;
    is_now jsonb;
    place record;
BEGIN
    PERFORM FROM diskengine.node AS n
        WHERE n.name IN (SELECT r ->> 'name' FROM jsonb_array_elements(rows) AS r) ORDER BY n.name FOR UPDATE;
    FOR item IN SELECT value FROM jsonb_array_elements(rows) LOOP
        SELECT to_jsonb(v) - 'updated_at' - 'revision' INTO was FROM diskengine.v_node AS v WHERE v.name = item ->> 'name';
        reason := NULL;
        is_now := NULL;
        BEGIN
            IF item ->> 'state' = 'GONE' THEN
                DELETE FROM diskengine.node AS n WHERE n.name = item ->> 'name';
            ELSE
                IF was IS NULL THEN
                    INSERT INTO diskengine.node AS n (name, kind, state)
                        VALUES (item ->> 'name', item ->> 'kind', coalesce(item ->> 'state', 'active'));
                ELSIF item ->> 'kind' <> was ->> 'kind' THEN
                    RAISE check_violation USING MESSAGE =
                        format('it is a %s node, and a node cannot change its kind', was ->> 'kind');
                END IF;
                UPDATE diskengine.node AS n SET
                    state = coalesce(item ->> 'state', n.state),
                    failure_domain =
                        CASE WHEN item ? 'failure_domain' THEN item ->> 'failure_domain' ELSE n.failure_domain END,
                    hostnqn = CASE WHEN item ? 'hostnqn' THEN item ->> 'hostnqn' ELSE n.hostnqn END,
                    maintaining = CASE WHEN item ? 'maintaining' THEN item ->> 'maintaining' ELSE n.maintaining END,
                    maintained = CASE WHEN item ? 'maintained' THEN item ->> 'maintained' ELSE n.maintained END
                    WHERE n.name = item ->> 'name';
                IF item ? 'addresses' AND item -> 'addresses' IS DISTINCT FROM was -> 'addresses' THEN
                    DELETE FROM diskengine.node_address AS a WHERE a.node = item ->> 'name';
                    FOR place IN SELECT * FROM jsonb_array_elements(item -> 'addresses') WITH ORDINALITY AS p(value, n) LOOP
                        INSERT INTO diskengine.node_address (node, position, trtype, address, port)
                            VALUES (item ->> 'name', place.n, place.value ->> 'trtype',
                                    (place.value ->> 'address')::inet, (place.value ->> 'port')::integer);
                    END LOOP;
                END IF;
            END IF;
            SELECT to_jsonb(v) - 'updated_at' - 'revision' INTO is_now
                FROM diskengine.v_node AS v WHERE v.name = item ->> 'name';
            outcome := CASE WHEN is_now IS DISTINCT FROM was THEN 'changed' ELSE 'unchanged' END;
        EXCEPTION
            WHEN foreign_key_violation THEN
                outcome := 'refused';
                reason := 'disks, mappings or something else in the database still name it';
            WHEN integrity_constraint_violation OR data_exception THEN
                outcome := 'refused';
                reason := SQLERRM;
        END;
        name := item ->> 'name';
        before := NULL;
        after := NULL;
        IF outcome = 'changed' THEN
            before := coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(was)
                                WHERE is_now -> key IS DISTINCT FROM value), '{"state": "GONE"}');
            after := coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(is_now)
                               WHERE was -> key IS DISTINCT FROM value), '{"state": "GONE"}');
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION diskengine.wish_nodes(jsonb) FROM PUBLIC;

INSERT INTO diskengine.privilege (purpose, privilege, object) VALUES
    ('operator', 'SELECT', 'v_node'),
    ('operator', 'EXECUTE', 'wish_nodes(jsonb)');
