# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From volumes as somebody wants them to wishes for the database. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._sizes import format_size, parse_size
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import LIMITS, SUPERBLOCK
from ansible_collections.excloud.diskengine.plugins.plugin_utils.placement import Demand, Disks

Row = dict[str, Any]


def plan_volumes(wanted: list[Row], volumes: dict[str, Row], disks: Disks) -> list[Row]:
    """Return ``{wish, placement, rejected}`` for each volume, or ``{reason}`` if it cannot be as wanted.

    ``wish`` is a row for wish_volumes(), None if there is nothing to wish. ``wanted`` are the options of the module
    volume for each volume, ``volumes`` the rows that read_volumes() returns, by name. The room is taken from ``disks``,
    so a volume is placed beside those before it.
    """
    times = Counter(options["name"] for options in wanted)
    return [_plan(options, volumes.get(options["name"]), disks, times[options["name"]]) for options in wanted]


def _plan(options: Row, volume: Row | None, disks: Disks, times: int) -> Row:
    try:
        if times > 1:
            raise Refusal("it is named more than once")
        return _plan_one(options, volume, disks)
    except Refusal as refusal:
        return {"reason": str(refusal)}


def volume_result(name: str, decided: Row, outcome: Row | None, before: Row | None, after: Row | None) -> Row:
    """Return what the module volume tells of one volume: its plan, what became of it, and its rows before and now."""
    done = outcome or {"outcome": "refused" if "reason" in decided else "unchanged", "reason": decided.get("reason")}
    return {
        "name": name,
        "id": (after or {}).get("id"),
        "outcome": done["outcome"],
        "reason": done["reason"],
        "state": after and after["state"],
        "replicas": [_replica(lvol) for lvol in (after or {}).get("lvols", ())],
        "placement": decided.get("placement", []),
        "rejected": decided.get("rejected", []),
        "before": _managed(before),
        "after": _managed(after),
    }


def forget_new_ids(results: list[Row], before: dict[str, Row]) -> None:
    """Take away the ids that a check run made: a run gets others."""
    for result in results:
        known = before.get(result["name"])
        result["id"] = known and known["id"]
        ids = {lvol["id"] for lvol in known["lvols"]} if known else set()
        for replica in result["replicas"]:
            replica["lvol"] = replica["lvol"] if replica["lvol"] in ids else None


def _replica(lvol: Row) -> Row:
    return {
        "lvol": lvol["id"],
        **{name: lvol[name] for name in ("node", "state", "size_bytes")},
        "disk": lvol["disk_id"],
    }


def _managed(volume: Row | None) -> Row:
    """The fields of a volume that wishes are about, without ids that a run would not get again."""
    if volume is None:
        return {}
    fields = ("size_bytes", "replicas", "source_snapshot_id", *LIMITS)
    lvols = [
        {
            "node": lvol["node"],
            "disk": lvol["disk_id"],
            **{name: lvol[name] for name in ("state", "size_bytes", "thin")},
        }
        for lvol in volume["lvols"]
    ]
    return {**{name: volume[name] for name in fields}, "lvols": lvols}


def _plan_one(options: Row, volume: Row | None, disks: Disks) -> Row:
    if options["state"] == "absent":
        return _decided(_removal(volume) if volume else None)
    size = parse_size(options["size"]) if options["size"] is not None else None
    if volume is None:
        return _creation(options, size, disks)
    kept = _kept(volume)
    if volume["lvols"] and not kept:
        raise Refusal("it is being deleted; converge its nodes, then it can be made anew")
    changes = _changes(options, size, volume)
    grown = _growth(kept, changes["size_bytes"] + SUPERBLOCK, disks) if "size_bytes" in changes else []
    new, placement, rejected = _replicas(options, changes, volume, kept, disks)
    if not (changes or new):
        return _decided(None)
    wish = {"id": volume["id"], "revision": volume["revision"], **changes, "lvols": grown + new}
    return _decided(wish, placement, rejected)


def plan_drain(options: Row, volumes: list[Row], disk: int, disks: Disks) -> list[Row]:
    """Return, as plan_volumes() does, how each volume gives up its replica on a disk and gets another elsewhere.

    ``options`` are those of the module disk, ``volumes`` those with a replica on it. One without a healthy replica
    elsewhere is refused. So is one that no VM has, unless ``allow_unmapped``: only a mirror gives a new replica its
    data.
    """
    anywhere = {"thin": None, "clear_method": None, "nodes": None, "disks": None, **options}
    return [_moved(anywhere, volume, disk, disks) for volume in volumes]


def _moved(options: Row, volume: Row, disk: int, disks: Disks) -> Row:
    kept = [lvol for lvol in _kept(volume) if lvol["disk_id"] != disk]
    leaving = [lvol for lvol in _kept(volume) if lvol["disk_id"] == disk]
    if not leaving:
        return _decided(None)
    try:
        _require_healthy(volume, kept, disks, options["allow_unmapped"])
        lvols, placement, rejected = _replicas(options, {}, volume, kept, disks, like=leaving[0])
    except Refusal as refusal:
        return {"reason": str(refusal)}
    going = [{"id": lvol["id"], "revision": lvol["revision"], "state": "DELETING"} for lvol in leaving]
    wish = {"id": volume["id"], "revision": volume["revision"], "lvols": going + lvols}
    return _decided(wish, placement, rejected)


