# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a storage node's rows to what its SPDK target should have, and from the results back to rows. Pure."""

from __future__ import annotations

import json

from ansible_collections.excloud.diskengine.plugins.plugin_utils.blocked import blocked
from ansible_collections.excloud.diskengine.plugins.plugin_utils.documents import parsed

EXPORTED = ("CREATING", "UP", "RESIZING")


def storage_desired(
    node,
    transport_options=None,
    purge=(),
    drives=True,
    lvstore_options=None,
    growth_options=None,
    remove=(),
    drift=(),
    host_keys=(),
):
    """Return ``{desired, bind, problems, kept}``.

    These are a JSON document as M(spdk_node) takes it, the new drives as M(pci_vfio_bind) takes them, and sentences on
    rows that were left out, and on lvols that are DELETING and have to stay for now: they are exported as before.

    ``node`` is one node of M(desired_state_info), a dictionary or its document. An lvol is asked for only while its
    row is CREATING: one that is UP and not there has lost data, and an empty one in its place would hide that. For the
    same reason an lvstore is created only on a disk that is NEW. A row without placement is corrupt: it becomes a
    problem and nothing is asked for it; so does a new one on a disk that is RETIRED, while nothing more is asked for
    the others there. ``remove`` names what is to go although no row ever said so, or says which class of ``drift``.
    ``lvstore_options`` are those of new lvstores, ``growth_options`` those of lvols that are RESIZING. ``host_keys``
    names the keys of hosts; an entry without a host is for all that have none of their own.
    """
    rows = parsed(node)
    lists, problems = _lists(rows, transport_options, purge, drives, lvstore_options, growth_options, host_keys)
    _add_removals(_named(remove, drift), rows, lists, problems)
    new = [row for row in rows.get("disks", ()) if drives and row["state"] == "NEW"]
    bind = [{"serial": row["serial"], "bdf": row["bdf"], "persist": "udev"} for row in new]
    held = [row for row in rows.get("lvols", ()) if row["held"]]
    kept = [f"lvol {row['id']} is DELETING and kept for now: {row['held']}" for row in held]
    return {"desired": json.dumps(lists), "bind": bind, "problems": problems, "kept": kept}


def _lists(rows, transport_options, purge, drives, lvstore_options=None, growth_options=None, host_keys=()):
    """Return the objects that rows ask for, by kind, and sentences on rows that were left out."""
    stores = _Stores(rows, drives)
    retired = _retired(rows)
    lists: dict = {kind: [] for kind in ("transports", "disks", "lvols", "snapshots", "subsystems")}
    problems: list = []
    trtypes: dict = {}
    if drives:
        used = (row for row in rows.get("disks", ()) if row["state"] in ("NEW", "UP"))
        lists["disks"] = [_disk(row, lvstore_options or {}) for row in used]
    for row in rows.get("lvols", ()):
        store = stores.of(row)
        if row["state"] == "DELETING" and store and not row["held"]:
            lists["lvols"].append(_absent(row, store, str(row["id"])))
            if row["nqn"]:
                lists["subsystems"].append(_unexported(row, f"{store}/{row['id']}"))
        if not (row["state"] in EXPORTED or row["held"]) or row["disk_id"] in retired and row["state"] != "CREATING":
            continue
        if row["disk_id"] in retired:
            problems.append(f"lvol {row['id']} is to be on disk {row['disk_id']}, which is RETIRED; place it elsewhere")
            continue
        if row["defect"]:
            problems.append(f"lvol {row['id']} has {row['defect']}; it is left alone until its row is complete")
            continue
        if not store:
            problems.append(f"lvol {row['id']} waits for its disk {row['disk_id']}, which has no lvstore yet")
            continue
        if row["state"] == "CREATING":
            lists["lvols"].append(_lvol(row, store))
        elif row["state"] == "RESIZING":
            lists["lvols"].append({**_existing(row, str(row["id"])), **(growth_options or {})})
        lists["subsystems"].append(_subsystem(row, f"{store}/{row['id']}", purge, host_keys))
        trtypes.update(dict.fromkeys(listener["trtype"] for listener in row["listeners"]))
    for row in rows.get("snapshots", ()):
        store = stores.of(row)
        bdev = f"{store}/{snapshot_name(row['id'])}"
        if row["state"] == "DELETING" and store:
            lists["snapshots"].append(_absent(row, store, snapshot_name(row["id"])))
            lists["subsystems"].append(_unexported(row, bdev))
        elif row["state"] == "CREATING" and not (store and row["lvol_id"]):
            lacks = f"waits for its disk {row['disk_id']}, which has no lvstore yet"
            problems.append(f"snapshot {row['id']} {'has no lvol to be taken of any more' if store else lacks}")
        elif row["state"] == "CREATING":
            wanted = {"name": snapshot_name(row["id"]), "lvstore": store, "lvol": str(row["lvol_id"])}
            lists["snapshots"].append(wanted)
        if row["state"] == "DELETING" or row["hosts"] is None or row["disk_id"] in retired or not store:
            continue
        if row["hosts"] and row["defect"]:
            problems.append(f"snapshot {row['id']} is the source of a volume and has {row['defect']}")
        elif row["hosts"]:
            lists["subsystems"].append(_subsystem(row, bdev, purge, host_keys))
            trtypes.update(dict.fromkeys(listener["trtype"] for listener in row["listeners"]))
        else:
            lists["subsystems"].append(_unexported(row, bdev))
    lists["transports"] = [{"trtype": trtype, **(transport_options or {})} for trtype in trtypes]
    return lists, problems


