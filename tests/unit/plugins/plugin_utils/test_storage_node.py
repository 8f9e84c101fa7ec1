# SPDX-License-Identifier: GPL-3.0-or-later
"""From rows to what a storage node should have, and from results back to rows."""

from __future__ import annotations

import copy
import json

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.excloud.diskengine.plugins.module_utils._options import KINDS
from ansible_collections.excloud.diskengine.plugins.plugin_utils.storage_node import (
    storage_desired,
    storage_transitions,
)

STORE = "11111111-2222-4333-8444-555555555555"
UUID = "99999999-2222-4333-8444-555555555555"
HOST = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
LISTENER = {"trtype": "TCP", "traddr": "10.0.0.1", "trsvcid": "4420", "adrfam": "IPv4"}


def row(number=1, state="CREATING", **changes):
    """One lvol of a node as desired_state_info returns it."""
    return {
        "id": number,
        "state": state,
        "revision": 7,
        "defect": None,
        "held": None,
        "disk_id": 3,
        "lvstore_uuid": STORE,
        "uuid": UUID if state != "CREATING" else None,
        "size_bytes": 10 << 30,
        "zeroed_bytes": 5 << 30 if state == "RESIZING" else None,
        "thin": True,
        "clear_method": "unmap",
        "nqn": f"nqn.2024-01.io.excloud:storage.n1.d1.{number}",
        "listeners": [LISTENER],
        "hosts": [HOST],
        **changes,
    }


def desired(*rows, **options):
    """The document as a dictionary, and the problems."""
    found = storage_desired({"lvols": list(rows)}, **options)
    assert isinstance(found["desired"], str)
    document = json.loads(found["desired"])
    return {kind: objects for kind, objects in document.items() if objects}, found["problems"]


def node(disks=(), lvols=(), snapshots=()):
    """A node as desired_state_info returns it."""
    return {"node": {"name": "n1"}, "disks": list(disks), "lvols": list(lvols), "snapshots": list(snapshots)}


def disk(number=3, state="NEW", **changes):
    return {
        "id": number,
        "state": state,
        "revision": 2,
        "serial": f"S{number}",
        "bdf": f"0000:0{number}:00.0",
        "lvstore_name": None if state == "NEW" else "lvs",
        "lvstore_uuid": None if state == "NEW" else STORE,
        "total_bytes": None if state == "NEW" else 100,
        "free_bytes": None if state == "NEW" else 90,
        "cluster_size": None if state == "NEW" else 10,
        **changes,
    }


def snapshot(number=1, state="CREATING", **changes):
    return {
        "id": number,
        "state": state,
        "revision": 4,
        "disk_id": 3,
        "lvol_id": 1,
        "lvstore_uuid": STORE,
        "uuid": UUID if state != "CREATING" else None,
        "nqn": f"nqn.2024-01.io.excloud:storage.n.3.snap_{number}",
        "listeners": [{"trtype": "TCP", "adrfam": "IPv4", "traddr": "10.0.0.1", "trsvcid": "4420"}],
        "hosts": None,
        "defect": None,
        **changes,
    }


def test_a_new_lvol():
    document, problems = desired(row())
    assert not problems
    assert document == {
        "transports": [{"trtype": "TCP"}],
        "lvols": [
            {
                "name": "1",
                "lvstore": STORE,
                "size": str(10 << 30),
                "thin": True,
                "clear_method": "unmap",
                "growth": "plain",
            },
        ],
        "subsystems": [
            {
                "nqn": "nqn.2024-01.io.excloud:storage.n1.d1.1",
                "max_namespaces": 1,
                "listeners": [LISTENER],
                "hosts": [HOST],
                "namespaces": [{"bdev": f"{STORE}/1", "nsid": 1}],
                "purge": [],
            }
        ],
    }


@pytest.mark.parametrize("state", ["UP", "RESIZING"])
def test_an_lvol_that_was_made_is_exported_but_never_made_again(state):
    """An empty lvol in the place of one that is gone would hide the loss; the UUID shows a stranger of that name."""
    document, problems = desired(row(state=state))
    assert all("uuid" in lvol for lvol in document.get("lvols", ())) and not problems
    assert document["subsystems"][0]["namespaces"] == [{"bdev": f"{STORE}/1", "nsid": 1, "bdev_uuid": UUID}]


