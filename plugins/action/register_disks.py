# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module register_disks."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    connected,
    read_desired,
    register,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction, reported


class ActionModule(DatabaseAction):
    """Makes rows of the drives that were found on a storage node."""

    SPEC = {
        "node": {"type": "str", "required": True},
        "disks": {"type": "list", "elements": "dict", "required": True},
        "serials": {"type": "list", "elements": "str"},
    }

    def perform(self, options, connection):
        """Registers the drives that are chosen, then fails if any of them was not."""
        node, disks, check = options["node"], options["disks"], self._task.check_mode
        chosen, left_out = choose(disks, options["serials"])
        rows = [{key: disk.get(key) for key in ("serial", "bdf", "model")} for disk in chosen]
        with connected(**connection) as conn:
            known = read_desired(conn, [node], ["disk"])[node]["disks"]
            results = register(conn, node, rows, dry_run=check)
        for row in results:
            if check and row["before"] == {"state": "GONE"}:
                row["id"] = None  # a run gets another one
        return {
            **reported("disk", [row["serial"] for row in results], results, self._task.diff),
            "left_out": left_out,
            "unseen": [{key: row[key] for key in ("id", "serial", "bdf", "state")} for row in unseen(known, disks)],
        }


def choose(disks, serials):
    """Splits the drives of a host into those to register, and those that are left out with the reason.

    With serials just the drives that they name are looked at. Raises DatabaseError when one is not there.
    """
    for disk in disks:
        lacks = [key for key in ("bdf", "serial", "model", "owner", "bindable", "reasons") if key not in disk]
        if lacks:
            raise DatabaseError(
                f"An entry of disks has no {', '.join(lacks)}: hand over the disks that nvme_disk_info returned."
            )
    if serials is not None:
        known = [disk["serial"] for disk in disks if disk["serial"]]
        missing = [serial for serial in serials if serial not in known]
        if missing:
            raise DatabaseError(
                f"No drive of the host has serial {', '.join(missing)} (known: {', '.join(sorted(known)) or 'none'})."
            )
        return [disk for disk in disks if disk["serial"] in serials], []
    chosen, left_out = [], []
    for disk in disks:
        reason = _unfit(disk)
        if reason:
            left_out.append({"bdf": disk["bdf"], "serial": disk["serial"], "reason": reason})
        else:
            chosen.append(disk)
    return chosen, left_out


def _unfit(disk):
    if not disk["serial"]:
        return "its serial is not known; ask the SPDK target that has it (socket of nvme_disk_info)"
    if disk["bindable"] or disk["owner"] in ("vfio", "uio", "spdk"):
        return None
    return "; ".join(reason["text"] for reason in disk["reasons"])


def unseen(known, disks):
    """The rows of a node whose drives the host does not show; retired ones may well be gone.

    A drive whose serial nobody knows, as it is bound to vfio, stands for the row at its address.
    """
    serials = {disk["serial"] for disk in disks}
    nameless = {disk["bdf"] for disk in disks if not disk["serial"]}
    return [
        row
        for row in known
        if row["state"] != "RETIRED" and row["serial"] not in serials and row["bdf"] not in nameless
    ]
