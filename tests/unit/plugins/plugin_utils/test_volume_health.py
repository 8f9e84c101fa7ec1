# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of volumes: what the target has beside what the rows say it should have."""

from __future__ import annotations

import json

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.plugin_utils.volume_health import volume_health


def nqn(leg):
    return f"nqn.2024-01.io.excloud:storage.n{leg}.d1.{leg}"


def name(leg):
    return controller_of(nqn(leg))


LISTENERS = [{"trtype": "TCP", "traddr": "10.0.0.1", "trsvcid": port} for port in ("4420", "4421")]
LEGS = [
    {"lvol_id": leg, "node": f"storage-{leg}", "state": "UP", "nqn": nqn(leg), "listeners": LISTENERS}
    | {"membership": "IN_SYNC"}
    for leg in (1, 2)
]
MAPPINGS = [
    {"id": 3, "volume_id": 17, "state": "ATTACHED"},
    {"id": 4, "volume_id": 18, "state": "ASSIGNED"},
    {"id": 5, "volume_id": 18, "state": "DETACHED"},
]
ROWS = {"volumes": [{"id": number, "legs": LEGS} for number in (17, 18)], "mappings": MAPPINGS}


def health(condition="in_sync", lost=(), percent=None, paths=(2, 2), vhost="ok"):
    """What the module returns: a mirror without the legs that are lost, and so many usable paths to each leg."""
    classes = {"in_sync": "ok", "rebuilding": "warning"}
    members = [{"name": "" if leg in lost else f"{name(leg)}n1", "present": leg not in lost} for leg in (1, 2)]
    raid = {"name": "raid_17", "condition": condition, "percent": percent, "members": members}
    raid |= {"health": classes.get(condition, "critical"), "reasons": [] if condition == "in_sync" else ["a reason"]}
    return {
        "controllers": [{"name": name(leg), "usable_paths": n} for leg, n in zip((1, 2), paths) if n is not None],
        "raids": [raid],
        "vhosts": [{"name": "vhost3", "health": vhost, "reasons": [] if vhost == "ok" else ["its bdev is gone"]}],
    }


def test_all_is_well():
    for rows in (ROWS, json.dumps(ROWS)):
        (found,) = volume_health(rows, health())
        assert (found["volume"], found["health"], found["reasons"]) == (17, "ok", [])
        assert found["legs"][1] == {
            "lvol_id": 2,
            "node": "storage-2",
            "bdev": f"{name(2)}n1",
            "present": True,
            "usable_paths": 2,
            "wanted_paths": 2,
        }


@pytest.mark.parametrize(
    ("found", "worst", "reasons"),
    [
        (
            health("degraded", lost=[1], paths=(None, 2)),
            "critical",
            [
                "its mirror is degraded: a reason; it lacks lvol 1 on storage-1",
                "lvol 1 on storage-1 has 0 usable of 2 paths",
            ],
        ),
        (health("rebuilding", percent=40), "warning", ["its mirror is rebuilding: a reason"]),
        (health(paths=(1, 2)), "warning", ["lvol 1 on storage-1 has 1 usable of 2 paths"]),
        (
            health("rebuilding", percent=1, paths=(2, 0)),
            "critical",
            ["lvol 2 on storage-2 has 0 usable of 2 paths", "its mirror is rebuilding: a reason"],
        ),
        (health(vhost="critical"), "critical", ["vhost3: its bdev is gone"]),
        ({**health(), "vhosts": []}, "critical", ["vhost3 is not there"]),
    ],
)
def test_what_is_not_well(found, worst, reasons):
    (volume,) = volume_health(ROWS, found)
    assert (volume["health"], volume["reasons"]) == (worst, reasons)
    assert volume["condition"] == found["raids"][0]["condition"]


def test_a_mirror_that_is_gone():
    (volume,) = volume_health(ROWS, {**health(), "raids": []})
    assert (volume["condition"], volume["percent"], volume["health"]) == ("missing", None, "critical")
    assert volume["reasons"] == ["its mirror is not there"]
    assert [leg["present"] for leg in volume["legs"]] == [False, False]
