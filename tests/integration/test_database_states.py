# SPDX-License-Identifier: GPL-3.0-or-later
"""States: the database refuses every transition that is not listed, to its owner as well."""

from __future__ import annotations

import itertools
import uuid
from contextlib import contextmanager

import psycopg
import pytest
from support.estate import invented_lvstores, make_estate

STATES = {
    "node": ["active", "cordoned"],
    "disk": ["NEW", "UP", "FAULTY", "RETIRED"],
    "lvol": ["CREATING", "UP", "RESIZING", "DELETING"],
    "snapshot": ["CREATING", "UP", "DELETING"],
    "mapping": ["ASSIGNED", "INITIALISED", "ATTACHED", "DETACHING", "DETACHED"],
}
# By kind, how each state is reached from the first one, and where it may go.
PATHS = {
    "node": {"active": [], "cordoned": ["cordoned"]},
    "disk": {"NEW": [], "UP": ["UP"], "FAULTY": ["FAULTY"], "RETIRED": ["RETIRED"]},
    "lvol": {"CREATING": [], "UP": ["UP"], "RESIZING": ["UP", "RESIZING"], "DELETING": ["DELETING"]},
    "snapshot": {"CREATING": [], "UP": ["UP"], "DELETING": ["DELETING"]},
    "mapping": {
        "ASSIGNED": [],
        "INITIALISED": ["INITIALISED"],
        "ATTACHED": ["INITIALISED", "ATTACHED"],
        "DETACHING": ["DETACHING"],
        "DETACHED": ["DETACHING", "DETACHED"],
    },
}
ALLOWED = {
    "node": {"active": {"cordoned"}, "cordoned": {"active", "GONE"}},
    "disk": {
        "NEW": {"UP", "FAULTY", "RETIRED"},
        "UP": {"FAULTY", "RETIRED"},
        "FAULTY": {"UP", "RETIRED"},
        "RETIRED": {"GONE"},
    },
    "lvol": {
        "CREATING": {"UP", "DELETING"},
        "UP": {"RESIZING", "DELETING"},
        "RESIZING": {"UP", "DELETING"},
        "DELETING": {"GONE"},
    },
    "snapshot": {"CREATING": {"UP", "DELETING"}, "UP": {"DELETING"}, "DELETING": {"GONE"}},
    "mapping": {
        "ASSIGNED": {"INITIALISED", "DETACHING"},
        "INITIALISED": {"ATTACHED", "DETACHING"},
        "ATTACHED": {"DETACHING"},
        "DETACHING": {"DETACHED"},
        "DETACHED": {"GONE"},
    },
}


@pytest.fixture(scope="module")
def shared_dsn(postgres, migrated):
    """The dsn of a database that all tests have, each in a transaction that is rolled back."""
    yield postgres.create_database("states", migrated)
    postgres.drop_database("states")


@pytest.fixture
def conn(shared_dsn):
    with psycopg.connect(shared_dsn, autocommit=True) as connection:
        with connection.transaction(force_rollback=True):
            yield connection


@contextmanager
def refused(conn, error, match=None):
    """The block is refused; what was done before it stays."""
    with pytest.raises(error, match=match), conn.transaction():
        yield


@pytest.fixture
def rows(conn):
    """A row of each kind in its first state that nothing else refers to: its key column and value."""
    estate = make_estate(conn, lvols=2)
    conn.execute("INSERT INTO diskengine.node (name, kind) VALUES ('spare', 'storage')")
    disk = conn.execute(
        "INSERT INTO diskengine.disk (node, bdf, serial, lvstore_uuid) VALUES ('spare', '0000:01:00.0', 'x', %s)"
        " RETURNING id",
        [uuid.uuid4()],
    ).fetchone()[0]
    conn.execute("INSERT INTO diskengine.node (name, kind) VALUES ('unused', 'storage')")
    snapshot = conn.execute(
        "INSERT INTO diskengine.snapshot (lvol_id, uuid) VALUES (%s, %s) RETURNING id", [estate.lvols[1], uuid.uuid4()]
    ).fetchone()[0]
    conn.execute("UPDATE diskengine.lvol SET uuid = gen_random_uuid()")
    return {
        "node": ("name", "unused"),
        "disk": ("id", disk),
        "lvol": ("id", estate.lvols[0]),
        "snapshot": ("id", snapshot),
        "mapping": ("id", estate.mappings[0]),
    }


