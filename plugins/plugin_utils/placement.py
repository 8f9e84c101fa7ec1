# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where replicas go, and why. Pure, and always the same for the same rows."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Any, NamedTuple

from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._sizes import divide_up, format_size

Row = dict[str, Any]


@dataclass(frozen=True)
class Demand:
    """What is to be placed: so many replicas of one volume, each on a node of its own.

    ``size`` is that of a replica in bytes. ``kept`` are the disks that have a replica of the volume already. ``nodes``
    and ``disks`` limit the choice when they are given.
    """

    size: int
    count: int
    kept: tuple[int, ...] = ()
    nodes: list[str] | None = None
    disks: list[int] | None = None
    allow_same_domain: bool = False


class _Hindrance(NamedTuple):
    """Why a disk cannot take a replica: what it has in common with others, the whole sentence, and whose it is."""

    cause: str
    why: str
    of_node: bool = False

    def of(self, row: Row) -> Row:
        return {"node": row["node"], "disk": None if self.of_node else row["disk_id"], "why": self.why}


class Disks:
    """The disks of an estate and the room on them, which shrinks with each replica that is placed.

    ``rows`` are those of the view v_room.
    """

    def __init__(self, rows: list[Row]) -> None:
        self._rows = {row["disk_id"]: dict(row) for row in rows}
        self._unfit = {row["disk_id"]: why for row in rows if (why := _unfitness(row))}
        self._order = sorted(_rank(row) for number, row in self._rows.items() if number not in self._unfit)

    @property
    def rejected(self) -> list[Row]:
        """What can take nothing at all: ``[{node, disk, why}]``, with no disk if it is the node."""
        return _unique(why.of(self._rows[disk]) for disk, why in self._unfit.items())

    def is_up(self, disk: int) -> bool:
        """Tell whether a disk serves what is on it."""
        return self._rows[disk]["state"] == "UP"

    def place(self, demand: Demand) -> tuple[list[Row], list[Row]]:
        """Choose disks and take the room.

        Return ``(placement, rejected)``, both ``[{node, disk, why}]``; the latter is what was emptier and passed over.
        Raises Refusal when there are not enough disks, and then nothing is taken.
        """
        held = [self._rows[disk] for disk in demand.kept if disk in self._rows]
        placement: list[Row] = []
        passed: dict[int, _Hindrance] = {}
        for _replica in range(demand.count):
            row, why = self._choose(demand, held, passed)
            held.append(row)
            placement.append({"node": row["node"], "disk": row["disk_id"], "why": why})
        for entry in placement:
            passed.pop(entry["disk"], None)
            self._take(self._rows[entry["disk"]], demand.size)
        return placement, _unique(why.of(self._rows[disk]) for disk, why in passed.items())

    def grow(self, lvols: list[Row], to: int) -> None:
        """Take the room that replicas (rows of v_lvol) need to grow to so many bytes. Raises Refusal, taking none."""
        for lvol in lvols:
            row = self._rows[lvol["disk_id"]]
            if row["state"] != "UP" or row["draining"] or _is_unknown(row):
                why = self._unfit[lvol["disk_id"]].why
            elif (needed := _whole(to, row) - _whole(lvol["size_bytes"], row)) > row["room_bytes"]:
                why = _no_room(needed, row).why
            else:
                continue
            raise Refusal(f"its replica on disk {row['disk_id']} of {row['node']} cannot grow: {why}")
        for lvol in lvols:
            self._take(self._rows[lvol["disk_id"]], to, lvol["size_bytes"])

    def _choose(self, demand: Demand, held: list[Row], passed: dict[int, _Hindrance]) -> tuple[Row, str]:
        """Return the emptiest disk that can take the next replica, and why it is that one."""
        near = None
        for _fill, disk in self._order:
            row = self._rows[disk]
            if _is_outside(row, demand):
                continue
            hindrance = _hindrance(row, demand, held)
            if hindrance is None:
                return row, _reason(row, held)
            passed.setdefault(disk, hindrance)
            if near is None and hindrance.cause == _SAME_DOMAIN:
                near = row
        if near and demand.allow_same_domain:
            return near, f"no other failure domain has a disk for it; {_reason(near, [])}"
        hint = f"; allow_same_domain would allow disk {near['disk_id']} of {near['node']}" if near else ""
        causes: dict[str, list[str]] = {}
        for disk, hindrance in {**self._unfit, **passed}.items():
            if not _is_outside(self._rows[disk], demand):
                causes.setdefault(hindrance.cause, []).append(str(disk))
        found = "; ".join(f"{cause}: {_listed(disks)}" for cause, disks in causes.items())
        which = "a further replica" if held else "a replica"
        raise Refusal(
            f"no disk can take {which} of {format_size(demand.size)} ({found or 'there is none to choose from'}){hint}"
        )

    def _take(self, row: Row, size: int, had: int = 0) -> None:
        if row["disk_id"] not in self._unfit:
            self._order.remove(_rank(row))
        row["room_bytes"] -= _whole(size, row) - _whole(had, row)
        row["objects"] += not had
        if row["disk_id"] not in self._unfit:
            insort(self._order, _rank(row))