def _retired(rows):
    """Return the ids of the disks that are RETIRED."""
    return {row["id"] for row in rows.get("disks", ()) if row["state"] == "RETIRED"}


def _named(remove, drift):
    """Return what to remove object by object; what a class stands for shows what was seen, and nothing else."""
    named = [item for item in remove if item.get("object")]
    for item in remove:
        named += [
            {**entry, "namespaces": [{"bdev": bdev} for bdev in entry["found"]["namespaces"]]}
            for entry in drift
            if (entry["class"], entry["kind"]) == (item.get("class"), item["kind"])
        ]
    return named


def _add_removals(remove, rows, lists, problems):
    """Add what is to go to the lists; what a row names is left to its state."""
    if not remove:
        return
    retired = _retired(rows)
    named = {_alias(row) for row in rows.get("lvols", ())}
    named |= {f"{row['lvstore_name']}/{snapshot_name(row['id'])}" for row in rows.get("snapshots", ())}
    named |= {row["nqn"] for row in rows.get("lvols", ()) if row["disk_id"] not in retired}
    for item in remove:
        if item["object"] in named:
            problems.append(f"{item['kind']} {item['object']} is not removed, because a row names it")
        elif item["kind"] == "subsystem":
            going = {"nqn": item["object"], "state": "absent"}
            lists["subsystems"].append({**going, "namespaces": item["namespaces"]} if "namespaces" in item else going)
        else:
            store, _slash, name = item["object"].partition("/")
            lists[f"{item['kind']}s"].append({"name": name, "lvstore": store, "state": "absent"})


def storage_verified(node, part, transport_options=None, drives=True, host_keys=()):
    """Return a document for M(spdk_drift_info) from one node of M(desired_state_info).

    ``part`` is ``desired``, what the rows that are UP say, every lvol with its UUID and size; or ``pending``, what is
    being made or removed, or is on a disk that is RETIRED, of which only the exports are told.
    """
    rows = parsed(node)
    retired = _retired(rows)
    settled = {
        kind: [
            row
            for row in rows.get(kind, ())
            if (row["state"] == "UP" and row["disk_id"] not in retired) == (part == "desired")
        ]
        for kind in ("lvols", "snapshots")
    }
    settled["disks"] = rows.get("disks", ())
    document, _problems = _lists(settled, transport_options, ("listeners", "hosts"), drives, host_keys=host_keys)
    if part == "desired":
        document["disks"] = [disk for disk in document["disks"] if disk.get("lvstore_uuid") and not disk["create"]]
    for kind, name in (("lvols", str), ("snapshots", snapshot_name)):
        there = [row for row in settled[kind] if row["state"] == "UP" and row["lvstore_uuid"]]
        document[kind] += [_existing(row, name(row["id"])) for row in there]
    return json.dumps(document)


