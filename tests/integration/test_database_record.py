# SPDX-License-Identifier: GPL-3.0-or-later
"""Recording results: a compare-and-set for each row, by the login role of convergence."""

from __future__ import annotations

import threading
import time
import uuid

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import connected, record
from support.estate import invented_lvstores, make_estate
from support.runs import until

UUID = "5b1a3c2e-7a3f-4d8f-9a53-0f6f4f0f8a11"


@pytest.fixture
def estate(conn):
    return make_estate(conn, lvols=4, lvstores=invented_lvstores())


def row(number, before="CREATING", after="UP", **fields):
    return {"id": number, "from": before, "to": after, **fields}


def one(conn, kind, change, **options):
    (result,) = record(conn, kind, [change], **options)
    return result


def lvol(conn, number):
    return conn.execute("SELECT state, uuid::text FROM diskengine.lvol WHERE id = %s", [number]).fetchone()


def test_recorded_then_unchanged(conn, estate):
    number = estate.lvols[0]
    first = one(conn, "lvol", row(number, after="READY", uuid=UUID, revision=1))
    assert first == {
        "id": number,
        "outcome": "changed",
        "state": "UP",
        "reason": None,
        "before": {"state": "CREATING", "uuid": None},
        "after": {"state": "UP", "uuid": UUID},
    }
    again = one(conn, "lvol", row(number, uuid=UUID.upper(), revision=1))
    assert (again["outcome"], again["before"], again["after"]) == ("unchanged", None, None)
    assert lvol(conn, number) == ("UP", UUID)


def test_a_newer_wish_is_not_overwritten(conn, estate):
    number = estate.lvols[0]
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [number])
    result = one(conn, "lvol", row(number, uuid=UUID))
    assert (result["outcome"], result["reason"]) == ("stale", "is DELETING, expected CREATING")
    assert lvol(conn, number) == ("DELETING", None)


def test_a_wish_that_changed_within_its_state_is_stale(conn, estate):
    number = estate.lvols[0]
    conn.execute("UPDATE diskengine.lvol SET size_bytes = size_bytes + 1 WHERE id = %s", [number])
    assert one(conn, "lvol", row(number, uuid=UUID, revision=1))["reason"] == "what is wanted changed since it was read"
    assert one(conn, "lvol", row(number, uuid=UUID, revision=2))["outcome"] == "changed"


def test_recorded_by_somebody_else_with_another_uuid(conn, estate):
    number = estate.lvols[0]
    one(conn, "lvol", row(number, uuid=UUID))
    result = one(conn, "lvol", row(number, uuid=str(uuid.uuid4())))
    assert (result["outcome"], result["reason"]) == ("stale", "is UP already, recorded differently")
    assert lvol(conn, number) == ("UP", UUID)


def test_an_nqn_is_compared_and_never_written(conn, estate):
    number = estate.lvols[0]
    wanted = conn.execute("SELECT nqn FROM diskengine.lvol WHERE id = %s", [number]).fetchone()[0]
    other = one(conn, "lvol", row(number, uuid=UUID, nqn="nqn.2024-01.io.excloud:other"))
    assert (other["outcome"], other["reason"]) == ("stale", f"the NQN wanted is {wanted}")
    assert one(conn, "lvol", row(number, uuid=UUID, nqn=wanted))["outcome"] == "changed"


def test_a_row_without_placement_is_left_alone(conn, estate):
    number = estate.lvols[0]
    conn.execute("UPDATE diskengine.lvol SET nqn = NULL WHERE id = %s", [number])
    result = one(conn, "lvol", row(number, uuid=UUID, nqn="nqn.2024-01.io.excloud:other"))
    assert (result["outcome"], result["reason"]) == ("stale", "the NQN wanted is missing")


@pytest.mark.parametrize(
    ("change", "outcome", "reason"),
    [
        ({"id": 999999, "from": "CREATING", "to": "UP"}, "missing", "no such row"),
        ({"id": 999999, "from": "DELETING", "to": "GONE"}, "unchanged", None),
        ({"from": "CREATING", "to": "DELETING"}, "refused", "CREATING -> DELETING is not for convergence to make"),
        ({"from": "CREATING", "to": "RESIZING"}, "refused", "CREATING -> RESIZING is not for convergence to make"),
        ({"from": "CREATING", "to": "GONE"}, "refused", "CREATING -> GONE is not for convergence to make"),
        ({"from": "CREATING", "to": "UP"}, "refused", "lvol_up_has_uuid"),
        ({"from": "CREATING", "to": "UP", "uuid": "no-uuid"}, "refused", "invalid input syntax for type uuid"),
        ({"from": "CREATING", "to": "UP", "size_bytes": 5}, "refused", "cannot record size_bytes"),
        ({"to": "UP"}, "refused", "id, from and to are needed"),
    ],
)
def test_what_is_not_recorded(conn, estate, change, outcome, reason):
    before = conn.execute("SELECT * FROM diskengine.lvol ORDER BY id").fetchall()
    result = one(conn, "lvol", {"id": estate.lvols[0], **change})
    assert result["outcome"] == outcome
    assert result["reason"] is reason is None or reason in result["reason"]
    assert conn.execute("SELECT * FROM diskengine.lvol ORDER BY id").fetchall() == before