def test_an_lvol_that_is_to_grow():
    document, problems = desired(row(state="RESIZING"), growth_options={"growth": "plain"})
    grown = {"name": "1", "lvstore": STORE, "uuid": UUID, "size": str(10 << 30), "growth": "plain"}
    assert document["lvols"] == [grown] and not problems


@pytest.mark.parametrize(
    ("found", "recorded"),
    [
        ({"size": 10 << 30, "failed": False}, {"to": "UP", "zeroed_bytes": 10 << 30}),
        ({"size": 11 << 30, "failed": False}, {"to": "UP", "zeroed_bytes": 10 << 30}),
        ({"size": 7 << 30, "failed": False}, {"to": "RESIZING", "zeroed_bytes": 7 << 30}),
        ({"size": 7 << 30, "failed": True}, {"to": "RESIZING", "zeroed_bytes": 7 << 30}),
        ({"size": 5 << 30, "failed": True}, None),
        ({"failed": True}, None),
    ],
)
def test_how_far_a_resize_got(found, recorded):
    rows = node(lvols=[row(state="RESIZING")])
    entry = {"kind": "lvol", "lvstore": STORE, "name": "1", **found}
    change = {"node": "n1", "kind": "lvol", "id": 1, "from": "RESIZING", "revision": 7}
    assert storage_transitions(rows, [entry]) == ([{**change, **recorded}] if recorded else [])


def test_other_states_are_left_alone():
    assert desired(row(state="anything", defect="no placement")) == ({}, [])


def test_what_is_to_go_is_named_with_its_uuid():
    """The export shows nothing else, and nothing else has taken the name."""
    document, problems = desired(row(state="DELETING", defect="no listener address"))
    nqn = "nqn.2024-01.io.excloud:storage.n1.d1.1"
    shown = [{"bdev": f"{STORE}/1", "nsid": 1, "bdev_uuid": UUID}]
    assert document == {
        "lvols": [{"name": "1", "lvstore": STORE, "uuid": UUID, "state": "absent"}],
        "subsystems": [{"nqn": nqn, "namespaces": shown, "state": "absent"}],
    }
    assert not problems
    (lvol,) = desired(row(state="DELETING", uuid=None, nqn=None))[0]["lvols"]
    assert "uuid" not in lvol
    assert desired(row(state="DELETING", lvstore_uuid=None)) == ({}, [])


def test_what_is_held_stays_exported():
    """As if it were UP, so that a mirror which has it as a leg finds it after a restart too, and is not deleted."""
    held = row(state="DELETING", held="mapping 3 on compute-1 has it as a leg")
    document, problems = desired(held)
    assert (document, problems) == desired(row(state="UP"))
    found = storage_desired(node(lvols=[held, row(2)]))
    assert found["kept"] == ["lvol 1 is DELETING and kept for now: mapping 3 on compute-1 has it as a leg"]
    entries = [{"kind": "subsystem", "nqn": held["nqn"], "failed": False}]
    assert storage_transitions(node(lvols=[held]), entries) == []


@pytest.mark.parametrize("state", ["CREATING", "UP", "RESIZING"])
def test_a_row_without_placement_is_a_problem(state):
    document, problems = desired(row(1, state, defect="no NQN", nqn=None, listeners=[]), row(2))
    assert problems == ["lvol 1 has no NQN; it is left alone until its row is complete"]
    assert [each["name"] for each in document["lvols"]] == ["2"]
    assert len(document["subsystems"]) == 1


def test_a_row_on_a_disk_without_an_lvstore_waits():
    document, problems = desired(row(lvstore_uuid=None))
    assert problems == ["lvol 1 waits for its disk 3, which has no lvstore yet"]
    assert document == {}


def test_one_transport_for_each_kind_of_listener():
    rdma = {**LISTENER, "trtype": "RDMA"}
    rows = [row(1), row(2), row(3, listeners=[rdma, LISTENER]), row(4, state="DELETING", listeners=[rdma])]
    document, _problems = desired(*rows, transport_options={"max_queue_depth": 256})
    assert document["transports"] == [
        {"trtype": "TCP", "max_queue_depth": 256},
        {"trtype": "RDMA", "max_queue_depth": 256},
    ]