def go(conn, kind, key, state):
    column, value = key
    if state == "GONE":
        query, parameters = f"DELETE FROM diskengine.{kind} WHERE {column} = %s RETURNING 1", [value]
    else:
        query = f"UPDATE diskengine.{kind} SET state = %s WHERE {column} = %s RETURNING 1"
        parameters = [state, value]
    if kind == "lvol" and state == "UP":
        query = query.replace("state = %s", "zeroed_bytes = size_bytes, state = %s")
    assert conn.execute(query, parameters).fetchone() == (1,)


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        (kind, first, second)
        for kind, states in STATES.items()
        for first, second in itertools.product(states, [*states, "GONE"])
        if first != second
    ],
)
def test_every_pair_of_states(conn, rows, kind, first, second):
    for state in PATHS[kind][first]:
        go(conn, kind, rows[kind], state)
    if second in ALLOWED[kind][first]:
        go(conn, kind, rows[kind], second)
    else:
        with refused(conn, psycopg.errors.CheckViolation, match=f"{first} -> {second} is not allowed"):
            go(conn, kind, rows[kind], second)


@pytest.mark.parametrize(
    ("kind", "state"),
    [(kind, state) for kind, states in STATES.items() if kind != "node" for state in states[1:]],
)
def test_a_row_is_born_in_its_first_state(conn, rows, kind, state):
    columns = {
        "disk": "(node, bdf, serial, lvstore_uuid, state) VALUES ('spare', '0000:02:00.0', 'y', gen_random_uuid(), %s)",
        "lvol": "(volume_id, disk_id, size_bytes, uuid, state) SELECT volume_id, disk_id, 1, gen_random_uuid(), %s"
        " FROM diskengine.lvol",
        "snapshot": "(lvol_id, uuid, state) SELECT lvol_id, gen_random_uuid(), %s FROM diskengine.snapshot",
        "mapping": "(volume_id, node, state) SELECT volume_id, node, %s FROM diskengine.mapping",
    }
    with refused(conn, psycopg.errors.CheckViolation, match=f"GONE -> {state} is not allowed"):
        conn.execute(f"INSERT INTO diskengine.{kind} {columns[kind]}", [state])


def test_ready_is_up(conn, rows):
    go(conn, "lvol", rows["lvol"], "READY")
    assert conn.execute("SELECT state FROM diskengine.lvol WHERE id = %s", [rows["lvol"][1]]).fetchone() == ("UP",)


def test_unknown_state(conn, rows):
    with refused(conn, psycopg.errors.CheckViolation):
        go(conn, "lvol", rows["lvol"], "BROKEN")


def test_up_needs_a_uuid(conn):
    estate = make_estate(conn, lvols=2)
    with refused(conn, psycopg.errors.CheckViolation, match="lvol_up_has_uuid"):
        go(conn, "lvol", ("id", estate.lvols[0]), "UP")
    with refused(conn, psycopg.errors.CheckViolation, match="disk_up_has_lvstore"):
        go(conn, "disk", ("id", estate.disks["storage-1-disk-0"]), "UP")


@pytest.fixture
def resizing(conn):
    """The id of an lvol that grows from 100 to 300 bytes."""
    estate = make_estate(conn, lvols=2, lvol_bytes=100, lvstores=invented_lvstores())
    lvol = estate.lvols[0]
    conn.execute("UPDATE diskengine.lvol SET uuid = gen_random_uuid(), state = 'UP' WHERE id = %s", [lvol])
    conn.execute("UPDATE diskengine.lvol SET size_bytes = 300, state = 'RESIZING' WHERE id = %s", [lvol])
    return lvol


def zeroed(conn, lvol):
    return conn.execute("SELECT zeroed_bytes FROM diskengine.lvol WHERE id = %s", [lvol]).fetchone()[0]


def test_zeroing_starts_at_the_old_size_and_never_goes_back(conn, resizing):
    assert zeroed(conn, resizing) == 100
    conn.execute("UPDATE diskengine.lvol SET zeroed_bytes = 200 WHERE id = %s", [resizing])
    with refused(conn, psycopg.errors.CheckViolation, match="already at 200"):
        conn.execute("UPDATE diskengine.lvol SET zeroed_bytes = 150 WHERE id = %s", [resizing])
    with refused(conn, psycopg.errors.CheckViolation, match="already at 200"):
        conn.execute("UPDATE diskengine.lvol SET zeroed_bytes = NULL WHERE id = %s", [resizing])


def test_a_resize_ends_only_when_all_is_zeroed(conn, resizing):
    with refused(conn, psycopg.errors.CheckViolation, match="only 100 of 300 bytes are zeroed"):
        conn.execute("UPDATE diskengine.lvol SET state = 'UP' WHERE id = %s", [resizing])
    conn.execute("UPDATE diskengine.lvol SET zeroed_bytes = 300, state = 'UP' WHERE id = %s", [resizing])
    assert zeroed(conn, resizing) is None


