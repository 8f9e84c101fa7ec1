# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health of what lies between drives and VMs: paths, RAIDs and vhost controllers. Pure. Private."""

from __future__ import annotations

from ._drive_health import CRITICAL, OK, UNKNOWN, WARNING
from ._graph import Controller, Graph, Raid, Vhost

# State of a path as SPDK says it: what that means. I/O goes through those that are connected alone.
PATH_STATES = {
    "enabled": "connected",
    "resetting": "reconnecting",
    "reconnect_is_delayed": "reconnecting",
    "disabled": "disabled",
    "failed": "failed",
    "deleting": "given up",
}

IN_SYNC, REBUILDING, DEGRADED, STALLED = "in_sync", "rebuilding", "degraded", "stalled"

# Condition of a RAID: its class.
RAID_CONDITIONS = {
    IN_SYNC: OK,
    REBUILDING: WARNING,
    DEGRADED: CRITICAL,
    STALLED: CRITICAL,
    "configuring": CRITICAL,
    "offline": CRITICAL,
}


def path_state(state: str) -> str:
    """Return what the state of a path means, with SPDK's own word where that is another."""
    meaning = PATH_STATES.get(state, "unknown")
    return meaning if meaning == state else f"{meaning} ({state})"


def describe_remote(controller: Controller) -> dict:
    """Return a controller that is attached over a fabric as users read it: its health is that of its paths."""
    paths = [path for path in controller.paths if not path.alternate]
    usable = [path for path in paths if path.state == "enabled"]
    if len(usable) == len(paths):
        health = OK
    else:
        health = WARNING if usable else CRITICAL
    return {
        "name": controller.name,
        "trtype": controller.trtype,
        "traddr": controller.traddr,
        "subnqn": controller.subnqn,
        "bdf": "",
        "state": controller.state,
        "paths": [{**path.address._asdict(), "state": path.state} for path in paths],
        "usable_paths": len(usable),
        "serial": "",
        "model": "",
        "firmware": "",
        "health": health,
        "reasons": [
            f"its path {path.address} is {path_state(path.state)}" for path in paths if path.state != "enabled"
        ],
        "log": None,
    }


def describe_raid(raid: Raid, graph: Graph) -> dict:
    """Return a RAID as users read it. SPDK counts a member that cannot be reached until it is given up."""
    lost = {name: state for name, state in zip(raid.present, map(graph.unconnected, raid.present)) if state}
    has = f"it has {len(raid.present)} of {len(raid.members)} members ({', '.join(raid.present) or 'none'})"
    condition, reasons = raid.state, []
    if condition != "online":
        reasons.append(f"{has} and serves nothing")
    elif len(lost) == len(raid.present):
        condition = STALLED
        reasons.append("no member of it can be reached, so that all I/O waits")
    elif len(raid.present) < len(raid.members):
        condition = DEGRADED
        reasons.append(has)
    elif raid.rebuilding:
        condition = REBUILDING
        reasons.append(f"{raid.rebuilding} is brought in sync ({raid.percent} %)")
    else:
        condition = IN_SYNC
    health = RAID_CONDITIONS.get(condition, UNKNOWN)
    return {
        "name": raid.name,
        "level": raid.level,
        "condition": condition,
        "members": [{"name": each.name, "uuid": each.uuid, "present": each.present} for each in raid.members],
        "rebuilding": raid.rebuilding,
        "percent": raid.percent if raid.rebuilding else None,
        "health": WARNING if health == OK and lost else health,
        "reasons": reasons + [f"its member {name} is {path_state(state)}" for name, state in lost.items()],
    }


def describe_vhost(controller: Vhost) -> dict:
    """Return a vhost controller as users read it. That no VM is connected is no fault: it may be switched off."""
    gone = controller.scsi is None and controller.bdev is None
    return {
        "name": controller.name,
        "bdevs": list(controller.bdevs),
        "socket": controller.socket,
        "sessions": list(controller.sessions),
        "health": CRITICAL if gone else OK,
        "reasons": ["its bdev is gone, so that every I/O of its VM fails"] if gone else [],
    }
