# SPDX-License-Identifier: GPL-3.0-or-later
"""What check mode lists is what the run after it sends, from every state a node can be found in."""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

import pytest
from support.targets import free_port

SPDK_TASK = "Converge the SPDK target"
RECORD_TASK = "Record what is complete, what is gone, and what is free on the disks"
STRANGER = "nqn.2024-01.io.excloud:stranger"

TRANSPORT = {"nvmf_create_transport": 1}
LVOL = {"bdev_lvol_create": 1}
PARTS = {"nvmf_subsystem_add_ns": 1, "nvmf_subsystem_add_host": 1, "nvmf_subsystem_add_listener": 1}
EXPORT = {"nvmf_create_subsystem": 1, **PARTS}


class World:
    """Makes by raw RPC what a converge run would have made, or something else."""

    def __init__(self, site):
        self.call = site.target.call
        self.conn = site.conn
        self.rows = site.rows()

    def transport(self):
        self.call("nvmf_create_transport", {"trtype": "TCP", "max_queue_depth": 256})

    def lvol(self, name, mib=12):
        lvol = {"lvs_name": "lvs-0", "lvol_name": str(name), "size_in_mib": mib, "thin_provision": True}
        return self.call("bdev_lvol_create", lvol)

    def subsystem(self, row, nqn=None, **more):
        params = {"nqn": nqn or row["nqn"], "max_namespaces": 1, "allow_any_host": False, **more}
        self.call("nvmf_create_subsystem", params)

    def namespace(self, row, bdev=None, nqn=None):
        shown = {"bdev_name": bdev or f"lvs-0/{row['id']}", "nsid": 1}
        self.call("nvmf_subsystem_add_ns", {"nqn": nqn or row["nqn"], "namespace": shown})

    def host(self, row, nqn=None):
        self.call("nvmf_subsystem_add_host", {"nqn": row["nqn"], "host": nqn or row["hosts"][0]})

    def listener(self, row, port=None):
        address = {**row["listeners"][0], **({"trsvcid": str(port)} if port else {})}
        self.call("nvmf_subsystem_add_listener", {"nqn": row["nqn"], "listen_address": address})

    def everything(self, *without, up=False):
        """All three volumes; of the first one all but what without names. With up the rows say so as well."""
        self.transport()
        for row in self.rows:
            left_out = without if row is self.rows[0] else ()
            uuid = self.lvol(row["id"])
            if up:
                self.conn.execute("UPDATE diskengine.lvol SET state = 'UP', uuid = %s WHERE id = %s", [uuid, row["id"]])
            if "export" in left_out:
                continue
            self.subsystem(row)
            for part in ("namespace", "host", "listener"):
                if part not in left_out:
                    getattr(self, part)(row)


def empty(world):
    """Nothing but the lvstore."""


def transport_only(world):
    world.transport()


def some_lvols(world):
    world.transport()
    world.lvol(world.rows[0]["id"])


def all_lvols(world):
    world.transport()
    for row in world.rows:
        world.lvol(row["id"])


def no_transport_but_lvols(world):
    world.lvol(world.rows[0]["id"])
    world.lvol(world.rows[1]["id"])


def bare_subsystem(world):
    world.everything("namespace", "host", "listener")


def no_namespace(world):
    world.everything("namespace")


def no_host(world):
    world.everything("host")


def no_listener(world):
    world.everything("listener")


def wrong_listener(world):
    world.everything("listener")
    world.listener(world.rows[0], free_port())


def extra_listener(world):
    world.everything()
    world.listener(world.rows[0], free_port())


def extra_host(world):
    world.everything()
    world.host(world.rows[0], STRANGER)


def any_host(world):
    world.everything()
    world.call("nvmf_subsystem_allow_any_host", {"nqn": world.rows[0]["nqn"], "allow_any_host": True})


def strangers(world):
    world.everything()
    world.lvol("stranger")
    world.subsystem(world.rows[0], nqn=STRANGER)
    world.namespace(world.rows[0], bdev="lvs-0/stranger", nqn=STRANGER)


def other_namespace(world):
    world.everything("namespace")
    world.lvol("stranger")
    world.namespace(world.rows[0], bdev="lvs-0/stranger")


def small_lvol(world):
    world.transport()
    world.lvol(world.rows[0]["id"], mib=4)


def up_without_export(world):
    world.everything("export", up=True)


def up_half_exported(world):
    world.everything("listener", "namespace", up=True)


def up_without_lvol(world):
    world.everything("export", up=True)
    world.call("bdev_lvol_delete", {"name": f"lvs-0/{world.rows[0]['id']}"})


def up_with_another_lvol(world):
    up_without_lvol(world)
    world.lvol(world.rows[0]["id"])


class Case(NamedTuple):
    """A state, the calls it needs, what the role may purge, and what the failure says of the first lvol."""

    build: object
    sends: Counter
    purge: tuple = ()
    fails: str = ""


def sum_of(*parts):
    return sum(map(Counter, parts), Counter())