def test_sizes_change_only_through_resizing(conn, resizing):
    with refused(conn, psycopg.errors.CheckViolation, match="can only grow"):
        conn.execute("UPDATE diskengine.lvol SET size_bytes = 200 WHERE id = %s", [resizing])
    conn.execute("UPDATE diskengine.lvol SET size_bytes = 400 WHERE id = %s", [resizing])
    conn.execute("UPDATE diskengine.lvol SET zeroed_bytes = 400, state = 'UP' WHERE id = %s", [resizing])
    with refused(conn, psycopg.errors.CheckViolation, match="only through RESIZING"):
        conn.execute("UPDATE diskengine.lvol SET size_bytes = 500 WHERE id = %s", [resizing])


def test_a_replica_stays_what_it_is(conn, resizing):
    for change in ("uuid = gen_random_uuid()", "disk_id = disk_id + 1", "volume_id = volume_id + 1", "id = id + 100"):
        with refused(conn, psycopg.errors.CheckViolation):
            conn.execute(f"UPDATE diskengine.lvol SET {change} WHERE id = %s", [resizing])


def test_a_snapshot_outlives_its_lvol(conn, rows):
    lvol = conn.execute("SELECT lvol_id FROM diskengine.snapshot").fetchone()[0]
    go(conn, "lvol", ("id", lvol), "DELETING")
    go(conn, "lvol", ("id", lvol), "GONE")
    assert conn.execute("SELECT lvol_id, node FROM diskengine.v_snapshot").fetchall() == [(None, "storage-2")]


def test_the_revision_counts_wishes_only(conn, resizing):
    def revision():
        return conn.execute("SELECT revision FROM diskengine.lvol WHERE id = %s", [resizing]).fetchone()[0]

    start = revision()
    conn.execute("UPDATE diskengine.lvol SET zeroed_bytes = 300 WHERE id = %s", [resizing])
    assert revision() == start
    conn.execute("UPDATE diskengine.lvol SET size_bytes = 400 WHERE id = %s", [resizing])
    assert revision() == start + 1
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [resizing])
    assert revision() == start + 2


def test_placement_kinds(conn, rows):
    with refused(conn, psycopg.errors.ForeignKeyViolation):
        conn.execute("INSERT INTO diskengine.disk (node, bdf, serial) VALUES ('compute-1', '0000:03:00.0', 'z')")
    with refused(conn, psycopg.errors.ForeignKeyViolation):
        conn.execute(
            "WITH v AS (INSERT INTO diskengine.volume (size_bytes) VALUES (1) RETURNING id) "
            "INSERT INTO diskengine.mapping (volume_id, node) SELECT id, 'storage-1' FROM v"
        )


@pytest.fixture
def mapped(conn):
    """A volume with the lvols a, b and c, all UP, that is mapped on compute-1; compute-2 is there too."""
    estate = make_estate(conn, nodes=3, disks_per_node=1, lvols=3, replicas=3, lvstores=invented_lvstores(3, 1))
    conn.execute("INSERT INTO diskengine.node (name, kind) VALUES ('compute-2', 'compute')")
    conn.execute("UPDATE diskengine.lvol SET uuid = gen_random_uuid(), state = 'UP'")
    return estate


def held(conn):
    return [row[0] for row in conn.execute("SELECT held FROM diskengine.v_lvol ORDER BY id").fetchall()]


LEG, NEAR, LAST = "mapping {m} on compute-1 has it as a leg", "mapping {m} on compute-1 is connected to it", "no other"