def storage_drift(node, drift, lvstores):
    """Return the differences that M(spdk_drift_info) found, and those that only the rows tell.

    These are counters that the target has otherwise, and rows without placement. An export of an lvol whose disk is
    RETIRED is stale.
    """
    rows = parsed(node)
    retired = _retired(rows)
    stale = {row["nqn"]: row["disk_id"] for row in rows.get("lvols", ()) if row["disk_id"] in retired}
    told = [_stale(entry, stale[entry["object"]]) if entry["object"] in stale else entry for entry in drift]
    now = {store["uuid"]: store for store in lvstores}
    counted = []
    for row in rows["disks"]:
        store = now.get(row["lvstore_uuid"])
        found = {name: store[name] for name in ("total_bytes", "free_bytes")} if store else {}
        wanted = {name: row[name] for name in found}
        if row["state"] == "UP" and found != wanted:
            counted.append(
                {
                    "class": "counter",
                    "kind": "disk",
                    "object": row["serial"],
                    "cause": "the row says another size or other free space than the lvstore has",
                    "found": found,
                    "wanted": wanted,
                    "risk": "safe",
                    "repair": ["record what the lvstore has"],
                }
            )
    corrupt = [row for row in rows.get("lvols", ()) if row["defect"] and row["state"] in EXPORTED]
    return [*told, *counted, *(blocked("lvol", _alias(row), f"its row has {row['defect']}") for row in corrupt)]


def _alias(row):
    return f"{row['lvstore_name']}/{row['id']}"


def _stale(entry, disk):
    shown = ", ".join(entry["found"]["namespaces"]) or "nothing"
    return {**entry, "class": "stale", "cause": f"its disk {disk} is RETIRED; it shows {shown}"}


def storage_transitions(node, results, lvstores=(), drives=True):
    """Return the rows for M(record_state): what is complete, gone, or has another size by now.

    ``results`` and ``lvstores`` are those of M(spdk_node), the former a list or its document. In check mode what would
    be made has no UUID yet and its row has none.
    """
    rows = parsed(node)
    entries = {_identity(entry): entry for entry in parsed(results)}
    complete = {key: entry for key, entry in entries.items() if not entry["failed"] and not entry.get("deferred")}
    stores = _Stores(rows, drives)
    found = {store["uuid"]: store for store in lvstores}
    changes = [_disk_change(row, complete.get(("disk", row["serial"])), found) for row in rows.get("disks", ())]
    for row in rows.get("lvols", ()):
        if row["state"] == "RESIZING":
            changes.append(_resize_change(row, entries.get(("lvol", stores.of(row), str(row["id"])))))
        else:
            changes.append(_lvol_change(row, stores.of(row), complete))
    changes += [_snapshot_change(row, stores.of(row), complete) for row in rows.get("snapshots", ())]
    return [{**change, "node": rows["node"]["name"]} for change in changes if change]


def snapshot_name(number):
    """The name of a snapshot, from its id. Unlike an lvol's it is no number, because both are in one lvstore."""
    return f"snap_{number}"


class _Stores:
    """How the lvstore of a row is called: by its UUID, and on a disk that is NEW by the name that it will get."""

    def __init__(self, rows, drives):
        self._new = {row["id"]: _store_name(row) for row in rows.get("disks", ()) if drives and row["state"] == "NEW"}

    def of(self, row):
        return row["lvstore_uuid"] or self._new.get(row["disk_id"])


def _store_name(disk):
    return disk["lvstore_name"] or f"lvs-{disk['id']}"


