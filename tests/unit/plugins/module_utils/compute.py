# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated compute node with the storage nodes whose lvols are its legs."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.module_utils._plan import Plan
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    MIB,
    NQN,
    add_disk,
    carry_out,
    plan,
    refusals,
    tcp,
    want,
)
from spdk_sim import Target

SIZE = 64 * MIB
SLOW = {"process_max_bandwidth_mb_sec": 1}


class Node:
    """A compute node and what it attaches to: the bdevs an1, bn1, ... are lvols of a storage node each."""

    def __init__(self, release: str = "26.09", **sizes: int) -> None:
        self.storage = {name: Target(release=release, seed=number) for number, name in enumerate("abc")}
        self.target = Target(release=release, seed=9, addresses=None, peers=list(self.storage.values()))
        for number, (name, node) in enumerate(self.storage.items()):
            node.bdevs.auto_examine = False
            add_disk(node, "disk", 1 << 30)
            node.call("bdev_lvol_create_lvstore", {"bdev_name": "disk", "lvs_name": "lvs", "cluster_sz": MIB})
            size = sizes.get(name, SIZE) // MIB
            node.call("bdev_lvol_create", {"lvs_name": "lvs", "lvol_name": "v", "size_in_mib": size})
            node.call("nvmf_create_transport", {"trtype": "TCP"})
            node.call("nvmf_create_subsystem", {"nqn": NQN + name, "allow_any_host": True})
            node.call("nvmf_subsystem_add_ns", {"nqn": NQN + name, "namespace": {"bdev_name": "lvs/v"}})
            address = {"nqn": NQN + name, "listen_address": {**tcp(4420 + number), "adrfam": "IPv4"}}
            node.call("nvmf_subsystem_add_listener", address)
        self.attach(*self.storage)

    def attach(self, *names: str, **more: int) -> None:
        for name in names:
            self.attach_at(4420 + list(self.storage).index(name), name, **more)

    def attach_at(self, port: int, name: str, **more: object) -> None:
        address = {**tcp(port), "adrfam": "IPv4", "subnqn": NQN + name}
        self.target.call("bdev_nvme_attach_controller", {"name": name, **address, **more})

    def detach(self, *names: str) -> None:
        for name in names:
            self.target.call("bdev_nvme_detach_controller", {"name": name})

    def call(self, method: str, **params):
        return self.target.call(method, params)

    def raid(self, name: str = "r") -> dict:
        return next(each for each in self.call("bdev_raid_get_bdevs", category="all") if each["name"] == name)

    def converge(self, *desired) -> Plan:
        """Plan, carry out, and see that the same plan has no action then."""
        planned = plan(self.target, *desired)
        assert not refusals(planned)
        carry_out(self.target, planned)
        again = plan(self.target, *desired)
        assert not refusals(again) and not again.actions
        for before, after in zip(planned.objects, again.objects):
            assert after.change.before == after.change.after == before.change.after
        return planned


def mirror(*legs: str, **more):
    return want("raid", name="r", base_bdevs=list(legs or ("an1", "bn1")), **more)


GONE = want("raid", name="r", state="absent")
