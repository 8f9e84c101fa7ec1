# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of what differs on an estate: one document, from rows and what was found on each node. Pure."""

from __future__ import annotations

from collections import Counter

from ansible_collections.excloud.diskengine.plugins.plugin_utils.estate_picture import STATES, Picture, severity, worst

VERSION = 1
_RISKS = ("manual", "destructive", "disruptive", "safe")


def drift_report(found, estate, created):
    """Return the document that docs/drift.md describes.

    ``found`` gives each node of the run either its ``drift`` as M(spdk_drift_info) finds it, or the ``cause`` why it
    could not be compared; ``estate`` the rows of all nodes as M(desired_state_info) reads them, and ``created`` is the
    time as text.
    """
    found = dict(sorted(found.items()))
    compared = {name for name, each in found.items() if "drift" in each}
    picture = Picture(estate, compared)
    differences = [{"node": name, **entry} for name in sorted(compared) for entry in found[name]["drift"]]
    differences.sort(key=lambda each: (STATES.index(severity(each)), _RISKS.index(each["risk"])))
    for number, each in enumerate(differences):
        about = picture.place(number, each)
        each["objects"] = [one["id"] for one in about]
        each["volume"] = next((one["volume"] for one in about if one["volume"] is not None), None)
    picture.finish()
    objects = _seen_from(found, picture.objects)
    not_compared = {name: " ".join(each["cause"].split()) for name, each in found.items() if name not in compared}
    report = {
        "version": VERSION,
        "created": created,
        "clean": not differences and not not_compared,
        "compared": len(compared),
        "counts": _counts(each["class"] for each in differences),
        "states": {**dict.fromkeys(STATES, 0), **_counts(each["state"] for each in objects)},
        "nodes": {
            name: {
                "kind": estate[name]["node"]["kind"] if name in estate else None,
                "compared": name in compared,
                "counts": _counts(entry["class"] for entry in each.get("drift", ())),
            }
            for name, each in found.items()
        },
        "not_compared": not_compared,
        "left_out": sorted(set(estate) - set(found)),
        "differences": differences,
        "volumes": _volumes(estate, objects),
        "objects": objects,
    }
    return {**report, "summary": _summary(report)}


def _seen_from(nodes, objects):
    """Return what is on these nodes, and what the volumes that are on them have elsewhere."""
    volumes = {each["volume"] for each in objects.values() if each["node"] in nodes} - {None}
    chosen = [each for each in objects.values() if each["node"] in nodes or each["volume"] in volumes]
    ids: set = set()
    todo = [each["id"] for each in chosen]
    while todo:
        name = todo.pop()
        if name not in ids:
            ids.add(name)
            todo += objects[name]["on"]
    return [each for each in objects.values() if each["id"] in ids]


def _volumes(estate, objects):
    rows = {row["id"]: row for each in estate.values() for row in each["volumes"]}
    by_id = {each["id"]: each for each in objects}
    parts: dict = {}
    for each in objects:
        if each["volume"] is not None:
            parts.setdefault(each["volume"], []).append(each)
    return [
        {
            "id": number,
            "name": rows[number]["name"] if number in rows else None,
            "row_state": rows[number]["state"] if number in rows else None,
            "size_bytes": rows[number]["size_bytes"] if number in rows else None,
            "state": worst(_states(parts[number], by_id)),
            "nodes": sorted({each["node"] for each in parts[number]}),
            "objects": [each["id"] for each in parts[number]],
        }
        for number in sorted(parts)
    ]


def _states(parts, by_id):
    """Return the states of a volume's parts; what it shares with others beneath counts only if it is broken."""
    below = [each["on"] for each in parts if each["kind"] in ("lvol", "snapshot")]
    stores = [by_id[name] for names in below for name in names if by_id[name]["volume"] is None]
    shared = [*stores, *(by_id[name] for each in stores for name in each["on"])]
    return [each["state"] for each in parts] + [each["state"] for each in shared if each["state"] == "broken"]


def _summary(report):
    nodes, left_out = report["nodes"], report["left_out"]
    more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
    differs = f": {_told(report['counts'])}" if report["compared"] else ""
    return [
        f"{report['compared']} of {len(nodes)} nodes compared{differs}",
        *(f"{name}: {_told(node['counts'])}" for name, node in nodes.items() if node["counts"]),
        *(f"{name}: not compared: {cause}" for name, cause in report["not_compared"].items()),
        *([f"not part of this run: {', '.join(left_out[:10])}{more}"] if left_out else []),
    ]


def _told(counts):
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing differs"


def _counts(names):
    return dict(sorted(Counter(names).items()))
