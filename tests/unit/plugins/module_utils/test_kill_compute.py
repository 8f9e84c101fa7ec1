# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any call, on the way to ATTACHED and on the way back: the next run ends as if nothing had happened.

Rows, wishes and transitions are those of the role; two storage nodes and a compute node are targets in this process.
"""

from __future__ import annotations

import copy
import json
from contextlib import suppress

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._converge import converge
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError, Unreachable
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import (
    compute_claims,
    compute_desired,
    compute_transitions,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    HOST,
    MIB,
    add_lvstore,
    nqn,
    read,
    tcp,
    want,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.serving import Served, serving
from spdk_sim import Target

KINDS = {"controllers": "controller", "raids": "raid", "qos": "qos", "vhosts": "vhost"}
LIMITS = {"rw_ios_per_sec": 2000, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0}
VOLUMES = (1, 2)
NEXT = {"ASSIGNED": "ATTACHED", "DETACHING": "DETACHED"}
WAYS = {  # the states of the mappings before the run
    "there": ("ASSIGNED", "ASSIGNED"),
    "back": ("DETACHING", "DETACHING"),
    "both": ("ASSIGNED", "DETACHING"),
}


class Killed(BaseException):
    """The module is no more."""


def storage_node(number: int) -> Target:
    target = Target(seed=number)
    target.bdevs.auto_examine = False
    add_lvstore(target, "lvs", cluster_sz=MIB)
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    for volume in VOLUMES:
        own = {"nqn": nqn(f"{number}.{volume}")}
        target.call("bdev_lvol_create", {"lvs_name": "lvs", "lvol_name": str(volume), "size_in_mib": 9})
        target.call("nvmf_create_subsystem", own)
        target.call("nvmf_subsystem_add_host", {**own, "host": HOST})
        target.call("nvmf_subsystem_add_ns", {**own, "namespace": {"bdev_name": f"lvs/{volume}"}})
        address = {**tcp(4420 + number), "adrfam": "IPv4"}
        target.call("nvmf_subsystem_add_listener", {**own, "listen_address": address})
    return target


def compute_node(storage: list, life: int) -> Target:
    """No two lives of a target give the same UUIDs."""
    return Target(seed=10 * life, addresses=None, peers=storage)


def leg(node: int, volume: int, state: str) -> dict:
    listener = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(4420 + node)}
    placed = {"nqn": nqn(f"{node}.{volume}"), "listeners": [listener], "size_bytes": 9 * MIB}
    membership = "NONE" if state == "ASSIGNED" else "IN_SYNC"
    return {"lvol_id": 10 * node + volume, "state": "UP", "membership": membership, "revision": 1, **placed}


def rows(states: tuple) -> dict:
    """What the database says of the node."""
    return {
        "node": {"name": "compute-1", "hostnqn": HOST},
        "volumes": [
            {
                "id": number,
                "state": "UP",
                "size_bytes": 8 * MIB,
                "legs": [leg(1, number, state), leg(2, number, state)],
                "source": None,
                **LIMITS,
            }
            for number, state in zip(VOLUMES, states)
        ],
        "mappings": [
            {"id": number, "volume_id": number, "state": state, "waits_for": None, "revision": 1}
            for number, state in zip(VOLUMES, states)
        ],
    }


def record(known: dict, changes: list) -> None:
    """Let the rows follow."""
    for change in changes:
        if change["kind"] == "mapping":
            (row,) = (each for each in known["mappings"] if each["id"] == change["id"])
        else:
            legs = (leg for volume in known["volumes"] for leg in volume["legs"])
            (row,) = (each for each in legs if each["lvol_id"] == change["id"])
            row["membership"] = change["membership"]
        assert row["state"] == change["from"]
        row["state"] = change["to"]


def run(served: Served, known: dict) -> tuple[list, list]:
    """What the role does for a node; returns what was sent and the errors."""
    record(known, compute_claims(known))
    found = compute_desired(known)
    assert not found["problems"]
    desired = [want(KINDS[kind], **each) for kind, items in json.loads(found["desired"]).items() for each in items]
    outcomes = converge(served.connect, desired, False).outcomes
    record(known, compute_transitions(known, [outcome.result() for outcome in outcomes]))
    sent = [action.method for outcome in outcomes for action in outcome.actions]
    return sent, [outcome.error for outcome in outcomes if outcome.error]


def sketch(target: Target) -> dict:
    graph = read(target)
    return {
        "controllers": sorted(graph.controllers),
        "raids": {raid.name: (raid.state, sorted(raid.present)) for raid in graph.raids.values()},
        "limits": graph.limits,
        "vhosts": {each.name: each.bdev for each in graph.vhosts.values()},
    }


def start(way: str) -> tuple[Target, dict]:
    """A compute node before the run, and its rows; what is not ASSIGNED is served there."""
    states = WAYS[way]
    target = compute_node([storage_node(number) for number in (1, 2)], life=1)
    known = rows(states)
    known["mappings"] = [mapping for mapping in known["mappings"] if mapping["state"] != "ASSIGNED"]
    for mapping in known["mappings"]:
        mapping["state"] = "ATTACHED"
    with serving(target) as served:
        run(served, known)
    return target, rows(states)


def undisturbed(way: str) -> dict:
    target, known = start(way)
    beginning = copy.deepcopy(target)
    with serving(target) as served:
        assert run(served, known)[1] == []
        assert [mapping["state"] for mapping in known["mappings"]] == [NEXT[state] for state in WAYS[way]]
        calls = {
            number: call["method"] for number, call in enumerate(served.log.calls, 1) if "_get_" not in call["method"]
        }
        assert run(served, known) == ([], [])
        return {"start": beginning, "calls": calls, "end": sketch(target)}


QUIET = {way: undisturbed(way) for way in WAYS}
CALLS = [(way, number) for way, quiet in QUIET.items() for number in quiet["calls"]]


def test_the_ways_are_whole():
    """Each mapping is made and unmade by calls of every kind."""
    there, back, both = (list(QUIET[way]["calls"].values()) for way in WAYS)
    made = {
        "bdev_nvme_attach_controller",
        "bdev_raid_create",
        "bdev_set_qos_limit",
        "vhost_create_blk_controller",
    }
    gone = {"vhost_delete_controller", "bdev_raid_delete", "bdev_nvme_detach_controller"}
    assert made <= set(there) and gone <= set(back) and made | gone <= set(both)
    assert there.count("bdev_nvme_attach_controller") == 2 * len(VOLUMES)
    assert QUIET["back"]["end"] == {"controllers": [], "raids": {}, "limits": {}, "vhosts": {}}
    assert QUIET["both"]["end"]["vhosts"] == {"vhost1": "raid_1"}


def cut(served: Served, number: int, carried_out: bool) -> None:
    """The connection ends at a call, which was carried out or never came."""
    if carried_out:
        served.faults.add({"action": "drop", "call": number})
    else:
        served.lose.add(number)


@pytest.mark.parametrize("carried_out", [True, False], ids=["after it", "before it"])
@pytest.mark.parametrize("victim", ["module", "target", "answer"])
@pytest.mark.parametrize(("way", "number"), CALLS)
def test_killed_at_any_call(way, number, victim, carried_out):
    target, known = copy.deepcopy(QUIET[way]["start"]), rows(WAYS[way])
    end = {"module": Killed(), "target": Unreachable("gone")}.get(victim)  # what a second connection meets
    with serving(target) as served:
        cut(served, number, carried_out)
        connect = served.connect

        def once(timeout: float = 30.0):
            if end and served.connections:
                raise end
            return connect(timeout)

        served.connect = once
        with suppress(Killed, DiskengineError):
            run(served, known)
        for mapping, before in zip(known["mappings"], WAYS[way]):
            served_here = f"vhost{mapping['id']}" in target.vhost
            assert mapping["state"] == before or served_here == (mapping["state"] == "ATTACHED"), "a row that lies"
    after = compute_node(target.peers, life=2) if victim == "target" else target
    with serving(after) as served:
        assert run(served, known)[1] == []
        assert [mapping["state"] for mapping in known["mappings"]] == [NEXT[state] for state in WAYS[way]]
        assert run(served, known) == ([], [])
        assert sketch(after) == QUIET[way]["end"]
