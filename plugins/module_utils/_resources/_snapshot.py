# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots of lvols. Private to the collection.

An lvol becomes a clone of its snapshot. A snapshot with one clone can be deleted: what it holds goes to the clone; with
more than one SPDK refuses (contract section 5).
"""

from __future__ import annotations

from .. import _naming, _options
from .._errors import Refusal
from .._graph import LVOL_PRODUCT, UNKNOWN_PARENT, Bdev, Graph, Lvol, Lvstore
from .._plan import DESTRUCTIVE, Action, Change, Missing
from ._lvol import InLvstore, family, require_store, require_uuid


class SnapshotResource(InLvstore):
    """A snapshot in the lvstore of its lvol."""

    kind = "snapshot"
    plural = "snapshots"
    rank = 4
    options = _options.SNAPSHOT

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.store_name(options["name"], "snapshot name")
        store = require_store(options["lvstore"], graph)
        found = graph.lvols.get((store.name, name))
        require_uuid(found, options)
        if found is None:
            return _create(name, store, options, graph) if options["state"] == "present" else Change(None, None)
        if not found.is_snapshot:
            raise Refusal("an lvol that is no snapshot has that name; it is left alone")
        if options["state"] == "absent":
            return _delete(found, store, graph)
        return Change(_fields(found), _fields(found), facts={"uuid": found.uuid, "alias": found.alias})


def _fields(snapshot: Lvol) -> dict:
    return {"lvstore": snapshot.lvstore, "name": snapshot.name, "size": snapshot.size}


def _create(name: str, store: Lvstore, options: dict, graph: Graph) -> Change:
    if not options["lvol"]:
        raise Refusal("the snapshot does not exist; name the lvol to take it of (lvol)")
    origin = graph.lvols.get((store.name, options["lvol"]))
    alias = f"{store.name}/{options['lvol']}"
    if origin is None:
        raise Missing(("bdev", alias), f"there is no lvol {alias} to take a snapshot of")
    if origin.is_snapshot:
        raise Refusal(f"{alias} is a snapshot itself")
    if origin.size is None and origin.uuid:
        raise Refusal(f"{alias} is listed without a bdev: half deleted, or its parent is missing; look at it first")
    planned = Lvol(store.name, name, None, origin.size, origin.thin, True, origin.parent, origin.allocated)
    action = Action(
        "bdev_lvol_snapshot",
        {"lvol_name": alias, "snapshot_name": name},
        f"take a snapshot of {alias}",
        holds=(("bdev", alias), ("bdev", planned.alias), *family(origin)),
        uses=(("lvstore", store.name),),
        learns="uuid",
    )

    def predict(world: Graph) -> None:
        world.lvols[store.name, name] = planned
        world.lvols[store.name, origin.name] = origin._replace(thin=True, parent=name, allocated=0)
        bdev = world.bdev(alias)
        block_size = bdev.block_size if bdev else 0
        world.add_bdev(Bdev(planned.alias, (planned.alias,), None, LVOL_PRODUCT, block_size, planned.size, False))

    return Change(None, _fields(planned), [action], facts={"uuid": None, "alias": planned.alias}, predict=predict)


def _delete(found: Lvol, store: Lvstore, graph: Graph) -> Change:
    user = graph.user(found.uuid or "")
    if user:
        raise Refusal(f"it is {user}; take that away first")
    clones = graph.clones(found)
    strangers = sorted(lvol.name for lvol in clones if lvol.parent == UNKNOWN_PARENT)
    if strangers:
        raise Refusal(
            f"{', '.join(strangers[:5])} may be its clones: they are listed without a bdev, half deleted or degraded; "
            f"look at them first"
        )
    names = sorted(lvol.name for lvol in clones)
    if len(names) > 1:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise Refusal(
            f"{', '.join(names[:5])}{more} are clones of it; delete them, or make them independent of it "
            f"(independent of spdk_lvol), until one is left"
        )
    clone = clones[0] if clones else None
    notes = [f"what it holds goes to its only clone {clone.alias}"] if clone else []
    action = Action(
        "bdev_lvol_delete",
        {"name": found.alias},
        "delete the snapshot",
        holds=(("bdev", found.alias), *((("bdev", clone.alias),) if clone else ()), *family(found)),
        uses=(("lvstore", store.name),),
        risk=DESTRUCTIVE,
    )

    def predict(world: Graph) -> None:
        world.remove_lvol(found)
        if clone:
            heir = world.lvols[store.name, clone.name]
            world.lvols[store.name, clone.name] = heir._replace(parent=found.parent)

    return Change(
        _fields(found),
        None,
        [action],
        facts={"uuid": found.uuid, "alias": found.alias},
        predict=predict,
        notes=notes,
    )
