# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVMe controllers that the target has attached: local drives over PCIe. Private to the collection."""

from __future__ import annotations

from .. import _naming, _options
from .._errors import Refusal
from .._graph import Controller, Graph
from .._plan import DISRUPTIVE, Action, Change


class ControllerResource:
    """A drive has one controller; its bdevs are named ``<name>n<namespace>`` by SPDK."""

    kind = "controller"
    plural = "controllers"
    rank = 1
    options = _options.CONTROLLER

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"name": options["name"]}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return options["name"]

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("controller", options["name"]), ("bdev", _bdev_name(options["name"]))]

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.controller_name(options["name"])
        found = graph.controllers.get(name)
        if options["state"] == "absent":
            return _detach(found, graph) if found else Change(None, None)
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


def _bdev_name(controller: str, nsid: int = 1) -> str:
    return f"{controller}n{nsid}"


def _fields(controller: Controller) -> dict:
    return {"name": controller.name, "trtype": controller.trtype, "traddr": controller.traddr}


def _bdevs(controller: Controller, graph: Graph) -> list:
    return [bdev for bdev in graph.bdevs.values() if controller.trtype == "PCIe" and bdev.drive == controller.traddr]


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
    bdevs = _bdevs(found, graph)
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
    if found.trtype != "PCIe":
        raise Refusal(f"it is attached over {found.trtype}; this module detaches local drives only")
    bdevs = _bdevs(found, graph)
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
        f"the lvstore {store.name} on {store.base_bdev} is closed, nothing on it is lost: it is found again when the "
        f"drive is attached"
        for store in stores
    ]
    action = Action(
        "bdev_nvme_detach_controller",
        {"name": found.name},
        f"detach the drive at {found.traddr}",
        holds=(
            ("controller", found.name),
            ("attached", found.traddr),
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
            del world.lvols[lvol.lvstore, lvol.name]
        for name in names | {lvol.uuid for lvol in lvols if lvol.uuid in world.bdevs}:
            world.remove_bdev(name)

    facts = {"bdevs": sorted(names)}
    return Change(_fields(found), None, [action], facts=facts, predict=predict, notes=notes)
