-- SPDX-License-Identifier: GPL-3.0-or-later
-- What convergence reads. docs/database.md describes every column; types are text, bigint,
-- integer, boolean and jsonb only, so that a row is JSON as it stands.

CREATE VIEW diskengine.v_node AS
SELECT n.name,
       n.kind,
       n.state,
       n.failure_domain,
       n.hostnqn,
       coalesce(a.addresses, '[]') AS addresses,
       n.revision,
       to_char(n.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
FROM diskengine.node AS n
LEFT JOIN (
    SELECT node,
           jsonb_agg(jsonb_build_object('trtype', trtype, 'address', host(address), 'port', port)
                     ORDER BY position, trtype, address) AS addresses
    FROM diskengine.node_address
    GROUP BY node
) AS a ON a.node = n.name;

CREATE VIEW diskengine.v_disk AS
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
       to_char(d.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
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

CREATE VIEW diskengine.v_lvol AS
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
       to_char(l.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
FROM diskengine.lvol AS l
JOIN diskengine.v_disk AS d ON d.id = l.disk_id
LEFT JOIN (
    SELECT m.volume_id, jsonb_agg(DISTINCT n.hostnqn ORDER BY n.hostnqn) AS hosts
    FROM diskengine.mapping AS m
    JOIN diskengine.node AS n ON n.name = m.node
    WHERE m.state <> 'DETACHED' AND n.hostnqn IS NOT NULL
    GROUP BY m.volume_id
) AS h ON h.volume_id = l.volume_id;

CREATE VIEW diskengine.v_snapshot AS
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
       to_char(s.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
FROM diskengine.snapshot AS s
JOIN diskengine.disk AS d ON d.id = s.disk_id
LEFT JOIN diskengine.lvol AS l ON l.id = s.lvol_id;

CREATE VIEW diskengine.v_volume AS
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
                                        'uuid', uuid, 'nqn', nqn, 'listeners', listeners)
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

CREATE VIEW diskengine.v_mapping AS
SELECT m.id,
       m.node,
       m.volume_id,
       m.vm,
       m.state,
       m.initialised_bytes,
       v.size_bytes,
       v.source_snapshot_id,
       m.revision,
       to_char(m.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
FROM diskengine.mapping AS m
JOIN diskengine.volume AS v ON v.id = m.volume_id;