def _require_healthy(volume: Row, kept: list[Row], disks: Disks, allow_unmapped: bool) -> None:
    """Raise Refusal unless a volume can do without its other replicas; one that no VM ever had holds no data."""
    served = any(mapping["state"] != "ASSIGNED" for mapping in volume["mappings"])
    if not served and all(lvol["membership"] == "NONE" for lvol in volume["lvols"]):
        return
    healthy = [lvol for lvol in kept if lvol["state"] == "UP" and lvol["membership"] == "IN_SYNC"]
    if not any(disks.is_up(lvol["disk_id"]) for lvol in healthy):
        found = ", ".join(f"lvol {lvol['id']} on {lvol['node']} {lvol['state']}, {lvol['membership']}" for lvol in kept)
        raise Refusal(f"no other replica is UP and IN_SYNC on a disk that is UP (others: {found or 'none'})")
    if all(mapping["state"] in ("DETACHING", "DETACHED") for mapping in volume["mappings"]) and not allow_unmapped:
        raise Refusal("it is not mapped, so nothing would give a new replica its data; map it, or say allow_unmapped")


def _decided(wish: Row | None, placement: list[Row] | None = None, rejected: list[Row] | None = None) -> Row:
    return {"wish": wish, "placement": placement or [], "rejected": rejected or []}


def _kept(volume: Row) -> list[Row]:
    return [lvol for lvol in volume["lvols"] if lvol["state"] != "DELETING"]


def _removal(volume: Row) -> Row | None:
    for mapping in volume["mappings"]:
        if mapping["state"] == "DETACHING":
            raise Refusal(f"it is still being detached on {mapping['node']}; converge that node first")
        if mapping["state"] != "DETACHED":
            of_vm = f" for VM {mapping['vm']}" if mapping["vm"] else ""
            raise Refusal(f"it is mapped on {mapping['node']}{of_vm} ({mapping['state']}); detach it first")
    if volume["lvols"] and not _kept(volume):
        return None
    return {"id": volume["id"], "revision": volume["revision"], "state": "GONE"}


def _creation(options: Row, size: int | None, disks: Disks) -> Row:
    if size is None:
        raise Refusal("it does not exist; give its size to create it")
    volume = {
        "name": options["name"],
        "size_bytes": size,
        "replicas": 2 if options["replicas"] is None else options["replicas"],
        "source_snapshot_id": options["source_snapshot"],
        **{limit: options[limit] or 0 for limit in LIMITS},
    }
    lvols, placement, rejected = _replicas(options, {}, volume, [], disks)
    return _decided({**volume, "lvols": lvols}, placement, rejected)


def _changes(options: Row, size: int | None, volume: Row) -> Row:
    """Return the columns of a volume that are to change. Raises Refusal for what cannot."""
    wanted = {"size_bytes": size, **{name: options[name] for name in ("replicas", *LIMITS)}}
    changes = {name: value for name, value in wanted.items() if value is not None and value != volume[name]}
    if changes.get("size_bytes", volume["size_bytes"]) < volume["size_bytes"]:
        raise Refusal(
            f"it has {format_size(volume['size_bytes'])}, wanted {format_size(changes['size_bytes'])}; "
            "a volume only grows"
        )
    if changes.get("replicas", volume["replicas"]) < volume["replicas"]:
        raise Refusal(
            f"it has {volume['replicas']} replicas, wanted {changes['replicas']}; none is taken away from here"
        )
    if options["source_snapshot"] not in (None, volume["source_snapshot_id"]):
        source = volume["source_snapshot_id"]
        raise Refusal(f"it was made {f'from snapshot {source}' if source else 'empty'}; that cannot change")
    return changes


def _growth(kept: list[Row], size: int, disks: Disks) -> list[Row]:
    smaller = [lvol for lvol in kept if lvol["size_bytes"] < size]
    disks.grow(smaller, size)
    return [
        {
            "id": lvol["id"],
            "revision": lvol["revision"],
            "state": "CREATING" if lvol["state"] == "CREATING" else "RESIZING",
            "size_bytes": size,
        }
        for lvol in smaller
    ]


def _replicas(
    options: Row, changes: Row, volume: Row, kept: list[Row], disks: Disks, like: Row | None = None
) -> tuple[list, list, list]:
    """Return the replicas that a volume lacks, as wishes, with their placement and what was passed over."""
    wanted = {**volume, **changes}
    like = like or (kept[0] if kept else {"thin": False, "clear_method": "unmap"})
    demand = Demand(
        size=wanted["size_bytes"] + SUPERBLOCK,
        count=max(wanted["replicas"] - len(kept), 0),
        kept=tuple(lvol["disk_id"] for lvol in kept),
        nodes=options["nodes"],
        disks=options["disks"],
        allow_same_domain=options["allow_same_domain"],
    )
    placement, rejected = disks.place(demand)
    made = {name: like[name] if options[name] is None else options[name] for name in ("thin", "clear_method")}
    return [{"disk_id": each["disk"], "size_bytes": demand.size, **made} for each in placement], placement, rejected
