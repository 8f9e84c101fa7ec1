# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVMe controllers that the target has attached: local drives, and subsystems of other nodes. Private."""

from __future__ import annotations

from typing import Any, Optional

from .. import _naming, _options
from .._errors import Refusal
from .._graph import Controller, Graph
from .._plan import DISRUPTIVE, Action, Change


class ControllerResource:
    """A drive or a subsystem has one controller; its bdevs are named ``<name>n<namespace>`` by SPDK."""

    kind = "controller"
    plural = "controllers"
    rank = 1
    options = _options.CONTROLLER
    names = ("name", "subnqn")

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"name": _name(options)}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return options["name"] or options["subnqn"] or "without a name"

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("controller", _name(options)), ("bdev", _bdev_name(_name(options)))]

    @staticmethod
    def look(client: Any, given: list, graph: Graph) -> None:
        """Find out whether the local addresses that RDMA is to connect from can be used."""
        wanted = [options for options in given if options["trtype"] == "RDMA"]
        addresses = {address for options in wanted for address in options["source_addresses"] or ()}
        addresses.update(path["hostaddr"] for options in wanted for path in options["paths"] or () if path["hostaddr"])
        if addresses:
            from .._host._sources import interfaces, obstacle  # rarely needed, and importing costs time in every run

            names = interfaces()
            graph.sources = {address: obstacle(address, names) for address in addresses}

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        if not options["name"] and not options["subnqn"]:
            raise Refusal("it has neither a name nor the NQN of a subsystem (subnqn)")
        name = _naming.controller_name(_name(options))
        found = graph.controllers.get(name)
        _require_same_subsystem(name, options["subnqn"], found, graph)
        if options["state"] == "absent":
            return _detach(found, graph) if found else Change(None, None)
        if options["trtype"] != "PCIe":
            from ._fabric import plan_paths  # storage nodes have drives only, and importing costs time in every run

            if found and found.trtype != options["trtype"]:
                raise Refusal(f"it is attached over {found.trtype}, wanted {options['trtype']}; detach it first")
            return plan_paths(name, options, found, graph)
        if options["subnqn"] or options["paths"]:
            raise Refusal("subnqn and paths are for TCP and RDMA; say which (trtype)")
        if not options["traddr"]:
            if found:
                return _examined(found, graph)
            raise Refusal("the controller is not attached; give the address of its drive (traddr)")
        bdf = _naming.bdf(options["traddr"])
        if found is None:
            return _attach(name, bdf, graph)
        if found.trtype != "PCIe" or found.traddr != bdf:
            raise Refusal(
                f"a controller of that name is attached to {found.trtype} {found.traddr}, not to PCIe {bdf}; "
                f"detach it first, or choose another name"
            )
        return _examined(found, graph)


def _name(options: dict) -> str:
    return options["name"] or (_naming.controller_of(options["subnqn"]) if options["subnqn"] else "")


def _require_same_subsystem(name: str, subnqn: Optional[str], found: Optional[Controller], graph: Graph) -> None:
    """Refuse to take a controller for that of another subsystem, or to attach a subsystem a second time."""
    if not subnqn:
        return
    if found and found.subnqn != subnqn:
        at = found.subnqn or f"the drive at {found.traddr}"
        raise Refusal(f"the name {name} is taken: it is attached to {at}; detach that first, or choose another name")
    holder = graph.attached(subnqn)
    if holder and holder.name != name:
        raise Refusal(f"{subnqn} is attached already, as controller {holder.name}; name it, or detach it first")


def _bdev_name(controller: str, nsid: int = 1) -> str:
    return f"{controller}n{nsid}"


def _fields(controller: Controller) -> dict:
    if controller.paths:
        paths = sorted(str(_naming.canonical_address(path.address)) for path in controller.paths)
        return {"name": controller.name, "trtype": controller.trtype, "subnqn": controller.subnqn, "paths": paths}
    return {"name": controller.name, "trtype": controller.trtype, "traddr": controller.traddr}


