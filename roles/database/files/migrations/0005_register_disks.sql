-- SPDX-License-Identifier: GPL-3.0-or-later
-- Drives that were found on a storage node become rows. Nothing follows from a drive that was not found.
-- Row in:  {"serial", "bdf", and optionally "model"}.
-- Row out: one per row in, in the same order; before and after hold only what changed.

CREATE FUNCTION diskengine.register_disks(node text, rows jsonb)
    RETURNS TABLE (serial text, id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    present diskengine.disk;
BEGIN
    -- One call at a time: two that made the same serials in another order would wait for each other for ever.
    PERFORM pg_advisory_xact_lock(hashtextextended('diskengine.register_disks', 0));
    IF NOT EXISTS (SELECT FROM diskengine.node AS n WHERE n.name = register_disks.node AND n.kind = 'storage') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('there is no storage node %s', node);
    END IF;
    PERFORM FROM diskengine.disk AS d
        WHERE d.serial IN (SELECT r ->> 'serial' FROM jsonb_array_elements(rows) AS r)
        ORDER BY d.id FOR UPDATE;

    FOR item IN
        SELECT r ->> 'serial' AS serial, r ->> 'bdf' AS bdf, nullif(r ->> 'model', '') AS model,
               string_agg(r ->> 'bdf', ' and ') OVER same AS places, count(*) OVER same AS times
        FROM jsonb_array_elements(rows) WITH ORDINALITY AS i(r, n)
        WINDOW same AS (PARTITION BY r ->> 'serial' ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
        ORDER BY n
    LOOP
        -- The row that counts is the one in use; a serial may have retired ones beside it.
        SELECT d.* INTO present FROM diskengine.disk AS d WHERE d.serial = item.serial
            ORDER BY d.state = 'RETIRED', d.id DESC LIMIT 1;
        serial := item.serial;
        id := present.id;
        state := present.state;
        outcome := 'refused';
        reason := NULL;
        before := NULL;
        after := NULL;

        BEGIN
            IF item.times > 1 THEN
                reason := format('the serial was found at %s', item.places);
            ELSIF present.state = 'RETIRED' THEN
                outcome := 'unchanged';
                reason := format('it is retired; remove disk %s to use it again', present.id);
            ELSIF present.node <> register_disks.node THEN
                reason := format('it is disk %s of node %s; move that row, or retire it there', present.id, present.node);
            ELSIF present.id IS NOT NULL THEN
                before := jsonb_build_object('bdf', present.bdf, 'model', present.model);
                UPDATE diskengine.disk AS d SET bdf = item.bdf, model = coalesce(item.model, d.model)
                    WHERE d.id = present.id AND (d.bdf, d.model) IS DISTINCT FROM (item.bdf, coalesce(item.model, d.model))
                    RETURNING jsonb_build_object('bdf', d.bdf, 'model', d.model) INTO after;
                outcome := CASE WHEN FOUND THEN 'changed' ELSE 'unchanged' END;
            ELSE
                INSERT INTO diskengine.disk AS d (node, bdf, serial, model)
                    VALUES (register_disks.node, item.bdf, item.serial, item.model)
                    RETURNING d.id, d.state INTO id, state;
                INSERT INTO diskengine.disk_listener (disk_id, position, trtype, traddr, trsvcid)
                    SELECT register_disks.id, a.position, a.trtype, a.address, a.port
                    FROM diskengine.node_address AS a WHERE a.node = register_disks.node;
                outcome := 'changed';
                before := jsonb_build_object('state', 'GONE');
                after := (SELECT jsonb_build_object('state', v.state, 'bdf', v.bdf, 'model', v.model,
                                                    'listeners', v.listeners)
                          FROM diskengine.v_disk AS v WHERE v.id = register_disks.id);
            END IF;
        EXCEPTION
            WHEN integrity_constraint_violation OR data_exception THEN
                outcome := 'refused';
                reason := SQLERRM;
                id := present.id;
                state := present.state;
        END;
        IF outcome <> 'changed' THEN
            before := NULL;
            after := NULL;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION diskengine.register_disks(text, jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION diskengine.grant_convergence(role name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA diskengine FROM %I', role);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA diskengine FROM %I', role);
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA diskengine FROM %I', role);
    EXECUTE format('REVOKE ALL ON SCHEMA diskengine FROM %I', role);
    EXECUTE format('GRANT USAGE ON SCHEMA diskengine TO %I', role);
    EXECUTE format('GRANT SELECT ON diskengine.v_node, diskengine.v_disk, diskengine.v_lvol, diskengine.v_snapshot, '
                   'diskengine.v_volume, diskengine.v_mapping TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION diskengine.record_disks(jsonb), diskengine.record_lvols(jsonb), '
                   'diskengine.record_snapshots(jsonb), diskengine.record_mappings(jsonb), '
                   'diskengine.register_disks(text, jsonb), '
                   'diskengine.lvol_nqn(text, bigint, bigint) TO %I', role);
END
$$;
