-- SPDX-License-Identifier: GPL-3.0-or-later
-- Which state may follow which, enforced for everybody, the owner of the tables included.
-- A wish is made by whoever owns the estate; a result is what convergence found or made.
-- GONE stands for the row that is not there: its first state comes from it, its deletion leads to it.

CREATE TABLE diskengine.state_transition (
    kind       text NOT NULL,
    from_state text NOT NULL,
    to_state   text NOT NULL,
    made_by    text NOT NULL CHECK (made_by IN ('wish', 'result')),
    PRIMARY KEY (kind, from_state, to_state)
);

INSERT INTO diskengine.state_transition (kind, from_state, to_state, made_by) VALUES
    ('node', 'GONE', 'active', 'wish'),
    ('node', 'GONE', 'cordoned', 'wish'),
    ('node', 'active', 'cordoned', 'wish'),
    ('node', 'cordoned', 'active', 'wish'),
    ('node', 'cordoned', 'GONE', 'wish'),

    ('disk', 'GONE', 'NEW', 'wish'),
    ('disk', 'NEW', 'UP', 'result'),
    ('disk', 'NEW', 'FAULTY', 'result'),
    ('disk', 'UP', 'FAULTY', 'result'),
    ('disk', 'FAULTY', 'UP', 'result'),
    ('disk', 'NEW', 'RETIRED', 'wish'),
    ('disk', 'UP', 'RETIRED', 'wish'),
    ('disk', 'FAULTY', 'RETIRED', 'wish'),
    ('disk', 'RETIRED', 'GONE', 'wish'),

    ('lvol', 'GONE', 'CREATING', 'wish'),
    ('lvol', 'CREATING', 'UP', 'result'),
    ('lvol', 'UP', 'RESIZING', 'wish'),
    ('lvol', 'RESIZING', 'UP', 'result'),
    ('lvol', 'CREATING', 'DELETING', 'wish'),
    ('lvol', 'UP', 'DELETING', 'wish'),
    ('lvol', 'RESIZING', 'DELETING', 'wish'),
    ('lvol', 'DELETING', 'GONE', 'result'),

    ('snapshot', 'GONE', 'CREATING', 'wish'),
    ('snapshot', 'CREATING', 'UP', 'result'),
    ('snapshot', 'CREATING', 'DELETING', 'wish'),
    ('snapshot', 'UP', 'DELETING', 'wish'),
    ('snapshot', 'DELETING', 'GONE', 'result'),

    ('mapping', 'GONE', 'ASSIGNED', 'wish'),
    ('mapping', 'ASSIGNED', 'INITIALISED', 'result'),
    ('mapping', 'INITIALISED', 'ATTACHED', 'result'),
    ('mapping', 'ASSIGNED', 'DETACHING', 'wish'),
    ('mapping', 'INITIALISED', 'DETACHING', 'wish'),
    ('mapping', 'ATTACHED', 'DETACHING', 'wish'),
    ('mapping', 'DETACHING', 'DETACHED', 'result'),
    ('mapping', 'DETACHED', 'GONE', 'wish');

