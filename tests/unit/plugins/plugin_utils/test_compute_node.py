# SPDX-License-Identifier: GPL-3.0-or-later
"""From rows to what a compute node should have, and from results back to rows."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.module_utils._options import KINDS
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import (
    compute_desired,
    compute_drift,
    compute_foretold,
    compute_transitions,
    compute_verified,
)

MIB = 1 << 20
HOSTNQN = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
LIMITS = {"rw_ios_per_sec": 1000, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0}


def listener(trtype="TCP", number=1):
    return {"trtype": trtype, "adrfam": "IPv4", "traddr": f"10.0.0.{number}", "trsvcid": "4420"}


def leg(number, state="UP", **changes):
    return {
        "lvol_id": number,
        "node": f"storage-{number}",
        "state": state,
        "size_bytes": 101 * MIB,
        "uuid": None,
        "nqn": f"nqn.2024-01.io.excloud:storage.n{number}.d1.{number}",
        "listeners": [listener(number=number)],
        "membership": "NONE",
        "revision": 5,
        **changes,
    }


def name(number):
    return controller_of(leg(number)["nqn"])


def volume(number=1, legs=None, **changes):
    legs = [leg(1), leg(2)] if legs is None else legs
    return {"id": number, "state": "UP", "size_bytes": 100 * MIB, "legs": legs, "source": None, **LIMITS, **changes}


def source(mapping_id=7, **changes):
    nqn = "nqn.2024-01.io.excloud:storage.n3.d1.snap_5"
    return {"snapshot_id": 5, "mapping_id": mapping_id, "state": "UP", "defect": None, **leg(3, nqn=nqn), **changes}


def mapping(number=7, state="ASSIGNED", **changes):
    rows = {"id": number, "volume_id": 1, "state": state, "initialised_bytes": 0, "waits_for": None, "revision": 3}
    return {**rows, **changes}


def node(*mappings, volumes=None, hostnqn=HOSTNQN, addresses=()):
    volumes = [volume()] if volumes is None else volumes
    itself = {"name": "compute-1", "hostnqn": hostnqn, "addresses": list(addresses)}
    return {"node": itself, "volumes": volumes, "mappings": list(mappings)}


def desired(*args, **options):
    """The document as a dictionary without empty lists, and the problems."""
    found = compute_desired(*args, **options)
    return {kind: objects for kind, objects in json.loads(found["desired"]).items() if objects}, found["problems"]


@pytest.mark.parametrize("state", ["ASSIGNED", "INITIALISED", "ATTACHED"])
def test_a_mapping_is_served(state):
    """All of it in each of these states, so that it comes back after a restart."""
    document, problems = desired(node(mapping(state=state)), {"reconnect_delay_sec": 2})
    assert not problems
    assert document["raids"] == [{"name": "raid_1", "base_bdevs": [f"{name(1)}n1", f"{name(2)}n1"]}]
    assert document["qos"] == [{"bdev": "raid_1", **LIMITS}]
    assert document["vhosts"] == [{"name": "vhost7", "bdev": "raid_1"}]
    assert document["controllers"][0] == {
        "name": name(1),
        "trtype": "TCP",
        "subnqn": leg(1)["nqn"],
        "hostnqn": HOSTNQN,
        "paths": [{"traddr": "10.0.0.1", "trsvcid": "4420", "adrfam": "IPv4"}],
        "reconnect_delay_sec": 2,
    }


def test_over_rdma_a_node_connects_from_its_own_addresses():
    addresses = [("RDMA", "10.0.1.9"), ("RDMA", "fd00::9"), ("TCP", "10.0.2.9"), ("RDMA", "10.0.0.9")]
    rows = node(
        mapping(),
        addresses=[{"trtype": trtype, "address": address, "port": 4420} for trtype, address in addresses],
        volumes=[volume(legs=[leg(1, listeners=[listener("TCP"), listener("RDMA")]), leg(2)])],
    )
    fast, slow = desired(rows)[0]["controllers"]
    assert (fast["trtype"], fast["source_addresses"]) == ("RDMA", ["10.0.1.9", "10.0.0.9"])
    assert fast["paths"] == [{"traddr": "10.0.0.1", "trsvcid": "4420", "adrfam": "IPv4"}]
    assert slow["trtype"] == "TCP" and "source_addresses" not in slow
    document, _problems = desired(rows, {"source_addresses": ["10.0.3.9"]})
    assert document["controllers"][0]["source_addresses"] == ["10.0.3.9"]


def test_the_document_is_what_the_module_takes():
    volumes = [volume(source=source(1)), volume(2, [leg(3), leg(4)], source=source(None))]
    rows = node(mapping(1), mapping(2, "DETACHING", volume_id=2), volumes=volumes)
    document = json.loads(compute_desired(rows)["desired"])
    assert all(document.values())
    lists = {kind: {"type": "list", "elements": "dict", "options": options} for kind, options in KINDS.items()}
    assert not ArgumentSpecValidator(lists).validate(document).error_messages


def test_all_of_a_volume_goes_when_nobody_needs_it():
    document, problems = desired(node(mapping(state="DETACHING")), allow_sessions=True)
    assert not problems
    assert document == {
        "controllers": [{"name": name(1), "state": "absent"}, {"name": name(2), "state": "absent"}],
        "raids": [{"name": "raid_1", "state": "absent"}],
        "vhosts": [{"name": "vhost7", "state": "absent", "allow_sessions": True}],
    }


def test_a_volume_that_another_mapping_needs_stays():
    document, problems = desired(node(mapping(7, "DETACHING"), mapping(8, "ATTACHED")))
    assert not problems
    assert [each.get("state") for each in document["raids"] + document["controllers"]] == [None] * 3
    assert document["vhosts"] == [
        {"name": "vhost7", "state": "absent", "allow_sessions": False},
        {"name": "vhost8", "bdev": "raid_1"},
    ]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (node(mapping(), volumes=[volume(legs=[leg(1)])]), "needs two legs that are UP and has 1 (legs: lvol 1 UP)"),
        (node(mapping(), volumes=[volume(legs=[])]), "has 0 (legs: none)"),
        (node(mapping(), volumes=[volume(legs=[leg(1), leg(2, "CREATING")])]), "has 1 (legs: lvol 1 UP, lvol 2 CREAT"),
        (node(mapping(), volumes=[volume(legs=[leg(1), leg(2, "DELETING")])]), "needs two legs that are UP and has 1"),
        (node(mapping(), volumes=[volume(legs=[leg(1), leg(2, nqn=None)])]), "a leg without placement, lvol 2"),
        (node(mapping(), volumes=[volume(legs=[leg(1), leg(2, size_bytes=100 * MIB)])]), "a leg needs 1 MiB more"),
        (node(mapping(), hostnqn=None), "cannot be reached from node compute-1, which has no host NQN"),
    ],
)
def test_a_volume_that_cannot_be_served_is_left_alone(rows, problem):
    document, problems = desired(rows)
    assert document == {} and len(problems) == 1 and problem in problems[0]


COPY = {"bdev": "raid_1", "source": f"{controller_of(source()['nqn'])}n1", "hostnqn": HOSTNQN, "offset": 0}


def test_a_volume_is_copied_before_it_is_served():
    rows = node(mapping(initialised_bytes=5), mapping(8), volumes=[volume(source=source())])
    document, problems = desired(rows, copy_options={"limit": "1GiB"})
    assert not problems
    assert document["copies"] == [{**COPY, "offset": 5, "limit": "1GiB"}]
    assert document["transports"] == [{"trtype": "TCP"}]
    assert [each["subnqn"] for each in document["controllers"]] == [leg(1)["nqn"], leg(2)["nqn"], source()["nqn"]]
    assert "vhosts" not in document
    document, _problems = desired(rows, preview=True)
    assert [each["name"] for each in document["vhosts"]] == ["vhost7", "vhost8"]


def test_two_volumes_share_their_source():
    volumes = [volume(source=source()), volume(2, [leg(3), leg(4)], source=source(8))]
    document, problems = desired(node(mapping(), mapping(8, volume_id=2), volumes=volumes))
    assert not problems and [each["bdev"] for each in document["copies"]] == ["raid_1", "raid_2"]
    assert [each["subnqn"] for each in document["controllers"]].count(source()["nqn"]) == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (source(9), "volume 1 waits: mapping 9 has snapshot 5 copied into the volume first"),
        (source(state="CREATING"), "volume 1 waits: snapshot 5, its source, is CREATING"),
        (source(defect="no listener address"), "volume 1 waits: snapshot 5, its source, has no listener address"),
    ],
)
def test_a_volume_that_cannot_be_copied_yet_is_mirrored_and_waits(given, problem):
    document, problems = desired(node(mapping(), volumes=[volume(source=given)]))
    assert problems == [problem]
    assert document["raids"] and not {"vhosts", "copies", "transports"} & set(document)


def test_what_a_copy_has_left_goes_with_its_volume():
    rows = node(mapping(state="DETACHING"), volumes=[volume(source=source(None))])
    document, _problems = desired(rows)
    assert document["copies"] == [{"bdev": "raid_1", "state": "absent"}]
    assert document["controllers"][-1] == {"name": controller_of(source()["nqn"]), "state": "absent"}
    assert compute_transitions(rows, entries(*ALL)) == []
    assert [change["to"] for change in compute_transitions(rows, [*entries(*ALL), copied(None)])] == ["DETACHED"]


def copied(size, **changes):
    return {"kind": "copy", "bdev": "raid_1", "failed": False, "copied_bytes": size, **changes}


@pytest.mark.parametrize(
    ("entry", "steps"),
    [
        (copied(9), [("ASSIGNED", "INITIALISED", 9), ("INITIALISED", "ATTACHED", None)]),
        (copied(9, deferred=True), [("ASSIGNED", "ASSIGNED", 9)]),
        (copied(9, failed=True), [("ASSIGNED", "ASSIGNED", 9)]),
        (copied(4, failed=True), []),
        ({"kind": "copy", "bdev": "raid_1", "failed": True}, []),
        (None, []),
    ],
)
def test_how_far_a_copy_got_is_recorded(entry, steps):
    """Whatever the vhost controller says: a volume whose copy is not complete is not INITIALISED."""
    rows = node(mapping(initialised_bytes=4), volumes=[volume(source=source())])
    changes = compute_transitions(rows, [*entries(*ALL), *([entry] if entry else [])])
    assert [(change["from"], change["to"], change.get("initialised_bytes")) for change in changes] == steps


def entries(*keys, **changes):
    return [{"kind": kind, "name": of, "failed": False, **changes} for kind, of in keys]


ALL = [("vhost", "vhost7"), ("raid", "raid_1"), ("controller", name(1)), ("controller", name(2))]


def test_what_is_served_is_recorded_step_by_step():
    steps = [(change["from"], change["to"]) for change in compute_transitions(node(mapping()), entries(*ALL))]
    assert steps == [("ASSIGNED", "INITIALISED"), ("INITIALISED", "ATTACHED")]
    (change,) = compute_transitions(node(mapping(state="INITIALISED")), json.dumps(entries(*ALL)))
    wanted = {"node": "compute-1", "kind": "mapping", "id": 7, "from": "INITIALISED", "to": "ATTACHED", "revision": 3}
    assert change == wanted
    assert compute_transitions(node(mapping(state="ATTACHED")), entries(*ALL)) == []


@pytest.mark.parametrize("state", ["ASSIGNED", "DETACHING"])
@pytest.mark.parametrize("results", [[], entries(*ALL, failed=True), entries(*ALL, deferred=True)])
def test_what_is_not_complete_is_not_recorded(state, results):
    assert compute_transitions(node(mapping(state=state)), results) == []


def test_detached_is_when_nothing_is_left():
    rows = node(mapping(state="DETACHING"))
    (change,) = compute_transitions(rows, entries(*ALL))
    assert (change["from"], change["to"]) == ("DETACHING", "DETACHED")
    for missing in ALL:
        assert compute_transitions(rows, entries(*(key for key in ALL if key != missing))) == []
    shared = node(mapping(state="DETACHING"), mapping(8, "ATTACHED"))
    assert [change["id"] for change in compute_transitions(shared, entries(ALL[0]))] == [7]


def test_what_is_compared_and_what_is_left_alone():
    """Only what is ATTACHED is compared; nothing that any other mapping or a lame volume has is told as extra."""
    lame = volume(2, [leg(3), leg(4, "CREATING")])
    mappings = [mapping(1, "ATTACHED"), mapping(2, "ATTACHED", volume_id=2), mapping(3, "DETACHED", volume_id=3)]
    rows = node(*mappings, mapping(4, "DETACHING", volume_id=4), volumes=[volume(), lame, volume(3), volume(4)])
    desired, pending = (json.loads(compute_verified(rows, part)) for part in ("desired", "pending"))
    assert [each["name"] for each in desired["vhosts"]] == ["vhost1"]
    assert [each["name"] for each in desired["raids"]] == ["raid_1"]
    assert [each["name"] for each in pending["vhosts"]] == ["vhost1", "vhost2", "vhost4"]
    assert [each["name"] for each in pending["raids"]] == ["raid_1", "raid_2", "raid_4"]
    assert {name(3), name(4)} <= {each["name"] for each in pending["controllers"]}
    found, blocked = compute_drift(rows, [{"class": "missing"}])
    assert found == {"class": "missing"}
    assert [blocked[key] for key in ("class", "kind", "object", "risk")] == ["blocked", "volume", "2", "manual"]
    assert blocked["cause"].startswith("it needs two legs that are UP and has 1")


def test_what_storage_nodes_foretell():
    """A leg that will be UP is so, and nothing else."""
    rows = node(mapping(), volumes=[volume(legs=[leg(1, "CREATING"), leg(2, "CREATING"), leg(3, "DELETING")])])
    recorded = [
        {"kind": "lvol", "id": 1, "state": "UP"},
        {"kind": "snapshot", "id": 2, "state": "UP"},
        {"kind": "lvol", "id": 3, "state": None},
    ]
    found = json.loads(compute_foretold(json.dumps(rows), recorded))
    assert [each["state"] for each in found["volumes"][0]["legs"]] == ["UP", "CREATING", "DELETING"]
    assert found["mappings"] == rows["mappings"]
