# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes go in order, and only while every mirror has a leg in sync elsewhere."""

from __future__ import annotations

import json

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.plugin_utils.maintenance import (
    maintenance_batch,
    maintenance_batches,
    maintenance_obstacles,
    maintenance_sessions,
)

NAME = "kernel"


def node(name, domain=None, **fields):
    return {"name": name, "state": "active", "failure_domain": domain, "maintaining": None, "maintained": None} | fields


def document(row, volumes=(), mappings=()):
    return json.dumps({"node": row, "volumes": list(volumes), "mappings": list(mappings)})


def volume(number, *nodes):
    legs = [{"node": each, "nqn": nqn(number, each)} for each in nodes]
    return {"id": number, "legs": legs}


def nqn(number, name):
    return f"nqn.2024-01.io.excloud:storage.{name}.1.{number}"


def bdev(number, name):
    return f"{controller_of(nqn(number, name))}n1"


def ordered(nodes, **options):
    documents = {row["name"]: document(row) for row in nodes}
    return maintenance_batches(documents, list(documents), NAME, **options)


def test_what_was_broken_off_comes_first_and_what_was_done_is_left_out():
    found = ordered(
        [
            node("a"),
            node("b", state="cordoned", maintaining=NAME, maintained="older"),
            node("c", maintained=NAME),
            node("d", state="cordoned"),
            node("e", state="cordoned", maintaining="another"),
        ]
    )
    assert found["batches"] == [["b"], ["a"]]
    assert found["left_out"].keys() == {"c", "d", "e"}
    assert "went through" in found["left_out"]["c"] and "cordoned before" in found["left_out"]["d"]


def test_failure_domains_go_together():
    nodes = [node("a", "r2"), node("b", "r1"), node("c", "r2"), node("d")]
    assert ordered(nodes, by="failure_domain")["batches"] == [["a", "c"], ["b"], ["d"]]
    nodes[1] |= {"state": "cordoned", "maintaining": NAME}
    assert ordered(nodes, by="failure_domain")["batches"] == [["b"], ["a", "c"], ["d"]]


def test_what_depends_on_nodes():
    volumes = [volume(1, "s1", "s2"), volume(2, "s2", "s3"), volume(3, "s1"), volume(4, "s1", "s2")]
    mappings = [
        {"volume_id": number, "state": state}
        for number, state in ((1, "ATTACHED"), (2, "ATTACHED"), (3, "ASSIGNED"), (4, "DETACHED"))
    ]
    documents = {name: document(node(name), volumes) for name in ("s1", "s2", "s3")}
    documents["c"] = document(node("c"), volumes, mappings)
    assert maintenance_batch(documents, ["s1"]) == {
        "mirrors": {
            "c": {"raid_1": {"stay": [bdev(1, "s2")], "served": True}, "raid_3": {"stay": [], "served": False}}
        },
        "refused": ["volume 3, which c uses, has no leg elsewhere"],
    }
    both = maintenance_batch(documents, ["s1", "s2"])
    assert [sentence.split(",")[0] for sentence in both["refused"]] == ["volume 1", "volume 3"]
    assert both["mirrors"]["c"]["raid_2"]["stay"] == [bdev(2, "s3")]
    assert maintenance_batch(documents, ["c"]) == {"mirrors": {}, "refused": []}


def test_a_leg_on_a_node_in_another_maintenance_does_not_stay():
    documents = {"s1": document(node("s1")), "s2": document(node("s2", maintaining="disks"))}
    documents["c"] = document(node("c"), [volume(1, "s1", "s2")], [{"volume_id": 1, "state": "ATTACHED"}])
    (refused,) = maintenance_batch(documents, ["s1"])["refused"]
    assert refused == "volume 1, which c uses, has no leg elsewhere, but on s2, which is in maintenance disks"
    assert not maintenance_batch(documents, ["s2"])["refused"]


def raid(state="online", left=True, right=True, rebuilding=""):
    members = [{"name": "leftn1", "present": left}, {"name": "rightn1", "present": right}]
    return {"name": "raid_1", "state": state, "members": members, "rebuilding": rebuilding, "percent": 40}


def target(*raids, lost=()):
    controllers = [
        {"name": side, "paths": [{"state": "failed"}, {"state": "reconnecting" if side in lost else "enabled"}]}
        for side in ("left", "right")
    ]
    return {"raids": list(raids), "controllers": controllers}


@pytest.mark.parametrize(
    "found, leave, settled, whole",
    [
        (target(raid()), None, None, None),
        (target(raid(left=False)), None, None, "1 of 2 legs in sync"),
        (target(raid(right=False)), "no leg in sync that stays", None, "1 of 2 legs in sync"),
        (target(raid(), lost=["right"]), "no leg in sync that stays", "still has rightn1", "1 of 2 legs in sync"),
        (target(raid(), lost=["left"]), None, "still has leftn1", "1 of 2 legs in sync"),
        (target(raid(rebuilding="rightn1")), "no leg in sync that stays", None, "1 of 2 legs in sync, 40 % of rightn1"),
        (target(raid(rebuilding="leftn1")), None, None, "1 of 2 legs in sync, 40 % of leftn1"),
        (target(raid("configuring", left=False)), "is configuring", None, "is configuring"),
        (target(), "is not there", "is not there", "is not there"),
    ],
)
def test_a_leg_goes_when_the_other_is_in_sync(found, leave, settled, whole):
    """The left leg goes, the right one stays."""
    mirrors = {"raid_1": {"stay": ["rightn1"], "served": True}}
    for stage, wanted in (("leave", leave), ("settled", settled), ("whole", whole)):
        sentences = maintenance_obstacles(found, mirrors, stage)
        assert len(sentences) == bool(wanted) and all(wanted in each for each in sentences), stage


def test_a_mirror_that_serves_nobody_need_not_be_there():
    mirrors = {"raid_1": {"stay": [], "served": False}}
    assert not any(maintenance_obstacles(target(), mirrors, stage) for stage in ("leave", "settled", "whole"))


def test_who_is_connected():
    vhost = [{"controller": f"vhost{n}", "bdev": f"raid_{n}", "sessions": [7] * (n - 1)} for n in (1, 2)]
    assert maintenance_sessions({"vhost": vhost}) == ["a VM is connected to vhost2 (raid_2)"]