CREATE FUNCTION diskengine._canonical_state(state text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE state WHEN 'READY' THEN 'UP' ELSE state END;

-- Refuses a transition that is not listed, and counts in revision the changes of the wish:
-- all columns but those that results write, which are the arguments of the trigger.
-- (A generated column is empty in NEW here, so node_kind takes no part.)
CREATE FUNCTION diskengine._guard_state() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old_row jsonb := to_jsonb(OLD) - 'node_kind';
    new_row jsonb := to_jsonb(NEW) - 'node_kind';
    old_state text := coalesce(old_row ->> 'state', 'GONE');
    new_state text := coalesce(diskengine._canonical_state(new_row ->> 'state'), 'GONE');
    subject text := TG_TABLE_NAME || ' ' || coalesce(old_row ->> 'id', new_row ->> 'id',
                                                     old_row ->> 'name', new_row ->> 'name');
    maker text;
BEGIN
    IF old_state <> new_state THEN
        SELECT made_by INTO maker FROM diskengine.state_transition
            WHERE kind = TG_TABLE_NAME AND from_state = old_state AND to_state = new_state;
        IF maker IS NULL THEN
            RAISE check_violation USING MESSAGE = format('%s: %s -> %s is not allowed', subject, old_state, new_state);
        END IF;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    NEW.state := new_state;
    IF TG_OP = 'UPDATE' THEN
        IF new_row -> 'id' <> old_row -> 'id' THEN
            RAISE check_violation USING MESSAGE = format('%s: the id cannot change', subject);
        END IF;
        IF maker = 'wish' OR (new_row - TG_ARGV) <> (old_row - TG_ARGV) THEN
            NEW.revision := OLD.revision + 1;
        ELSE
            NEW.revision := OLD.revision;
        END IF;
        IF new_row <> old_row THEN
            NEW.updated_at := clock_timestamp();
        END IF;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER a_state BEFORE INSERT OR UPDATE OR DELETE ON diskengine.node
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_state('state', 'revision', 'updated_at');
CREATE TRIGGER a_state BEFORE INSERT OR UPDATE OR DELETE ON diskengine.disk
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_state(
        'state', 'revision', 'updated_at', 'bdf', 'model', 'lvstore_name', 'lvstore_uuid', 'total_bytes', 'free_bytes',
        'health');
CREATE TRIGGER a_state BEFORE INSERT OR UPDATE OR DELETE ON diskengine.lvol
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_state('state', 'revision', 'updated_at', 'uuid', 'zeroed_bytes');
CREATE TRIGGER a_state BEFORE INSERT OR UPDATE OR DELETE ON diskengine.snapshot
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_state('state', 'revision', 'updated_at', 'uuid', 'lvol_id');
CREATE TRIGGER a_state BEFORE INSERT OR UPDATE OR DELETE ON diskengine.mapping
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_state('state', 'revision', 'updated_at', 'initialised_bytes');

-- The rules of a replica: it stays where it is, it changes its size only through RESIZING,
-- and a resize ends only when its new bytes are zero.
CREATE FUNCTION diskengine._guard_lvol() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.nqn IS NULL THEN
            SELECT diskengine.lvol_nqn(d.node, d.id, NEW.id) INTO NEW.nqn
                FROM diskengine.disk AS d WHERE d.id = NEW.disk_id;
        END IF;
    ELSIF OLD.state <> 'CREATING' THEN
        IF (NEW.disk_id, NEW.volume_id) <> (OLD.disk_id, OLD.volume_id) OR NEW.uuid IS DISTINCT FROM OLD.uuid THEN
            RAISE check_violation USING
                MESSAGE = format('lvol %s: disk, volume and UUID are fixed once it was made', OLD.id);
        END IF;
        IF NEW.size_bytes <> OLD.size_bytes AND NEW.state <> 'RESIZING' THEN
            RAISE check_violation USING MESSAGE = format('lvol %s: a size changes only through RESIZING', OLD.id);
        END IF;
        IF NEW.state = 'RESIZING' AND OLD.state = 'UP' THEN
            NEW.zeroed_bytes := least(OLD.size_bytes, NEW.size_bytes);
        ELSIF NEW.state = 'RESIZING' AND NEW.size_bytes < OLD.size_bytes THEN
            RAISE check_violation USING MESSAGE = format('lvol %s: a resize under way can only grow', OLD.id);
        ELSIF OLD.state = 'RESIZING' AND coalesce(NEW.zeroed_bytes, 0) < OLD.zeroed_bytes THEN
            RAISE check_violation USING
                MESSAGE = format('lvol %s: zeroing is already at %s', OLD.id, OLD.zeroed_bytes);
        ELSIF OLD.state = 'RESIZING' AND NEW.state = 'UP' AND NEW.zeroed_bytes < NEW.size_bytes THEN
            RAISE check_violation USING
                MESSAGE = format('lvol %s: only %s of %s bytes are zeroed', OLD.id, NEW.zeroed_bytes, NEW.size_bytes);
        END IF;
    END IF;
    IF NEW.state <> 'RESIZING' THEN
        NEW.zeroed_bytes := NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER b_lvol BEFORE INSERT OR UPDATE ON diskengine.lvol
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_lvol();

CREATE FUNCTION diskengine._guard_snapshot() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.disk_id IS NULL THEN
        SELECT disk_id INTO NEW.disk_id FROM diskengine.lvol WHERE id = NEW.lvol_id;
    ELSIF TG_OP = 'UPDATE' AND OLD.state <> 'CREATING' AND NEW.uuid IS DISTINCT FROM OLD.uuid THEN
        RAISE check_violation USING MESSAGE = format('snapshot %s: the UUID is fixed once it was made', OLD.id);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER b_snapshot BEFORE INSERT OR UPDATE ON diskengine.snapshot
    FOR EACH ROW EXECUTE FUNCTION diskengine._guard_snapshot();

-- A volume has no state of its own, only a revision.
CREATE FUNCTION diskengine._count_revision() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW IS DISTINCT FROM OLD THEN
        NEW.revision := OLD.revision + 1;
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER a_revision BEFORE UPDATE ON diskengine.volume
    FOR EACH ROW EXECUTE FUNCTION diskengine._count_revision();
