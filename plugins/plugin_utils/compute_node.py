# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a compute node's rows to what its SPDK target should have, and from the results back to rows. Pure."""

from __future__ import annotations

import json

from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.plugin_utils.blocked import blocked
from ansible_collections.excloud.diskengine.plugins.plugin_utils.documents import parsed
from ansible_collections.excloud.diskengine.plugins.plugin_utils.legs import (
    claims,
    connected_legs,
    memberships,
    mirror_legs,
    released,
    stale_legs,
)

PRESENT = ("ASSIGNED", "INITIALISED", "ATTACHED")
LIMITS = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")
SUPERBLOCK = 1 << 20


def compute_claims(node):
    """Return the rows for M(record_state) by which this node claims replicas before it connects to them.

    ``node`` is as for compute_desired().
    """
    rows = parsed(node)
    volumes = {volume["id"]: volume for volume in rows["volumes"]}
    servable = [volumes[number] for number in sorted(_needed(rows)) if not _problem(volumes[number], rows["node"])]
    return _found_by(rows, [_membership(leg, claim) for volume in servable for leg, claim in claims(volume)])


def compute_desired(node, controller_options=None, allow_sessions=False, claimed=(), copy_options=None, preview=False):
    """Return ``{desired, problems, waiting}``.

    These are a JSON document as M(spdk_node) takes it, sentences on mappings left out, and sentences on replicas that
    the mirror of their volume has no place for yet.

    ``node`` is one node of M(desired_state_info) with its volumes and mappings, a dictionary or its document. A volume
    is a mirror of exactly two legs, each an export of a storage node; nothing is asked for a volume that has not two
    usable ones, so that what is there stays as it is. What is DETACHING is asked to be absent, and its mirror and legs
    too when no other mapping on this node needs the volume. ``claimed`` is what M(record_state) said to the rows of
    compute_claims(); nothing is asked for a volume with a replica that could not be claimed. A volume that has a
    source still is initialised by the first of its mappings. What serves it is asked for when that is recorded, so that
    nothing is copied over what a VM has written; in a ``preview`` at once, which shows what will follow.
    """
    rows = parsed(node)
    volumes = {volume["id"]: volume for volume in rows["volumes"]}
    refused = {each["id"]: each["reason"] for each in claimed if each["outcome"] not in ("changed", "unchanged")}
    lists: dict = {kind: [] for kind in ("transports", "controllers", "raids", "copies", "qos", "vhosts")}
    problems: list = []
    waiting: list = []
    needed = _needed(rows)
    served = set()
    for number in sorted(needed):
        problem = _problem(volumes[number], rows["node"]) or _unclaimed(volumes[number], refused)
        if problem:
            problems.append(f"volume {number} {problem}")
            continue
        served.add(number)
        _add_volume(volumes[number], rows["node"], controller_options or {}, lists)
        waiting += _waiting(volumes[number])
    sources = {}
    mappings = {mapping["id"]: mapping for mapping in rows["mappings"]}
    for volume in [volumes[number] for number in sorted(served) if volumes[number]["source"]]:
        source = volume["source"]
        problem = _source_problem(source, mappings)
        if problem:
            served.discard(volume["id"])
            problems.append(f"volume {volume['id']} waits: {problem}")
            continue
        sources[source["nqn"]] = source
        lists["copies"].append(_copy(mappings[source["mapping_id"]], volume, rows["node"], copy_options or {}))
    if sources:
        lists["transports"].append({"trtype": "TCP"})
        lists["controllers"] += [_controller(each, rows["node"], controller_options or {}) for each in sources.values()]
    for number in sorted(_leaving(rows)):
        names = [controller_of(leg["nqn"]) for leg in volumes[number]["legs"] if leg["nqn"]]
        lists["controllers"] += [{"name": name, "state": "absent"} for name in names]
        lists["raids"].append({"name": raid_name(number), "state": "absent"})
        source = volumes[number]["source"]
        if source:
            lists["copies"].append({"bdev": raid_name(number), "state": "absent"})
        if source and source["nqn"] not in sources:
            lists["controllers"].append({"name": controller_of(source["nqn"]), "state": "absent"})
    ready = {number for number in served if not volumes[number]["source"]}
    for mapping in rows["mappings"]:
        if mapping["state"] == "DETACHING":
            lists["vhosts"].append(
                {"name": vhost_name(mapping["id"]), "state": "absent", "allow_sessions": allow_sessions}
            )
        elif mapping["state"] in PRESENT and mapping["waits_for"]:
            problems.append(f"mapping {mapping['id']} waits for {mapping['waits_for']}")
        elif mapping["state"] in PRESENT and mapping["volume_id"] in (served if preview else ready):
            lists["vhosts"].append({"name": vhost_name(mapping["id"]), "bdev": raid_name(mapping["volume_id"])})
    return {"desired": json.dumps(lists), "problems": problems, "waiting": waiting}