_SAME_NODE = "its node has a replica of the volume"
_SAME_DOMAIN = "its failure domain has a replica of the volume"


def _rank(row: Row) -> tuple[int, int]:
    """Emptiest first, in whole millionths of the disk, then by id."""
    return -row["room_bytes"] * 10**6 // max(row["total_bytes"], 1), row["disk_id"]


def _is_unknown(row: Row) -> bool:
    return None in (row["cluster_size"], row["total_bytes"], row["room_bytes"])


def _unfitness(row: Row) -> _Hindrance | None:
    """Why a disk can take no replica whatever."""
    if row["node_state"] != "active":
        return _Hindrance(f"the node is {row['node_state']}", f"the node is {row['node_state']}", of_node=True)
    why = None
    if row["state"] != "UP":
        why = f"the disk is {row['state']}"
    elif row["draining"]:
        why = "the disk is being drained"
    elif row["health"] == "critical":
        why = "the health of the disk is critical"
    elif _is_unknown(row):
        why = "the size of its lvstore is not recorded yet; converge the node"
    return _Hindrance(why, why) if why else None


def _hindrance(row: Row, demand: Demand, held: list[Row]) -> _Hindrance | None:
    """Why a disk cannot take the next replica."""
    if any(other["node"] == row["node"] for other in held):
        return _Hindrance(_SAME_NODE, "the node has a replica of the volume", of_node=True)
    if _whole(demand.size, row) > row["room_bytes"]:
        return _no_room(_whole(demand.size, row), row)
    if row["objects"] + 1 >= row["total_bytes"] // row["cluster_size"]:
        why = f"its lvstore has room for no more lvols than the {row['objects']} lvols and snapshots that it has"
        return _Hindrance("too many lvols", why)
    if any(_domain(other) == _domain(row) for other in held):
        return _Hindrance(_SAME_DOMAIN, f"failure domain {_domain(row)} has a replica of the volume", of_node=True)
    return None


def _no_room(needed: int, row: Row) -> _Hindrance:
    room = format_size(max(row["room_bytes"], 0))
    return _Hindrance("no room", f"it takes {format_size(needed)}, and the disk has room for {room}")


def _reason(row: Row, held: list[Row]) -> str:
    free = max(row["room_bytes"], 0) * 100 // max(row["total_bytes"], 1)
    outside = f" outside {' and '.join(sorted({_domain(other) for other in held}))}" if held else ""
    return f"the emptiest disk that can take it{outside}: {free}% of {format_size(row['total_bytes'])} to give away"


def _domain(row: Row) -> str:
    """A node that names no failure domain is one by itself."""
    return row["failure_domain"] or f"node {row['node']}"


def _is_outside(row: Row, demand: Demand) -> bool:
    return (demand.nodes is not None and row["node"] not in demand.nodes) or (
        demand.disks is not None and row["disk_id"] not in demand.disks
    )


def _whole(size: int, row: Row) -> int:
    """The bytes of the clusters that an lvol of ``size`` bytes has on a disk."""
    return divide_up(size, row["cluster_size"]) * row["cluster_size"]


def _listed(disks: list[str]) -> str:
    return f"disk {', '.join(disks[:5])}{f' and {len(disks) - 5} more' if len(disks) > 5 else ''}"


def _unique(entries: Any) -> list[Row]:
    return [dict(each) for each in dict.fromkeys(tuple(entry.items()) for entry in entries)]