CASES = [
    Case(empty, sum_of(TRANSPORT, *[LVOL, EXPORT] * 3)),
    Case(transport_only, sum_of(*[LVOL, EXPORT] * 3)),
    Case(some_lvols, sum_of(*[LVOL] * 2, *[EXPORT] * 3)),
    Case(all_lvols, sum_of(*[EXPORT] * 3)),
    Case(no_transport_but_lvols, sum_of(TRANSPORT, LVOL, *[EXPORT] * 3)),
    Case(bare_subsystem, sum_of(PARTS)),
    Case(no_namespace, Counter(["nvmf_subsystem_add_ns"])),
    Case(no_host, Counter(["nvmf_subsystem_add_host"])),
    Case(no_listener, Counter(["nvmf_subsystem_add_listener"])),
    Case(wrong_listener, Counter(["nvmf_subsystem_add_listener"])),
    Case(wrong_listener, Counter(["nvmf_subsystem_add_listener", "nvmf_subsystem_remove_listener"]), ("listeners",)),
    Case(extra_listener, Counter(["nvmf_subsystem_remove_listener"]), ("listeners", "hosts")),
    Case(extra_host, Counter()),
    Case(extra_host, Counter(["nvmf_subsystem_remove_host"]), ("hosts",)),
    Case(any_host, Counter(["nvmf_subsystem_allow_any_host"])),
    Case(strangers, Counter(), ("listeners", "hosts", "namespaces")),
    Case(other_namespace, Counter(), (), "shows bdev lvs-0/stranger, wanted lvs-0/{}"),
    Case(other_namespace, Counter(["nvmf_subsystem_remove_ns", "nvmf_subsystem_add_ns"]), ("namespaces",)),
    Case(small_lvol, sum_of({"bdev_lvol_resize": 1}, *[LVOL] * 2, *[EXPORT] * 3)),
    Case(up_without_export, sum_of(EXPORT)),
    Case(up_half_exported, Counter(["nvmf_subsystem_add_ns", "nvmf_subsystem_add_listener"])),
    Case(up_without_lvol, Counter(), (), "there is no bdev lvs-0/{} on this target"),
    Case(up_with_another_lvol, Counter(), (), "is not the one that was exported"),
]


def dump(target):
    """What the target has, past the recorder."""
    return [
        target.call("framework_get_config", {"name": "nvmf"}),
        target.call("nvmf_get_subsystems"),
        target.call("nvmf_get_transports"),
        target.call("bdev_lvol_get_lvstores"),
        target.call("bdev_lvol_get_lvols"),
        target.call("bdev_get_bdevs"),
    ]


def canonical(call):
    return json.dumps([call["method"], call["params"]], sort_keys=True)


def by_object(calls, objects):
    """The calls about each object, in their order."""
    found = {}
    for call in calls:
        found.setdefault(objects[canonical(call)], []).append(canonical(call))
    return found


def failures(done, host):
    return [event["result"]["msg"] for event in done.events if event["event"] == "failed" and event["host"] == host]


@pytest.mark.parametrize("cases", [CASES[:8], CASES[8:16], CASES[16:]], ids=["first", "second", "third"])
def test_the_preview_is_the_run(make_site, subtests, cases):
    """Each case is a node, because a playbook for one node costs nearly as much as one for all of them."""
    site = make_site(nodes=len(cases), lvols=3 * len(cases), replicas=1)
    nodes = dict(zip(site.each(), cases))
    for node, case in nodes.items():
        case.build(World(node))
    purge = {node.name: {"storage_node_purge": list(case.purge)} for node, case in nodes.items()}
    before, rows = [dump(node.target) for node in nodes], site.table()

    check = site.converge(check=True, diff=True, vars_of=purge)
    assert site.mutations() == []
    assert ([dump(node.target) for node in nodes], site.table()) == (before, rows)

    # The run, and another one that finds nothing to do.
    site.clear()
    done = site.converge(times=2, diff=True, vars_of=purge)
    for node, case in nodes.items():
        with subtests.test("-".join([case.build.__name__, *case.purge])):
            compare(node, case, check, done)
    recorded, later = done.results(RECORD_TASK)
    assert recorded["results"] == check.result(RECORD_TASK)["results"]
    assert not later["changed"]


def compare(node, case, check, done):
    """What was foretold of one node with what was done."""
    preview = check.result(SPDK_TASK, node.name)
    assert Counter(call["method"] for call in preview["actions"]) == case.sends
    real = done.results(SPDK_TASK, node.name)[0]
    sent = node.mutations()
    assert Counter(map(canonical, sent)) == Counter(map(canonical, preview["actions"]))
    objects = {canonical(call): call["object"] for call in preview["actions"]}
    assert len(objects) == len(preview["actions"])
    assert by_object(sent, objects) == by_object(preview["actions"], objects)
    assert len({call["connection"] for call in sent}) <= 1

    assert real["changed"] == preview["changed"] == bool(case.sends)
    assert real["diff"] == preview["diff"]
    assert bool(real["diff"]) == bool(case.sends)
    assert real.get("msg") == preview.get("msg")
    messages = failures(done, node.name)
    assert len(messages) == len(failures(check, node.name)) == bool(case.fails)
    if case.fails:
        assert case.fails.format(node.rows()[0]["id"]) in messages[0]
        assert "bdev_lvol_create" not in case.sends
        return
    (later,) = done.results(SPDK_TASK, node.name)[1:]
    assert not later["changed"]
    assert {row["state"] for row in node.rows()} == {"UP"}
    if case.build not in (strangers, extra_host, wrong_listener, other_namespace) or case.purge == ("hosts",):
        node.check_served()
