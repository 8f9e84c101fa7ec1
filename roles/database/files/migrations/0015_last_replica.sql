-- SPDX-License-Identifier: GPL-3.0-or-later
-- A volume goes with its last replica. Of two runs that record the last two at once neither sees that the other's is
-- gone, so they go one after the other; and as wishes touch the same rows, one after the wishes too.

CREATE OR REPLACE FUNCTION diskengine.record_lvols(rows jsonb)
    RETURNS TABLE (id bigint, outcome text, state text, reason text, before jsonb, after jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF rows @> '[{"to": "GONE"}]' THEN
        PERFORM diskengine.lock_wishes();
    END IF;
    RETURN QUERY
        SELECT * FROM diskengine._record_leased('lvol', ARRAY['uuid', 'nqn', 'zeroed_bytes', 'membership'], rows);
END
$$;
