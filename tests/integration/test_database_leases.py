# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: one run at a time on a node, and what a run that was overtaken can still write."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    connected,
    read_leases,
    record,
    release_leases,
    renew_leases,
    take_leases,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import ensure_login_role
from support.estate import invented_lvstores, make_estate
from support.runs import until

NODES = ("storage-1", "storage-2")
UUID = "5b1a3c2e-7a3f-4d8f-9a53-0f6f4f0f8a11"


@pytest.fixture
def estate(conn):
    return make_estate(conn, lvols=4, lvstores=invented_lvstores())


def take(conn, nodes=NODES, holder="one", seconds=60, **options):
    return take_leases(conn, nodes, holder, seconds, **options)


def token(leases):
    """The token of a take that got all of its nodes."""
    (only,) = {lease["token"] for lease in leases.values() if lease["held"]}
    return only


def expire(conn):
    conn.execute("UPDATE diskengine.lease SET expires_at = now() - interval '1 second'")


def seconds_left(conn, node):
    query = "SELECT extract(epoch FROM expires_at - clock_timestamp())::float FROM diskengine.lease WHERE node = %s"
    return conn.execute(query, [node]).fetchone()[0]


def recorded(conn, number, lease):
    fields = {"uuid": UUID, "lease": lease, "lease_node": "storage-1"}
    (row,) = record(conn, "lvol", [{"id": number, "from": "CREATING", "to": "UP", **fields}])
    return row["outcome"], row["state"], row["reason"]


def test_one_holder_at_a_time(conn, estate):
    first = take(conn)
    assert {name: lease["held"] for name, lease in first.items()} == dict.fromkeys(NODES, True)
    assert {lease["holder"] for lease in first.values()} == {"one"}
    second = take(conn, holder="two")
    assert second == {name: {**lease, "held": False} for name, lease in first.items()}
    assert [(row["node"], row["holder"], row["token"]) for row in read_leases(conn, [*NODES, "compute-1"])] == [
        (name, "one", token(first)) for name in NODES
    ]
    assert release_leases(conn, NODES, token(first)) == first
    assert read_leases(conn, NODES) == []
    third = take(conn, holder="two")
    assert token(third) > token(first)


def test_all_or_nothing_or_what_is_free(conn, estate):
    take(conn, ["storage-1"])
    assert [lease["held"] for lease in take(conn, holder="two").values()] == [False, False]
    assert take(conn, holder="two")["storage-2"]["holder"] is None
    some = take(conn, holder="two", partial=True)
    assert [(lease["held"], lease["holder"]) for lease in some.values()] == [(False, "one"), (True, "two")]


def test_a_lease_ends_by_itself(conn, estate):
    first = take(conn, seconds=1)
    second = take(conn, holder="two", wait=60)
    assert token(second) > token(first)
    assert {lease["holder"] for lease in second.values()} == {"two"}
    # The first has nothing to release and nothing to renew any more.
    for left in (release_leases(conn, NODES, token(first)), renew_leases(conn, NODES, token(first))):
        assert left == {name: {**lease, "held": False} for name, lease in second.items()}


def test_a_lease_that_nobody_took_over_is_renewed_though_it_expired(conn, estate):
    first = take(conn)
    expire(conn)
    assert [row["expired"] for row in read_leases(conn, NODES)] == [True, True]
    renewed = renew_leases(conn, NODES, token(first))
    assert token(renewed) == token(first)
    assert 50 < seconds_left(conn, "storage-1") <= 60
    assert not take(conn, holder="two")["storage-1"]["held"]


def test_waiting_for_the_holder(conn, dsn, estate):
    first = take(conn)
    timer = threading.Timer(0.3, lambda: release(dsn, token(first)))
    timer.start()
    started = time.monotonic()
    assert token(take(conn, holder="two", wait=60)) > token(first)
    assert time.monotonic() - started < 30
    timer.join()


def release(dsn, number):
    with connected(dsn) as own:
        release_leases(own, NODES, number)


