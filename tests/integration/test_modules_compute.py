# SPDX-License-Identifier: GPL-3.0-or-later
"""RAIDs, rate limits and vhost controllers on a compute node whose legs are lvols of a storage node."""

from __future__ import annotations

import socket
import tempfile
import time
from contextlib import closing

import pytest
from support.ansible import play, run_playbook
from support.modules import refusals, tasks_of, three_steps
from support.targets import free_port, is_real

NQN = "nqn.2024-01.io.excloud:storage."
LEGS = ("a", "b", "c")
MIB = 1 << 20
SECONDS = 30


class OtherSide:
    """What a simulated target can attach to."""

    def __init__(self, target):
        self.target = target

    def call(self, method, params=None):
        return self.target.control("remote_call", method=method, params=params or {})["ok"]


class Node:
    """A compute node that has attached the lvols a, b and c of a storage node: the bdevs an1, bn1 and cn1."""

    def __init__(self, make_target, directory):
        self.target = make_target(["-S", directory])
        self.storage = make_target() if is_real() else OtherSide(self.target)
        self.directory = directory
        self.port = str(free_port())
        self.storage.call("bdev_malloc_create", {"name": "disk", "num_blocks": 512 * MIB // 4096, "block_size": 4096})
        self.storage.call("bdev_lvol_create_lvstore", {"bdev_name": "disk", "lvs_name": "lvs-0"})
        self.storage.call("nvmf_create_transport", {"trtype": "TCP"})
        for name in LEGS:
            params = {"lvs_name": "lvs-0", "lvol_name": name, "size_in_mib": 64, "thin_provision": True}
            self.storage.call("bdev_lvol_create", params)
            self.storage.call("nvmf_create_subsystem", {"nqn": NQN + name, "allow_any_host": True})
            self.storage.call("nvmf_subsystem_add_ns", {"nqn": NQN + name, "namespace": {"bdev_name": f"lvs-0/{name}"}})
            self.storage.call("nvmf_subsystem_add_listener", {"nqn": NQN + name, "listen_address": self.address})
        self.attach(*LEGS)

    @property
    def address(self):
        return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": self.port}

    def attach(self, *names):
        for name in names:
            self.target.call("bdev_nvme_attach_controller", {"name": name, "subnqn": NQN + name, **self.address})

    def detach(self, *names):
        for name in names:
            self.target.call("bdev_nvme_detach_controller", {"name": name})

    def raids(self):
        return {raid["name"]: raid for raid in self.target.call("bdev_raid_get_bdevs", {"category": "all"})}

    def members(self, name="r"):
        return [leg["name"] for leg in self.raids()[name]["base_bdevs_list"]]

    def in_sync(self, name="r"):
        """Wait until nothing is rebuilt."""
        self.until(lambda: "process" not in self.raids()[name])

    def sessions(self, name="v"):
        return self.target.call("vhost_get_controllers", {"name": name})[0]["sessions"]

    def until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(name="node")
def _node(make_target):
    with tempfile.TemporaryDirectory(prefix="vhost", dir="/tmp") as directory:
        yield Node(make_target, directory)


def mirror(*legs, **more):
    return {"name": "r", "base_bdevs": list(legs), **more}


def test_raids(node):
    create, delete, add = "bdev_raid_create", "bdev_raid_delete", "bdev_raid_add_base_bdev"
    (made,) = three_steps(node.target, ("one", "spdk_raid", mirror("an1", "bn1"), [create]))
    raid = node.raids()["r"]
    assert (raid["state"], raid["superblock"], raid["raid_level"]) == ("online", True, "raid1")
    entry = made["results"][0]
    assert (entry["uuid"], entry["raid_state"], entry["size_bytes"]) == (raid["uuid"], "online", 63 * MIB)
    swap = ["bdev_raid_remove_base_bdev", add]
    (swapped,) = three_steps(node.target, ("swap", "spdk_raid", mirror("an1", "cn1"), swap))
    assert swapped["results"][0]["deferred"] is True
    assert "cn1 is brought in sync" in swapped["results"][0]["notes"]
    node.in_sync()
    assert node.members() == ["an1", "cn1"]
    node.target.call("bdev_raid_remove_base_bdev", {"name": "cn1"})
    three_steps(node.target, ("heal", "spdk_raid", mirror("an1", "cn1"), [add]))
    node.in_sync()
    for name in ("a", "c"):
        node.storage.call("bdev_lvol_resize", {"name": f"lvs-0/{name}", "size_in_mib": 128})
    node.until(lambda: node.target.call("bdev_get_bdevs", {"name": "r"})[0]["num_blocks"] * 4096 == 127 * MIB)
    three_steps(node.target, ("away", "spdk_raid", {"raids": [{"name": "r", "state": "absent"}]}, [delete]))
    node.detach("a", "c")
    node.attach("a", "c")
    assert node.raids() == {}, "it does not come back"


def test_what_raids_refuse(node):
    call = node.target.call
    other = {"name": "other", "raid_level": "raid1", "superblock": True, "base_bdevs": ["bn1", "cn1"]}
    call("bdev_raid_create", other)
    call("bdev_raid_delete", {"name": "other"})
    (stale,) = refusals(node.target, ("spdk_raid", mirror("an1", "bn1")))
    assert "bdev bn1 holds the superblock of RAID other" in stale
    node.detach("c", "b")
    node.attach("b")
    waits, absent, part = refusals(
        node.target,
        ("spdk_raid", {"name": "other", "base_bdevs": ["bn1", "cn1"]}),
        ("spdk_raid", mirror("an1", "cn1")),
        ("spdk_raid", mirror("an1", "bn1")),
    )
    assert "it has bn1 and waits for cn1" in waits
    assert "there is no bdev cn1 on this target" in absent
    assert "bdev bn1 is part of the RAID other" in part
    node.attach("c")
    assert node.raids()["other"]["state"] == "online"
    three_steps(
        node.target,
        ("away", "spdk_raid", {"name": "other", "state": "absent"}, ["bdev_raid_delete"]),
        ("served", "spdk_raid", mirror("an1", "bn1"), ["bdev_raid_create"]),
        ("vhost", "spdk_vhost", {"name": "v", "bdev": "r"}, ["vhost_create_blk_controller"]),
    )
    (busy,) = refusals(node.target, ("spdk_raid", {"name": "r", "state": "absent"}))
    assert "it is served by the vhost controller v; take that away first" in busy


def test_a_leg_that_missed_writes_is_rebuilt_and_not_trusted(node):
    three_steps(node.target, ("one", "spdk_raid", mirror("an1", "bn1"), ["bdev_raid_create"]))
    node.target.call("bdev_raid_remove_base_bdev", {"name": "bn1"})
    (run,) = three_steps(node.target, ("away", "spdk_raid", {"name": "r", "state": "absent"}, ["bdev_raid_delete"]))
    assert "the superblock stays on an1" in run["results"][0]["notes"][0]
    node.detach("a", "b")
    node.attach("b", "a")
    assert node.raids()["r"]["state"] == "online"
    assert sorted(filter(None, node.members())) == ["an1"]
    three_steps(node.target, ("heal", "spdk_raid", mirror("an1", "bn1"), ["bdev_raid_add_base_bdev"]))


def test_a_mirror_whose_leg_is_gone_for_good(node):
    three_steps(node.target, ("one", "spdk_raid", mirror("an1", "bn1"), ["bdev_raid_create"]))
    node.target.call("bdev_raid_delete", {"name": "r"})
    node.detach("a", "b")
    node.attach("a")
    (waits,) = refusals(node.target, ("spdk_raid", mirror("an1", "cn1")))
    assert "name the one that holds the data (source)" in waits
    calls = [
        "bdev_raid_delete",
        "bdev_null_create",
        "bdev_raid_create",
        "bdev_raid_remove_base_bdev",
        "bdev_null_delete",
        "bdev_raid_add_base_bdev",
    ]
    three_steps(node.target, ("rescue", "spdk_raid", mirror("an1", "cn1", source="an1"), calls))
    node.in_sync()
    assert node.members() == ["an1", "cn1"]


def test_limits(node):
    limits = {"bdev": "an1", "rw_ios_per_sec": 1500, "w_mbytes_per_sec": 10}
    (run,) = three_steps(node.target, ("one", "spdk_qos", limits, ["bdev_set_qos_limit"]))
    assert run["results"][0]["after"]["rw_ios_per_sec"] == 2000
    less = {"qos": [{"bdev": "an1", "rw_ios_per_sec": 1000}]}
    tasks = [
        {"name": name, "excloud.diskengine.spdk_qos": {"socket": node.target.socket, **less}} for name in ("1", "2")
    ]
    done = run_playbook(play(*tasks))
    assert done.rc == 0, done.output
    for name in ("1", "2"):
        (entry,) = done.result(name)["results"]
        assert entry["deferred"] and not entry["changed"]
        assert "SPDK refuses to change limits then" in entry["notes"][0]
    node.target.call("bdev_lvol_create_lvstore", {"bdev_name": "an1", "lvs_name": "uses"})
    three_steps(
        node.target,
        ("in use", "spdk_qos", less, ["bdev_set_qos_limit"]),
        ("lifted", "spdk_qos", {"bdev": "an1", "rw_ios_per_sec": 0, "w_mbytes_per_sec": 0}, ["bdev_set_qos_limit"]),
    )


def test_vhosts(node):
    create, delete = "vhost_create_blk_controller", "vhost_delete_controller"
    controller = {"name": "v", "bdev": "an1", "readonly": True}
    (run,) = three_steps(node.target, ("one", "spdk_vhost", controller, [create]))
    path = f"{node.directory}/v"
    entry = run["results"][0]
    assert (entry["socket"], entry["sessions"]) == (path, [])
    assert entry["qemu"] == {
        "object": "memory-backend-memfd,id=mem-v,share=on",
        "chardev": f"socket,id=char-v,path={path},reconnect=1",
        "device": "vhost-user-blk-pci,id=v,chardev=char-v",
    }
    gone = {"name": "v", "state": "absent"}
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(path)
        node.until(node.sessions)
        connected, second, differs = refusals(
            node.target,
            ("spdk_vhost", gone),
            ("spdk_vhost", {"name": "w", "bdev": "an1"}),
            ("spdk_vhost", {"name": "v", "bdev": "bn1"}),
        )
        assert "a client is connected (session vs0)" in connected
        assert "bdev an1 is served by the vhost controller v; two writers" in second
        assert "it serves bdev an1, wanted bn1; it is read-only" in differs
        (hangs,) = failing(node, {**gone, "allow_sessions": True, "timeout": 2})
        assert "the outcome of vhost_delete_controller for vhost v is unknown: no answer within 2 s" in hangs
    node.until(lambda: not node.target.call("vhost_get_controllers"))
    three_steps(
        node.target,
        ("list", "spdk_vhost", {"vhosts": [controller, {"name": "w", "bdev": "bn1"}]}, [create] * 2),
        ("away", "spdk_vhost", {"vhosts": [gone, {"name": "w", "state": "absent"}]}, [delete] * 2),
    )


def failing(node, options):
    task = {"name": "Try", "excloud.diskengine.spdk_vhost": {"socket": node.target.socket, **options}}
    return [run_playbook(play({**task, "ignore_errors": True})).result("Try")["msg"]]


def test_a_whole_compute_node_and_its_removal(node):
    wanted = {
        "raids": [mirror("an1", "bn1")],
        "qos": [{"bdev": "r", "rw_ios_per_sec": 5000}],
        "vhosts": [{"name": "v", "bdev": "r"}],
    }
    away = {"raids": [{"name": "r", "state": "absent"}], "vhosts": [{"name": "v", "state": "absent"}]}
    for desired, calls in (
        (wanted, ["bdev_raid_create", "bdev_set_qos_limit", "vhost_create_blk_controller"]),
        (away, ["vhost_delete_controller", "bdev_raid_delete"]),
    ):
        node.target.recorder.clear()
        done = run_playbook(play(*tasks_of("node", "spdk_node", {"socket": node.target.socket, **desired})))
        assert done.rc == 0, done.output
        assert done.result("node: again")["changed"] is False
        assert [call["method"] for call in node.target.recorder.mutations] == calls
