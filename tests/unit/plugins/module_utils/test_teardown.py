# SPDX-License-Identifier: GPL-3.0-or-later
"""No plan breaks a rule for mirrors and what is on them, in any state of them and for any wish (design section 3).

Every combination of states is made by raw calls, and for each the plans of all wishes are carried out call by call.
Before each call the state is judged by what the simulator holds, not by what the planner thinks of it.
"""

from __future__ import annotations

import copy
import itertools

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import Plan, make_plan
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.compute import SLOW, Node
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    NQN,
    plan,
    read,
    refusals,
    tcp,
    want,
)
from spdk_sim import RpcFailure, vhost
from spdk_sim.raid import Superblock

RAIDS = (  # one that is offline is not among them: a mirror goes with its last leg
    "none",
    "in sync",
    "degraded",
    "degraded on the left",
    "rebuilding",
    "other leg",
    "waiting",
    "waiting for a stale leg",
    "of nothing",
)
UNUSABLE = ("none", "of nothing")
USERS = ("none", "vhost", "client", "export", "two vhosts", "two vhosts, a client of the second")
OTHERS = ("no other mirror", "a mirror of the third leg", "a mirror on a controller of this one")
LEGS = ("connected", "reconnecting", "by a path of its own")
STATES = [
    state
    for state in itertools.product(RAIDS, USERS, OTHERS, LEGS)
    if (state[0] not in UNUSABLE or state[1] == "none") and (state[0] != "other leg" or state[2] != OTHERS[1])
]


def path(number: int) -> dict:
    """Where the export of a leg listens."""
    return {"traddr": "127.0.0.1", "trsvcid": str(4420 + number)}


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
    [
        *(
            want("controller", name=name, trtype="TCP", subnqn=NQN + name, paths=[path(number)])
            for number, name in enumerate("ab")
        ),
        want("raid", name="r", base_bdevs=["an1", "bn1"]),
        want("vhost", name="v", state="absent"),
        want("vhost", name="w", bdev="r"),
    ],
]
EVERYTHING = [each for wish in WISHES for each in wish]


def make(raid: str, user: str, other: str, legs: str) -> Node:
    """A node in one of the states."""
    node = Node()
    node.target.call("nvmf_create_transport", {"trtype": "TCP"})
    if other == OTHERS[2]:
        node.storage["a"].call("bdev_lvol_create", {"lvs_name": "lvs", "lvol_name": "o", "size_in_mib": 64})
        node.storage["a"].call("nvmf_subsystem_add_ns", {"nqn": NQN + "a", "namespace": {"bdev_name": "lvs/o"}})
        node.target.advance(1)
    if legs == "by a path of its own":
        listen(node, "add", 4430)
        node.attach_at(4430, "a", multipath="multipath")
    pair = {"name": "r", "raid_level": "raid1", "superblock": True, "base_bdevs": ["an1", "bn1"]}
    if raid == "of nothing":
        node.call("bdev_raid_create", **{**pair, "base_bdevs": ["x", "y"]})
    elif raid != "none":
        node.call("bdev_raid_create", **pair)
    if other != OTHERS[0]:
        own = ["cn1", "gone"] if other == OTHERS[1] else ["an2", "gone"]
        node.call("bdev_raid_create", name="o", raid_level="raid1", base_bdevs=own)
    if raid not in UNUSABLE:
        use(node, user)
    if raid in ("degraded", "rebuilding", "other leg", "waiting for a stale leg"):
        node.call("bdev_raid_remove_base_bdev", name="bn1")
    if raid == "degraded on the left":
        node.call("bdev_raid_remove_base_bdev", name="an1")
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
    if legs == "reconnecting":
        listen(node, "remove", 4420)
        node.target.advance(1)
    return node


def use(node: Node, user: str) -> None:
    """Put on the mirror what is on it."""
    if user == "export":
        node.call("nvmf_create_subsystem", nqn=NQN + "x")
        node.call("nvmf_subsystem_add_ns", nqn=NQN + "x", namespace={"bdev_name": "r"})
    elif user != "none":
        for name in ("v", "w") if user.startswith("two") else ("v",):
            node.call("vhost_create_blk_controller", ctrlr=name, dev_name="r")
    if "client" in user:
        vhost.connect(node.target, "w" if user.startswith("two") else "v", started=True)


def listen(node: Node, verb: str, port: int) -> None:
    """Add or remove a listener of the first leg's export."""
    address = {**tcp(port), "adrfam": "IPv4"}
    node.storage["a"].call(f"nvmf_subsystem_{verb}_listener", {"nqn": NQN + "a", "listen_address": address})


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
    elif action.method == "bdev_nvme_detach_controller" and "traddr" in params:
        paths = target.nvme_controllers[params["name"]].paths
        assert any(path.lost_at is None and path.address["trsvcid"] != params["trsvcid"] for path in paths), "the last"
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


def clients(node: Node) -> set:
    """The vhost controllers that a virtual machine is connected to, and whether they have a bdev."""
    return {(each.name, each.bdev is not None) for each in node.target.vhost.values() if each.sessions}


@pytest.mark.parametrize("raid", RAIDS)
def test_no_plan_breaks_a_rule(raid):
    for given in (each for each in STATES if each[0] == raid):
        state = make(*given)
        seen = read(state.target, EVERYTHING)
        for wish in WISHES:
            planned = make_plan(wish, seen)
            if planned.actions:
                follow(state, wish, planned)


def follow(state: Node, wish: list, planned: Plan) -> None:
    """Carry out a plan for a state and judge each call and the end."""
    node = copy.deepcopy(state)
    for action in planned.actions:
        judge(node, action)
        node.target.call(action.method, action.params)
    gone = any(each.resource.kind == "raid" and each.options["state"] == "absent" for each in wish)
    assert ("o" in node.target.raids) == ("o" in state.target.raids)
    before = good(state)
    assert gone or not before or before & good(node), "the data is lost"
    assert clients(state) == clients(node), "a virtual machine lost its disk"
    again = plan(node.target, *wish)
    assert refusals(again).keys() <= refusals(planned).keys()
    unseen = any(action.reveals for action in planned.actions) or any(item.change.later for item in planned.objects)
    assert not again.actions or unseen


def test_the_states_and_the_wishes_are_worth_it():
    """Each wish does something somewhere, and each rule can be broken by raw calls."""
    sent = set()
    for given in itertools.product(RAIDS, USERS, OTHERS[:1], LEGS):
        seen = read(make(*given).target, EVERYTHING)
        for number, wish in enumerate(WISHES):
            sent |= {(number, action.method) for action in make_plan(wish, seen).actions}
    assert {number for number, _method in sent} == set(range(len(WISHES)))
    methods = {method for _number, method in sent}
    assert {"bdev_raid_add_base_bdev", "bdev_raid_remove_base_bdev", "bdev_raid_create", "bdev_raid_delete"} <= methods
    assert {"bdev_nvme_detach_controller", "vhost_delete_controller", "vhost_create_blk_controller"} <= methods
    node = make("in sync", "client", OTHERS[0], LEGS[0])
    with pytest.raises(RpcFailure):
        node.call("bdev_raid_create", name="x", raid_level="raid1", base_bdevs=["an1", "bn1"])
