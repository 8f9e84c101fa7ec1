# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge cases of rows and what is there already. docs/edge-cases.md lists all of them and where they are tested."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from support.targets import RpcFailure

SPDK_TASK = "Converge the SPDK target"
STRANGER = "nqn.2024-01.io.excloud:stranger"
CREATE, DELETE, UNEXPORT = "bdev_lvol_create", "bdev_lvol_delete", "nvmf_delete_subsystem"
PARTS = ["nvmf_subsystem_add_ns", "nvmf_subsystem_add_host", "nvmf_subsystem_add_listener"]
EXPORT = ["nvmf_create_subsystem", *PARTS]
TRANSPORT = "nvmf_create_transport"


def lvol(node, row, mib=12, thin=True):
    params = {"lvs_name": "lvs-0", "lvol_name": str(row["id"]), "size_in_mib": mib, "thin_provision": thin}
    return node.target.call(CREATE, params)


def subsystem(node, nqn, bdev=None):
    node.target.call("nvmf_create_subsystem", {"nqn": nqn, "max_namespaces": 1, "allow_any_host": False})
    if bdev:
        shown = {"bdev_name": bdev, "nsid": 1}
        node.target.call("nvmf_subsystem_add_ns", {"nqn": nqn, "namespace": shown})


def deleting(node, row, uuid):
    node.conn.execute("UPDATE diskengine.lvol SET state = 'UP', uuid = %s WHERE id = %s", [uuid, row["id"]])
    node.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [row["id"]])


def an_lvol_that_exists_is_adopted(node, row):
    lvol(node, row)


def an_lvol_that_is_half_exported_is_adopted(node, row):
    subsystem(node, row["nqn"], lvol(node, row))


def an_lvol_that_is_smaller_is_adopted_and_grows(node, row):
    lvol(node, row, 4)


def an_lvol_that_is_larger_is_left_alone(node, row):
    lvol(node, row, 16)


def an_lvol_that_is_thick_is_left_alone(node, row):
    lvol(node, row, thin=False)


def a_snapshot_that_has_the_name_is_left_alone(node, row):
    lvol(node, {"id": "other"})
    node.target.call("bdev_lvol_snapshot", {"lvol_name": "lvs-0/other", "snapshot_name": str(row["id"])})


def an_lvol_that_somebody_exports_is_left_alone(node, row):
    subsystem(node, STRANGER, lvol(node, row))


def an_nqn_that_shows_something_else_is_left_alone(node, row):
    subsystem(node, row["nqn"], lvol(node, {"id": "other"}))


def a_delete_that_is_half_done_is_finished(node, row):
    deleting(node, row, lvol(node, row))


def a_delete_that_is_done_is_recorded(node, row):
    uuid = lvol(node, row)
    node.target.call(DELETE, {"name": uuid})
    deleting(node, row, uuid)


def a_delete_whose_export_shows_something_else_goes_on_without_it(node, row):
    deleting(node, row, lvol(node, row))
    subsystem(node, row["nqn"], lvol(node, {"id": "other"}))


def a_delete_of_what_somebody_exports_is_left_alone(node, row):
    uuid = lvol(node, row)
    deleting(node, row, uuid)
    subsystem(node, STRANGER, uuid)


def an_nqn_that_changed_finds_the_old_export(node, row):
    uuid = lvol(node, row)
    subsystem(node, row["nqn"], uuid)
    node.conn.execute("UPDATE diskengine.lvol SET state = 'UP', uuid = %s WHERE id = %s", [uuid, row["id"]])
    node.conn.execute("UPDATE diskengine.lvol SET nqn = nqn || '.new' WHERE id = %s", [row["id"]])


class Case(NamedTuple):
    """How a node is found, what is sent beside the transport, the row's state then, and what the failure says."""

    build: object
    sent: list
    state: str
    says: str = ""


