# SPDX-License-Identifier: GPL-3.0-or-later
"""One row of 40 that cannot be served: the others are, the message names it, and the next run finishes it."""

from __future__ import annotations

import uuid
from typing import NamedTuple

LIMIT = 100  # lines that a run with one failure may print


MOVE = "UPDATE diskengine.lvol SET disk_id = %(spare)s WHERE id = %(lvol)s"
LISTEN = (
    "INSERT INTO diskengine.disk_listener (disk_id, trtype, traddr, trsvcid) "
    "SELECT %(spare)s, trtype, traddr, trsvcid FROM diskengine.disk_listener WHERE disk_id = %(disk)s"
)
LOAD = (
    "UPDATE diskengine.disk SET state = 'UP', lvstore_name = 'lvs-spare', lvstore_uuid = %(known)s WHERE id = %(spare)s"
)


class Trouble(NamedTuple):
    """SQL that spoils a row, SQL that repairs it, and what the message says of it."""

    spoil: list
    repair: list
    says: str


TROUBLES = {
    "no-nqn": Trouble(
        ["UPDATE diskengine.lvol SET nqn = NULL WHERE id = %(lvol)s"],
        ["UPDATE diskengine.lvol SET nqn = %(nqn)s WHERE id = %(lvol)s"],
        "lvol {lvol} has no NQN",
    ),
    "no-listener": Trouble([MOVE, LOAD], [LISTEN], "lvol {lvol} has no listener address"),
    "lvstore-not-loaded": Trouble(
        [MOVE, LISTEN, LOAD.replace("known", "unknown")],
        [LOAD],
        "lvol {unknown}/{lvol}: lvstore {unknown} is not loaded on this target (loaded: lvs-0, lvs-1, lvs-spare)",
    ),
    "no-lvstore": Trouble([MOVE, LISTEN], [LOAD], "lvol {lvol} waits for its disk {spare}, which has no lvstore yet"),
    "no-space": Trouble(
        ["UPDATE diskengine.lvol SET thin = false, size_bytes = 1099511627776 WHERE id = %(lvol)s"],
        ["UPDATE diskengine.lvol SET size_bytes = 12582912 WHERE id = %(lvol)s"],
        "lvol {store}/{lvol}: no space: it needs 262144 clusters of 4 MiB and lvstore {store} has",
    ),
}


def spoil(site, trouble):
    """Spoil a row of the only node; returns the row and the facts that the SQL and the message need."""
    bad = site.rows()[6]
    spare = site.target.add_lvstore("lvs-spare", 256 << 20)
    ((disk,),) = site.conn.execute(
        "INSERT INTO diskengine.disk (node, bdf, serial) VALUES (%s, '0000:ff:00.0', %s) RETURNING id",
        [site.name, f"{site.name}-spare"],
    )
    facts = {
        "lvol": bad["id"],
        "nqn": bad["nqn"],
        "disk": bad["disk_id"],
        "store": bad["lvstore_name"],
        "spare": disk,
        "known": spare["uuid"],
        "unknown": str(uuid.uuid4()),
    }
    for statement in trouble.spoil:
        site.conn.execute(statement, facts)
    return bad, facts


def test_one_bad_row_of_forty(make_site, subtests):
    """Each trouble is that of a node of its own."""
    site = make_site(nodes=len(TROUBLES), disks_per_node=2, lvols=40 * len(TROUBLES), replicas=1)
    nodes = dict(zip(TROUBLES, site.each()))
    spoilt = {name: spoil(node, TROUBLES[name]) for name, node in nodes.items()}
    done = site.converge()
    assert done.rc == 2
    assert len(done.output.splitlines()) < LIMIT * len(TROUBLES)
    assert "Traceback" not in done.output
    for name, node in nodes.items():
        bad, facts = spoilt[name]
        with subtests.test(name):
            states = {row["id"]: row["state"] for row in node.rows()}
            assert len(states) == 40
            assert states == {number: "CREATING" if number == bad["id"] else "UP" for number in states}
            node.check_served(but=[bad["id"]])
            (message,) = [
                event["result"]["msg"]
                for event in done.events
                if event["event"] == "failed" and event["host"] == node.name
            ]
            assert TROUBLES[name].says.format(**facts) in message
            assert "\n" not in message
            assert len(message) < 700
        for statement in TROUBLES[name].repair:
            site.conn.execute(statement, facts)
    site.clear()
    repaired = site.converge()
    assert repaired.rc == 0, repaired.output
    for name, node in nodes.items():
        with subtests.test(f"{name} repaired"):
            assert sorted(call["method"] for call in node.mutations()) == [
                "bdev_lvol_create",
                "nvmf_create_subsystem",
                "nvmf_subsystem_add_host",
                "nvmf_subsystem_add_listener",
                "nvmf_subsystem_add_ns",
            ]
            node.check_served()
            assert len([row for row in node.rows() if row["state"] == "UP"]) == 40


def test_an_lvstore_that_fills_up_on_the_way(make_site):
    """Six thick lvols want room for six, but together with the metadata there is room for fewer."""
    site = make_site(lvols=6, thin=False, disk_bytes=64 << 20)
    done = site.converge()
    states = [row["state"] for row in site.rows()]
    assert done.rc == 2
    assert 0 < states.count("UP") < 6
    site.check_served(but=[row["id"] for row in site.rows() if row["state"] != "UP"])
    message = done.failure
    assert f"{2 * states.count('CREATING')} of 13 objects failed" in message
    assert "no space" in message


def test_a_call_that_fails_stops_only_what_needs_it(make_site):
    """A bdev that somebody took after it was read: no plan can know."""
    site = make_site(lvols=3)
    victim = site.rows()[1]
    thief = "nqn.2024-01.io.excloud:thief"
    done_it = []

    def steal(number):
        if site.target.recorder.requests[number - 1]["method"] == "bdev_get_bdevs" and not done_it:
            done_it.append(True)
            site.target.call("nvmf_create_subsystem", {"nqn": thief, "allow_any_host": False})
            shown = {"bdev_name": f"lvs-0/{victim['id']}"}
            site.target.call("nvmf_subsystem_add_ns", {"nqn": thief, "namespace": shown})

    lvol = {"lvs_name": "lvs-0", "lvol_name": str(victim["id"]), "size_in_mib": 12, "thin_provision": True}
    site.target.call("bdev_lvol_create", lvol)
    site.target.recorder.before_answer = steal
    done = site.converge()
    assert done.rc == 2
    assert {row["id"]: row["state"] for row in site.rows()} == {1: "UP", 2: "CREATING", 3: "UP"}
    message = done.failure
    assert f"subsystem {victim['nqn']}" in message and "\n" not in message
    assert thief in message

    site.target.recorder.before_answer = lambda number: None
    site.target.call("nvmf_delete_subsystem", {"nqn": thief})
    assert site.converge().rc == 0
    site.check_served()