def test_a_lease_that_is_broken_is_lost(conn, estate):
    first = take(conn)
    assert release_leases(conn, NODES, None) == first
    assert release_leases(conn, NODES, None)["storage-1"]["held"] is False
    assert recorded(conn, estate.lvols[0], lease=token(first)) == (
        "refused", "CREATING", f"lease {token(first)} of node storage-1 has ended",
    )  # fmt: skip
    assert token(take(conn, holder="two")) > token(first)


def test_a_run_that_was_overtaken_records_nothing(conn, estate):
    first = take(conn, seconds=60)
    number = estate.lvols[0]
    expire(conn)
    # Nobody has come in between, so what it made is true; and recording renews the lease.
    assert recorded(conn, number, lease=token(first)) == ("changed", "UP", None)
    assert 50 < seconds_left(conn, "storage-1") <= 60
    assert seconds_left(conn, "storage-2") < 0
    expire(conn)
    second = take(conn, ["storage-1"], holder="two")
    since = second["storage-1"]["taken_at"]
    assert recorded(conn, number, lease=token(first)) == (
        "refused", "UP", f"the lease of node storage-1 was lost: it is held by two since {since}",
    )  # fmt: skip


def test_each_row_is_judged_by_its_lease(conn, estate):
    """In one call, in their order: leases of two nodes, none, one without a node, and rows that are not there."""
    first = token(take(conn))
    expire(conn)
    take(conn, ["storage-2"], holder="two")
    leases = [
        ({"lease": first, "lease_node": "storage-1"}, "changed"),
        ({"lease": first, "lease_node": "storage-2"}, "refused"),
        ({"lease": None, "lease_node": "storage-2"}, "changed"),
        ({"lease": first}, "refused"),
        ({"lease": first, "lease_node": "storage-1"}, "missing"),
        ({"lease": first, "lease_node": "storage-2"}, "refused"),
        ({"lease": first, "lease_node": "storage-7"}, "refused"),
    ]
    numbers = [*estate.lvols, 77777, 88888, 99999]
    rows = [
        {"id": number, "from": "CREATING", "to": "UP", "uuid": f"{UUID[:-1]}{number % 10}", **lease}
        for number, (lease, _outcome) in zip(numbers, leases)
    ]
    results = record(conn, "lvol", rows)
    assert [(row["id"], row["outcome"]) for row in results] == list(zip(numbers, (outcome for _l, outcome in leases)))
    assert [row["state"] for row in results] == ["UP", "CREATING", "UP", "CREATING", None, None, None]


def test_all_kinds_are_fenced(conn, estate):
    numbers = {"disk": next(iter(estate.disks.values())), "mapping": estate.mappings[0], "snapshot": 1}
    conn.execute("INSERT INTO diskengine.snapshot (id, lvol_id) VALUES (1, %s)", [estate.lvols[0]])
    steps = {"disk": ("UP", "UP"), "mapping": ("ASSIGNED", "INITIALISED"), "snapshot": ("DELETING", "GONE")}
    first = token(take(conn, [*NODES, "compute-1"]))
    expire(conn)
    take(conn, [*NODES, "compute-1"], holder="two")
    for kind, number in numbers.items():
        change = {"id": number, "from": steps[kind][0], "to": steps[kind][1], "lease": first, "lease_node": "compute-1"}
        (row,) = record(conn, kind, [change])
        assert row["outcome"] == "refused" and "was lost: it is held by two" in row["reason"]


def test_a_take_waits_until_rows_are_committed(conn, dsn, estate):
    """Else it would read rows from before, of a run that it has overtaken."""
    first = token(take(conn))
    expire(conn)
    taken = threading.Event()

    def overtake():
        with connected(dsn) as own:
            take(own, holder="two")
        taken.set()

    with connected(dsn) as own, own.transaction():
        assert recorded(own, estate.lvols[0], lease=first)[0] == "changed"
        thread = threading.Thread(target=overtake)
        thread.start()
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%take_leases%'"
        until(lambda: conn.execute(waiting).fetchone() is not None)
    thread.join(30)
    # The row was recorded, and so the lease renewed, before the other came to see it: it is not free any more.
    assert taken.is_set()
    assert conn.execute("SELECT holder FROM diskengine.lease WHERE node = 'storage-1'").fetchone() == ("one",)