def test_purge_is_handed_on():
    document, _problems = desired(row(), purge=("hosts", "listeners"))
    assert document["subsystems"][0]["purge"] == ["hosts", "listeners"]


def test_nothing_is_asked_of_an_empty_node():
    assert desired() == ({}, [])


def test_the_document_is_what_the_module_takes():
    rows = node(
        [disk(3), disk(4, "UP")],
        [row(1), row(2, "UP"), row(4, "RESIZING"), row(5, "DELETING")],
        [snapshot(1), snapshot(2, "DELETING")],
    )
    found = storage_desired(rows, {"max_queue_depth": 256}, ["hosts"], lvstore_options={"max_lvols": 9})
    document = json.loads(found["desired"])
    assert all(document.values())
    lists = {kind: {"type": "list", "elements": "dict", "options": options} for kind, options in KINDS.items()}
    assert not ArgumentSpecValidator(lists).validate(document).error_messages


def test_rows_are_not_changed():
    rows = [row(1), row(2, "UP")]
    before = copy.deepcopy(rows)
    storage_desired(node(lvols=rows), {"max_queue_depth": 256}, ["hosts"])
    storage_transitions(node(lvols=rows), results())
    assert rows == before


def results(number=1, uuid=UUID, lvol_failed=False, subsystem_failed=False):
    """The entries of spdk_node for one row."""
    return [
        {"kind": "transport", "trtype": "TCP", "failed": False},
        {"kind": "lvol", "lvstore": STORE, "name": str(number), "uuid": uuid, "failed": lvol_failed},
        {"kind": "subsystem", "nqn": f"nqn.2024-01.io.excloud:storage.n1.d1.{number}", "failed": subsystem_failed},
    ]


def transitions(rows, entries):
    return storage_transitions(node(lvols=rows), entries)


def test_a_complete_lvol_is_up():
    assert transitions([row()], results()) == [
        {
            "node": "n1",
            "kind": "lvol",
            "id": 1,
            "from": "CREATING",
            "to": "UP",
            "revision": 7,
            "nqn": "nqn.2024-01.io.excloud:storage.n1.d1.1",
            "uuid": UUID,
        }
    ]


def test_in_check_mode_there_is_no_uuid_yet():
    (found,) = transitions([row()], results(uuid=None))
    assert "uuid" not in found


@pytest.mark.parametrize(
    "entries",
    [
        results(lvol_failed=True),
        results(subsystem_failed=True),
        results()[:2],
        [results()[0], results()[2]],
        results(number=2),
        [{**entry, "lvstore": UUID} if entry["kind"] == "lvol" else entry for entry in results()],
        [],
    ],
    ids=["lvol failed", "export failed", "not exported", "no lvol", "another lvol", "another lvstore", "nothing"],
)
def test_an_incomplete_lvol_is_not_up(entries):
    assert transitions([row()], entries) == []


@pytest.mark.parametrize("state", ["UP", "RESIZING"])
def test_only_new_rows_come_up(state):
    assert transitions([row(state=state)], results()) == []


def test_a_row_left_out_stays_as_it_is():
    rows = [row(1, defect="no NQN", nqn=None), row(2, lvstore_uuid=None), row(3)]
    assert [found["id"] for found in transitions(rows, results(3))] == [3]


def test_documents_are_read_as_well():
    """Large lists travel through the role as text."""
    rows = node(lvols=[row(1), row(2, "UP")])
    assert storage_desired(json.dumps(rows)) == storage_desired(rows)
    assert storage_transitions(json.dumps(rows), json.dumps(results())) == storage_transitions(rows, results())


def test_one_failure_among_many():
    entries = [entry for number in range(40) for entry in results(number, subsystem_failed=number == 7)]
    found = transitions([row(number) for number in range(40)], entries)
    assert [each["id"] for each in found] == [number for number in range(40) if number != 7]


# --- disks


def disks(*rows, **options):
    found = storage_desired(node(rows), **options)
    return json.loads(found["desired"])["disks"], found["bind"]


