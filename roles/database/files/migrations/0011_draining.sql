-- SPDX-License-Identifier: GPL-3.0-or-later
-- A disk that is to be taken out of use is drained first: nothing new is placed on it, and its replicas go elsewhere.

ALTER TABLE diskengine.disk ADD COLUMN draining boolean NOT NULL DEFAULT false;

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
       d.cluster_size,
       d.draining
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

CREATE OR REPLACE VIEW diskengine.v_room AS
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
       (coalesce(l.lvols, 0) + coalesce(s.snapshots, 0))::bigint AS objects,
       d.draining
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

-- Row in:  {"id", "revision" as it was read, and "draining" or "state": RETIRED or GONE}. "lost" says that the drive is
--          gone for good, and with it what is DELETING there and not held.
-- Row out: one per row in, in the same order.
CREATE FUNCTION diskengine.wish_disks(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, reason text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item jsonb;
    present diskengine.disk;
BEGIN
    PERFORM diskengine.lock_wishes();
    FOR item IN SELECT value FROM jsonb_array_elements(rows) LOOP
        id := (item ->> 'id')::bigint;
        outcome := 'changed';
        reason := NULL;
        BEGIN
            SELECT d.* INTO present FROM diskengine.disk AS d WHERE d.id = wish_disks.id FOR UPDATE;
            IF present.revision IS DISTINCT FROM (item ->> 'revision')::bigint THEN
                outcome := 'stale';
                reason := 'what is wanted changed since it was read';
                RETURN NEXT;
                CONTINUE;
            END IF;
            IF (item ->> 'lost')::boolean THEN
                DELETE FROM diskengine.lvol AS l WHERE l.disk_id = wish_disks.id AND l.state = 'DELETING';
                DELETE FROM diskengine.snapshot AS s WHERE s.disk_id = wish_disks.id AND s.state = 'DELETING';
            END IF;
            IF item ->> 'state' IS NOT NULL AND EXISTS (
                SELECT FROM diskengine.lvol AS l WHERE l.disk_id = wish_disks.id
                UNION ALL SELECT FROM diskengine.snapshot AS s WHERE s.disk_id = wish_disks.id)
            THEN
                RAISE check_violation USING MESSAGE = 'there are replicas or snapshots on it';
            ELSIF item ->> 'state' = 'GONE' THEN
                DELETE FROM diskengine.disk AS d WHERE d.id = wish_disks.id;
            ELSE
                UPDATE diskengine.disk AS d SET state = coalesce(item ->> 'state', d.state),
                    draining = coalesce((item ->> 'draining')::boolean, d.draining) WHERE d.id = wish_disks.id;
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

REVOKE ALL ON FUNCTION diskengine.wish_disks(jsonb) FROM PUBLIC;

INSERT INTO diskengine.privilege (purpose, privilege, object) VALUES ('operator', 'EXECUTE', 'wish_disks(jsonb)');