CASES = [
    Case(an_lvol_that_exists_is_adopted, EXPORT, "UP"),
    Case(an_lvol_that_is_half_exported_is_adopted, PARTS[1:], "UP"),
    Case(an_lvol_that_is_smaller_is_adopted_and_grows, ["bdev_lvol_resize", *EXPORT], "UP"),
    Case(an_lvol_that_is_larger_is_left_alone, [], "CREATING", "gives up data"),
    Case(an_lvol_that_is_thick_is_left_alone, [], "CREATING", "it is thick, wanted thin"),
    Case(a_snapshot_that_has_the_name_is_left_alone, [], "CREATING", "a snapshot"),
    Case(an_lvol_that_somebody_exports_is_left_alone, [], "CREATING", STRANGER),
    Case(an_nqn_that_shows_something_else_is_left_alone, [CREATE], "CREATING", "shows bdev lvs-0/other"),
    Case(a_delete_that_is_half_done_is_finished, [DELETE], "GONE"),
    Case(a_delete_that_is_done_is_recorded, [], "GONE"),
    Case(a_delete_whose_export_shows_something_else_goes_on_without_it, [DELETE], "DELETING", "lvs-0/other"),
    Case(a_delete_of_what_somebody_exports_is_left_alone, [], "DELETING", f"namespace 1 of {STRANGER}"),
    Case(an_nqn_that_changed_finds_the_old_export, [], "UP", "is already exported as namespace 1 of"),
]


@pytest.mark.parametrize("cases", [CASES[:7], CASES[7:]], ids=["first", "second"])
def test_what_is_there_already(make_site, subtests, cases):
    """Each case is a node."""
    site = make_site(nodes=len(cases), lvols=len(cases), replicas=1)
    nodes = dict(zip(site.each(), cases))
    for node, case in nodes.items():
        case.build(node, node.rows()[0])
    lvols = {node: {each["uuid"] for each in node.target.call("bdev_lvol_get_lvols")} for node in nodes}
    done = site.converge()
    for node, case in nodes.items():
        with subtests.test(case.build.__name__):
            said = [
                event["result"]["msg"]
                for event in done.events
                if event["event"] == "failed" and event["host"] == node.name
            ]
            assert len(said) == bool(case.says) and case.says in "".join(said)
            sent = Counter(call["method"] for call in node.mutations() if call["method"] != TRANSPORT)
            assert sent == Counter(case.sent)
            states = [row["state"] for row in node.rows()] or ["GONE"]
            assert states == [case.state]
            if not {CREATE, DELETE} & set(case.sent):
                assert {each["uuid"] for each in node.target.call("bdev_lvol_get_lvols")} == lvols[node]
            if case.sent[-len(PARTS) + 1 :] == PARTS[1:]:
                node.check_served()


def test_an_nqn_that_changed_moves_when_the_old_export_is_named(make_site):
    """In one run: the old subsystem goes, the new one shows the same lvol."""
    site = make_site(lvols=1)
    assert site.converge().rc == 0
    ((old,),) = site.conn.execute("SELECT nqn FROM diskengine.lvol").fetchall()
    site.conn.execute("UPDATE diskengine.lvol SET nqn = nqn || '.new'")
    site.clear()
    named = {"storage_node_remove": [{"kind": "subsystem", "object": old}]}
    done = site.converge(times=2, host_vars=named)
    assert done.rc == 0, done.output
    assert [result["changed"] for result in done.results(SPDK_TASK)] == [True, False]
    assert site.mutations()[0]["method"] == UNEXPORT
    site.check_served()


def test_a_host_that_connects_early_sees_the_namespace_when_it_is_there(make_fleet):
    """It needs no reconnect, as SPDK tells it."""
    fleet = make_fleet(1)
    row = fleet.rows("v_lvol")[0]
    storage, host = fleet.targets[row["node"]], fleet.compute
    nqn, address = {"nqn": row["nqn"]}, row["listeners"][0]
    storage.call("nvmf_create_transport", {"trtype": "TCP", "max_queue_depth": 256})
    storage.call("nvmf_create_subsystem", {**nqn, "max_namespaces": 1, "allow_any_host": False})
    storage.call("nvmf_subsystem_add_host", {**nqn, "host": row["hosts"][0]})
    storage.call("nvmf_subsystem_add_listener", {**nqn, "listen_address": address})
    try:
        host.call(
            "bdev_nvme_attach_controller",
            {"name": "early", "subnqn": row["nqn"], "hostnqn": row["hosts"][0], **address},
        )
    except RpcFailure as error:  # it attaches although it has nothing to show yet
        assert "-19" in str(error), error
    assert host.call("bdev_get_bdevs") == []
    assert len(host.call("bdev_nvme_get_controllers")) == 1
    done = fleet.site(args=["--limit", row["node"]])
    assert done.rc == 0, done.output
    fleet.until(lambda: [bdev["name"] for bdev in host.call("bdev_get_bdevs")] == ["earlyn1"])
