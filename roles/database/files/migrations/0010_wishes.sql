-- SPDX-License-Identifier: GPL-3.0-or-later
-- How the owner of the estate makes wishes for volumes and mappings, and what disks still have room for.
-- All wishes are made one call after the other, so that what a call has read stays true until it ends.

ALTER TABLE diskengine.disk ADD COLUMN cluster_size bigint CHECK (cluster_size > 0);

CREATE OR REPLACE TRIGGER a_state BEFORE INSERT OR UPDATE OR DELETE ON diskengine.disk
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_state(
        'state', 'revision', 'updated_at', 'bdf', 'model', 'lvstore_name', 'lvstore_uuid', 'total_bytes', 'free_bytes',
        'health', 'cluster_size');

CREATE OR REPLACE VIEW diskengine.v_disk AS
SELECT d.id,
       d.node,
       d.bdf,
       d.serial,
       d.model,
       d.state,
       d.lvstore_name,
       d.lvstore_uuid::text AS lvstore_uuid,
       d.total_bytes,
       d.free_bytes,
       d.health,
       coalesce(l.listeners, '[]') AS listeners,
       d.revision,
       to_char(d.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
       d.cluster_size
FROM diskengine.disk AS d
LEFT JOIN (
    SELECT disk_id,
           jsonb_agg(jsonb_build_object('trtype', trtype,
                                        'traddr', host(traddr),
                                        'trsvcid', trsvcid::text,
                                        'adrfam', CASE family(traddr) WHEN 4 THEN 'IPv4' ELSE 'IPv6' END)
                     ORDER BY position, trtype, traddr, trsvcid) AS listeners
    FROM diskengine.disk_listener
    GROUP BY disk_id
) AS l ON l.disk_id = d.id;

CREATE OR REPLACE FUNCTION diskengine.record_disks(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record_leased(
        'disk', ARRAY['bdf', 'model', 'lvstore_name', 'lvstore_uuid', 'total_bytes', 'free_bytes', 'health',
                      'cluster_size'], rows)
$$;

-- Of the free bytes those count as taken that rows will still take. Of the whole capacity no more is given away than
-- there is, so that what thin lvols have not taken yet is not free either. An lvol has whole clusters.
CREATE VIEW diskengine.v_room AS
SELECT d.id AS disk_id,
       d.node,
       n.state AS node_state,
       n.failure_domain,
       d.state,
       d.health,
       d.cluster_size,
       d.total_bytes,
       least(d.free_bytes - coalesce(l.pending, 0) * d.cluster_size,
             d.total_bytes - coalesce(l.given, 0) * d.cluster_size)::bigint AS room_bytes,
       (coalesce(l.lvols, 0) + coalesce(s.snapshots, 0))::bigint AS objects
FROM diskengine.disk AS d
JOIN diskengine.node AS n ON n.name = d.node
LEFT JOIN (
    SELECT c.disk_id,
           count(*) AS lvols,
           sum(c.clusters) AS given,
           sum(c.clusters - c.held) FILTER (WHERE c.state IN ('CREATING', 'RESIZING')) AS pending
    FROM (
        SELECT l.disk_id, l.state, ceil(l.size_bytes::numeric / d.cluster_size) AS clusters,
               ceil(coalesce(l.zeroed_bytes, 0)::numeric / d.cluster_size) AS held
        FROM diskengine.lvol AS l
        JOIN diskengine.disk AS d ON d.id = l.disk_id
    ) AS c
    GROUP BY c.disk_id
) AS l ON l.disk_id = d.id
LEFT JOIN (
    SELECT disk_id, count(*) AS snapshots FROM diskengine.snapshot GROUP BY disk_id
) AS s ON s.disk_id = d.id;

CREATE FUNCTION diskengine.lock_wishes() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('diskengine.wishes', 0))
$$;

-- A volume of which nothing is left goes, and with it the mappings that were detached.
CREATE FUNCTION diskengine._remove_volumes(ids bigint[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM diskengine.mapping AS m
        WHERE m.volume_id = ANY (ids) AND m.state = 'DETACHED'
            AND NOT EXISTS (SELECT FROM diskengine.lvol AS l WHERE l.volume_id = m.volume_id);
    DELETE FROM diskengine.volume AS v
        WHERE v.id = ANY (ids)
            AND NOT EXISTS (SELECT FROM diskengine.lvol AS l WHERE l.volume_id = v.id)
            AND NOT EXISTS (SELECT FROM diskengine.mapping AS m WHERE m.volume_id = v.id);
$$;

CREATE FUNCTION diskengine._after_lvols() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM diskengine._remove_volumes(ARRAY(SELECT DISTINCT volume_id FROM gone));
    RETURN NULL;
END
$$;

CREATE TRIGGER c_volume AFTER DELETE ON diskengine.lvol REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION diskengine._after_lvols();

-- Carries out what is wished for the replicas of one volume. Raises what wish_volumes() tells.
CREATE FUNCTION diskengine._wish_lvols(volume bigint, lvols jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said text;
BEGIN
    IF EXISTS (
        SELECT FROM jsonb_array_elements(lvols) AS w
        LEFT JOIN diskengine.lvol AS l ON l.id = (w ->> 'id')::bigint AND l.volume_id = volume
        WHERE w ? 'id' AND l.revision IS DISTINCT FROM (w ->> 'revision')::bigint)
    THEN
        RAISE serialization_failure USING MESSAGE = 'what is wanted of a replica changed since it was read';
    END IF;
    UPDATE diskengine.lvol AS l
        SET state = coalesce(w ->> 'state', l.state), size_bytes = coalesce((w ->> 'size_bytes')::bigint, l.size_bytes)
        FROM jsonb_array_elements(lvols) AS w WHERE l.id = (w ->> 'id')::bigint;
    SELECT format('disk %s of node %s cannot take a replica: the disk is %s, the node %s', r.disk_id, r.node, r.state,
                  r.node_state)
        INTO said FROM jsonb_array_elements(lvols) AS w
        JOIN diskengine.v_room AS r ON r.disk_id = (w ->> 'disk_id')::bigint
        WHERE NOT w ? 'id' AND (r.state <> 'UP' OR r.node_state <> 'active') LIMIT 1;
    IF said IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = said;
    END IF;
    INSERT INTO diskengine.lvol (volume_id, disk_id, size_bytes, thin, clear_method)
        SELECT volume, n.disk_id, n.size_bytes, n.thin, n.clear_method
        FROM jsonb_array_elements(lvols) WITH ORDINALITY AS i(w, place),
             jsonb_populate_record(NULL::diskengine.lvol, w) AS n
        WHERE NOT w ? 'id' ORDER BY place;
    SELECT format('node %s would have %s replicas of the volume', d.node, count(*)) INTO said
        FROM diskengine.lvol AS l
        JOIN diskengine.disk AS d ON d.id = l.disk_id
        WHERE l.volume_id = volume AND l.state <> 'DELETING'
        GROUP BY d.node HAVING count(*) > 1 AND bool_or(l.state = 'CREATING') LIMIT 1;
    IF said IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = said;
    END IF;
END
$$;

-- Row in:  of a new volume its name and the other columns; of one that is there "id", the "revision" that was read, and
--          the columns that change, or "state": "GONE". "lvols" holds new replicas, and changes of those that are there
--          ("id", "revision", "state", "size_bytes").
-- Row out: one per row in, in the same order. A row is carried out as a whole or not at all.
CREATE FUNCTION diskengine.wish_volumes(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, reason text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    present diskengine.volume;
    touched bigint[] := '{}';
BEGIN
    PERFORM diskengine.lock_wishes();
    FOR item IN
        SELECT r AS wish, coalesce(r -> 'lvols', '[]') AS lvols, (r ->> 'id')::bigint AS id,
               (r ->> 'revision')::bigint AS revision, r ->> 'state' AS state
        FROM jsonb_array_elements(rows) WITH ORDINALITY AS i(r, n) ORDER BY n
    LOOP
        id := item.id;
        outcome := 'changed';
        reason := NULL;
        BEGIN
            SELECT v.* INTO present FROM diskengine.volume AS v WHERE v.id = item.id FOR UPDATE;
            IF item.id IS NULL THEN
                INSERT INTO diskengine.volume AS v (name, size_bytes, replicas, source_snapshot_id, rw_ios_per_sec,
                                                    rw_mbytes_per_sec, r_mbytes_per_sec, w_mbytes_per_sec)
                    SELECT w.name, w.size_bytes, w.replicas, w.source_snapshot_id, w.rw_ios_per_sec,
                           w.rw_mbytes_per_sec, w.r_mbytes_per_sec, w.w_mbytes_per_sec
                    FROM jsonb_populate_record(NULL::diskengine.volume, item.wish) AS w
                    RETURNING v.id INTO id;
            ELSIF present.revision IS DISTINCT FROM item.revision THEN
                RAISE serialization_failure USING MESSAGE = 'what is wanted changed since it was read';
            ELSIF item.state = 'GONE' THEN
                SELECT format('mapping %s on %s is %s; detach it first', m.id, m.node, m.state) INTO reason
                    FROM diskengine.mapping AS m WHERE m.volume_id = item.id AND m.state <> 'DETACHED'
                    ORDER BY m.id LIMIT 1;
                IF reason IS NOT NULL THEN
                    RAISE check_violation USING MESSAGE = reason;
                END IF;
                UPDATE diskengine.lvol AS l SET state = 'DELETING' WHERE l.volume_id = item.id AND l.state <> 'DELETING';
                PERFORM diskengine._remove_volumes(ARRAY[item.id]);
            ELSE
                UPDATE diskengine.volume AS v
                    SET (size_bytes, replicas, rw_ios_per_sec, rw_mbytes_per_sec, r_mbytes_per_sec, w_mbytes_per_sec) =
                        (SELECT w.size_bytes, w.replicas, w.rw_ios_per_sec, w.rw_mbytes_per_sec, w.r_mbytes_per_sec,
                                w.w_mbytes_per_sec
                         FROM jsonb_populate_record(v, item.wish) AS w)
                    WHERE v.id = item.id;
            END IF;
            PERFORM diskengine._wish_lvols(wish_volumes.id, item.lvols);
            touched := touched || ARRAY(
                SELECT l.disk_id FROM diskengine.lvol AS l
                WHERE l.volume_id = wish_volumes.id AND l.state IN ('CREATING', 'RESIZING') AND item.lvols <> '[]');
        EXCEPTION
            WHEN serialization_failure THEN
                outcome := 'stale';
                reason := SQLERRM;
                id := item.id;
            WHEN integrity_constraint_violation OR data_exception THEN
                outcome := 'refused';
                reason := SQLERRM;
                id := item.id;
        END;
        RETURN NEXT;
    END LOOP;
    SELECT string_agg(format('disk %s of node %s', r.disk_id, r.node), ', ' ORDER BY r.disk_id) INTO reason
        FROM diskengine.v_room AS r WHERE r.disk_id = ANY (touched) AND coalesce(r.room_bytes, -1) < 0;
    IF reason IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = format('there is not so much room on %s; nothing was written', reason);
    END IF;
END
$$;

-- Why a volume cannot be mapped on a node; null if it can.
CREATE FUNCTION diskengine._mapping_problem(host diskengine.node, wanted diskengine.volume, shared boolean) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN wanted.id IS NULL THEN 'there is no such volume'
        WHEN host.kind <> 'compute' THEN format('%s is no compute node', host.name)
        WHEN host.state <> 'active' THEN format('node %s is %s', host.name, host.state)
        WHEN host.hostnqn IS NULL THEN format('node %s has no host NQN (hostnqn), so no export would admit it', host.name)
        WHEN wanted.replicas <> 2 THEN
            format('a compute node serves mirrors of two replicas, and the volume has %s', wanted.replicas)
        WHEN NOT EXISTS (SELECT FROM diskengine.lvol AS l WHERE l.volume_id = wanted.id AND l.state <> 'DELETING') THEN
            'the volume is being deleted'
        ELSE (
            SELECT format('it is mapped on %s%s (%s); detach it there first', m.node, ' for VM ' || m.vm, m.state)
            FROM diskengine.mapping AS m
            WHERE m.volume_id = wanted.id AND m.state <> 'DETACHED'
                AND CASE m.node WHEN host.name THEN NOT shared ELSE m.state <> 'DETACHING' END
            ORDER BY m.id LIMIT 1)
    END
$$;

-- Row in:  {"volume": its name, "node", "state": "present" or "absent", and optionally "vm" and
--          "allow_shared"}.
-- Row out: one per row in, in the same order; before and after hold only what changed.
CREATE FUNCTION diskengine.wish_mappings(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    host diskengine.node;
    wanted diskengine.volume;
    live bigint[];
BEGIN
    PERFORM diskengine.lock_wishes();
    FOR item IN
        SELECT r ->> 'volume' AS volume, r ->> 'node' AS node, r ->> 'vm' AS vm, r ->> 'state' AS state,
               coalesce((r ->> 'allow_shared')::boolean, false) AS shared
        FROM jsonb_array_elements(rows) WITH ORDINALITY AS i(r, n) ORDER BY n
    LOOP
        SELECT v.* INTO wanted FROM diskengine.volume AS v WHERE v.name = item.volume;
        SELECT n.* INTO host FROM diskengine.node AS n WHERE n.name = item.node;
        live := ARRAY(
            SELECT m.id FROM diskengine.mapping AS m
            WHERE m.volume_id = wanted.id AND m.node = item.node AND (item.vm IS NULL OR m.vm = item.vm)
                AND m.state <> 'DETACHED'
            ORDER BY m.id);
        id := live[1];
        state := (SELECT m.state FROM diskengine.mapping AS m WHERE m.id = live[1]);
        before := jsonb_build_object('state', coalesce(state, 'GONE'));
        outcome := 'unchanged';
        reason := NULL;
        IF host.name IS NULL THEN
            reason := format('there is no node %s', item.node);
        ELSIF cardinality(live) > 1 THEN
            reason := 'it is mapped there for several VMs; say for which one (vm)';
        ELSIF item.state = 'absent' AND id IS NULL THEN
            DELETE FROM diskengine.mapping AS m
                WHERE m.volume_id = wanted.id AND m.node = item.node AND (item.vm IS NULL OR m.vm = item.vm);
            IF FOUND THEN
                before := '{"state": "DETACHED"}';
                outcome := 'changed';
            END IF;
        ELSIF item.state = 'absent' AND state <> 'DETACHING' THEN
            UPDATE diskengine.mapping AS m SET state = 'DETACHING' WHERE m.id = live[1] RETURNING m.state INTO state;
            outcome := 'changed';
        ELSIF item.state = 'present' AND state = 'DETACHING' THEN
            reason := 'it is being detached there; converge the node, then map it again';
        ELSIF item.state = 'present' AND id IS NULL THEN
            reason := diskengine._mapping_problem(host, wanted, item.shared);
            IF reason IS NULL THEN
                DELETE FROM diskengine.mapping AS m WHERE m.volume_id = wanted.id AND m.state = 'DETACHED';
                INSERT INTO diskengine.mapping AS m (volume_id, node, vm) VALUES (wanted.id, item.node, item.vm)
                    RETURNING m.id, m.state INTO id, state;
                outcome := 'changed';
            END IF;
        END IF;
        IF reason IS NOT NULL THEN
            outcome := 'refused';
        END IF;
        after := jsonb_build_object('state', coalesce(state, 'GONE'));
        IF outcome <> 'changed' THEN
            before := NULL;
            after := NULL;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

INSERT INTO diskengine.privilege (purpose, privilege, object) VALUES
    ('operator', 'SELECT', 'v_disk'),
    ('operator', 'SELECT', 'v_lvol'),
    ('operator', 'SELECT', 'v_snapshot'),
    ('operator', 'SELECT', 'v_volume'),
    ('operator', 'SELECT', 'v_mapping'),
    ('operator', 'SELECT', 'v_room'),
    ('operator', 'EXECUTE', 'lock_wishes()'),
    ('operator', 'EXECUTE', 'wish_volumes(jsonb)'),
    ('operator', 'EXECUTE', 'wish_mappings(jsonb)');

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA diskengine FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA diskengine FROM PUBLIC;