def test_ten_thousand_rows_under_a_lease(conn):
    estate = make_estate(conn, nodes=2, lvols=10000, lvstores=invented_lvstores())
    lease = {"lease": token(take(conn)), "lease_node": "storage-1"}
    rows = [{"id": number, "from": "CREATING", "to": "CREATING", **lease} for number in estate.lvols]
    started = time.monotonic()
    assert {row["outcome"] for row in record(conn, "lvol", rows)} == {"unchanged"}
    assert time.monotonic() - started < 30


def test_many_at_once(dsn, conn, estate):
    """Whoever holds a node holds it alone, with a token above all before it, whatever the order of the names."""
    seen: dict = {name: [] for name in NODES}
    failures = []

    def run(number):
        try:
            with connected(dsn) as own:
                for turn in range(8):
                    wanted = NODES[:: (-1) ** (number + turn)] if number % 3 else [NODES[number % 2]]
                    leases = take(own, wanted, holder=f"run {number}", partial=turn % 2 == 0)
                    held = [name for name in wanted if leases[name]["held"]]
                    for name in held:
                        seen[name].append(leases[name]["token"])  # under the lease: nobody else appends now
                    if held:
                        release_leases(own, held, leases[held[0]]["token"])
        except DatabaseError as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    for tokens in seen.values():
        assert len(tokens) > 1 and tokens == sorted(set(tokens))


def test_a_token_never_goes_back(conn, estate):
    first = token(take(conn))
    ahead = first + 10**9  # as after a clock that was wrong
    conn.execute("UPDATE diskengine.lease SET token = %s", [ahead])
    release_leases(conn, NODES, None)
    assert token(take(conn)) > ahead
    with pytest.raises(psycopg.errors.CheckViolation, match="only grows"):
        conn.execute("UPDATE diskengine.lease SET token = 1")
    # A database that was restored has forgotten its leases, and still gives higher tokens than before.
    conn.execute("DELETE FROM diskengine.lease")
    assert token(take(conn)) > first


def test_bad_input(conn, estate):
    for name in (["storage-1", "storage-7"], ["storage-7"]):
        with pytest.raises(DatabaseError, match="knows no node named storage-7"):
            take(conn, name)
    assert read_leases(conn, NODES) == []
    with pytest.raises(psycopg.errors.CheckViolation):
        take(conn, seconds=0)


def test_a_node_takes_its_lease_along(conn, estate):
    conn.execute("INSERT INTO diskengine.node (name, kind, state) VALUES ('new', 'storage', 'cordoned')")
    take(conn, ["new"])
    conn.execute("UPDATE diskengine.node SET name = 'newer' WHERE name = 'new'")
    assert take(conn, ["newer"], holder="two")["newer"]["holder"] == "one"
    conn.execute("DELETE FROM diskengine.node WHERE name = 'newer'")
    assert conn.execute("SELECT FROM diskengine.lease").fetchone() is None


def test_the_login_of_convergence_can_do_all_of_it(conn, dsn, estate):
    ensure_login_role(conn, "leaser", "secret", True)
    try:
        with connected(dsn.replace("user=postgres", "user=leaser"), "secret") as own:
            first = token(take(own))
            renew_leases(own, NODES, first)
            assert len(read_leases(own, NODES)) == 2
            assert recorded(own, estate.lvols[0], lease=first)[0] == "changed"
            release_leases(own, NODES, first)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute("UPDATE diskengine.lease SET holder = NULL")
    finally:
        conn.execute("DROP OWNED BY leaser; DROP ROLE leaser")
