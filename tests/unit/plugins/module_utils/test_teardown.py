# SPDX-License-Identifier: GPL-3.0-or-later
"""No plan breaks a rule for mirrors and what is on them, in any state of them and for any wish (design section 3).

Every combination of states is made by raw calls, and for each the plans of all wishes are carried out call by call.
Before each call the state is judged by what the simulator holds, not by what the planner thinks of it.
"""

from __future__ import annotations

import copy
import itertools

import pytest
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.compute import SLOW, Node
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import NQN, plan, refusals, want
from spdk_sim import RpcFailure, vhost
from spdk_sim.raid import Superblock

RAIDS = ("none", "in sync", "degraded", "rebuilding", "other leg", "waiting", "waiting for a stale leg", "of nothing")
USERS = ("none", "vhost", "client", "export")
OTHERS = (False, True)  # whether another mirror has the third leg

WISHES = [
    [want("raid", name="r", state="absent")],
    [want("vhost", name="v", state="absent"), want("raid", name="r", state="absent")],
    [
        want("raid", name="r", state="absent"),
        want("vhost", name="v", state="absent"),
        *(want("controller", name=name, state="absent") for name in "ab"),
    ],
    [want("subsystem", nqn=NQN + "x", state="absent"), want("raid", name="r", state="absent")],
    [want("raid", name="r", base_bdevs=["an1", "bn1"]), want("vhost", name="v", bdev="r")],
    [want("raid", name="r", base_bdevs=["an1", "cn1"]), want("vhost", name="v", state="absent")],
    [want("raid", name="r", base_bdevs=["cn1", "bn1"]), want("qos", bdev="r", rw_ios_per_sec=1000)],
    [want("vhost", name="w", bdev="r"), want("subsystem", nqn=NQN + "y", namespaces=[{"bdev": "r"}])],
    [want("vhost", name="w", bdev="an1"), want("subsystem", nqn=NQN + "y", namespaces=[{"bdev": "bn1"}])],
]


def make(raid: str, user: str, other: bool) -> Node:
    """A node in one of the states."""
    node = Node()
    node.target.call("nvmf_create_transport", {"trtype": "TCP"})
    pair = {"name": "r", "raid_level": "raid1", "superblock": True, "base_bdevs": ["an1", "bn1"]}
    if raid == "of nothing":
        node.call("bdev_raid_create", **{**pair, "base_bdevs": ["x", "y"]})
    elif raid != "none":
        node.call("bdev_raid_create", **pair)
    if user in ("vhost", "client") and raid not in ("none", "of nothing"):
        node.call("vhost_create_blk_controller", ctrlr="v", dev_name="r")
        if user == "client":
            vhost.connect(node.target, "v", started=True)
    elif user == "export" and raid not in ("none", "of nothing"):
        node.call("nvmf_create_subsystem", nqn=NQN + "x")
        node.call("nvmf_subsystem_add_ns", nqn=NQN + "x", namespace={"bdev_name": "r"})
    if raid in ("degraded", "rebuilding", "other leg", "waiting for a stale leg"):
        node.call("bdev_raid_remove_base_bdev", name="bn1")
    if raid == "rebuilding":
        node.call("bdev_raid_set_options", **SLOW)
        node.call("bdev_raid_add_base_bdev", raid_bdev="r", base_bdev="bn1")
    if raid == "other leg":
        node.call("bdev_raid_add_base_bdev", raid_bdev="r", base_bdev="cn1")
        node.target.advance(60)
    if raid.startswith("waiting"):
        node.call("bdev_raid_delete", name="r", clear_sb=raid == "waiting for a stale leg")
        node.detach("a", "b")
        node.attach("b" if raid == "waiting for a stale leg" else "a")
        if raid == "waiting for a stale leg":
            node.attach("a")
    if other and raid != "other leg":
        node.call("bdev_raid_create", name="o", raid_level="raid1", base_bdevs=["cn1", "gone"])
    return node