def test_bad_rows_do_not_stop_good_ones(conn, estate):
    first, second, third, fourth = estate.lvols
    results = record(
        conn,
        "lvol",
        [
            row(first, uuid=UUID),
            row(second),
            row(999999),
            row(third, uuid=UUID),
            row(fourth, uuid=str(uuid.uuid4())),
        ],
    )
    assert [result["outcome"] for result in results] == ["changed", "refused", "missing", "refused", "changed"]
    assert [result["id"] for result in results] == [first, second, 999999, third, fourth]
    assert lvol(conn, fourth)[0] == "UP"


def test_one_row_twice_in_one_call(conn, estate):
    results = record(conn, "lvol", [row(estate.lvols[0], uuid=UUID), row(estate.lvols[0], uuid=UUID)])
    assert {(result["outcome"], result["reason"]) for result in results} == {
        ("refused", "named more than once in one call")
    }


def test_gone(conn, estate):
    number = estate.lvols[0]
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [number])
    result = one(conn, "lvol", row(number, "DELETING", "GONE"))
    assert (result["outcome"], result["state"], result["after"]) == ("changed", None, {"state": "GONE"})
    assert one(conn, "lvol", row(number, "DELETING", "GONE"))["outcome"] == "unchanged"
    assert lvol(conn, number) is None


def test_a_snapshot_in_use_is_not_gone(conn, estate):
    snapshot = conn.execute(
        "INSERT INTO diskengine.snapshot (lvol_id) VALUES (%s) RETURNING id", [estate.lvols[0]]
    ).fetchone()[0]
    assert one(conn, "snapshot", row(snapshot, uuid=UUID))["outcome"] == "changed"
    conn.execute("UPDATE diskengine.volume SET source_snapshot_id = %s WHERE id = %s", [snapshot, estate.volumes[1]])
    conn.execute("UPDATE diskengine.snapshot SET state = 'DELETING'")
    result = one(conn, "snapshot", row(snapshot, "DELETING", "GONE"))
    assert result["outcome"] == "refused"
    assert "volume" in result["reason"]