def compute_foretold(node, recorded):
    """Return one node of M(desired_state_info) as it will be when what storage nodes foretell has come true.

    ``recorded`` are the results of M(record_state) for their rows in check mode: a leg of which one says that it will
    be UP is so here.
    """
    rows = parsed(node)
    made = {row["id"] for row in recorded if row["kind"] == "lvol" and row["state"] == "UP"}
    for volume in rows["volumes"]:
        volume["legs"] = [
            {**leg, "state": "UP", "row_state": leg["state"]} if leg["lvol_id"] in made else leg
            for leg in volume["legs"]
        ]
    return json.dumps(rows)


def compute_verified(node, part, controller_options=None):
    """Return a document for M(spdk_drift_info) from one node of M(desired_state_info).

    ``part`` is ``desired``, what the mappings that are ATTACHED need; or ``pending``, which names all that belongs to
    a mapping that is not DETACHED: what is being made or removed, and what cannot be served as its rows are.
    """
    rows = parsed(node)
    if part == "desired":
        return compute_desired(_attached(rows), controller_options)["desired"]
    mappings = [mapping for mapping in rows["mappings"] if mapping["state"] != "DETACHED"]
    volumes = {mapping["volume_id"] for mapping in mappings}
    mapped = [volume for volume in rows["volumes"] if volume["id"] in volumes]
    exports = [leg for volume in mapped for leg in volume["legs"] if leg["nqn"]]
    exports += {volume["source"]["nqn"]: volume["source"] for volume in mapped if volume["source"]}.values()
    names = {
        "controllers": [controller_of(export["nqn"]) for export in exports],
        "raids": [raid_name(number) for number in sorted(volumes)],
        "vhosts": [vhost_name(mapping["id"]) for mapping in mappings],
    }
    return json.dumps({kind: [{"name": name, "state": "absent"} for name in names[kind]] for kind in names})


def compute_drift(node, drift):
    """Return the differences that M(spdk_drift_info) found, and the volumes that cannot be served as their rows are."""
    rows = _attached(parsed(node))
    problems = {volume["id"]: volume_problem(volume) or _node_problem(rows["node"]) for volume in rows["volumes"]}
    needed = sorted({mapping["volume_id"] for mapping in rows["mappings"]})
    lame = [number for number in needed if problems[number]]
    return [*drift, *(blocked("volume", str(number), f"it {problems[number]}") for number in lame)]


def compute_transitions(node, results):
    """Return the rows for M(record_state): mappings that are served, those of which nothing is left here, and replicas.

    ``results`` are those of M(spdk_node), a list or its document.
    """
    rows = parsed(node)
    entries = parsed(results)
    named = {(entry["kind"], entry.get("name") or entry.get("bdev")): entry for entry in entries}
    complete = {key: entry for key, entry in named.items() if _is_complete(entry)}
    volumes = {volume["id"]: volume for volume in rows["volumes"]}
    needed, leaving = _needed(rows), _leaving(rows)
    changes = [
        _membership(leg, seen)
        for number in sorted(needed | leaving)
        for leg, seen in _seen(volumes[number], number in leaving, entries, complete)
    ]
    for mapping in rows["mappings"]:
        volume = volumes.get(mapping["volume_id"])
        if volume and initialises(mapping, volume):
            copied = _copied(mapping, named.get(("copy", raid_name(volume["id"]))))
            if copied:
                changes.append(copied)
            if not copied or copied["to"] == "ASSIGNED":
                continue
            mapping = {**mapping, "state": "INITIALISED"}
        if ("vhost", vhost_name(mapping["id"])) not in complete or volume is None:
            continue
        if mapping["state"] == "DETACHING":
            parts = [] if volume["id"] in needed else _parts(volume)
            if all(part in complete for part in parts):
                changes.append(_change(mapping, "DETACHING", "DETACHED"))
            continue
        if mapping["state"] == "ASSIGNED":
            changes.append(_change(mapping, "ASSIGNED", "INITIALISED"))
        if mapping["state"] in ("ASSIGNED", "INITIALISED"):
            changes.append(_change(mapping, "INITIALISED", "ATTACHED"))
    return _found_by(rows, changes)


