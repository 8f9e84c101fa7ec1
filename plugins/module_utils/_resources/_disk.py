# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Local drives as disks of a storage node: attached, looked at, with the lvstore that is theirs. Private.

A disk is its serial number; its place may change. It is made of a controller and an lvstore, whose rules are theirs.
"""

from __future__ import annotations

import re
from typing import Any

from .. import _naming, _options
from .._errors import Refusal
from .._graph import Bdev, Controller, Graph, Lvstore
from .._plan import Change
from ._controller import ControllerResource
from ._lvstore import LvstoreResource

_WAITS = "what is on the drive is known when it is attached"


class DiskResource:
    """A drive with its lvstore. What is on a drive that is not attached yet is planned when it is."""

    kind = "disk"
    plural = "disks"
    rank = 2
    options = _options.DISK

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"serial": options["serial"]}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return f"{options['serial']} at {options['bdf']}"

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object: its lvstore, by either name."""
        return [("lvstore", name) for name in (options["lvstore_uuid"], options["lvstore"]) if name]

    @staticmethod
    def look(client: Any, given: list, graph: Graph) -> None:
        """Look into the drives whose content decides whether an lvstore can be created on them."""
        drives = [(options, _bdevs(options["serial"], graph)) for options in given if options["create"]]
        LvstoreResource.look(client, [_lvstore(options, bdevs[0]) for options, bdevs in drives if bdevs], graph)

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        bdf = _naming.bdf(options["bdf"])
        store = graph.lvstore(options["lvstore_uuid"]) if options["lvstore_uuid"] else None
        if store:
            return _found(store, options, graph)
        bdevs = _bdevs(options["serial"], graph)
        if bdevs:
            return _attached(bdevs, options, graph)
        holder = graph.controller_at(bdf)
        if holder:
            _refuse_other(holder, graph)
        name = "nvme_" + re.sub(r"[^A-Za-z0-9_.-]", "_", options["serial"])
        return _look({"name": name, "traddr": bdf}, bdf, graph)


def _look(controller: dict, bdf: str, graph: Graph) -> Change:
    """Attach the drive and look at it, as far as that was not done."""
    change = ControllerResource.plan(_filled(controller, _options.CONTROLLER), graph)
    for action in change.actions:
        action.learns = None
    change.before, change.after = None, {"bdf": bdf, "lvstore": None}
    change.facts, change.waits = {}, _WAITS
    return change


def _filled(given: dict, spec: dict) -> dict:
    return {name: given.get(name, rule.get("default")) for name, rule in spec.items()}


def _bdevs(serial: str, graph: Graph) -> list:
    return [bdev for bdev in graph.bdevs.values() if bdev.drive and bdev.serial == serial]


def _refuse_other(holder: Controller, graph: Graph) -> None:
    others = {bdev.serial for bdev in graph.bdevs.values() if bdev.drive == holder.traddr}
    found = f"a drive with serial {', '.join(sorted(others))}" if others else "a drive that shows no namespace"
    raise Refusal(
        f"at {holder.traddr} there is {found}, as controller {holder.name}; find the drives of the node again "
        f"(nvme_disk_info, register_disks), or look after the drive"
    )


def _found(store: Lvstore, options: dict, graph: Graph) -> Change:
    bdev = graph.bdevs.get(store.base_bdev)
    notes = []
    if bdev and bdev.drive and bdev.serial != options["serial"]:
        notes.append(f"its lvstore {store.name} is on the drive with serial {bdev.serial} at {bdev.drive}")
    fields = {"bdf": bdev.drive if bdev and bdev.drive else options["bdf"], "lvstore": store.name}
    return Change(fields, fields, facts={**fields, "lvstore_uuid": store.uuid}, notes=notes)


def _lvstore(options: dict, bdev: Bdev) -> dict:
    given = {
        "name": options["lvstore"],
        "bdev": bdev.name,
        "max_lvols": options["max_lvols"],
        "clear_method": options["clear_method"],
        "force": options["force"],
        "import_existing": True,
    }
    return _filled(given, _options.LVSTORE)


def _attached(bdevs: list, options: dict, graph: Graph) -> Change:
    if len(bdevs) > 1:
        names = ", ".join(bdev.name for bdev in bdevs)
        raise Refusal(f"it has {len(bdevs)} namespaces ({names}); a disk is a drive with one")
    (bdev,) = bdevs
    controller = graph.controller_at(bdev.drive)
    if controller is None:
        raise Refusal(f"the target has its bdev {bdev.name} and no controller for it; look at the target")
    looked = _look({"name": controller.name}, bdev.drive, graph)
    if looked.actions:
        return looked
    store = graph.store_on(bdev.name)
    if store and options["lvstore_uuid"]:
        raise Refusal(
            f"the lvstore on it is {store.name} ({store.uuid}), wanted the one with UUID {options['lvstore_uuid']}"
        )
    if store:
        return _found(store, options, graph)
    if options["lvstore_uuid"]:
        raise Refusal(
            f"its lvstore {options['lvstore_uuid']} is not on it; it is not created anew, which would hide a loss"
        )
    if not options["create"]:
        raise Refusal("there is no lvstore on it, and none is to be created")
    if not options["lvstore"]:
        raise Refusal("there is no lvstore on it; name the one to create (lvstore)")
    change = LvstoreResource.plan(_lvstore(options, bdev), graph)
    for action in change.actions:
        action.learns = "lvstore_uuid"
    fields = {"bdf": bdev.drive, "lvstore": options["lvstore"]}
    change.before, change.after, change.facts = None, fields, {**fields, "lvstore_uuid": None}
    return change