def test_a_new_disk_is_bound_and_gets_an_lvstore():
    wanted, bind = disks(disk(3), lvstore_options={"max_lvols": 100})
    assert wanted == [
        {"serial": "S3", "bdf": "0000:03:00.0", "lvstore": "lvs-3", "create": True, "max_lvols": 100},
    ]
    assert bind == [{"serial": "S3", "bdf": "0000:03:00.0", "persist": "udev"}]


def test_a_disk_that_had_an_lvstore_gets_no_other():
    wanted, bind = disks(disk(3, "UP"), disk(4, "NEW", lvstore_uuid=UUID), disk(5, "FAULTY"), disk(6, "RETIRED"))
    assert [(each["serial"], each["lvstore_uuid"], each["create"]) for each in wanted] == [
        ("S3", STORE, False),
        ("S4", UUID, False),
    ]
    assert [each["serial"] for each in bind] == ["S4"]


def test_drives_can_be_left_to_others():
    assert disks(disk(3), disk(4, "UP"), drives=False) == ([], [])


def test_an_lvol_on_a_new_disk_is_made_in_the_same_run():
    rows = node([disk(3)], [row(1, lvstore_uuid=None)], [snapshot(1, lvstore_uuid=None)])
    document = json.loads(storage_desired(rows)["desired"])
    assert document["lvols"][0]["lvstore"] == document["disks"][0]["lvstore"] == "lvs-3"
    assert document["subsystems"][0]["namespaces"] == [{"bdev": "lvs-3/1", "nsid": 1}]
    assert document["snapshots"] == [{"name": "snap_1", "lvstore": "lvs-3", "lvol": "1"}]
    entries = [{**entry, "lvstore": "lvs-3"} if "lvstore" in entry else entry for entry in results()]
    assert [change["to"] for change in storage_transitions(rows, entries)] == ["UP"]


def found_disk(**changes):
    fields = {"bdf": "0000:03:00.0", "lvstore": "lvs-3", "lvstore_uuid": STORE}
    return [{"kind": "disk", "serial": "S3", "failed": False, **fields, **changes}]


def of_disks(rows, entries, lvstores=()):
    return storage_transitions(node(rows), entries, lvstores)


LVSTORE = {"uuid": STORE, "name": "lvs", "total_bytes": 100, "free_bytes": 90, "cluster_size": 10}


def test_a_new_disk_is_up():
    assert of_disks([disk()], found_disk(), [LVSTORE]) == [
        {
            "node": "n1",
            "kind": "disk",
            "id": 3,
            "from": "NEW",
            "to": "UP",
            "revision": 2,
            "bdf": "0000:03:00.0",
            "lvstore_name": "lvs-3",
            "lvstore_uuid": STORE,
            "total_bytes": 100,
            "free_bytes": 90,
            "cluster_size": 10,
        }
    ]
    (check,) = of_disks([disk()], found_disk(lvstore_uuid=None), [])
    assert check["to"] == "UP" and "lvstore_uuid" not in check and "free_bytes" not in check


@pytest.mark.parametrize("entries", [found_disk(failed=True), found_disk(deferred=True), []])
def test_a_disk_that_is_not_complete_stays_new(entries):
    assert of_disks([disk()], entries, [LVSTORE]) == []


def test_a_disk_that_is_up_is_recorded_when_something_differs():
    up = disk(3, "UP")
    same = found_disk(lvstore="lvs")
    assert of_disks([up], same, [LVSTORE]) == []
    (less,) = of_disks([up], [], [{**LVSTORE, "free_bytes": 80}])
    assert (less["from"], less["to"], less["free_bytes"]) == ("UP", "UP", 80)
    assert "total_bytes" not in less
    (moved,) = of_disks([up], found_disk(lvstore="lvs", bdf="0000:09:00.0"), [LVSTORE])
    assert moved["bdf"] == "0000:09:00.0"
    assert of_disks([disk(3, "FAULTY"), disk(4, "RETIRED")], same, [{**LVSTORE, "free_bytes": 80}]) == []


# --- snapshots, and what is to go


