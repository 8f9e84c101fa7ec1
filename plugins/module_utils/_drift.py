# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a target has otherwise than it should, from the same plan that would repair it. Pure. Private."""

from __future__ import annotations

import re
from typing import Any

from ._describe import unmanaged
from ._graph import Controller, Graph
from ._naming import canonical_address, controller_of
from ._plan import DESTRUCTIVE, DISRUPTIVE, SAFE, ObjectPlan, make_plan

_RISKS = (SAFE, DISRUPTIVE, DESTRUCTIVE)
_ROW_OF_LVOL = re.compile(r"(snap_)?(\d+)\Z")
_ROW_OF_NQN = re.compile(r":storage\..+\.(\d+)\Z")


def find_drift(desired: list, pending: list, graph: Graph) -> list:
    """Return the differences between ``desired`` (a list of Wanted) and the graph, in the order of the plan.

    What ``pending`` names is being made or removed and is no drift, whatever its state.
    """
    found = []
    for planned in make_plan(desired, graph, preview=True).objects:
        if planned.refusal is not None or planned.deferred or planned.change.later or planned.change.actions:
            found.append(_difference(planned, graph))
    extra = unmanaged(graph, desired + pending)
    found += _dead_paths(desired, graph)
    found += [_extra_lvol(alias, graph) for alias in extra["lvols"]]
    found += [_extra_subsystem(nqn, graph) for nqn in extra["subsystems"]]
    found += [_extra_raid(name, graph) for name in extra["raids"]]
    found += [_extra_vhost(name, graph) for name in extra["vhosts"]]
    known = _controllers(desired + pending)
    found += [_extra_controller(each) for each in graph.controllers.values() if each.paths and each.name not in known]
    return found


def _controllers(wanted: list) -> set:
    return {_controller_name(options) for resource, options in wanted if resource.kind == "controller"}


def _controller_name(options: dict) -> str:
    return options.get("name") or controller_of(options.get("subnqn") or "")


def _dead_paths(desired: list, graph: Graph) -> list:
    """Return the paths of wanted controllers that are attached and not connected: no plan can do anything for them."""
    found = (graph.controllers.get(name) for name in sorted(_controllers(desired)))
    return [
        {
            "class": "different",
            "kind": "path",
            "object": f"{controller.name} {canonical_address(path.address)}",
            "cause": f"it is not connected: its state is {path.state}",
            "found": {"state": path.state},
            "wanted": {"state": "enabled"},
            "risk": "manual",
            "repair": [],
        }
        for controller in found
        if controller
        for path in controller.paths
        if path.state != "enabled"
    ]


def _difference(planned: ObjectPlan, graph: Graph) -> dict:
    resource, options = planned.wanted
    change = planned.change
    there = _is_there(resource.kind, options, graph)
    risks = [_RISKS.index(action.risk) for action in change.actions]
    waits = planned.deferred or change.later
    if planned.refusal is None and change.actions and not planned.deferred:
        cause = _changed(change.before, change.after) if there else "it is not there"
    else:
        cause = planned.refusal or waits or ""
        if resource.kind == "raid" and there:
            cause = f"it {_legs(options['name'], graph)}; {cause}"
    return {
        "class": "different" if there else "missing",
        "kind": resource.kind,
        "object": planned.subject.partition(" ")[2],
        "cause": cause,
        "found": change.before,
        "wanted": change.after,
        "risk": _RISKS[max(risks)] if risks else SAFE if waits else "manual",
        "repair": [action.summary for action in change.actions],
    }


def _changed(before: dict | None, after: dict | None) -> str:
    fields = [name for name, value in (after or {}).items() if (before or {}).get(name) != value]
    if not fields:
        return "nobody has looked at what is on it yet"
    return f"{', '.join(fields)} {'differs' if len(fields) == 1 else 'differ'}"


def _is_there(kind: str, options: dict, graph: Graph) -> bool:
    if kind in ("lvol", "snapshot"):
        store = graph.lvstore(options["lvstore"])
        return bool(store) and (store.name, options["name"]) in graph.lvols  # type: ignore[union-attr]
    if kind == "disk":
        return bool(options["lvstore_uuid"] and graph.lvstore(options["lvstore_uuid"]))
    where: dict[str, tuple[dict, Any]] = {
        "subsystem": (graph.subsystems, options.get("nqn")),
        "transport": (graph.transports, str(options.get("trtype")).upper()),
        "controller": (graph.controllers, _controller_name(options)),
        "lvstore": (graph.lvstores, options.get("name")),
        "raid": (graph.raids, options.get("name")),
        "qos": (graph.limits, options.get("bdev")),
        "vhost": (graph.vhosts, options.get("name")),
        "key": (graph.keys, options.get("name")),
    }
    known, key = where[kind]
    return key in known


def _extra_lvol(alias: str, graph: Graph) -> dict:
    store, _slash, name = alias.partition("/")
    lvol = graph.lvols[store, name]
    row = _ROW_OF_LVOL.match(name)
    kind = "snapshot" if lvol.is_snapshot else "lvol"
    evidence = f"it would belong to {'snapshot' if row[1] else 'lvol'} {row[2]}" if row else "its name is none of ours"
    user = graph.user(lvol.uuid or "")
    return _extra(kind, alias, f"no row names it; {evidence}{f'; it is {user}' if user else ''}", uuid=lvol.uuid)


def _extra_subsystem(nqn: str, graph: Graph) -> dict:
    row = _ROW_OF_NQN.search(nqn)
    evidence = f"it would belong to lvol {row[1]}" if row else "its NQN is none of ours"
    shown = [graph.key(namespace.bdev)[1] for namespace in graph.subsystems[nqn].namespaces.values()]
    shows = f"it shows {', '.join(shown)}" if shown else "it shows nothing"
    entry = _extra("subsystem", nqn, f"no row names it; {evidence}; {shows}", namespaces=shown)
    return entry if shown else {**entry, "class": "stale"}


def _extra_raid(name: str, graph: Graph) -> dict:
    user = graph.user(name)
    cause = f"no row names it; it {_legs(name, graph)}{f'; it is {user}' if user else ''}"
    raid = graph.raids[name]
    return _extra("raid", name, cause, state=raid.state, base_bdevs=[graph.key(leg)[1] for leg in raid.present])


def _legs(name: str, graph: Graph) -> str:
    raid = graph.raids[name]
    return f"is {raid.state} and has {', '.join(graph.key(leg)[1] for leg in raid.present) or 'no leg'}"


def _extra_vhost(name: str, graph: Graph) -> dict:
    controller = graph.vhosts[name]
    serves = ", ".join(graph.key(bdev)[1] for bdev in controller.bdevs) or "nothing"
    cause = f"no row names it; it serves {serves}; {len(controller.sessions)} clients are connected"
    return _extra("vhost", name, cause, sessions=list(controller.sessions))


def _extra_controller(controller: Controller) -> dict:
    paths = [str(canonical_address(path.address)) for path in controller.paths]
    cause = f"no row names it; it is attached to {controller.subnqn} at {', '.join(paths)}"
    return _extra("controller", controller.name, cause, subnqn=controller.subnqn, paths=paths)


def _extra(kind: str, name: str, cause: str, **found: Any) -> dict:
    return {
        "class": "extra",
        "kind": kind,
        "object": name,
        "cause": cause,
        "found": found,
        "wanted": None,
        "risk": "manual",
        "repair": [],
    }