def judge(node: Node, action) -> None:
    """What has to hold at the moment an action is sent."""
    target, params = node.target, action.params
    if action.method == "vhost_delete_controller":
        assert not target.vhost[params["ctrlr"]].sessions
    elif action.method == "bdev_raid_delete":
        assert params["name"] == "r"
        own = target.bdevs.by_name.get("r")
        assert own is None or not own.holders, "it is in use"
        raid = target.raids["r"]
        in_sync = raid.state == "online" and len(raid.healthy) == len(raid.slots)
        assert in_sync or not params.get("clear_sb"), "what is stale would be forgotten"
    elif action.method == "bdev_raid_remove_base_bdev":
        raid = target.raids["r"]
        stay = [slot.name for slot in raid.healthy if slot.name != params["name"]]
        assert raid.rebuild is None and stay, "nothing good would be left"
    elif action.method == "bdev_raid_add_base_bdev":
        assert target.raids[params["raid_bdev"]].state == "online", "a leg would be taken in without a rebuild"
    elif action.method == "bdev_raid_create":
        legs = [target.bdevs.find(name) for name in params["base_bdevs"]]
        assert None not in legs and not any(leg.holders for leg in legs)
        assert not any(isinstance(leg.medium.read(), Superblock) for leg in legs), "one may be stale"
        assert len({(leg.block_size, leg.num_blocks) for leg in legs}) == 1
    elif action.method == "bdev_nvme_detach_controller":
        mine = target.nvme_controllers[params["name"]].bdevs.values()
        assert not any(bdev.holders for bdev in mine), "a leg is in use"
    elif action.method == "vhost_create_blk_controller":
        assert not target.bdevs.find(params["dev_name"]).holders
    elif action.method == "nvmf_subsystem_add_ns":
        assert not target.bdevs.find(params["namespace"]["bdev_name"]).holders


def good(node: Node) -> set:
    """The members of the mirror that hold its data."""
    raid = node.target.raids.get("r")
    return {slot.name for slot in raid.healthy} if raid and raid.state == "online" else set()


@pytest.mark.parametrize("other", OTHERS, ids=["alone", "beside another"])
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("raid", RAIDS)
def test_no_plan_breaks_a_rule(raid, user, other):
    state = make(raid, user, other)
    for wish in WISHES:
        node = copy.deepcopy(state)
        before = good(node)
        planned = plan(node.target, *wish)
        for action in planned.actions:
            judge(node, action)
            node.target.call(action.method, action.params)
        named = {each.options["name"] for each in wish if each.resource.kind == "raid"}
        gone = any(each.resource.kind == "raid" and each.options["state"] == "absent" for each in wish)
        assert "o" not in named and ("o" in node.target.raids) == ("o" in state.target.raids)
        assert gone or not before or before & good(node), "the data is lost"
        if user == "client" and "v" in state.target.vhost:
            assert node.target.vhost["v"].sessions, "a virtual machine lost its disk"
            assert state.target.vhost["v"].bdev is None or node.target.vhost["v"].bdev is not None
        again = plan(node.target, *wish)
        assert refusals(again).keys() <= refusals(planned).keys()
        assert not again.actions or any(item.change.later for item in planned.objects)


def test_the_states_and_the_wishes_are_worth_it():
    """Each wish does something somewhere, and each rule can be broken by raw calls."""
    sent = set()
    for raid, user in itertools.product(RAIDS, USERS):
        state = make(raid, user, False)
        for number, wish in enumerate(WISHES):
            sent |= {(number, action.method) for action in plan(state.target, *wish).actions}
    assert {number for number, _method in sent} == set(range(len(WISHES)))
    methods = {method for _number, method in sent}
    assert {"bdev_raid_add_base_bdev", "bdev_raid_remove_base_bdev", "bdev_raid_create", "bdev_raid_delete"} <= methods
    node = make("in sync", "client", False)
    with pytest.raises(RpcFailure):
        node.call("bdev_raid_create", name="x", raid_level="raid1", base_bdevs=["an1", "bn1"])