def test_zeroing_is_recorded_step_by_step(conn, estate):
    number = estate.lvols[0]
    one(conn, "lvol", row(number, uuid=UUID))
    conn.execute("UPDATE diskengine.lvol SET state = 'RESIZING', size_bytes = 3 * size_bytes WHERE id = %s", [number])
    (size,) = conn.execute("SELECT size_bytes FROM diskengine.lvol WHERE id = %s", [number]).fetchone()
    step = row(number, "RESIZING", "RESIZING", zeroed_bytes=size // 2)
    assert one(conn, "lvol", step)["after"] == {"zeroed_bytes": size // 2}
    assert one(conn, "lvol", step)["outcome"] == "unchanged"
    assert one(conn, "lvol", row(number, "RESIZING", "UP"))["outcome"] == "refused"
    done = row(number, "RESIZING", "UP", zeroed_bytes=size)
    assert one(conn, "lvol", done)["outcome"] == "changed"
    assert one(conn, "lvol", done)["outcome"] == "unchanged"


def test_disks(conn, estate):
    disk = estate.disks["storage-1-disk-0"]
    result = one(conn, "disk", row(disk, "UP", "UP", free_bytes=5, health="good", revision=1))
    assert result["after"] == {"free_bytes": 5, "health": "good"}
    assert one(conn, "disk", row(disk, "UP", "FAULTY", revision=1))["outcome"] == "changed"
    assert one(conn, "disk", row(disk, "FAULTY", "RETIRED"))["outcome"] == "refused"
    assert one(conn, "disk", row(disk, "FAULTY", "UP", free_bytes=1 << 60))["outcome"] == "refused"


@pytest.mark.parametrize("state", ["NEW", "UP", "FAULTY", "RETIRED"])
def test_the_health_of_a_disk_is_recorded_in_its_state(conn, state):
    made = make_estate(conn, lvols=0, lvstores=invented_lvstores() if state != "NEW" else {})
    disk = made.disks["storage-1-disk-0"]
    conn.execute("UPDATE diskengine.disk SET state = %s WHERE id = %s", [state, disk])
    revision = conn.execute("SELECT revision FROM diskengine.disk WHERE id = %s", [disk]).fetchone()[0]
    for health, outcome in (("critical", "changed"), ("critical", "unchanged"), ("ok", "changed")):
        result = one(conn, "disk", row(disk, state, state, health=health, revision=revision))
        assert (result["outcome"], result["state"]) == (outcome, state)
    found = conn.execute("SELECT state, health, revision FROM diskengine.disk WHERE id = %s", [disk]).fetchone()
    assert found == (state, "ok", revision)
    other = "UP" if state != "UP" else "FAULTY"
    assert one(conn, "disk", row(disk, other, other, health="critical"))["outcome"] == "stale"


def test_mappings_walk_their_states(conn, estate):
    mapping = estate.mappings[0]
    assert one(conn, "mapping", row(mapping, "ASSIGNED", "ASSIGNED", initialised_bytes=7))["outcome"] == "changed"
    assert one(conn, "mapping", row(mapping, "ASSIGNED", "ATTACHED"))["outcome"] == "refused"
    for before, after in (("ASSIGNED", "INITIALISED"), ("INITIALISED", "ATTACHED")):
        assert one(conn, "mapping", row(mapping, before, after))["outcome"] == "changed"
    assert one(conn, "mapping", row(mapping, "ATTACHED", "DETACHING"))["outcome"] == "refused"
    conn.execute("UPDATE diskengine.mapping SET state = 'DETACHING' WHERE id = %s", [mapping])
    assert one(conn, "mapping", row(mapping, "DETACHING", "DETACHED"))["outcome"] == "changed"


def test_a_dry_run_says_the_same_and_writes_nothing(conn, estate):
    rows = [row(estate.lvols[0], uuid=UUID), row(estate.lvols[1]), row(999999)]
    before = conn.execute("SELECT * FROM diskengine.lvol ORDER BY id").fetchall()
    predicted = record(conn, "lvol", rows, dry_run=True)
    assert conn.execute("SELECT * FROM diskengine.lvol ORDER BY id").fetchall() == before
    assert record(conn, "lvol", rows) == predicted


def test_the_last_two_replicas_of_a_volume_go_at_once(dsn, conn, estate):
    """Of two runs that record one each the second waits for the first, and so sees that nothing is left."""
    for state in ("DETACHING", "DETACHED"):
        conn.execute("UPDATE diskengine.mapping SET state = %s", [state])
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING'")
    volume = estate.volumes[0]
    numbers = [number for (number,) in conn.execute("SELECT id FROM diskengine.lvol WHERE volume_id = %s", [volume])]
    first, second = [row(number, "DELETING", "GONE") for number in numbers]
    outcomes = []

    def run():
        with connected(dsn) as own:
            outcomes.append(one(own, "lvol", second)["outcome"])

    with connected(dsn) as own, own.transaction():
        outcomes.append(one(own, "lvol", first)["outcome"])
        thread = threading.Thread(target=run)
        thread.start()
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%record_lvols%'"
        until(lambda: len(outcomes) == 2 or conn.execute(waiting).fetchone() is not None)
    thread.join(30)
    assert outcomes == ["changed", "changed"]
    assert not conn.execute("SELECT FROM diskengine.volume WHERE id = %s", [volume]).fetchall()


def test_two_runs_at_once(conn, dsn, estate):
    """The second waits for the first and then sees what it wrote, whatever the order of their rows."""
    outcomes = {}

    def run(name, numbers):
        with psycopg.connect(dsn, autocommit=True) as own:
            results = record(own, "lvol", [row(number, uuid=str(uuid.uuid4())) for number in numbers])
            outcomes[name] = {result["id"]: result["outcome"] for result in results}

    for _attempt in range(10):
        conn.execute("UPDATE diskengine.lvol SET state = 'DELETING'")
        conn.execute("DELETE FROM diskengine.lvol")
        conn.execute(
            "INSERT INTO diskengine.lvol (volume_id, disk_id, size_bytes) "
            "SELECT %s, %s, 1 FROM generate_series(1, 200)",
            [estate.volumes[0], estate.disks["storage-1-disk-0"]],
        )
        numbers = [number for (number,) in conn.execute("SELECT id FROM diskengine.lvol ORDER BY id")]
        runs = [
            threading.Thread(target=run, args=("up", numbers)),
            threading.Thread(target=run, args=("down", numbers[::-1])),
        ]
        for each in runs:
            each.start()
        for each in runs:
            each.join()
        assert all({outcomes["up"][n], outcomes["down"][n]} == {"changed", "stale"} for n in numbers)


def test_ten_thousand_rows(conn):
    estate = make_estate(conn, lvols=10_000, lvstores=invented_lvstores())
    rows = [row(number, uuid=str(uuid.uuid4()), revision=1) for number in estate.lvols]
    start = time.monotonic()
    assert {result["outcome"] for result in record(conn, "lvol", rows)} == {"changed"}
    assert time.monotonic() - start < 60  # 1.5 s on an idle machine; an accidental square would take minutes


def test_an_object_makes_several_steps(conn, estate):
    """Each is a compare-and-set of its own, and a dry run tells what all of them come to."""
    number = estate.mappings[0]
    steps = [row(number, "ASSIGNED", "INITIALISED"), row(number, "INITIALISED", "ATTACHED")]
    for dry_run in (True, False):
        results = record(conn, "mapping", steps, dry_run)
        assert [(each["outcome"], each["state"]) for each in results] == [
            ("changed", "INITIALISED"),
            ("changed", "ATTACHED"),
        ]
    assert [each["outcome"] for each in record(conn, "mapping", steps)] == ["stale", "unchanged"]
