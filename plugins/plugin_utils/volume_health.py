# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the health of a compute node's target to the health of the volumes that its VMs use. Pure."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.module_utils._drive_health import CRITICAL, OK, WARNING
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import raid_name, vhost_name
from ansible_collections.excloud.diskengine.plugins.plugin_utils.documents import parsed
from ansible_collections.excloud.diskengine.plugins.plugin_utils.legs import mirror_legs

MISSING = "missing"


def volume_health(node, health):
    """Return an entry for each volume of which the node has an ``ATTACHED`` mapping, by the volumes' ids.

    ``node`` is one node of M(desired_state_info) with its volumes and mappings, a dictionary or its document;
    ``health`` the result of M(spdk_health_info). Only the rows tell which leg a mirror has lost, and which path was
    given up: SPDK forgets both.
    """
    rows = parsed(node)
    volumes = {volume["id"]: volume for volume in rows["volumes"]}
    attached: dict = {}
    for mapping in rows["mappings"]:
        if mapping["state"] == "ATTACHED":
            attached.setdefault(mapping["volume_id"], []).append(mapping["id"])
    found = {kind: {each["name"]: each for each in health[kind]} for kind in ("controllers", "raids", "vhosts")}
    return [_volume(volumes[number], mappings, found) for number, mappings in sorted(attached.items())]


def _volume(volume, mappings, found):
    raid = found["raids"].get(raid_name(volume["id"]))
    legs = [_leg(leg, raid, found["controllers"]) for leg in mirror_legs(volume) if leg["nqn"]]
    judged = [_mirror(raid, legs), *map(_paths, legs), *(_vhost(vhost_name(number), found) for number in mappings)]
    worst = [health for health in (CRITICAL, WARNING) if any(each == health for each, _reason in judged)]
    return {
        "volume": volume["id"],
        "raid": raid_name(volume["id"]),
        "condition": raid["condition"] if raid else MISSING,
        "percent": raid["percent"] if raid else None,
        "legs": legs,
        "health": worst[0] if worst else OK,
        "reasons": [reason for _health, reason in sorted(judged, key=lambda each: each[0] != CRITICAL) if reason],
    }


def _leg(leg, raid, controllers):
    name = controller_of(leg["nqn"])
    members = [each["name"] for each in raid["members"] if each["present"]] if raid else []
    return {
        "lvol_id": leg["lvol_id"],
        "node": leg["node"],
        "bdev": f"{name}n1",
        "present": f"{name}n1" in members,
        "usable_paths": controllers[name]["usable_paths"] if name in controllers else 0,
        "wanted_paths": len(leg["listeners"]),
    }


def _mirror(raid, legs):
    if raid is None:
        return CRITICAL, "its mirror is not there"
    lost = " and ".join(_named(leg) for leg in legs if not leg["present"])
    reason = "; ".join(raid["reasons"]) + (f"; it lacks {lost}" if lost else "")
    return raid["health"], f"its mirror is {raid['condition']}: {reason}" if reason else ""


def _paths(leg):
    usable, wanted = leg["usable_paths"], leg["wanted_paths"]
    if usable >= wanted:
        return OK, ""
    return (WARNING if usable else CRITICAL), f"{_named(leg)} has {usable} usable of {wanted} paths"


def _vhost(name, found):
    vhost = found["vhosts"].get(name)
    if vhost is None:
        return CRITICAL, f"{name} is not there"
    return vhost["health"], "; ".join(f"{name}: {reason}" for reason in vhost["reasons"])


def _named(leg):
    return f"lvol {leg['lvol_id']} on {leg['node']}"
