# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs on a compute node: previewed, cut off at any call, and with legs that the same run attaches."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._converge import converge
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.compute import Node, mirror
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import MIB, read, want
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.serving import Served, serving
from spdk_sim import Target, vhost
from spdk_sim.fabric import add_drive, outside

HELLO_AND_GETTERS = 2 + 10
DRIVES = ("0000:01:00.0", "0000:02:00.0")
VOLUME = [want("qos", bdev="r", rw_ios_per_sec=1500), want("vhost", name="v", bdev="r")]
MORNING = [
    mirror("an1", "bn1"),
    *VOLUME,
    want("raid", name="old", state="absent"),
    want("vhost", name="gone", state="absent"),
]
CHANGED = [mirror("an1", "cn1"), want("qos", bdev="r", rw_ios_per_sec=3000), want("vhost", name="v", state="absent")]
ATTACHED = [*(want("controller", name=f"n{i}", traddr=bdf) for i, bdf in enumerate(DRIVES)), mirror("n0n1", "n1n1")]


def new() -> Target:
    """An old volume on its way out, and the legs of a new one."""
    node = Node()
    for name in ("x", "y"):
        node.call("bdev_malloc_create", name=name, num_blocks=4096, block_size=4096)
    node.call("bdev_raid_create", name="old", raid_level="raid1", superblock=True, base_bdevs=["x", "y"])
    node.call("vhost_create_blk_controller", ctrlr="gone", dev_name="old")
    return node.target


def used() -> Target:
    """A volume that a virtual machine is about to leave."""
    node = Node()
    node.converge(mirror(), *VOLUME)
    return node.target


def with_drives() -> Target:
    """Two drives that nobody has attached."""
    target = Target(seed=1, addresses=None)
    other = outside(target)
    for bdf in DRIVES:
        add_drive(other, bdf, 64 * MIB, 4096, "test")
    return target


def run(served: Served, desired: list, dry_run: bool = False) -> dict:
    outcomes = converge(served.connect, desired, dry_run).outcomes
    return {outcome.planned.subject: outcome for outcome in outcomes}


def sketch(target: Target) -> dict:
    graph = read(target)
    return {
        "raids": {raid.name: (raid.state, raid.present) for raid in graph.raids.values()},
        "limits": graph.limits,
        "vhosts": {each.name: each.bdev for each in graph.vhosts.values()},
    }


CASES = {"new": (new, MORNING), "changed": (used, CHANGED), "attached": (with_drives, ATTACHED + VOLUME)}


def undisturbed(case: str) -> tuple[int, dict]:
    make, desired = CASES[case]
    with serving(make()) as served:
        for outcome in run(served, desired).values():
            assert outcome.error is None, f"{outcome.planned.subject}: {outcome.error}"
        calls = len(served.log.calls)
        assert not any(outcome.actions for outcome in run(served, desired).values())
        return calls, sketch(served.target)


QUIET = {case: undisturbed(case) for case in CASES}
CUTS = [(case, number) for case, (calls, _sketch) in QUIET.items() for number in range(1, calls + 1)]


def test_the_cases_end_where_they_should():
    ends = {case: sketched for case, (_calls, sketched) in QUIET.items()}
    assert ends["new"]["raids"] == {"r": ("online", ["an1", "bn1"])}
    assert ends["changed"]["raids"] == {"r": ("online", ["an1", "cn1"])}
    assert ends["attached"]["raids"] == {"r": ("online", ["n0n1", "n1n1"])}
    assert [end["vhosts"] for end in ends.values()] == [{"v": "r"}, {}, {"v": "r"}]


@pytest.mark.parametrize("carried_out", [True, False], ids=["answer lost", "call lost"])
@pytest.mark.parametrize(("case", "number"), CUTS)
def test_a_run_that_is_cut_off_anywhere_ends_as_any_other(case, number, carried_out):
    make, desired = CASES[case]
    with serving(make()) as served:
        if carried_out:
            served.faults.add({"action": "drop", "call": number})
        else:
            served.lose.add(number)
        try:
            run(served, desired)
        except DiskengineError:
            assert number <= HELLO_AND_GETTERS + 2, "only while nothing was sent"
        served.faults.rules.clear()
        served.lose.clear()
        for outcome in run(served, desired).values():
            assert outcome.error is None, f"{outcome.planned.subject}: {outcome.error}"
        assert not any(outcome.actions for outcome in run(served, desired).values())
        assert sketch(served.target) == QUIET[case][1]


def test_a_run_tells_what_only_a_later_reading_shows():
    with serving(used()) as served:
        outcome = run(served, [want("vhost", name="w", bdev="cn1")])["vhost w"]
        assert outcome.facts["socket"].endswith("/w") and outcome.facts["sessions"] == []
        swap = run(served, [mirror("an1", "cn1")])["raid r"]
        assert "bdev cn1 is served by the vhost controller w" in swap.error
        run(served, [want("vhost", name="w", state="absent")])
        swap = run(served, [mirror("an1", "cn1")])["raid r"]
        assert swap.result()["deferred"] and swap.facts["raid_state"] == "online"


def test_limits_that_were_refused_after_all_are_put_off():
    """The virtual machine left between the look and the call."""
    target = used()
    session = vhost.connect(target, "v", started=True)
    with serving(target) as served:
        refuse = {"action": "error", "method": "bdev_set_qos_limit", "call": 1, "code": -32602, "message": "Not now"}
        served.faults.add(refuse)
        limits = [want("qos", bdev="r", rw_ios_per_sec=9000)]
        first = run(served, limits)["qos r"]
        assert "Not now" in first.error
        vhost.disconnect(target, "v", session)
        outcome = run(served, limits)["qos r"]
        assert outcome.error is None and outcome.result()["deferred"] and not outcome.result()["changed"]
        assert outcome.after == outcome.before


def test_a_preview_of_legs_to_come_says_so():
    with serving(with_drives()) as served:
        shown = run(served, ATTACHED + VOLUME, dry_run=True)
        assert all(outcome.error is None for outcome in shown.values())
        assert any("known when" in note or "attached by this run" in note for note in shown["raid r"].notes)
        assert not [method for method, _params in served.log.mutations if not method.startswith(("spdk", "framework"))]
