-- SPDX-License-Identifier: GPL-3.0-or-later
-- Who listens to the channel diskengine_wish hears the name of each node on which convergence has something to do for
-- a wish. PostgreSQL says each name once for a transaction, however many rows it has. Results are no wishes, so a run
-- that records them does not wake itself, and for these the triggers cost nothing.

-- The nodes with replicas of volumes, and those that volumes are mapped to.
CREATE FUNCTION diskengine._tell_nodes_of(volumes bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_notify('diskengine_wish', node) FROM (
        SELECT d.node FROM diskengine.lvol AS l JOIN diskengine.disk AS d ON d.id = l.disk_id
            WHERE l.volume_id = ANY (volumes)
        UNION
        SELECT m.node FROM diskengine.mapping AS m WHERE m.volume_id = ANY (volumes) AND m.state <> 'DETACHED') AS touched
$$;

CREATE FUNCTION diskengine._tell_of_volume() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM diskengine._tell_nodes_of(ARRAY[(to_jsonb(NEW) ->> TG_ARGV[0])::bigint]);
    RETURN NULL;
END
$$;

CREATE TRIGGER z_wish_new AFTER INSERT ON diskengine.lvol
    FOR EACH ROW EXECUTE FUNCTION diskengine._tell_of_volume('volume_id');
CREATE TRIGGER z_wish AFTER UPDATE ON diskengine.lvol
    FOR EACH ROW WHEN (NEW.revision <> OLD.revision) EXECUTE FUNCTION diskengine._tell_of_volume('volume_id');
CREATE TRIGGER z_wish_new AFTER INSERT ON diskengine.mapping
    FOR EACH ROW EXECUTE FUNCTION diskengine._tell_of_volume('volume_id');
CREATE TRIGGER z_wish AFTER UPDATE ON diskengine.mapping
    FOR EACH ROW WHEN (NEW.revision <> OLD.revision) EXECUTE FUNCTION diskengine._tell_of_volume('volume_id');
CREATE TRIGGER z_wish AFTER UPDATE ON diskengine.volume
    FOR EACH ROW WHEN (NEW.revision <> OLD.revision) EXECUTE FUNCTION diskengine._tell_of_volume('id');

-- What a node's exports admit; its other columns and its addresses are nothing that convergence acts on.
CREATE FUNCTION diskengine._tell_of_hostnqn() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM diskengine._tell_nodes_of(ARRAY(
        SELECT m.volume_id FROM diskengine.mapping AS m WHERE m.node = NEW.name AND m.state <> 'DETACHED'));
    RETURN NULL;
END
$$;

CREATE TRIGGER z_wish AFTER UPDATE ON diskengine.node
    FOR EACH ROW WHEN (NEW.hostnqn IS DISTINCT FROM OLD.hostnqn) EXECUTE FUNCTION diskengine._tell_of_hostnqn();

CREATE FUNCTION diskengine._tell_of_disk() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('diskengine_wish', d.node) FROM diskengine.disk AS d
        WHERE d.id = (to_jsonb(NEW) ->> TG_ARGV[0])::bigint;
    RETURN NULL;
END
$$;

CREATE TRIGGER z_wish_new AFTER INSERT ON diskengine.disk
    FOR EACH ROW EXECUTE FUNCTION diskengine._tell_of_disk('id');
CREATE TRIGGER z_wish AFTER UPDATE ON diskengine.disk
    FOR EACH ROW WHEN (NEW.revision <> OLD.revision) EXECUTE FUNCTION diskengine._tell_of_disk('id');
CREATE TRIGGER z_wish_new AFTER INSERT ON diskengine.snapshot
    FOR EACH ROW EXECUTE FUNCTION diskengine._tell_of_disk('disk_id');
CREATE TRIGGER z_wish AFTER UPDATE ON diskengine.snapshot
    FOR EACH ROW WHEN (NEW.revision <> OLD.revision) EXECUTE FUNCTION diskengine._tell_of_disk('disk_id');

-- Where the lvols of a disk are exported, and where their hosts find them.
CREATE FUNCTION diskengine._tell_of_listener() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM diskengine._tell_nodes_of(ARRAY(
        SELECT l.volume_id FROM diskengine.lvol AS l WHERE l.disk_id IN (NEW.disk_id, OLD.disk_id)));
    RETURN NULL;
END
$$;

CREATE TRIGGER z_wish AFTER INSERT OR UPDATE OR DELETE ON diskengine.disk_listener
    FOR EACH ROW EXECUTE FUNCTION diskengine._tell_of_listener();

REVOKE ALL ON FUNCTION diskengine._tell_nodes_of(bigint[]), diskengine._tell_of_volume(), diskengine._tell_of_hostnqn(),
    diskengine._tell_of_disk(), diskengine._tell_of_listener() FROM PUBLIC;
