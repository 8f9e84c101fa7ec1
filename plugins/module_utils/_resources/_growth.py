# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an lvol grows so that nobody reads old data in its new bytes. Private to the collection.

SPDK does not clear a cluster that an lvol takes, and hosts see a new size at once (docs/spdk-facts.md). So clusters
are cleared while they belong to nobody: a thick lvol with ``clear_method: write_zeroes`` takes the lowest free ones,
its deletion writes zeroes to them, and the lvol that grows then takes the same ones. Cut off anywhere, it has only
bytes that are old data or zero, and its size says how far this got.
"""

from __future__ import annotations

from typing import NamedTuple

from .. import _naming
from .._errors import Refusal
from .._graph import Graph, Lvol, Lvstore
from .._plan import SAFE, Action
from .._sizes import MIB, format_size, lvol_size, parse_size

_STEP = 1 << 30
_PREFIX = "diskengine_zero_"


class Growth(NamedTuple):
    """The size that an lvol gets to in this run, in bytes, the actions for it, and sentences for the user."""

    size: int
    actions: list
    notes: list


def helper_of(lvol: Lvol, graph: Graph) -> Lvol | None:
    """Return the lvol that clears clusters for another, if a run that was cut off has left it."""
    return graph.lvols.get((lvol.lvstore, _PREFIX + lvol.name))


def remove_helper(helper: Lvol) -> Action:
    """Return the action that deletes such an lvol and clears its clusters."""
    return Action(
        "bdev_lvol_delete",
        {"name": helper.alias},
        f"write zeroes to {format_size(helper.size or 0)} of free clusters",
        holds=(("bdev", helper.alias), ("lvstore", helper.lvstore)),
    )


def resize(lvol: Lvol, size: int, holds: tuple, uses: tuple = (), risk: str = SAFE) -> Action:
    """Return the action that gives an lvol another size, in bytes."""
    verb = "grow" if size > (lvol.size or 0) else "shrink"
    return Action(
        "bdev_lvol_resize",
        {"name": lvol.alias, "size_in_mib": size // MIB},
        f"{verb} from {format_size(lvol.size or 0)} to {format_size(size)}",
        holds=holds,
        uses=uses,
        risk=risk,
    )


def grow_zeroed(lvol: Lvol, size: int, store: Lvstore, options: dict, graph: Graph) -> Growth:
    """Plan the growth to ``size``, as much of it as ``zero_limit`` allows. Raises Refusal where old data would show."""
    _require_sole_taker(lvol, store, graph)
    name = _naming.store_name(_PREFIX + lvol.name, "name of the lvol that takes free clusters")
    helper = Lvol(store.name, name, None, None, False, False)
    actions = []
    limit = lvol_size(parse_size(options["zero_limit"], "zero_limit"), store.cluster_size)[1]
    step = lvol_size(_STEP, store.cluster_size)[1]
    goal = min(size, (lvol.size or 0) + limit)
    holds = (("bdev", lvol.alias), ("bdev", helper.alias), ("lvstore", store.name))
    while lvol.size != goal:
        reached = min((lvol.size or 0) + step, goal)
        piece = helper._replace(size=reached - (lvol.size or 0))
        actions += [_create(piece, store), remove_helper(piece), resize(lvol, reached, holds)]
        lvol = lvol._replace(size=reached)
    notes = []
    if goal < size:
        notes.append(f"{format_size(size - goal)} are left for the next run (zero_limit {options['zero_limit']})")
    return Growth(goal, actions, notes)


def _create(helper: Lvol, store: Lvstore) -> Action:
    return Action(
        "bdev_lvol_create",
        {
            "lvol_name": helper.name,
            "size_in_mib": (helper.size or 0) // MIB,
            "thin_provision": False,
            "clear_method": "write_zeroes",
            **({"uuid": store.uuid} if store.uuid else {"lvs_name": store.name}),
        },
        f"take {format_size(helper.size or 0)} of free clusters",
        holds=(("bdev", helper.alias), ("lvstore", store.name)),
    )


def _require_sole_taker(lvol: Lvol, store: Lvstore, graph: Graph) -> None:
    """Refuse where a write of a host can take a free cluster at any time: that of a thin lvol does."""
    why = "growth: plain grows it all the same, which is right where all free clusters are known to be zero"
    if lvol.thin:
        raise Refusal(
            f"it is thin, so it would grow by bytes that show old data: free clusters may hold some, and SPDK does not "
            f"clear the one that a host's write takes; {why}"
        )
    others = (other for other in graph.lvols.values() if other.lvstore == store.name and not other.is_snapshot)
    thin = sorted(other.name for other in others if other.thin)
    if thin:
        raise Refusal(
            f"its new clusters cannot be zeroed safely, because the thin lvol {thin[0]} takes free clusters of lvstore "
            f"{store.name} at any time; {why}"
        )