@pytest.mark.parametrize(
    ("mapping", "legs", "expected"),
    [
        ("ATTACHED", "DELETING IN_SYNC, UP IN_SYNC, UP NONE", (LEG, None, None)),
        ("ATTACHED", "DELETING IN_SYNC, DELETING IN_SYNC, DELETING NONE", (LEG, LEG, None)),
        ("ATTACHED", "DELETING JOINING, UP IN_SYNC, DELETING CONNECTED", (LEG, None, NEAR)),
        ("ASSIGNED", "DELETING IN_SYNC, UP IN_SYNC, UP IN_SYNC", (LEG, None, None)),
        ("ASSIGNED", "DELETING NONE, DELETING NONE, UP NONE", (None, None, None)),
        ("DETACHING", "DELETING IN_SYNC, DELETING CONNECTED, DELETING IN_SYNC", (LEG, NEAR, LEG)),
        ("DETACHED", "DELETING IN_SYNC, UP IN_SYNC, UP NONE", (None, None, None)),
        ("DETACHED", "DELETING IN_SYNC, UP NONE, UP JOINING", (LAST, None, None)),
        ("DETACHED", "DELETING IN_SYNC, DELETING IN_SYNC, CREATING NONE", (LAST, LAST, None)),
        ("DETACHED", "DELETING CONNECTED, DELETING JOINING, UP IN_SYNC", (None, None, None)),
        ("DETACHED", "DELETING IN_SYNC, DELETING IN_SYNC, DELETING NONE", (None, None, None)),
    ],
)
def test_the_last_healthy_leg_cannot_go(conn, mapped, mapping, legs, expected):
    """What is held cannot become GONE, for its owner neither; nothing else is held."""
    for number, leg in zip(mapped.lvols, legs.split(", ")):
        state, membership = leg.split()
        if state == "CREATING":  # a replica that is newer than the others
            conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [number])
            conn.execute("DELETE FROM diskengine.lvol WHERE id = %s", [number])
            conn.execute(
                "INSERT INTO diskengine.lvol (id, volume_id, disk_id, size_bytes) VALUES (%s, %s, %s, 1)",
                [number, mapped.volumes[0], list(mapped.disks.values())[2]],
            )
            continue
        values = [state, membership, number]
        conn.execute("UPDATE diskengine.lvol SET state = %s, membership = %s WHERE id = %s", values)
    for state in PATHS["mapping"][mapping]:
        go(conn, "mapping", ("id", mapped.mappings[0]), state)
    found = held(conn)
    for reason, start in zip(found, expected):
        assert reason is None if start is None else reason.startswith(start.format(m=mapped.mappings[0]))
    for number, reason in zip(mapped.lvols, found):
        if reason:
            with refused(conn, psycopg.errors.CheckViolation, match=f"lvol {number}: {reason}"):
                go(conn, "lvol", ("id", number), "GONE")
    for number, reason, leg in zip(mapped.lvols, found, legs.split(", ")):
        if reason is None and leg.startswith("DELETING"):
            go(conn, "lvol", ("id", number), "GONE")


def test_membership_is_a_result(conn, mapped):
    query = "UPDATE diskengine.lvol SET membership = %s RETURNING revision"
    assert conn.execute(query, ["JOINING"]).fetchall() == [(1,)] * 3
    with refused(conn, psycopg.errors.CheckViolation):
        conn.execute(query, ["BROKEN"])


def test_a_volume_is_mapped_on_one_node_at_a_time(conn, mapped):
    """The next node may be named when the first one is to give the volume up, and waits until it has."""
    volume, first = mapped.volumes[0], mapped.mappings[0]
    insert = "INSERT INTO diskengine.mapping (volume_id, node) VALUES (%s, %s) RETURNING id"
    waits = "SELECT waits_for FROM diskengine.v_mapping WHERE id = %s"
    go(conn, "mapping", ("id", first), "INITIALISED")
    with refused(conn, psycopg.errors.CheckViolation, match=f"mapped on compute-1 .mapping {first}, INITIALISED.; set"):
        conn.execute(insert, [volume, "compute-2"])
    with refused(conn, psycopg.errors.CheckViolation, match=f"mapping {first}: volume and node are fixed"):
        conn.execute("UPDATE diskengine.mapping SET node = 'compute-2'")
    (beside,) = conn.execute(insert, [volume, "compute-1"]).fetchone()
    assert conn.execute(waits, [beside]).fetchone() == (None,)
    for number in (first, beside):
        go(conn, "mapping", ("id", number), "DETACHING")
    (second,) = conn.execute(insert, [volume, "compute-2"]).fetchone()
    go(conn, "mapping", ("id", first), "DETACHED")
    expected = f"mapping {beside} on compute-1, which is DETACHING"
    assert conn.execute(waits, [second]).fetchone() == (expected,)
    assert conn.execute(waits, [beside]).fetchone() == (None,)
    go(conn, "mapping", ("id", beside), "DETACHED")
    assert conn.execute(waits, [second]).fetchone() == (None,)
    with refused(conn, psycopg.errors.CheckViolation, match="mapped on compute-2"):
        conn.execute(insert, [volume, "compute-1"])


def test_a_volume_that_goes_is_not_mapped(conn, mapped):
    for state in ("DETACHING", "DETACHED"):
        go(conn, "mapping", ("id", mapped.mappings[0]), state)
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING'")
    with refused(conn, psycopg.errors.CheckViolation, match="all replicas of volume .* are DELETING"):
        conn.execute("INSERT INTO diskengine.mapping (volume_id, node) VALUES (%s, 'compute-1')", mapped.volumes)