def _examine(controller: Controller, bdev: str) -> Action:
    """SPDK looks by itself for what is on a new bdev, unless the target was started with auto-examine off."""
    return Action(
        "bdev_examine",
        {"name": bdev},
        f"look for an lvstore on {bdev}",
        holds=(("controller", controller.name), ("bdev", bdev)),
        reveals=True,
    )


def _examined(found: Controller, graph: Graph) -> Change:
    bdevs = graph.bdevs_of(found.name)
    actions = [
        _examine(found, bdev.name)
        for bdev in bdevs
        if not graph.auto_examine and bdev.name not in graph.examined and not bdev.claimed
    ]
    facts = {"bdevs": [bdev.name for bdev in bdevs]}

    def predict(world: Graph) -> None:
        world.examined.update(dict.fromkeys(action.params["name"] for action in actions))

    return Change(_fields(found), _fields(found), actions, facts=facts, predict=predict)


def _attach(name: str, bdf: str, graph: Graph) -> Change:
    holder = graph.controller_at(bdf)
    if holder:
        raise Refusal(f"the drive at {bdf} is attached already, as controller {holder.name}")
    planned = Controller(name, "PCIe", bdf, "")
    bdev = _bdev_name(name)
    actions = [
        Action(
            "bdev_nvme_attach_controller",
            {"name": name, "trtype": "PCIe", "traddr": bdf},
            f"attach the drive at {bdf}",
            holds=(("controller", name), ("attached", bdf), ("bdev", bdev)),
            learns="bdevs",
            reveals=True,
        )
    ]
    if not graph.auto_examine and bdev not in graph.examined:
        actions.append(_examine(planned, bdev))

    def predict(world: Graph) -> None:
        world.controllers[name] = planned
        world.examined[bdev] = None

    return Change(None, _fields(planned), actions, facts={"bdevs": []}, predict=predict)


def _detach(found: Controller, graph: Graph) -> Change:
    what = found.subnqn or f"the drive at {found.traddr}"
    bdevs = graph.bdevs_of(found.name)
    names = {bdev.name for bdev in bdevs}
    stores = [store for store in graph.lvstores.values() if store.base_bdev in names]
    closed = {store.name for store in stores}
    lvols = [lvol for lvol in graph.lvols.values() if lvol.lvstore in closed]
    based = {store.base_bdev for store in stores}
    seen = [(bdev.name, bdev.name) for bdev in bdevs if bdev.name not in based]  # the claim of an lvstore is no use
    seen += [(lvol.alias, lvol.uuid) for lvol in lvols if lvol.uuid]
    users = [f"{title} is {user}" for title, user in ((title, graph.user(name)) for title, name in seen) if user]
    if users:
        more = f"; and {len(users) - 5} more" if len(users) > 5 else ""
        raise Refusal(f"{'; '.join(users[:5])}{more}; take that away first")
    notes = [
        f"the lvstore {store.name} on {store.base_bdev} is closed, nothing on it is lost: it is found again when "
        f"{what} is attached"
        for store in stores
    ]
    action = Action(
        "bdev_nvme_detach_controller",
        {"name": found.name},
        f"detach {what}",
        holds=(
            ("controller", found.name),
            ("attached", found.subnqn or found.traddr),
            *(bdev.key for bdev in bdevs),
            *(("lvstore", store) for store in sorted(closed)),
            *(("bdev", lvol.alias) for lvol in lvols),
        ),
        risk=DISRUPTIVE,
    )

    def predict(world: Graph) -> None:
        del world.controllers[found.name]
        for store in closed:
            del world.lvstores[store]
        for lvol in lvols:
            world.remove_lvol(lvol)
        for name in names:
            world.remove_bdev(name)

    facts = {"bdevs": sorted(names)}
    return Change(_fields(found), None, [action], facts=facts, predict=predict, notes=notes)
