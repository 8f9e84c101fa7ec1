# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module disk."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    connected,
    read_disks,
    read_lvols_on,
    read_room,
    read_volumes_on,
    wish,
    wishing,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction, failure_message
from ansible_collections.excloud.diskengine.plugins.plugin_utils.placement import Disks
from ansible_collections.excloud.diskengine.plugins.plugin_utils.volumes import plan_drain

LEFT = ("id", "volume_id", "state", "membership", "held")


class ActionModule(DatabaseAction):
    """Takes a disk out of use, step by step."""

    SPEC = {
        "id": {"type": "int"},
        "serial": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "drained", "retired", "absent"], "required": True},
        "allow_same_domain": {"type": "bool", "default": False},
        "allow_unmapped": {"type": "bool", "default": False},
        "lost": {"type": "bool", "default": False},
    }
    RULES = {"required_one_of": [["id", "serial"]], "mutually_exclusive": [["id", "serial"]]}

    def perform(self, options, connection):
        """Makes the wishes for the disk and for the volumes on it, then fails if one of them was refused."""
        with connected(**connection) as conn, wishing(conn, dry_run=self._task.check_mode):
            disk = find(conn, options)
            if disk is None:
                return {"changed": False, "disk": None, "moved": [], "left": []}
            made = [{**row, "kind": "disk"} for row in wish(conn, "disk", wanted(disk, options))]
            moved = drain(conn, disk["id"], options) if options["state"] == "drained" else []
            after = read_disks(conn, "id", disk["id"])
            left = [{name: row[name] for name in LEFT} for row in read_lvols_on(conn, disk["id"])]
        changed = any(row["outcome"] == "changed" for row in [*made, *moved])
        result = {"changed": changed, "disk": after[0] if after else None, "moved": moved, "left": left}
        if self._task.diff and changed:
            result["diff"] = {"before": _shown([disk], disk, moved), "after": _shown(after, None, moved)}
        message = failure_message([*made, *({**row, "kind": "volume", "id": row["volume"]} for row in moved)])
        return {**result, "failed": True, "msg": message} if message else result


def find(conn, options):
    """The row of the disk that is meant; None if there is none and none is wanted. Raises DatabaseError.

    A drive that was retired may have a row for each time that it was.
    """
    column = "id" if options["id"] is not None else "serial"
    absent = options["state"] == "absent"
    found = read_disks(conn, column, options[column])
    found = [row for row in found if (row["state"] == "RETIRED") == absent] or found
    if not found and not absent:
        raise DatabaseError(f"The database knows no disk with {column} {options[column]}.")
    return found[-1] if found else None


def wanted(disk, options):
    """The row for wish_disks, if something has to change of the disk itself. Raises DatabaseError."""
    state = options["state"]
    if disk["state"] == "RETIRED" and state == "present":
        raise DatabaseError(f"Disk {disk['id']} is RETIRED; make it absent, then its drive can be registered again.")
    if disk["state"] == "RETIRED" and state == "drained":
        return []
    changes: dict = {
        "present": {"draining": False},
        "drained": {"draining": True},
        "retired": {"state": "RETIRED"},
        "absent": {"state": "GONE"},
    }
    if all(disk[name] == value for name, value in changes[state].items()):
        return []
    return [{"id": disk["id"], "revision": disk["revision"], "lost": options["lost"], **changes[state]}]


def drain(conn, disk, options):
    """Moves the replicas on a disk elsewhere: what became of each volume whose replica is not leaving yet."""
    volumes = read_volumes_on(conn, disk)
    plans = plan_drain(options, volumes, disk, Disks(read_room(conn)))
    made = iter(wish(conn, "volume", [plan["wish"] for plan in plans if plan.get("wish")]))
    moved = []
    for volume, plan in zip(volumes, plans):
        outcome = next(made) if plan.get("wish") else {"outcome": "refused", "reason": plan.get("reason")}
        if plan.get("wish") or outcome["reason"]:
            told = {name: outcome[name] for name in ("outcome", "reason")}
            placed = {name: plan.get(name, []) for name in ("placement", "rejected")}
            moved.append({"volume": volume["name"] or str(volume["id"]), **told, **placed})
    return moved


def _shown(disks, left, moved):
    """One side of the diff: the disk, and where the replicas of volumes are that move."""
    rows: dict = {f"disk {row['serial']}": {name: row[name] for name in ("state", "draining")} for row in disks}
    for row in moved:
        if row["outcome"] == "changed":
            places = [f"disk {each['disk']} of {each['node']}" for each in row["placement"]]
            rows[f"volume {row['volume']}"] = [f"disk {left['id']} of {left['node']}"] if left else places
    return rows
