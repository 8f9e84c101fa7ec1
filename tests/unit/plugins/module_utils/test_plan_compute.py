# SPDX-License-Identifier: GPL-3.0-or-later
"""RAIDs, rate limits and vhost controllers of a compute node whose legs come from two storage nodes."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._describe import describe
from ansible_collections.excloud.diskengine.plugins.module_utils._drift import find_drift
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import Bdev
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import Plan, make_plan
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.compute import (
    GONE,
    SIZE,
    SLOW,
    Node,
    mirror,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    MIB,
    NQN,
    add_disk,
    carry_out,
    plan,
    read,
    refusals,
    tcp,
    want,
)
from spdk_sim import RpcFailure, vhost


@pytest.fixture(name="node")
def _node() -> Node:
    return Node()


def refusal(node: Node, *desired) -> str:
    planned = plan(node.target, *desired)
    assert not planned.actions
    (text,) = refusals(planned).values()
    return text


def methods(planned: Plan) -> list:
    return [action.method for action in planned.actions]


def test_a_mirror_is_made_and_is_there(node):
    planned = node.converge(mirror())
    (action,) = planned.actions
    assert (action.method, action.params) == (
        "bdev_raid_create",
        {"name": "r", "raid_level": "raid1", "base_bdevs": ["an1", "bn1"], "superblock": True},
    )
    assert node.raid()["state"] == "online"
    assert planned.predicted.bdev("r") and planned.predicted.bdev("an1").claimed


def test_other_levels(node):
    strips = want("raid", name="r", level="raid0", base_bdevs=["an1", "bn1"], strip_size="64KiB")
    assert node.converge(strips).actions[0].params == {
        "name": "r", "raid_level": "raid0", "base_bdevs": ["an1", "bn1"], "strip_size_kb": 64
    }  # fmt: skip
    other = want("raid", name="r", level="raid0", base_bdevs=["an1", "cn1"], strip_size="64KiB")
    assert "a raid0 has none to spare" in refusal(node, other)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"base_bdevs": ["an1"]}, "raid1 needs at least 2 base_bdevs"),
        ({"base_bdevs": ["an1", "an1"]}, "names a bdev twice"),
        ({"base_bdevs": ["an1", "nowhere"]}, "there is no bdev nowhere on this target; a RAID is made of legs"),
        ({"base_bdevs": None}, "name the bdevs to make it of"),
        ({"strip_size": "64KiB"}, "a mirror has no strips"),
        ({"level": "raid0"}, "raid0 needs a strip_size"),
        ({"level": "raid0", "strip_size": "65KiB"}, "not a power of two"),
        ({"level": "raid5f", "strip_size": "64KiB"}, "raid5f needs at least 3"),
        ({"name": "a b"}, "is not usable"),
        ({"name": "cn1"}, "another bdev has that name"),
    ],
)
def test_what_cannot_be_a_raid(node, options, says):
    wanted = want("raid", **{"name": "r", "base_bdevs": ["an1", "bn1"], **options})
    assert says in refusal(node, wanted)


def test_legs_that_differ_are_no_mirror():
    node = Node(b=SIZE + MIB)
    assert "its legs differ in size: an1 64 MiB, bn1 65 MiB" in refusal(node, mirror())
    add_disk(node.target, "big", SIZE, 4096)
    add_disk(node.target, "small", SIZE, 512)
    assert "its legs differ in blocks: big 4096 B, small 512 B" in refusal(node, mirror("big", "small"))


def test_a_leg_in_use_is_no_leg(node):
    node.call("vhost_create_blk_controller", ctrlr="vm", dev_name="an1")
    assert "bdev an1 is served by the vhost controller vm; it cannot be a leg" in refusal(node, mirror())
    node.call("vhost_delete_controller", ctrlr="vm")
    node.call("bdev_raid_create", name="other", raid_level="raid1", base_bdevs=["bn1", "cn1"])
    assert "bdev bn1 is part of the RAID other" in refusal(node, mirror())


def test_what_is_chosen_for_ever(node):
    node.converge(mirror())
    assert "superblock is True, wanted False" in refusal(node, mirror(superblock=False))
    assert "number of legs is 2, wanted 3" in refusal(node, mirror("an1", "bn1", "cn1"))
    assert "level is raid1, wanted raid0" in refusal(node, mirror(level="raid0", strip_size="4KiB"))


def test_a_lost_leg_is_brought_back_and_then_in_sync(node):
    node.converge(mirror())
    node.call("bdev_raid_set_options", **SLOW)
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    planned = plan(node.target, mirror())
    assert methods(planned) == ["bdev_raid_add_base_bdev"]
    assert planned.objects[0].change.later == "bn1 is brought in sync"
    carry_out(node.target, planned)
    running = plan(node.target, mirror())
    assert not running.actions and not refusals(running)
    assert running.objects[0].change.later == "bn1 is brought in sync (0 %)"
    assert running.objects[0].change.facts["rebuilding"] == "bn1"
    node.target.advance(SIZE)
    assert plan(node.target, mirror()).objects[0].change.later is None


def test_a_leg_is_replaced_only_in_sync_and_one_at_a_time(node):
    node.converge(mirror())
    node.call("bdev_raid_set_options", **SLOW)
    planned = plan(node.target, mirror("an1", "cn1"))
    assert [(a.method, a.risk) for a in planned.actions] == [
        ("bdev_raid_remove_base_bdev", "destructive"),
        ("bdev_raid_add_base_bdev", "safe"),
    ]
    assert planned.actions[0] in planned.actions[1].needs
    carry_out(node.target, planned)
    moving = plan(node.target, mirror("bn1", "cn1"))
    assert not moving.actions and "bn1 follows when that is done" in moving.objects[0].change.later
    node.target.advance(SIZE)
    node.converge(mirror("an1", "cn1"))


def test_the_last_good_leg_is_never_taken(node):
    """Degraded with a leg that nobody wants: what is wanted comes in first."""
    node.converge(mirror())
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    planned = plan(node.target, mirror("bn1", "cn1"))
    assert methods(planned) == ["bdev_raid_add_base_bdev"]
    assert planned.objects[0].change.later == "bn1 is brought in sync; cn1 follows when that is done"


def test_a_leg_that_does_not_fit_is_not_swapped_in():
    node = Node(c=SIZE - 4 * MIB)
    node.converge(mirror())
    assert "bdev cn1 has 60 MiB, a leg of this RAID needs 64 MiB" in refusal(node, mirror("an1", "cn1"))
    node.call("bdev_raid_create", name="s", raid_level="raid1", base_bdevs=["cn1", "cn1x"], superblock=True)
    assert "bdev cn1 is part of the RAID s" in refusal(node, mirror("an1", "cn1"))


def test_a_stale_leg_makes_no_new_mirror(node):
    """Deleted without its superblocks, while degraded: only they know which leg is stale."""
    node.converge(mirror())
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    planned = node.converge(GONE)
    assert planned.actions[0].params == {"name": "r"}
    assert "nothing else tells that another leg is stale" in planned.objects[0].change.notes[0]
    assert "bdev an1 holds the superblock of RAID r" in refusal(node, mirror())
    node.detach("a", "b")
    node.attach("b", "a")
    assert node.raid()["state"] == "online"
    planned = plan(node.target, mirror())
    assert methods(planned) == ["bdev_raid_add_base_bdev"], "the stale leg is rebuilt, not trusted"
    assert planned.actions[0].params["base_bdev"] == "bn1"
    with pytest.raises(RpcFailure):
        node.call("bdev_raid_create", name="x", raid_level="raid1", base_bdevs=["an1", "bn1"])


def test_a_mirror_in_sync_is_deleted_for_good(node):
    node.converge(mirror())
    planned = node.converge(GONE)
    assert planned.actions[0].params == {"name": "r", "clear_sb": True}
    node.detach("a", "b")
    node.attach("a", "b")
    assert node.call("bdev_raid_get_bdevs", category="all") == []
    node.converge(mirror())


def test_before_v26_05_superblocks_stay():
    node = Node(release="25.05")
    node.converge(mirror())
    planned = node.converge(GONE)
    assert planned.actions[0].params == {"name": "r"}
    assert "SPDK v25.05 leaves the superblock on an1 and bn1" in planned.objects[0].change.notes[0]


def test_a_raid_that_waits_takes_no_leg_that_it_does_not_vouch_for(node):
    """an1 lost its superblock, bn1 has one and may be stale: SPDK would take an1 in without a rebuild."""
    node.converge(mirror())
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    node.call("bdev_raid_delete", name="r", clear_sb=True)
    node.detach("b")
    node.attach("b")
    assert node.raid()["state"] == "configuring"
    assert "an1 is there, but does not hold the superblock of this RAID" in refusal(node, mirror())
    assert node.converge(GONE).actions[0].params == {"name": "r"}


def test_a_raid_waits_for_a_leg_that_is_not_there(node):
    node.converge(mirror())
    node.call("bdev_raid_delete", name="r")
    node.detach("a", "b")
    node.attach("a")
    text = refusal(node, mirror())
    assert "it has an1 and waits for bn1" in text and "attach its controller" in text
    node.attach("b")
    assert node.raid()["state"] == "online"
    node.converge(mirror())


def test_a_raid_that_never_was_complete_is_made_anew(node):
    node.call("bdev_raid_create", name="r", raid_level="raid1", base_bdevs=["an1", "ghost"], superblock=True)
    planned = node.converge(mirror())
    assert methods(planned) == ["bdev_raid_delete", "bdev_raid_create"]
    assert node.raid()["state"] == "online"


def test_a_raid_without_any_leg_is_made_anew(node):
    node.call("bdev_raid_create", name="r", raid_level="raid1", base_bdevs=["x", "y"])
    assert methods(node.converge(mirror(superblock=False))) == ["bdev_raid_delete", "bdev_raid_create"]


def test_a_newer_leg_is_not_overwritten(node):
    """The RAID runs on an1, but bn1 has seen more of it: on another node, say."""
    node.converge(mirror())
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    (superblock,) = (content for key, content in node.storage["b"].disks.contents.items() if key.startswith("lvol:"))
    superblock.sequence += 9
    assert "bdev bn1 has seen more of this RAID (superblock 10) than an1 (superblock 2)" in refusal(node, mirror())


def test_a_leg_that_is_not_connected_is_neither_read_nor_taken(node):
    """A read through its controller would end the target."""
    node.detach("b")
    node.attach("b", ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1)
    node.converge(mirror())
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    address = {"nqn": NQN + "b", "listen_address": {**tcp(4421), "adrfam": "IPv4"}}
    node.storage["b"].call("nvmf_subsystem_remove_listener", address)
    node.target.advance(1)
    assert "the controller of bdev bn1 is not connected (reconnect_is_delayed)" in refusal(node, mirror())
    node.storage["b"].call("nvmf_subsystem_add_listener", address)
    node.target.advance(5)
    assert methods(plan(node.target, mirror())) == ["bdev_raid_add_base_bdev"]


def waiting(node: Node) -> None:
    """A mirror of which bn1 is gone for good; cn1 takes its place."""
    node.converge(mirror())
    node.call("bdev_raid_delete", name="r")
    node.detach("a", "b")
    node.attach("a")


RESCUE = mirror("an1", "cn1", source="an1")
RESCUING = [
    "bdev_raid_delete",
    "bdev_null_create",
    "bdev_raid_create",
    "bdev_raid_remove_base_bdev",
    "bdev_null_delete",
    "bdev_raid_add_base_bdev",
]


def test_the_way_out_for_a_mirror_whose_leg_is_gone_for_good(node):
    waiting(node)
    assert "name the one that holds the data (source)" in refusal(node, mirror("an1", "cn1"))
    node.call("bdev_raid_set_options", **SLOW)
    planned = plan(node.target, RESCUE)
    assert methods(planned) == RESCUING
    carry_out(node.target, planned)
    assert plan(node.target, RESCUE).objects[0].change.later == "cn1 is brought in sync (0 %)"
    node.target.advance(SIZE)
    node.converge(RESCUE)
    assert node.target.bdevs.find("r-stand-in") is None


@pytest.mark.parametrize("done", range(1, len(RESCUING)))
def test_the_way_out_is_found_from_anywhere(node, done):
    waiting(node)
    node.call("bdev_raid_set_options", **SLOW)
    for action in plan(node.target, RESCUE).actions[:done]:
        node.target.call(action.method, action.params)
    carry_out(node.target, plan(node.target, RESCUE))
    raid = node.raid()
    assert raid["process"]["target"] == "cn1", "it was never taken to be in sync"
    assert [leg["name"] for leg in raid["base_bdevs_list"]] == ["an1", "cn1"]
    node.target.advance(SIZE)
    node.converge(RESCUE)
    assert node.target.bdevs.find("r-stand-in") is None


def test_a_mirror_of_a_leg_with_data_and_a_new_one(node):
    node.call("bdev_raid_set_options", **SLOW)
    carry_out(node.target, plan(node.target, RESCUE))
    assert node.raid()["process"]["target"] == "cn1"


@pytest.mark.parametrize(
    "options",
    [{"source": "bn1"}, {"source": "an1", "base_bdevs": ["an1", "bn1", "cn1"]}, {"source": "an1", "level": "raid0"}],
)
def test_a_source_that_is_none(node, options):
    strip = {"strip_size": "4KiB"} if "level" in options else {}
    wanted = want("raid", **{"name": "r", "base_bdevs": ["an1", "cn1"], **options, **strip})
    assert "source has to be one of the two base_bdevs of a mirror" in refusal(node, wanted)


def test_auto_examine_off_examines_the_legs(node):
    node.converge(mirror())
    node.call("bdev_raid_delete", name="r")
    node.detach("a", "b")
    node.target.bdevs.auto_examine = False
    node.attach("a", "b")
    planned = plan(node.target, mirror())
    assert methods(planned) == ["bdev_examine", "bdev_examine"]
    assert planned.objects[0].deferred
    carry_out(node.target, planned)
    node.converge(mirror())


def test_a_mirror_grows_with_its_last_leg(node):
    node.converge(mirror())
    for name, size in (("a", 63), ("b", 127)):
        node.storage[name].call("bdev_lvol_resize", {"name": "lvs/v", "size_in_mib": 128})
        assert plan(node.target, mirror()).objects[0].change.facts["size_bytes"] == size * MIB
    assert not plan(node.target, mirror()).actions


def test_an_offline_raid_says_what_to_do(node):
    strips = want("raid", name="r", level="raid0", base_bdevs=["an1", "bn1"], strip_size="64KiB")
    node.converge(strips)
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    assert "it is offline: it has an1 and lost the rest; delete it" in refusal(node, strips)
    node.converge(GONE)


# --- what is not there yet


def unread(node: Node, *desired, preview: bool) -> Plan:
    graph = read(node.target, list(desired))
    for name in ("pn1", "qn1"):
        graph.add_bdev(Bdev(name, (), None, "NVMe disk", 0, None, False))
    return make_plan(list(desired), graph, preview=preview)


def test_a_mirror_of_legs_that_come_is_shown_and_waits(node):
    wanted = [mirror("pn1", "qn1"), want("qos", bdev="r", rw_ios_per_sec=1000), want("vhost", name="v", bdev="r")]
    shown = unread(node, *wanted, preview=True)
    assert methods(shown) == ["bdev_raid_create", "bdev_set_qos_limit", "vhost_create_blk_controller"]
    waits = unread(node, wanted[0], preview=False)
    assert not waits.actions and "its legs are attached by this run" in waits.objects[0].deferred


# --- rate limits


def limits(**given):
    return want("qos", bdev="r", **given)


def test_limits(node):
    planned = node.converge(mirror(), limits(rw_ios_per_sec=1500, r_mbytes_per_sec=20))
    assert planned.actions[1].params == {"name": "r", "rw_ios_per_sec": 2000, "r_mbytes_per_sec": 20}
    assert planned.objects[1].change.notes == ["rw_ios_per_sec 1500 was rounded up to 2000, a multiple of 1000"]
    assert not plan(node.target, limits(rw_ios_per_sec=1001)).actions


def test_limits_of_a_bdev_that_nobody_uses_are_put_off(node):
    node.converge(mirror(), limits(rw_ios_per_sec=2000), want("vhost", name="v", bdev="r"))
    vhost.connect(node.target, "v")
    planned = plan(node.target, limits(rw_ios_per_sec=3000))
    assert not planned.actions and not refusals(planned)
    assert "SPDK refuses to change limits then" in planned.objects[0].change.later
    vhost.connect(node.target, "v", started=True)
    node.converge(limits(rw_ios_per_sec=3000))
    node.converge(limits(rw_ios_per_sec=0, w_mbytes_per_sec=1))
    vhost.disconnect(node.target, "v")
    assert plan(node.target, limits(w_mbytes_per_sec=0)).objects[0].change.later


def test_limits_before_v26_01():
    node = Node(release="25.05")
    node.converge(mirror(), limits(rw_ios_per_sec=2000))
    assert plan(node.target, limits(rw_ios_per_sec=3000)).objects[0].change.later


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "no limit is given"),
        ({"r_mbytes_per_sec": -1}, "is below 0"),
        ({"r_mbytes_per_sec": 1 << 44}, "more than SPDK can count"),
    ],
)
def test_limits_that_are_none(node, options, says):
    assert says in refusal(node, want("qos", bdev="an1", **options))
    assert "there is no bdev nowhere" in refusal(node, want("qos", bdev="nowhere", rw_ios_per_sec=1))


# --- vhost


def test_a_vhost_controller(node):
    planned = node.converge(mirror(), want("vhost", name="vhost7", bdev="r", cpumask="1", readonly=True))
    params = {"ctrlr": "vhost7", "dev_name": "r", "readonly": True, "cpumask": "0x1"}
    assert planned.actions[1].params == params
    facts = plan(node.target, want("vhost", name="vhost7", bdev="r", readonly=True)).objects[0].change.facts
    socket = node.call("vhost_get_controllers")[0]["socket"]
    assert facts["socket"] == socket and facts["sessions"] == []
    assert facts["qemu"]["chardev"] == f"socket,id=char-vhost7,path={socket},reconnect=1"
    says = refusal(node, want("vhost", name="vhost7", bdev="cn1", cpumask="3"))
    assert "it serves bdev r, wanted cn1; it is read-only; its cpumask is 0x1, wanted 0x3" in says


def test_a_bdev_with_another_writer_is_not_served(node):
    target = node.target
    node.converge(mirror(), want("vhost", name="v", bdev="r"))
    assert "bdev r is served by the vhost controller v" in refusal(node, want("vhost", name="w", bdev="r"))
    assert "bdev an1 is part of the RAID r" in refusal(node, want("vhost", name="w", bdev="an1"))
    target.call("nvmf_create_subsystem", {"nqn": NQN + "x"})
    target.call("nvmf_subsystem_add_ns", {"nqn": NQN + "x", "namespace": {"bdev_name": "cn1"}})
    assert "bdev cn1 is exported as namespace 1" in refusal(node, want("vhost", name="w", bdev="cn1"))
    shown = want("subsystem", nqn=NQN + "y", namespaces=[{"bdev": "r"}])
    assert "is served by the vhost controller v" in refusal(node, shown)


def test_a_controller_with_a_client_stays(node):
    node.converge(mirror(), want("vhost", name="v", bdev="r"))
    session = vhost.connect(node.target, "v")
    gone = want("vhost", name="v", state="absent")
    assert f"a client is connected (session vs{session})" in refusal(node, gone)
    forced = plan(node.target, want("vhost", name="v", state="absent", allow_sessions=True))
    assert [(a.method, a.risk) for a in forced.actions] == [("vhost_delete_controller", "disruptive")]
    both = plan(node.target, gone, GONE)
    assert (
        not both.actions and "it is served by the vhost controller v; take that away first" in refusals(both)["raid r"]
    )
    vhost.disconnect(node.target, "v", session)
    node.converge(gone)


def test_a_controller_whose_bdev_went_is_made_anew(node):
    wanted = want("vhost", name="v", bdev="r")
    node.converge(mirror(), wanted)
    node.call("bdev_raid_delete", name="r", clear_sb=True)
    planned = node.converge(mirror(), wanted)
    assert methods(planned) == ["bdev_raid_create", "vhost_delete_controller", "vhost_create_blk_controller"]
    node.call("bdev_raid_delete", name="r", clear_sb=True)
    vhost.connect(node.target, "v")
    assert "a client is connected" in refusals(plan(node.target, mirror(), wanted))["vhost v"]


def test_where_there_is_no_vhost(node):
    graph = read(node.target)
    methods_left = frozenset(name for name in graph.release.methods if not name.startswith("vhost"))
    graph.release = graph.release._replace(methods=methods_left)
    planned = make_plan([want("vhost", name="v", bdev="an1")], graph)
    assert "this target has no vhost" in refusals(planned)["vhost v"]


@pytest.mark.parametrize(
    "options", [{"name": "a/b"}, {"name": "7"}, {"cpumask": "zz"}, {"cpumask": "0"}, {"bdev": None}]
)
def test_vhost_options_that_are_none(node, options):
    assert refusal(node, want("vhost", **{"name": "v", "bdev": "an1", **options}))


def test_a_scsi_controller_is_left_alone(node):
    node.call("vhost_create_scsi_controller", ctrlr="v")
    assert "a vhost-scsi controller has that name" in refusal(node, want("vhost", name="v", state="absent"))


def test_everything_goes_in_the_safe_order(node):
    node.converge(mirror(), limits(rw_ios_per_sec=2000), want("vhost", name="v", bdev="r"))
    gone = [want("raid", name="r", state="absent"), want("vhost", name="v", state="absent")]
    planned = node.converge(*gone)
    assert methods(planned) == ["vhost_delete_controller", "bdev_raid_delete"]
    assert planned.actions[0] in planned.actions[1].needs


# --- what there is, and what differs


def test_drift_of_a_compute_node(node):
    node.converge(mirror(), limits(rw_ios_per_sec=2000), want("vhost", name="v", bdev="r"))
    node.call("bdev_raid_create", name="s", raid_level="raid1", base_bdevs=["cn1", "gone"])
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    desired = [mirror(), limits(rw_ios_per_sec=3000), want("vhost", name="w", bdev="cn1")]
    found = {
        f"{each['class']} {each['kind']} {each['object']}": each for each in find_drift(desired, [], read(node.target))
    }
    assert {name: each["repair"] for name, each in found.items()} == {
        "different raid r": ["add bn1 and bring it in sync"],
        "different qos r": ["set the limits rw_ios_per_sec 3000"],
        "missing vhost w": [],
        "extra raid s": [],
        "extra vhost v": [],
        **{f"extra controller {name}": [] for name in "abc"},
    }
    assert found["different raid r"]["cause"] == "base_bdevs differs"
    assert found["missing vhost w"]["cause"].startswith("bdev cn1 is part of the RAID s")
    assert found["extra controller c"]["cause"] == f"no row names it; it is attached to {NQN}c at TCP 127.0.0.1:4422"
    assert found["extra raid s"]["cause"] == "no row names it; it is configuring and has cn1"
    assert found["extra vhost v"]["cause"] == "no row names it; it serves r; 0 clients are connected"


def test_drift_that_needs_time_or_cannot_be_repaired(node):
    """A leg that is brought in sync, paths that are dead, and a mirror whose leg nobody can reach."""
    paths = {"trtype": "TCP", "paths": [{"traddr": "127.0.0.1", "trsvcid": "4421"}]}
    desired = [mirror(), want("controller", name="b", subnqn=f"{NQN}b", **paths)]
    pending = [want("controller", name=name, state="absent") for name in "ac"]
    node.call("bdev_raid_set_options", **SLOW)
    node.converge(mirror())
    node.call("bdev_raid_remove_base_bdev", name="bn1")
    node.call("bdev_raid_add_base_bdev", raid_bdev="r", base_bdev="bn1")
    (rebuilt,) = find_drift(desired, pending, read(node.target))
    assert (rebuilt["class"], rebuilt["risk"], rebuilt["repair"]) == ("different", "safe", [])
    assert rebuilt["cause"].startswith("it is online and has an1, bn1; bn1 is brought in sync (")
    node.storage["b"].call("nvmf_delete_subsystem", {"nqn": f"{NQN}b"})
    found = {each["kind"]: each for each in find_drift(desired, pending, read(node.target))}
    assert found["path"]["object"] == "b TCP 127.0.0.1:4421" and found["path"]["risk"] == "manual"
    assert found["path"]["cause"].startswith("it is not connected: its state is ")
    node.detach("b")
    (broken,) = find_drift([mirror()], pending, read(node.target))
    assert broken["risk"] == "manual"
    assert broken["cause"].startswith("it is online and has an1; there is no bdev bn1 on this target")


def test_what_is_there_can_be_asked_for(node):
    node.converge(mirror(), limits(rw_ios_per_sec=2000), want("vhost", name="v", bdev="r"))
    desired = describe(read(node.target))["desired"]
    assert desired["raids"] == [{"name": "r", "level": "raid1", "base_bdevs": ["an1", "bn1"], "superblock": True}]
    wanted = [
        want(kind, **each)
        for kind, plural in (("raid", "raids"), ("qos", "qos"), ("vhost", "vhosts"))
        for each in desired[plural]
    ]
    planned = plan(node.target, *wanted)
    assert not planned.actions and not refusals(planned)


def fail_reads(monkeypatch, node, times):
    """Let the next raw reads fail, as they do while a controller connects again."""
    real, failed = node.target.call, []

    def call(method, params=None):
        if method == "bdev_nvme_send_cmd" and len(failed) < times:
            failed.append(params)
            raise RpcFailure(-5, "Input/output error")
        return real(method, params)

    monkeypatch.setattr(node.target, "call", call)


def test_a_leg_that_cannot_be_read_is_not_taken_for_a_new_one(node, monkeypatch):
    """It may hold the superblock of a mirror. A read is tried twice: what was just attached may not be ready."""
    fail_reads(monkeypatch, node, times=4)
    assert "what is on bdev an1 could not be read" in refusal(node, mirror())
    monkeypatch.undo()
    fail_reads(monkeypatch, node, times=2)
    assert methods(plan(node.target, mirror())) == ["bdev_raid_create"]