def test_snapshots_are_wanted_and_recorded():
    rows = node([], [], [snapshot(7), snapshot(8, "UP"), snapshot(9, "DELETING")])
    found = storage_desired(rows)
    assert json.loads(found["desired"])["snapshots"] == [
        {"name": "snap_7", "lvstore": STORE, "lvol": "1"},
        {"name": "snap_9", "lvstore": STORE, "uuid": UUID, "state": "absent"},
    ]
    entries = [
        {"kind": "snapshot", "lvstore": STORE, "name": f"snap_{number}", "uuid": UUID, "failed": False}
        for number in (7, 9)
    ]
    made, gone = storage_transitions(rows, entries)
    assert (made["to"], made["uuid"], gone["to"]) == ("UP", UUID, "GONE")
    assert storage_transitions(rows, [{**entry, "failed": True} for entry in entries]) == []


@pytest.mark.parametrize("state", ["CREATING", "UP"])
def test_a_snapshot_is_exported_as_long_as_somebody_copies_it(state):
    shown = {"bdev": f"{STORE}/snap_7", "nsid": 1, **({"bdev_uuid": UUID} if state == "UP" else {})}
    (export,) = exports(snapshot(7, state, hosts=["nqn.host"]), ["hosts"])
    assert (export["hosts"], export["namespaces"], export["purge"]) == (["nqn.host"], [shown], ["hosts"])
    (export,) = exports(snapshot(7, state, hosts=[]))
    assert (export["state"], export["namespaces"]) == ("absent", [shown])
    assert exports(snapshot(7, state)) == []
    assert exports(snapshot(7, state, hosts=["nqn.host"]), rows=[disk(3, "RETIRED")]) == []
    lame = storage_desired(node([], [], [snapshot(7, state, hosts=["nqn.host"], defect="no listener address")]))
    assert lame["problems"] == ["snapshot 7 is the source of a volume and has no listener address"]


def exports(row, purge=(), rows=()):
    document = json.loads(storage_desired(node(rows, [], [row]), purge=purge)["desired"])
    assert len(document["transports"]) == any(each["hosts"] for each in document["subsystems"] if "hosts" in each)
    return document["subsystems"]


def test_a_snapshot_that_goes_is_exported_no_more():
    (export,) = exports(snapshot(7, "DELETING"))
    assert (export["nqn"], export["state"]) == (snapshot(7)["nqn"], "absent")


def test_a_snapshot_of_nothing_is_a_problem():
    found = storage_desired(node([], [], [snapshot(7, lvol_id=None), snapshot(8, lvstore_uuid=None)]))
    assert found["problems"] == [
        "snapshot 7 has no lvol to be taken of any more",
        "snapshot 8 waits for its disk 3, which has no lvstore yet",
    ]


def test_an_lvol_is_gone_when_it_and_its_export_are():
    going = row(state="DELETING")
    assert [change["to"] for change in transitions([going], results())] == ["GONE"]
    assert transitions([going], results(lvol_failed=True)) == []
    assert transitions([going], results(subsystem_failed=True)) == []
    assert [change["to"] for change in transitions([row(state="DELETING", nqn=None)], results())] == ["GONE"]


def test_what_never_was_made_is_gone_at_once():
    """It was to go before its disk had an lvstore. With a UUID it was made, and its lvstore is not known any more."""
    never = row(state="DELETING", lvstore_uuid=None, uuid=None)
    assert [change["to"] for change in transitions([never], [])] == ["GONE"]
    assert transitions([row(state="DELETING", lvstore_uuid=None)], []) == []


def test_keys_of_hosts_are_named():
    other = "nqn.2024-01.io.excloud:other"
    rows = [row(hosts=[HOST, other])]
    document, _problems = desired(*rows)
    assert "host_keys" not in document["subsystems"][0]
    everybody, own = {"dhchap_key": "all"}, {"host": other, "dhchap_key": "own", "psk": "tls"}
    for given, found in (
        ([everybody], [{"host": HOST, **everybody}, {"host": other, **everybody}]),
        ([everybody, own], [{"host": HOST, **everybody}, own]),
        ([own], [{"host": HOST}, own]),
    ):
        document, _problems = desired(*rows, host_keys=given)
        assert document["subsystems"][0]["host_keys"] == found
        validated = ArgumentSpecValidator(KINDS["subsystems"]).validate(document["subsystems"][0])
        assert not validated.error_messages
