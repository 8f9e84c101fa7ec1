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
        "disk_id": 3,
        "lvstore_uuid": STORE,
        "uuid": UUID if state != "CREATING" else None,
        "size_bytes": 10 << 30,
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
    return json.loads(found["desired"]), found["problems"]


def test_a_new_lvol():
    document, problems = desired(row())
    assert not problems
    assert document == {
        "transports": [{"trtype": "TCP"}],
        "lvols": [
            {"name": "1", "lvstore": STORE, "size": str(10 << 30), "thin": True, "clear_method": "unmap"},
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
    assert document["lvols"] == [] and not problems
    assert document["subsystems"][0]["namespaces"] == [{"bdev": f"{STORE}/1", "nsid": 1, "bdev_uuid": UUID}]


@pytest.mark.parametrize("state", ["DELETING", "FAULTY", "anything"])
def test_other_states_are_left_alone(state):
    document, problems = desired(row(state=state, defect="no placement"))
    assert document == {"transports": [], "lvols": [], "subsystems": []}
    assert not problems


@pytest.mark.parametrize("state", ["CREATING", "UP", "RESIZING"])
def test_a_row_without_placement_is_a_problem(state):
    document, problems = desired(row(1, state, defect="no NQN", nqn=None, listeners=[]), row(2))
    assert problems == ["lvol 1 has no NQN; it is left alone until its row is complete"]
    assert [each["name"] for each in document["lvols"]] == ["2"]
    assert len(document["subsystems"]) == 1


def test_a_row_on_a_disk_without_an_lvstore_waits():
    document, problems = desired(row(lvstore_uuid=None))
    assert problems == ["lvol 1 waits for its disk 3, which has no lvstore yet"]
    assert document == {"transports": [], "lvols": [], "subsystems": []}


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
    assert desired() == ({"transports": [], "lvols": [], "subsystems": []}, [])


def test_the_document_is_what_the_module_takes():
    document, _problems = desired(row(1), row(2, "UP"), transport_options={"max_queue_depth": 256}, purge=["hosts"])
    lists = {plural: {"type": "list", "elements": "dict", "options": options} for plural, options in KINDS.items()}
    assert not ArgumentSpecValidator(lists).validate(document).error_messages


def test_rows_are_not_changed():
    rows = [row(1), row(2, "UP")]
    before = copy.deepcopy(rows)
    storage_desired({"lvols": rows}, {"max_queue_depth": 256}, ["hosts"])
    storage_transitions({"lvols": rows}, results())
    assert rows == before


def results(number=1, uuid=UUID, lvol_failed=False, subsystem_failed=False):
    """The entries of spdk_node for one row."""
    return [
        {"kind": "transport", "trtype": "TCP", "failed": False},
        {"kind": "lvol", "lvstore": STORE, "name": str(number), "uuid": uuid, "failed": lvol_failed},
        {"kind": "subsystem", "nqn": f"nqn.2024-01.io.excloud:storage.n1.d1.{number}", "failed": subsystem_failed},
    ]


def transitions(rows, entries):
    return storage_transitions({"lvols": rows}, entries)


def test_a_complete_lvol_is_up():
    assert transitions([row()], results()) == [
        {
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


@pytest.mark.parametrize("state", ["UP", "RESIZING", "DELETING"])
def test_only_new_rows_come_up(state):
    assert transitions([row(state=state)], results()) == []


def test_a_row_left_out_stays_as_it_is():
    rows = [row(1, defect="no NQN", nqn=None), row(2, lvstore_uuid=None), row(3)]
    assert [found["id"] for found in transitions(rows, results(3))] == [3]


def test_documents_are_read_as_well():
    """Large lists travel through the role as text."""
    node = {"lvols": [row(1), row(2, "UP")]}
    assert storage_desired(json.dumps(node)) == storage_desired(node)
    assert storage_transitions(json.dumps(node), json.dumps(results())) == storage_transitions(node, results())


def test_one_failure_among_many():
    entries = [entry for number in range(40) for entry in results(number, subsystem_failed=number == 7)]
    found = transitions([row(number) for number in range(40)], entries)
    assert [each["id"] for each in found] == [number for number in range(40) if number != 7]
