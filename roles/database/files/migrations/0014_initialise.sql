-- SPDX-License-Identifier: GPL-3.0-or-later
-- A volume is initialised from its source snapshot once, by one of its mappings. What VMs have written since is never
-- written over, so this outlives the mappings. While it is to be done the snapshot is exported.

ALTER TABLE diskengine.volume ADD COLUMN initialised boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN diskengine.volume.initialised IS 'whether the source snapshot was copied into it, or a VM has had it';

UPDATE diskengine.volume AS v SET initialised = true
WHERE EXISTS (SELECT FROM diskengine.mapping AS m WHERE m.volume_id = v.id AND m.state <> 'ASSIGNED');

-- Being initialised is a result, of which no revision tells.
CREATE OR REPLACE FUNCTION diskengine._count_revision() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW IS DISTINCT FROM OLD THEN
        IF to_jsonb(NEW) - 'initialised' <> to_jsonb(OLD) - 'initialised' THEN
            NEW.revision := OLD.revision + 1;
        END IF;
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION diskengine._note_initialised() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE diskengine.volume SET initialised = true WHERE id = NEW.volume_id AND NOT initialised;
    RETURN NULL;
END
$$;

CREATE TRIGGER c_initialised AFTER UPDATE ON diskengine.mapping
    FOR EACH ROW WHEN (NEW.state = 'INITIALISED') EXECUTE FUNCTION diskengine._note_initialised();

CREATE FUNCTION diskengine.snapshot_nqn(node text, disk_id bigint, snapshot_id bigint) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    RETURN 'nqn.2024-01.io.excloud:storage.' || node || '.' || disk_id || '.snap_' || snapshot_id;

CREATE OR REPLACE VIEW diskengine.v_snapshot AS
SELECT s.id,
       d.node,
       s.disk_id,
       s.lvol_id,
       l.uuid::text AS lvol_uuid,
       s.state,
       d.lvstore_uuid::text AS lvstore_uuid,
       d.lvstore_name,
       s.uuid::text AS uuid,
       s.revision,
       to_char(s.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
       diskengine.snapshot_nqn(d.node, d.id, s.id) AS nqn,
       d.listeners,
       h.hosts,
       CASE
           WHEN d.listeners = '[]' THEN 'no listener address'
           WHEN d.listeners @> '[{"trsvcid": null}]' THEN 'a listener without a port'
       END AS defect
FROM diskengine.snapshot AS s
JOIN diskengine.v_disk AS d ON d.id = s.disk_id
LEFT JOIN diskengine.lvol AS l ON l.id = s.lvol_id
LEFT JOIN (
    SELECT v.source_snapshot_id,
           coalesce(jsonb_agg(DISTINCT n.hostnqn ORDER BY n.hostnqn) FILTER (WHERE n.hostnqn IS NOT NULL), '[]') AS hosts
    FROM diskengine.volume AS v
    LEFT JOIN diskengine.mapping AS m ON m.volume_id = v.id AND m.state = 'ASSIGNED' AND NOT v.initialised
    LEFT JOIN diskengine.node AS n ON n.name = m.node
    GROUP BY v.source_snapshot_id
) AS h ON h.source_snapshot_id = s.id;

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
       to_char(v.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
       CASE WHEN s.id IS NOT NULL THEN
           jsonb_build_object('snapshot_id', s.id, 'node', s.node, 'state', s.state, 'nqn', s.nqn,
                              'listeners', s.listeners, 'defect', s.defect, 'mapping_id', m.first_assigned)
       END AS source
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
    SELECT volume_id, jsonb_agg(DISTINCT node) AS nodes, min(id) FILTER (WHERE state = 'ASSIGNED') AS first_assigned
    FROM diskengine.mapping
    WHERE state <> 'DETACHED'
    GROUP BY volume_id
) AS m ON m.volume_id = v.id
LEFT JOIN diskengine.v_snapshot AS s ON s.id = v.source_snapshot_id AND NOT v.initialised;

INSERT INTO diskengine.privilege (purpose, privilege, object) VALUES
    ('convergence', 'EXECUTE', 'snapshot_nqn(text, bigint, bigint)'),
    ('operator', 'EXECUTE', 'snapshot_nqn(text, bigint, bigint)');

REVOKE ALL ON FUNCTION diskengine._note_initialised(), diskengine.snapshot_nqn(text, bigint, bigint) FROM PUBLIC;