def _disk(row, lvstore_options):
    wanted = {
        "serial": row["serial"],
        "bdf": row["bdf"],
        "lvstore": _store_name(row),
        "lvstore_uuid": row["lvstore_uuid"],
        "create": row["state"] == "NEW" and not row["lvstore_uuid"],
        **lvstore_options,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _lvol(row, store):
    return {
        "name": str(row["id"]),
        "lvstore": store,
        "size": str(row["size_bytes"]),
        "thin": row["thin"],
        "clear_method": row["clear_method"],
        "growth": "plain",  # of one that is half made: nobody has used it
    }


def _existing(row, name):
    wanted = {"name": name, "lvstore": row["lvstore_uuid"], "uuid": row["uuid"]}
    return {**wanted, "size": str(row["size_bytes"])} if "size_bytes" in row else wanted


def _absent(row, store, name):
    wanted = {"name": name, "lvstore": store, "state": "absent"}
    return {**wanted, "uuid": row["uuid"]} if row["uuid"] else wanted


def _namespace(row, bdev):
    namespace = {"bdev": bdev, "nsid": 1}
    return namespace if row["state"] == "CREATING" or not row["uuid"] else {**namespace, "bdev_uuid": row["uuid"]}


def _unexported(row, bdev):
    return {"nqn": row["nqn"], "namespaces": [_namespace(row, bdev)], "state": "absent"}


def _subsystem(row, bdev, purge, host_keys):
    wanted = {
        "nqn": row["nqn"],
        "max_namespaces": 1,
        "listeners": row["listeners"],
        "hosts": row["hosts"],
        "namespaces": [_namespace(row, bdev)],
        "purge": list(purge),
    }
    if host_keys:
        wanted["host_keys"] = _host_keys(row["hosts"], host_keys)
        if any(entry.get("psk") for entry in wanted["host_keys"]):
            wanted["listeners"] = [{**listener, "secure_channel": True} for listener in row["listeners"]]
    return wanted


def _host_keys(hosts, host_keys):
    named = {item.get("host"): {purpose: item[purpose] for purpose in item if purpose != "host"} for item in host_keys}
    return [{"host": host, **named.get(host, named.get(None, {}))} for host in hosts]


def _identity(entry):
    if entry["kind"] in ("lvol", "snapshot"):
        return entry["kind"], entry["lvstore"], entry["name"]
    return entry["kind"], entry.get("nqn") or entry.get("serial")


def _change(kind, row, to, **fields):
    change = {"kind": kind, "id": row["id"], "from": row["state"], "to": to, "revision": row["revision"]}
    return {**change, **{name: value for name, value in fields.items() if value is not None}}


def _disk_change(row, entry, stores):
    found = {}
    if entry:
        found = {"bdf": entry["bdf"], "lvstore_name": entry["lvstore"], "lvstore_uuid": entry["lvstore_uuid"]}
    store = stores.get(found.get("lvstore_uuid") or row["lvstore_uuid"], {})
    found.update((name, store[name]) for name in ("total_bytes", "free_bytes", "cluster_size") if name in store)
    if row["state"] == "NEW":
        return _change("disk", row, "UP", **found) if entry else None
    different = {name: value for name, value in found.items() if value != row[name]}
    return _change("disk", row, row["state"], **different) if different and row["state"] == "UP" else None


def _lvol_change(row, store, complete):
    entry = complete.get(("lvol", store, str(row["id"])))
    exported = ("subsystem", row["nqn"]) in complete
    if row["state"] == "CREATING" and entry and exported:
        return _change("lvol", row, "UP", nqn=row["nqn"], uuid=entry["uuid"])
    if row["state"] == "DELETING" and (entry and (exported or not row["nqn"]) or not store and not row["uuid"]):
        return _change("lvol", row, "GONE")
    return None


def _resize_change(row, entry):
    """How far an lvol has grown is recorded even if it failed then: all of it is old data or zero."""
    size = entry.get("size", 0) if entry else 0
    if size >= row["size_bytes"] and not entry["failed"]:
        return _change("lvol", row, "UP", zeroed_bytes=row["size_bytes"])
    if row["zeroed_bytes"] < size < row["size_bytes"]:
        return _change("lvol", row, "RESIZING", zeroed_bytes=size)
    return None


def _snapshot_change(row, store, complete):
    entry = complete.get(("snapshot", store, snapshot_name(row["id"])))
    if row["state"] == "CREATING" and entry:
        return _change("snapshot", row, "UP", uuid=entry["uuid"])
    if row["state"] == "DELETING" and (entry or not store and not row["uuid"]):
        return _change("snapshot", row, "GONE")
    return None
