-- SPDX-License-Identifier: GPL-3.0-or-later
-- How convergence writes: one call with a set of rows, each a compare-and-set of its own.
-- Row in:  {"id", "from", "to", and optionally "revision" as it was read, and what was found}.
-- An NQN is never written: a row that wants another one by now is stale.
-- Row out: one per row in, in the same order; before and after hold only what changed.

CREATE FUNCTION diskengine._record(kind text, fields text[], rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    wanted jsonb;
    columns text := array_to_string(array_remove(fields, 'nqn') || 'state'::text, ', ');
    updating text := format(
        'UPDATE diskengine.%1$I AS t SET (%2$s) = (SELECT %2$s FROM jsonb_populate_record(t, $2))
         WHERE t.id = $1 RETURNING to_jsonb(t)', kind, columns);
    typing text := format('SELECT to_jsonb(r) FROM jsonb_populate_record(NULL::diskengine.%I, $1) AS r', kind);
    target text;
    unknown text;
    now_row jsonb;
BEGIN
    -- All rows are locked first, in one order, so that two runs cannot wait for each other.
    EXECUTE format(
        'SELECT FROM diskengine.%I WHERE id IN (SELECT (r ->> ''id'')::bigint FROM jsonb_array_elements($1) AS r)
         ORDER BY id FOR UPDATE', kind) USING rows;

    FOR item IN EXECUTE format(
        'SELECT r.id, r.change, diskengine._canonical_state(change ->> ''from'') AS from_state,
                diskengine._canonical_state(change ->> ''to'') AS to_state,
                count(*) OVER (PARTITION BY r.id) > 1 AS repeated, to_jsonb(t) AS present
         FROM (SELECT (e ->> ''id'')::bigint AS id, e AS change, n
               FROM jsonb_array_elements($1) WITH ORDINALITY AS i(e, n)) AS r
         LEFT JOIN diskengine.%I AS t ON t.id = r.id ORDER BY n', kind) USING rows
    LOOP
        id := item.id;
        state := item.present ->> 'state';
        outcome := 'refused';
        reason := NULL;
        before := NULL;
        after := NULL;
        target := item.to_state;
        wanted := jsonb_strip_nulls(item.change - ARRAY['id', 'from', 'to', 'revision']);
        SELECT string_agg(key, ', ' ORDER BY key) INTO unknown
            FROM jsonb_object_keys(wanted) AS key WHERE key <> ALL (fields);

        BEGIN
            IF item.repeated THEN
                reason := 'named more than once in one call';
            ELSIF id IS NULL OR item.from_state IS NULL OR target IS NULL THEN
                reason := 'id, from and to are needed';
            ELSIF unknown IS NOT NULL THEN
                reason := format('cannot record %s', unknown);
            ELSIF item.present IS NULL AND target = 'GONE' THEN
                outcome := 'unchanged';
            ELSIF item.present IS NULL THEN
                outcome := 'missing';
                reason := 'no such row';
            ELSE
                EXECUTE typing INTO now_row USING wanted;
                SELECT coalesce(jsonb_object_agg(key, now_row -> key), '{}') INTO wanted
                    FROM jsonb_object_keys(wanted) AS key;
                -- A finished resize has no offset any more; saying it again is no change.
                IF state = target AND target <> 'RESIZING' THEN
                    wanted := wanted - 'zeroed_bytes';
                END IF;

                IF state = target AND item.present @> wanted THEN
                    outcome := 'unchanged';
                ELSIF state <> item.from_state THEN
                    outcome := 'stale';
                    reason := CASE state WHEN target THEN format('is %s already, recorded differently', state)
                              ELSE format('is %s, expected %s', state, item.from_state) END;
                ELSIF (item.change ->> 'revision')::bigint <> (item.present ->> 'revision')::bigint THEN
                    outcome := 'stale';
                    reason := 'what is wanted changed since it was read';
                ELSIF item.present -> 'nqn' <> wanted -> 'nqn' THEN
                    outcome := 'stale';
                    reason := format('the NQN wanted is %s', coalesce(item.present ->> 'nqn', 'missing'));
                ELSIF state <> target AND NOT EXISTS (
                    SELECT FROM diskengine.state_transition AS s
                    WHERE s.kind = _record.kind AND s.from_state = item.from_state
                        AND s.to_state = target AND s.made_by = 'result')
                THEN
                    reason := format('%s -> %s is not for convergence to make', state, target);
                ELSIF target = 'GONE' THEN
                    EXECUTE format('DELETE FROM diskengine.%I WHERE id = $1', kind) USING id;
                    outcome := 'changed';
                    before := jsonb_build_object('state', state);
                    after := jsonb_build_object('state', 'GONE');
                    state := NULL;
                ELSE
                    EXECUTE updating INTO now_row USING id, wanted || jsonb_build_object('state', target);
                    outcome := 'changed';
                    state := target;
                    SELECT jsonb_object_agg(key, item.present -> key), jsonb_object_agg(key, now_row -> key)
                        INTO before, after
                        FROM unnest(fields || 'state'::text) AS key
                        WHERE item.present -> key IS DISTINCT FROM now_row -> key;
                END IF;
            END IF;
        EXCEPTION
            WHEN integrity_constraint_violation OR data_exception THEN
                outcome := 'refused';
                reason := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION diskengine.record_disks(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record(
        'disk', ARRAY['bdf', 'model', 'lvstore_name', 'lvstore_uuid', 'total_bytes', 'free_bytes', 'health'], rows)
$$;

CREATE FUNCTION diskengine.record_lvols(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record('lvol', ARRAY['uuid', 'nqn', 'zeroed_bytes'], rows)
$$;

CREATE FUNCTION diskengine.record_snapshots(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record('snapshot', ARRAY['uuid'], rows)
$$;

CREATE FUNCTION diskengine.record_mappings(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record('mapping', ARRAY['initialised_bytes'], rows)
$$;

-- Gives a role exactly what convergence needs, and takes what else it had in this schema.
CREATE FUNCTION diskengine.grant_convergence(role name) RETURNS void
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
                   'diskengine.lvol_nqn(text, bigint, bigint) TO %I', role);
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA diskengine FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA diskengine FROM PUBLIC;
