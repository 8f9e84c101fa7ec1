-- SPDX-License-Identifier: GPL-3.0-or-later
-- The last healthy leg of a mirror is untouchable. Compute nodes record what their mirrors have of each lvol, before
-- an lvol is connected and when a mirror was seen, and an lvol that is held (v_lvol) cannot go, for anybody.

ALTER TABLE diskengine.lvol ADD COLUMN membership text NOT NULL DEFAULT 'NONE'
    CHECK (membership IN ('NONE', 'CONNECTED', 'JOINING', 'IN_SYNC'));
COMMENT ON COLUMN diskengine.lvol.membership IS
    'what the mirror of the volume has of it: nothing, a connection, a leg that is not in sync yet, or all data';

DROP TRIGGER a_state ON diskengine.lvol;
CREATE TRIGGER a_state BEFORE INSERT OR UPDATE OR DELETE ON diskengine.lvol
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_state(
        'state', 'revision', 'updated_at', 'uuid', 'zeroed_bytes', 'membership');

-- Until it is recorded, what was mapped before is taken for whole.
UPDATE diskengine.lvol AS l SET membership = 'IN_SYNC' WHERE l.state <> 'CREATING' AND EXISTS (
    SELECT FROM diskengine.mapping AS m
    WHERE m.volume_id = l.volume_id AND m.state IN ('ATTACHED', 'DETACHING', 'DETACHED'));

