# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a storage node's rows to what its SPDK target should have, and from the results back to rows. Pure."""

from __future__ import annotations

import json

EXPORTED = ("CREATING", "UP", "RESIZING")


def storage_desired(node, transport_options=None, purge=()):
    """Return ``{desired, problems}``: a JSON document as M(spdk_node) takes it, and sentences on rows left out of it.

    ``node`` is one node of M(desired_state_info), a dictionary or its document. An lvol is asked for only while its
    row is CREATING: one that is UP and not there has lost data, and an empty one in its place would hide that. A row
    without placement is corrupt: it becomes a problem and nothing is asked for it.
    """
    lvols, subsystems, problems, trtypes = [], [], [], {}
    for row in _parsed(node)["lvols"]:
        if row["state"] not in EXPORTED:
            continue
        if row["defect"]:
            problems.append(f"lvol {row['id']} has {row['defect']}; it is left alone until its row is complete")
            continue
        if not row["lvstore_uuid"]:
            problems.append(f"lvol {row['id']} waits for its disk {row['disk_id']}, which has no lvstore yet")
            continue
        if row["state"] == "CREATING":
            lvols.append(_lvol(row))
        subsystems.append(_subsystem(row, purge))
        trtypes.update(dict.fromkeys(listener["trtype"] for listener in row["listeners"]))
    transports = [{"trtype": trtype, **(transport_options or {})} for trtype in trtypes]
    desired = {"transports": transports, "lvols": lvols, "subsystems": subsystems}
    return {"desired": json.dumps(desired), "problems": problems}


def storage_transitions(node, results):
    """Return the rows for M(record_state): each CREATING lvol whose lvol and export are complete is now UP.

    ``results`` are those of M(spdk_node), a list or their document. In check mode a new lvol has no UUID yet and its
    row has none.
    """
    complete = {_identity(entry): entry.get("uuid") for entry in _parsed(results) if not entry["failed"]}
    rows = []
    for row in _parsed(node)["lvols"]:
        lvol = ("lvol", row["lvstore_uuid"], str(row["id"]))
        if row["state"] == "CREATING" and lvol in complete and ("subsystem", row["nqn"]) in complete:
            done = {"id": row["id"], "from": "CREATING", "to": "UP", "revision": row["revision"], "nqn": row["nqn"]}
            rows.append({**done, "uuid": complete[lvol]} if complete[lvol] else done)
    return rows


def _parsed(value):
    return json.loads(value) if isinstance(value, str) else value


def _lvol(row):
    return {
        "name": str(row["id"]),
        "lvstore": row["lvstore_uuid"],
        "size": str(row["size_bytes"]),
        "thin": row["thin"],
        "clear_method": row["clear_method"],
    }


def _subsystem(row, purge):
    namespace = {"bdev": f"{row['lvstore_uuid']}/{row['id']}", "nsid": 1}
    if row["state"] != "CREATING":
        namespace["bdev_uuid"] = row["uuid"]
    return {
        "nqn": row["nqn"],
        "max_namespaces": 1,
        "listeners": row["listeners"],
        "hosts": row["hosts"],
        "namespaces": [namespace],
        "purge": list(purge),
    }


def _identity(entry):
    if entry["kind"] == "lvol":
        return "lvol", entry["lvstore"], entry["name"]
    return entry["kind"], entry.get("nqn")
