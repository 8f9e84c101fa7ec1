-- SPDX-License-Identifier: GPL-3.0-or-later
-- A run may record what it found of objects on other nodes, as a compute node does of the legs of its mirrors. So a row
-- names the lease that its run holds, by token and node, and that node need not be the one that the object is on.

CREATE OR REPLACE FUNCTION diskengine._record_leased(kind text, fields text[], rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    states jsonb;
BEGIN
    PERFORM diskengine._lock_leases(ARRAY(SELECT r ->> 'lease_node' FROM jsonb_array_elements(rows) AS r));
    UPDATE diskengine.lease AS l SET expires_at = clock_timestamp() + make_interval(secs => l.seconds)
        FROM (SELECT DISTINCT r ->> 'lease_node' AS node, (r ->> 'lease')::bigint AS token
              FROM jsonb_array_elements(rows) AS r) AS r
        WHERE (l.node, l.token) = (r.node, r.token) AND l.holder IS NOT NULL;
    EXECUTE format(
        'SELECT jsonb_object_agg(t.id, t.state) FROM diskengine.%I AS t
         WHERE t.id IN (SELECT (r ->> ''id'')::bigint FROM jsonb_array_elements($1) AS r WHERE r ->> ''lease'' IS NOT NULL)',
        kind) INTO states USING rows;

    RETURN QUERY
    WITH judged AS (
        SELECT i.r, i.n, v.holder, v.taken_at,
               coalesce(v.token = (r ->> 'lease')::bigint, r ->> 'lease' IS NULL) AS kept
        FROM jsonb_array_elements(rows) WITH ORDINALITY AS i(r, n)
        LEFT JOIN diskengine.v_lease AS v ON v.node = r ->> 'lease_node' AND r ->> 'lease' IS NOT NULL
    ), recorded AS MATERIALIZED (
        SELECT * FROM diskengine._record(
            kind, fields,
            (SELECT coalesce(jsonb_agg(j.r - ARRAY['lease', 'lease_node'] ORDER BY j.n), '[]') FROM judged AS j WHERE j.kept)
        ) WITH ORDINALITY AS d(id, outcome, state, reason, before, after, place)
    )
    SELECT d.id, d.outcome, d.state, d.reason, d.before, d.after
    FROM (SELECT d.*, j.n FROM recorded AS d
          JOIN (SELECT n, row_number() OVER (ORDER BY n) AS place FROM judged WHERE kept) AS j USING (place)
          UNION ALL
          SELECT (r ->> 'id')::bigint, 'refused', states ->> (r ->> 'id'),
                 CASE WHEN holder IS NULL THEN format('lease %s of node %s has ended', r ->> 'lease', r ->> 'lease_node')
                      ELSE format('the lease of node %s was lost: it is held by %s since %s', r ->> 'lease_node', holder,
                                  taken_at) END,
                 NULL, NULL, NULL, n
          FROM judged WHERE NOT kept) AS d
    ORDER BY d.n;
END
$$;
