-- SPDX-License-Identifier: GPL-3.0-or-later
-- One run at a time on a node. A run takes a lease of each of its nodes; its token is higher than any before it, so
-- that whoever was overtaken is known by a lower one. The clock is that of the database.

CREATE TABLE diskengine.lease (
    node       text PRIMARY KEY REFERENCES diskengine.node ON UPDATE CASCADE ON DELETE CASCADE,
    token      bigint NOT NULL DEFAULT 0,
    holder     text CHECK (holder <> ''),
    seconds    integer CHECK (seconds > 0),
    taken_at   timestamptz,
    expires_at timestamptz,
    CONSTRAINT lease_is_whole CHECK (num_nulls(holder, seconds, taken_at, expires_at) IN (0, 4))
);
COMMENT ON COLUMN diskengine.lease.token IS 'of the last lease, also when nobody holds one; it only grows';
COMMENT ON COLUMN diskengine.lease.holder IS 'for people; null when nobody holds a lease';

CREATE FUNCTION diskengine._guard_lease() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.token < OLD.token THEN
        RAISE check_violation USING MESSAGE = format('lease of node %s: its token only grows', OLD.node);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER a_token BEFORE UPDATE ON diskengine.lease
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_lease();

CREATE VIEW diskengine.v_lease AS
SELECT l.node,
       l.token,
       l.holder,
       to_char(l.taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS taken_at,
       to_char(l.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS expires_at,
       l.expires_at <= clock_timestamp() AS expired
FROM diskengine.lease AS l
WHERE l.holder IS NOT NULL;

-- The leases of nodes are changed in one order, so that two runs cannot wait for each other.
CREATE FUNCTION diskengine._lock_leases(nodes text[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT FROM diskengine.lease AS l WHERE l.node = ANY (nodes) ORDER BY l.node FOR UPDATE
$$;

-- A row for each node there is; held says whether its lease has that token.
CREATE FUNCTION diskengine._leases(nodes text[], lease bigint)
    RETURNS TABLE (node text, held boolean, token bigint, holder text, taken_at text, expires_at text)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT n.name, coalesce(v.token = lease, false), v.token, v.holder, v.taken_at, v.expires_at
    FROM diskengine.node AS n LEFT JOIN diskengine.v_lease AS v ON v.node = n.name
    WHERE n.name = ANY (nodes) ORDER BY n.name
$$;

-- All of the nodes or none; with partial those that are free. One token for all: higher than the last of each, and
-- as late as the clock, so that it is also higher than those that a restored database has forgotten.
CREATE FUNCTION diskengine.take_leases(nodes text[], by_whom text, for_seconds integer, partial boolean)
    RETURNS TABLE (node text, held boolean, token bigint, holder text, taken_at text, expires_at text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    free text[];
    mine bigint;
BEGIN
    INSERT INTO diskengine.lease AS l (node)
        SELECT n.name FROM diskengine.node AS n WHERE n.name = ANY (nodes) ORDER BY n.name
        ON CONFLICT DO NOTHING;
    PERFORM diskengine._lock_leases(nodes);
    SELECT array_agg(l.node) FILTER (WHERE l.holder IS NULL OR l.expires_at <= clock_timestamp()),
           greatest(max(l.token) + 1, floor(extract(epoch FROM clock_timestamp()) * 1000))
        INTO free, mine FROM diskengine.lease AS l WHERE l.node = ANY (nodes);
    IF partial OR free @> nodes THEN
        UPDATE diskengine.lease AS l
            SET token = mine, holder = by_whom, seconds = for_seconds, taken_at = clock_timestamp(),
                expires_at = clock_timestamp() + make_interval(secs => for_seconds)
            WHERE l.node = ANY (free);
    END IF;
    RETURN QUERY SELECT * FROM diskengine._leases(nodes, mine);
END
$$;

-- A lease that has expired can be renewed as long as nobody else took one.
CREATE FUNCTION diskengine.renew_leases(nodes text[], lease bigint)
    RETURNS TABLE (node text, held boolean, token bigint, holder text, taken_at text, expires_at text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM diskengine._lock_leases(nodes);
    UPDATE diskengine.lease AS l SET expires_at = clock_timestamp() + make_interval(secs => l.seconds)
        WHERE l.node = ANY (nodes) AND l.token = lease AND l.holder IS NOT NULL;
    RETURN QUERY SELECT * FROM diskengine._leases(nodes, lease);
END
$$;

-- Returns the leases as they were. Without a token any lease is ended, and its holder finds itself overtaken.
CREATE FUNCTION diskengine.release_leases(nodes text[], lease bigint)
    RETURNS TABLE (node text, held boolean, token bigint, holder text, taken_at text, expires_at text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM diskengine._lock_leases(nodes);
    RETURN QUERY SELECT l.node, l.holder IS NOT NULL AND l.token = coalesce(lease, l.token), l.token, l.holder,
            l.taken_at, l.expires_at
        FROM diskengine._leases(nodes, lease) AS l;
    UPDATE diskengine.lease AS l
        SET token = l.token + 1, holder = NULL, seconds = NULL, taken_at = NULL, expires_at = NULL
        WHERE l.node = ANY (nodes) AND l.token = coalesce(lease, l.token) AND l.holder IS NOT NULL;
END
$$;

-- Rows that come with the token of a lease are refused when it is not the node's any more. The others renew it. They
-- are recorded under its lock, so that nobody takes it over meanwhile.
CREATE FUNCTION diskengine._record_leased(kind text, fields text[], rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    places text[];
    states text[];
BEGIN
    EXECUTE format(
        'SELECT array_agg(v.node ORDER BY n), array_agg(v.state ORDER BY n)
         FROM jsonb_array_elements($1) WITH ORDINALITY AS i(e, n)
         LEFT JOIN diskengine.%I AS v ON e ->> ''lease'' IS NOT NULL AND v.id = (e ->> ''id'')::bigint', 'v_' || kind)
        INTO places, states USING rows;
    PERFORM diskengine._lock_leases(places);
    UPDATE diskengine.lease AS l SET expires_at = clock_timestamp() + make_interval(secs => l.seconds)
        FROM unnest(places) WITH ORDINALITY AS p(node, n)
        WHERE l.node = p.node AND l.token = (rows -> n::integer - 1 ->> 'lease')::bigint AND l.holder IS NOT NULL;

    RETURN QUERY
    WITH judged AS (
        SELECT i.n, i.e, i.kept, count(*) FILTER (WHERE i.kept) OVER (ORDER BY i.n) AS place,
               CASE WHEN i.holder IS NULL THEN format('lease %s of node %s has ended', i.e ->> 'lease', places[i.n])
                    ELSE format('the lease of node %s was lost: it is held by %s since %s', places[i.n], i.holder, i.since)
               END AS reason
        FROM (SELECT e, n, v.holder, v.taken_at AS since,
                     places[n] IS NULL OR coalesce(v.token = (e ->> 'lease')::bigint, false) AS kept
              FROM jsonb_array_elements(rows) WITH ORDINALITY AS a(e, n)
              LEFT JOIN diskengine.v_lease AS v ON v.node = places[n]) AS i
    ), recorded AS MATERIALIZED (
        SELECT r.* FROM diskengine._record(
            kind, fields, (SELECT coalesce(jsonb_agg(j.e - 'lease' ORDER BY j.n), '[]') FROM judged AS j WHERE j.kept)
        ) WITH ORDINALITY AS r(id, outcome, state, reason, before, after, place)
    )
    SELECT coalesce(r.id, (j.e ->> 'id')::bigint), coalesce(r.outcome, 'refused'),
           CASE WHEN j.kept THEN r.state ELSE states[j.n] END,
           CASE WHEN j.kept THEN r.reason ELSE j.reason END, r.before, r.after
    FROM judged AS j LEFT JOIN recorded AS r ON j.kept AND r.place = j.place
    ORDER BY j.n;
END
$$;

CREATE OR REPLACE FUNCTION diskengine.record_disks(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record_leased(
        'disk', ARRAY['bdf', 'model', 'lvstore_name', 'lvstore_uuid', 'total_bytes', 'free_bytes', 'health'], rows)
$$;

CREATE OR REPLACE FUNCTION diskengine.record_lvols(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record_leased('lvol', ARRAY['uuid', 'nqn', 'zeroed_bytes'], rows)
$$;

CREATE OR REPLACE FUNCTION diskengine.record_snapshots(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record_leased('snapshot', ARRAY['uuid'], rows)
$$;

CREATE OR REPLACE FUNCTION diskengine.record_mappings(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM diskengine._record_leased('mapping', ARRAY['initialised_bytes'], rows)
$$;

INSERT INTO diskengine.privilege (purpose, privilege, object) VALUES
    ('convergence', 'SELECT', 'v_lease'),
    ('convergence', 'EXECUTE', 'take_leases(text[], text, integer, boolean)'),
    ('convergence', 'EXECUTE', 'renew_leases(text[], bigint)'),
    ('convergence', 'EXECUTE', 'release_leases(text[], bigint)');

REVOKE ALL ON TABLE diskengine.lease, diskengine.v_lease FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA diskengine FROM PUBLIC;