def raid_name(volume):
    """The name of a volume's mirror."""
    return f"raid_{volume}"


def vhost_name(mapping):
    """The name of a mapping's vhost controller."""
    return f"vhost{mapping}"


def initialises(mapping, volume):
    """Tell whether it is this mapping's part to have the source snapshot copied into the volume."""
    return bool(volume["source"]) and volume["source"]["mapping_id"] == mapping["id"]


def path_listeners(leg):
    """The listeners of a leg that paths lead to: those over RDMA, or where there is none those over TCP."""
    fast = [listener for listener in leg["listeners"] if listener["trtype"] == "RDMA"]
    return fast or leg["listeners"]


def volume_problem(volume):
    """Say why nothing can be asked for a volume, to follow its name; None if something can."""
    legs = mirror_legs(volume)
    if len(legs) != 2:
        states = ", ".join(f"lvol {leg['lvol_id']} {leg['state']}" for leg in volume["legs"]) or "none"
        return f"needs two legs that are UP and has {len(legs)} (legs: {states})"
    for leg in legs:
        if not leg["nqn"] or not leg["listeners"]:
            return f"has a leg without placement, lvol {leg['lvol_id']}: no NQN or no listener"
        if leg["size_bytes"] < volume["size_bytes"] + SUPERBLOCK:
            return (
                f"has {volume['size_bytes']} bytes and its leg lvol {leg['lvol_id']} {leg['size_bytes']}; a leg needs "
                f"1 MiB more, for the superblock of the mirror"
            )
    return None


def _attached(rows):
    return {**rows, "mappings": [mapping for mapping in rows["mappings"] if mapping["state"] == "ATTACHED"]}


def _is_complete(entry):
    return not entry["failed"] and not entry.get("deferred")


def _node_problem(node):
    if not node["hostnqn"]:
        return f"cannot be reached from node {node['name']}, which has no host NQN (hostnqn)"
    return None


def _needed(rows):
    """Return the volumes that are to be served here now."""
    mappings = [mapping for mapping in rows["mappings"] if mapping["state"] in PRESENT and not mapping["waits_for"]]
    return {mapping["volume_id"] for mapping in mappings}


def _leaving(rows):
    """Return the volumes of which nothing is to be left here."""
    return {mapping["volume_id"] for mapping in rows["mappings"] if mapping["state"] == "DETACHING"} - _needed(rows)


def _problem(volume, node):
    return volume_problem(volume) or _node_problem(node)


def _unclaimed(volume, refused):
    legs = [leg["lvol_id"] for leg in connected_legs(volume) if leg["lvol_id"] in refused]
    return f"waits: lvol {legs[0]} {refused[legs[0]]}; run again" if legs else None


def _waiting(volume):
    mirror = mirror_legs(volume)
    return [
        f"lvol {leg['lvol_id']} is connected and waits for a place in the mirror of volume {volume['id']}; set the one "
        f"that it is to replace DELETING"
        for leg in _connected(volume)
        if leg not in mirror and leg["state"] != "DELETING"
    ]


def _connected(volume):
    return [leg for leg in connected_legs(volume) if leg["nqn"] and leg["listeners"]]


def _source_problem(source, mappings):
    """Say what the copy of a volume's source waits for on the node of these mappings; None if for nothing."""
    if source["mapping_id"] not in mappings:
        return f"mapping {source['mapping_id']} has snapshot {source['snapshot_id']} copied into the volume first"
    if source["state"] != "UP" or source["defect"]:
        said = f"has {source['defect']}" if source["defect"] else f"is {source['state']}"
        return f"snapshot {source['snapshot_id']}, its source, {said}"
    return None


