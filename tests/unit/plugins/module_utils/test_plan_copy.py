# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror is filled from a snapshot before anything serves it; the bytes are moved in the integration tests."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import COPY, make_plan
from ansible_collections.excloud.diskengine.plugins.module_utils._resources import _copy
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.compute import SIZE, Node, mirror
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    MIB,
    plan,
    read,
    refusals,
    want,
)

HOST = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
SMALL = SIZE - MIB  # of a leg that has 1 MiB for its superblock


def copy(**given):
    return want("copy", **{"bdev": "r", "source": "cn1", "hostnqn": HOST, **given})


VHOST = want("vhost", name="vm", bdev="r")
LIMITS = want("qos", bdev="r", rw_mbytes_per_sec=7)


@pytest.fixture(name="node")
def _node():
    node = Node(c=SMALL)
    node.call("nvmf_create_transport", trtype="TCP")
    node.converge(mirror())
    return node


def methods(planned):
    return [action.method for action in planned.actions]


EXPORT = [
    "nvmf_create_subsystem",
    "nvmf_subsystem_add_ns",
    "nvmf_subsystem_add_ns",
    "nvmf_subsystem_add_host",
    "nvmf_subsystem_add_listener",
]
END = ["nvmf_delete_subsystem", "bdev_nvme_detach_controller"]
SERVE = ["bdev_set_qos_limit", "vhost_create_blk_controller"]


def test_nothing_serves_it_before_all_that_was_for_the_copy_is_gone(node):
    planned = plan(node.target, copy(), LIMITS, VHOST)
    assert methods(planned) == [*EXPORT, COPY, *END, *SERVE]
    steps = dict(zip(methods(planned), planned.actions))
    assert steps[COPY].params == {"bdev": "r", "source": "cn1", "from": 0, "to": SMALL}
    for first, then in zip(planned.actions, planned.actions[1:7]):
        assert first in then.needs or first.method == "nvmf_delete_subsystem"
    assert steps["nvmf_delete_subsystem"] in steps["bdev_nvme_detach_controller"].needs
    waits = steps["bdev_set_qos_limit"].needs + steps["vhost_create_blk_controller"].needs
    assert steps["nvmf_delete_subsystem"] in waits
    assert not planned.predicted.bdevs["r"].claimed and not planned.predicted.subsystems
    assert planned.objects[0].change.facts == {"copied_bytes": 0, "size_bytes": SMALL}


def test_a_run_copies_as_much_as_it_may_and_nothing_serves_that(node):
    planned = plan(node.target, copy(offset=8 * MIB, limit="16MiB"), LIMITS, VHOST)
    assert methods(planned) == [*EXPORT, COPY, END[0]]
    assert (planned.actions[5].params["from"], planned.actions[5].params["to"]) == (8 * MIB, 24 * MIB)
    laters = {item.subject: item.change.later for item in planned.objects}
    assert laters["copy r"] == "39 MiB are left for the next run (limit 16MiB)"
    assert laters["vhost vm"] == laters["qos r"] == "it follows when copy r is complete"
    assert not plan(node.target, copy(limit="0"), VHOST).actions


def test_what_is_complete_is_only_tidied(node):
    assert methods(plan(node.target, copy(offset=SMALL), VHOST)) == [END[1], SERVE[1]]


def test_a_long_copy_is_made_in_steps(node, monkeypatch):
    monkeypatch.setattr(_copy, "_STEP", 40 * MIB)
    steps = [action for action in plan(node.target, copy(offset=MIB)).actions if action.method == COPY]
    assert [(step.params["from"], step.params["to"]) for step in steps] == [(MIB, 41 * MIB), (41 * MIB, SMALL)]
    assert steps[0] in steps[1].needs


def refusal(node, *desired):
    planned = plan(node.target, *desired)
    assert not planned.actions
    return refusals(planned)


def test_what_cannot_be_copied(node):
    assert "name the bdev that is copied (source)" in refusal(node, copy(source=None))["copy r"]
    assert "there is no bdev nowhere" in refusal(node, copy(bdev="nowhere"))["copy nowhere"]
    assert "limit a multiple of 1 MiB" in refusal(node, copy(limit="5KiB"))["copy r"]
    large = Node(c=SIZE)
    large.call("nvmf_create_transport", trtype="TCP")
    large.converge(mirror())
    said = refusal(large, copy(), VHOST)
    assert "cn1 holds 64 MiB of data, which do not fit into 63 MiB" in said["copy r"]
    assert said["vhost vm"].startswith("skipped, because copy r failed: ")


def test_what_a_vm_has_is_not_written_over(node):
    node.converge(VHOST)
    assert "it is served by the vhost controller vm; it is not written over" in refusal(node, copy())["copy r"]


def test_it_waits_until_the_mirror_is_in_sync(node):
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    planned = plan(node.target, copy(), VHOST)
    assert not planned.actions
    assert [item.change.later for item in planned.objects] == [
        "it is copied when its legs are in sync",
        "it follows when copy r is complete",
    ]


def test_the_source_goes_with_the_last_copy_of_it():
    node = Node(c=SMALL)
    node.call("nvmf_create_transport", trtype="TCP")
    for name in "xy":
        node.call("bdev_malloc_create", name=name, num_blocks=SIZE // 4096, block_size=4096)
    copies = [copy(bdev=name) for name in "xy"]
    assert methods(plan(node.target, *copies)) == [*EXPORT, COPY, END[0], *EXPORT, COPY, *END]
    partly = [copies[0], copy(bdev="y", limit="1MiB")]
    assert methods(plan(node.target, *partly)) == [*EXPORT, COPY, END[0]] * 2


def test_what_a_run_that_was_cut_off_has_left_is_used_or_goes(node):
    for action in plan(node.target, copy()).actions[:4]:
        node.call(action.method, **action.params)
    assert methods(plan(node.target, copy())) == [EXPORT[4], COPY, *END]
    gone = [want("copy", bdev="r", state="absent"), want("raid", name="r", state="absent")]
    assert methods(plan(node.target, *gone)) == ["nvmf_delete_subsystem", "bdev_raid_delete"]


def test_what_is_attached_by_the_same_run_is_shown_and_planned_when_it_is_there(node):
    node.detach("c")
    attach = want(
        "controller", name="c", trtype="TCP", subnqn="nqn.2024-01.io.excloud:c", paths=[{"traddr": "127.0.0.1"}]
    )
    desired = [attach, copy(), LIMITS, VHOST]
    planned = plan(node.target, *desired)
    assert methods(planned) == ["bdev_nvme_attach_controller"]
    assert all(item.deferred for item in planned.objects[1:])
    shown = make_plan(desired, read(node.target, desired), preview=True)
    assert methods(shown) == ["bdev_nvme_attach_controller", *EXPORT, COPY, *END, *SERVE]
