# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the health of a target's controllers to the rows of its node's disks. Pure."""

from __future__ import annotations

UNKNOWN = "unknown"


def storage_health(node, controllers):
    """Return the rows for M(record_state) that give each disk of a node the health of its controller.

    ``node`` is one node of M(desired_state_info), ``controllers`` are those of M(spdk_health_info). A disk is found by
    its serial, and by its PCI address only where a controller did not say its serial. One that the target does not
    have is unknown: what was recorded of it before says nothing of now. States stay as they are.
    """
    by_serial = {controller["serial"]: controller["health"] for controller in controllers if controller["serial"]}
    by_bdf = {each["bdf"]: each["health"] for each in controllers if each["bdf"] and not each["serial"]}
    return [
        {
            "node": node["node"]["name"],
            "kind": "disk",
            "id": row["id"],
            "from": row["state"],
            "to": row["state"],
            "revision": row["revision"],
            "health": by_serial.get(row["serial"]) or by_bdf.get(row["bdf"], UNKNOWN),
        }
        for row in node["disks"]
        if row["state"] != "RETIRED"
    ]