def _copy(mapping, volume, node, copy_options):
    return {
        "bdev": raid_name(volume["id"]),
        "source": f"{controller_of(volume['source']['nqn'])}n1",
        "hostnqn": node["hostnqn"],
        "offset": mapping["initialised_bytes"],
        **copy_options,
    }


def _copied(mapping, entry):
    """How far a copy got is recorded even if it failed then: all of it was read again."""
    copied = {"initialised_bytes": entry["copied_bytes"]} if entry and entry.get("copied_bytes") is not None else {}
    if entry and _is_complete(entry):
        return {**_change(mapping, "ASSIGNED", "INITIALISED"), **copied}
    if copied.get("initialised_bytes", 0) > mapping["initialised_bytes"]:
        return {**_change(mapping, "ASSIGNED", "ASSIGNED"), **copied}
    return None


def _controller(export, node, controller_options):
    listeners = path_listeners(export)
    trtype = listeners[0]["trtype"]
    return {
        "name": controller_of(export["nqn"]),
        "trtype": trtype,
        "subnqn": export["nqn"],
        "hostnqn": node["hostnqn"],
        "paths": [_path(listener) for listener in listeners],
        **(_sources(node) if trtype == "RDMA" else {}),
        **controller_options,
    }


def _add_volume(volume, node, controller_options, lists):
    connected = _connected(volume)
    lists["controllers"] += [_controller(leg, node, controller_options) for leg in connected]
    for leg in volume["legs"]:
        if leg["state"] == "DELETING" and leg["nqn"] and leg not in connected:
            lists["controllers"].append({"name": controller_of(leg["nqn"]), "state": "absent"})
    name = raid_name(volume["id"])
    raid: dict = {"name": name, "base_bdevs": [_base(leg) for leg in mirror_legs(volume)]}
    stale = [_base(leg) for leg in stale_legs(volume)]
    lists["raids"].append({**raid, "stale": stale} if stale else raid)
    lists["qos"].append({"bdev": name, **{limit: volume[limit] for limit in LIMITS}})


def _base(leg):
    """The bdev of a leg."""
    return f"{controller_of(leg['nqn'])}n1"


def _seen(volume, leaves, entries, complete):
    """Return (replica, membership) of those of which a run saw something else than is recorded."""
    name = ("raid", raid_name(volume["id"]))
    raid: dict = next((each for each in entries if (each["kind"], each.get("name")) == name), {})
    numbers = {_base(leg): leg["lvol_id"] for leg in volume["legs"] if leg["nqn"]}
    found = raid.get("in_sync")
    in_sync = None if found is None else {numbers[base] for base in found if base in numbers}
    if leaves and all(part in complete for part in _parts(volume)):
        return released(volume, in_sync)
    if in_sync is None:
        return []
    rebuilding = {numbers[base] for base in [raid["rebuilding"]] if base in numbers}
    gone = {
        leg["lvol_id"]
        for leg in volume["legs"]
        if leg not in connected_legs(volume)
        and (not leg["nqn"] or ("controller", controller_of(leg["nqn"])) in complete)
    }
    return memberships(volume, in_sync, rebuilding, gone)


def _membership(leg, membership):
    state = leg.get("row_state", leg["state"])
    change = {"kind": "lvol", "id": leg["lvol_id"], "from": state, "to": state, "revision": leg["revision"]}
    return {**change, "membership": membership}


def _sources(node):
    """Return the addresses that a node may connect from over RDMA; over IPv6 SPDK needs none."""
    addresses = [item["address"] for item in node["addresses"] if item["trtype"] == "RDMA"]
    return {"source_addresses": [address for address in addresses if ":" not in address]}


def _path(listener):
    return {key: listener[key] for key in ("traddr", "trsvcid", "adrfam") if listener.get(key)}


def _parts(volume):
    """Return the keys of what a mirror is made of."""
    names = [controller_of(leg["nqn"]) for leg in volume["legs"] if leg["nqn"]]
    copies = [("copy", raid_name(volume["id"]))] if volume["source"] else []
    return [("raid", raid_name(volume["id"])), *copies, *(("controller", name) for name in names)]


def _found_by(rows, changes):
    return [{**change, "node": rows["node"]["name"]} for change in changes]


def _change(mapping, before, after):
    return {"kind": "mapping", "id": mapping["id"], "from": before, "to": after, "revision": mapping["revision"]}
