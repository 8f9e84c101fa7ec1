# SPDX-License-Identifier: GPL-3.0-or-later
"""Desired objects as the modules hand them to the planner, and targets to plan for."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.excloud.diskengine.plugins.module_utils._catalog import resource_of
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import RpcError
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import Graph, read_graph
from ansible_collections.excloud.diskengine.plugins.module_utils._options import KINDS as PLURALS
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import Plan, Wanted, make_plan
from ansible_collections.excloud.diskengine.plugins.module_utils._releases import identify
from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import Call, Reply
from spdk_sim import RpcFailure, Target

MIB = 1 << 20
GIB = 1 << 30
KINDS = {resource.kind: resource for resource in map(resource_of, PLURALS)}
ALL_METHODS = Target().methods()

NQN = "nqn.2024-01.io.excloud:storage.n1.d1."
HOST = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"


def nqn(name: object) -> str:
    """The NQN of the subsystem that tests call ``name``."""
    return f"{NQN}{name}"


def filled(spec: dict, given: dict) -> dict:
    """``given`` with the defaults of an argument specification, as a module would hand it on."""
    unknown = given.keys() - spec.keys()
    assert not unknown, f"no such options: {unknown}"
    out = {}
    for name, rule in spec.items():
        value = given.get(name, copy.copy(rule.get("default")))
        if value is not None and "options" in rule:
            value = [filled(rule["options"], item) for item in value]
        out[name] = value
    return out


def want(kind: str, **given: Any) -> Wanted:
    """One desired object."""
    return Wanted(KINDS[kind], filled(KINDS[kind].options, given))


def tcp(port: int = 4420, traddr: str = "127.0.0.1") -> dict:
    """The option for a listener."""
    return {"trtype": "TCP", "traddr": traddr, "trsvcid": str(port)}


class Local:
    """Stands for the connection to a simulated target in this process; answers are copies, as from a wire."""

    path = "here"

    def __init__(self, target: Target) -> None:
        self.target = target
        self.release = identify(target.call("spdk_get_version"), target.call("rpc_get_methods", {"current": True}))

    def read(self, calls: list) -> list:
        """The results of getters."""
        return [copy.deepcopy(self.target.call(call.method, call.params)) for call in calls]

    def ask(self, calls: list) -> list:
        """How each of some getters ended."""
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply:
        try:
            return Reply(call, copy.deepcopy(self.target.call(call.method, call.params)))
        except RpcFailure as failure:
            return Reply(call, error=RpcError(call.method, call.subject, failure.code, failure.message))


def read(target: Target, desired: list | None = None) -> Graph:
    """The graph of a simulated target, all of whose drives were looked at and are blank but for lvstores.

    What getters do not tell is looked at for ``desired``.
    """
    graph = read_graph(Local(target))
    looking = {each.resource for each in desired or () if hasattr(each.resource, "look")}
    for resource in looking - {KINDS["key"]}:  # the files of its keys are in memory
        resource.look(Local(target), [each.options for each in desired or () if each.resource is resource], graph)
    graph.contents.update({bdev.name: [] for bdev in graph.bdevs.values() if bdev.drive and not bdev.claimed})
    return graph


def add_disk(target: Target, name: str, size: int, block_size: int = 4096) -> None:
    """Add a malloc bdev."""
    params = {"name": name, "num_blocks": size // block_size, "block_size": block_size}
    target.call("bdev_malloc_create", params)


def add_lvstore(target: Target, name: str, size: int = 1 * GIB, **params: Any) -> str:
    """Add a disk ``disk-<name>`` with an lvstore; its UUID."""
    add_disk(target, f"disk-{name}", size)
    return target.call("bdev_lvol_create_lvstore", {"bdev_name": f"disk-{name}", "lvs_name": name, **params})


def plan(target: Target, *desired: Wanted, **options: Any) -> Plan:
    """Plan for what a simulated target has now."""
    return make_plan(list(desired), read(target, list(desired)), **options)


def carry_out(target: Target, planned: Plan) -> None:
    """Send a plan's actions one by one."""
    for action in planned.actions:
        if action.perform:
            action.perform()
        else:
            target.call(action.method, action.params)


def refusals(planned: Plan) -> dict:
    """The refusals of a plan by subject."""
    return {item.subject: item.refusal for item in planned.objects if item.refusal is not None}