CREATE OR REPLACE FUNCTION diskengine.record_lvols(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record_leased('lvol', ARRAY['uuid', 'nqn', 'zeroed_bytes', 'membership'], rows)
$$;

-- The one home of the rule. While the volume is mapped its legs and connections stay; when it is not, the last leg that
-- holds all data stays, unless all of the volume goes.
CREATE VIEW diskengine._held AS
SELECT l.id,
       CASE
           WHEN m.name IS NOT NULL AND l.membership = 'CONNECTED' THEN m.name || ' is connected to it'
           WHEN m.name IS NOT NULL THEN m.name || ' has it as a leg'
           WHEN l.membership = 'IN_SYNC' AND EXISTS (
               SELECT FROM diskengine.lvol AS o
               WHERE o.volume_id = l.volume_id AND o.state <> 'DELETING'
               HAVING count(*) > 0 AND count(*) FILTER (WHERE o.membership = 'IN_SYNC') = 0)
           THEN format('no other leg of volume %s is in sync', l.volume_id)
       END AS held
FROM diskengine.lvol AS l
LEFT JOIN LATERAL (
    SELECT format('mapping %s on %s', m.id, m.node) AS name
    FROM diskengine.mapping AS m
    WHERE m.volume_id = l.volume_id AND m.state <> 'DETACHED'
    ORDER BY m.id LIMIT 1
) AS m ON true
WHERE l.state = 'DELETING' AND l.membership <> 'NONE';

CREATE OR REPLACE VIEW diskengine.v_lvol AS
SELECT l.id,
       d.node,
       l.disk_id,
       l.volume_id,
       l.state,
       l.size_bytes,
       l.thin,
       l.clear_method,
       d.lvstore_uuid,
       d.lvstore_name,
       l.uuid::text AS uuid,
       l.nqn,
       d.listeners,
       coalesce(h.hosts, '[]') AS hosts,
       l.zeroed_bytes,
       CASE
           WHEN l.nqn IS NULL THEN 'no NQN'
           WHEN d.listeners = '[]' THEN 'no listener address'
           WHEN d.listeners @> '[{"trsvcid": null}]' THEN 'a listener without a port'
       END AS defect,
       l.revision,
       to_char(l.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
       l.membership,
       k.held
FROM diskengine.lvol AS l
JOIN diskengine.v_disk AS d ON d.id = l.disk_id
LEFT JOIN (
    SELECT m.volume_id, jsonb_agg(DISTINCT n.hostnqn ORDER BY n.hostnqn) AS hosts
    FROM diskengine.mapping AS m
    JOIN diskengine.node AS n ON n.name = m.node
    WHERE m.state <> 'DETACHED' AND n.hostnqn IS NOT NULL
    GROUP BY m.volume_id
) AS h ON h.volume_id = l.volume_id
LEFT JOIN diskengine._held AS k ON k.id = l.id;

CREATE OR REPLACE VIEW diskengine.v_volume AS
SELECT v.id,
       v.name,
       CASE
           WHEN l.replicas IS NULL THEN 'CREATING'
           WHEN l.states @> '["CREATING"]' THEN 'CREATING'
           WHEN l.states @> '["RESIZING"]' THEN 'RESIZING'
           WHEN l.states = '["DELETING"]' THEN 'DELETING'
           WHEN l.up < v.replicas THEN 'DEGRADED'
           ELSE 'UP'
       END AS state,
       v.size_bytes,
       v.replicas,
       v.source_snapshot_id,
       v.rw_ios_per_sec,
       v.rw_mbytes_per_sec,
       v.r_mbytes_per_sec,
       v.w_mbytes_per_sec,
       coalesce(l.legs, '[]') AS legs,
       coalesce(l.nodes, '[]') || coalesce(m.nodes, '[]') AS nodes,
       v.revision,
       to_char(v.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
FROM diskengine.volume AS v
LEFT JOIN (
    SELECT volume_id,
           count(*) AS replicas,
           count(*) FILTER (WHERE state = 'UP') AS up,
           jsonb_agg(DISTINCT state) AS states,
           jsonb_agg(DISTINCT node) AS nodes,
           jsonb_agg(jsonb_build_object('lvol_id', id, 'node', node, 'state', state, 'size_bytes', size_bytes,
                                        'uuid', uuid, 'nqn', nqn, 'listeners', listeners,
                                        'membership', membership, 'revision', revision)
                     ORDER BY id) AS legs
    FROM diskengine.v_lvol
    GROUP BY volume_id
) AS l ON l.volume_id = v.id
LEFT JOIN (
    SELECT volume_id, jsonb_agg(DISTINCT node) AS nodes
    FROM diskengine.mapping
    WHERE state <> 'DETACHED'
    GROUP BY volume_id
) AS m ON m.volume_id = v.id;

CREATE FUNCTION diskengine._guard_held() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held text := (SELECT h.held FROM diskengine._held AS h WHERE h.id = OLD.id);
BEGIN
    IF held IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = format('lvol %s: %s', OLD.id, held);
    END IF;
    RETURN OLD;
END
$$;

CREATE TRIGGER b_held BEFORE DELETE ON diskengine.lvol
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_held();

-- Two nodes that mirror one volume would corrupt it. So it is mapped on one node at a time: a mapping on a second one
-- can be made when those on the first are DETACHING, and waits for them.
CREATE FUNCTION diskengine._guard_mapping() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    other diskengine.mapping;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.volume_id, NEW.node) <> (OLD.volume_id, OLD.node) THEN
            RAISE check_violation USING MESSAGE = format(
                'mapping %s: volume and node are fixed; set it DETACHING and make another one', OLD.id);
        END IF;
        RETURN NEW;
    END IF;
    -- One at a time for a volume, so that two of them see each other.
    PERFORM FROM diskengine.volume AS v WHERE v.id = NEW.volume_id FOR NO KEY UPDATE;
    SELECT m.* INTO other FROM diskengine.mapping AS m
        WHERE m.volume_id = NEW.volume_id AND m.node <> NEW.node AND m.state NOT IN ('DETACHING', 'DETACHED')
        ORDER BY m.id LIMIT 1;
    IF other.id IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = format(
            'mapping %s: volume %s is mapped on %s (mapping %s, %s); set that DETACHING first',
            NEW.id, NEW.volume_id, other.node, other.id, other.state);
    END IF;
    IF (SELECT bool_and(l.state = 'DELETING') FROM diskengine.lvol AS l WHERE l.volume_id = NEW.volume_id) THEN
        RAISE check_violation USING MESSAGE = format(
            'mapping %s: all replicas of volume %s are DELETING', NEW.id, NEW.volume_id);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER b_mapping BEFORE INSERT OR UPDATE ON diskengine.mapping
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_mapping();

CREATE OR REPLACE VIEW diskengine.v_mapping AS
SELECT m.id,
       m.node,
       m.volume_id,
       m.vm,
       m.state,
       m.initialised_bytes,
       v.size_bytes,
       v.source_snapshot_id,
       m.revision,
       to_char(m.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
       CASE WHEN m.state NOT IN ('DETACHING', 'DETACHED') THEN (
           SELECT format('mapping %s on %s, which is %s', o.id, o.node, o.state)
           FROM diskengine.mapping AS o
           WHERE o.volume_id = m.volume_id AND o.node <> m.node AND o.state <> 'DETACHED'
           ORDER BY o.id LIMIT 1)
       END AS waits_for
FROM diskengine.mapping AS m
JOIN diskengine.volume AS v ON v.id = m.volume_id;

REVOKE ALL ON TABLE diskengine._held FROM PUBLIC;
REVOKE ALL ON FUNCTION diskengine._guard_held(), diskengine._guard_mapping() FROM PUBLIC;
