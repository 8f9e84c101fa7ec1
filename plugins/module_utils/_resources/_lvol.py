# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logical volumes. Private to the collection."""

from __future__ import annotations

from .. import _naming
from .._errors import Refusal
from .._graph import LVOL_PRODUCT, Bdev, Graph, Lvol, Lvstore
from .._plan import DESTRUCTIVE, Action, Change, Missing
from .._sizes import format_size, lvol_size, parse_size

_BLOCK_SIZE = 4096


class LvolResource:
    """An lvol of an lvstore, addressed by name; its bdev is the UUID that SPDK gives it."""

    kind = "lvol"
    plural = "lvols"
    rank = 3
    options = {
        "name": {"type": "str", "required": True},
        "lvstore": {"type": "str", "required": True},
        "size": {"type": "str"},
        "thin": {"type": "bool"},
        "clear_method": {"type": "str", "choices": ["default", "none", "unmap", "write_zeroes"]},
        "allow_shrink": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"lvstore": options["lvstore"], "name": options["name"]}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages: its alias."""
        store = graph.lvstore(options["lvstore"])
        return f"{store.name if store else options['lvstore']}/{options['name']}"

    @classmethod
    def keys(cls, options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("bdev", cls.title(options, graph))]

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.store_name(options["name"], "lvol name")
        size = parse_size(options["size"]) if options["size"] is not None else None
        store = graph.lvstore(options["lvstore"])
        if store is None:
            loaded = ", ".join(sorted(graph.lvstores)) or "none"
            raise Missing(
                ("lvstore", options["lvstore"]),
                f"lvstore {options['lvstore']} is not loaded on this target (loaded: {loaded})",
            )
        found = graph.lvols.get((store.name, name))
        if options["state"] == "absent":
            return _delete(found, store, graph) if found else Change(None, None)
        if found is None:
            return _create(name, store, size, options, graph)
        return _compare(found, store, size, options, graph)


def _fields(lvol: Lvol) -> dict:
    return {"lvstore": lvol.lvstore, "name": lvol.name, "size": lvol.size, "thin": lvol.thin}


def _rounding(wanted: int, real: int, store: Lvstore) -> list:
    if wanted == real:
        return []
    return [
        f"{format_size(wanted)} was rounded up to {format_size(real)}, "
        f"whole clusters of {format_size(store.cluster_size)}"
    ]


def _needs_freed(store: Lvstore, clusters: int, graph: Graph) -> bool:
    """Tell whether so many clusters are free only after what the plan does before. Raises Refusal if not even then."""
    if store.free_clusters is None or clusters <= store.free_clusters:
        return False
    free = store.free_clusters + graph.freed.get(store.name, 0)
    if clusters > free:
        raise Refusal(
            f"no space: it needs {clusters} clusters of {format_size(store.cluster_size)} and lvstore {store.name} has "
            f"{free} free"
        )
    return True


def _keys(alias: str, store: Lvstore, needs_freed: bool) -> dict:
    """Return the keys of an action on an lvol; one that needs freed clusters waits for all before it on the lvstore."""
    if needs_freed:
        return {"holds": (("bdev", alias), ("lvstore", store.name))}
    return {"holds": (("bdev", alias),), "uses": (("lvstore", store.name),)}


def _take(world: Graph, store: str, clusters: int) -> None:
    """Take clusters from the predicted lvstore; given back ones count as free only for who waits for them."""
    current = world.lvstores[store]
    if current.free_clusters is None:
        return
    free = current.free_clusters
    if clusters < 0:
        world.freed[store] = world.freed.get(store, 0) - clusters
        return
    if clusters > free:
        free += world.freed.pop(store, 0)
    world.lvstores[store] = current._replace(free_clusters=free - clusters)


def _create(name: str, store: Lvstore, size: int | None, options: dict, graph: Graph) -> Change:
    if size is None:
        raise Refusal("the lvol does not exist; give its size to create it")
    size_in_mib, real = lvol_size(size, store.cluster_size)
    thin = bool(options["thin"])
    clusters = 0 if thin else real // store.cluster_size
    needs_freed = _needs_freed(store, clusters, graph)
    params = {"lvol_name": name, "size_in_mib": size_in_mib, "thin_provision": thin}
    params.update({"uuid": store.uuid} if store.uuid else {"lvs_name": store.name})
    if options["clear_method"]:
        params["clear_method"] = options["clear_method"]
    planned = Lvol(store.name, name, None, real, thin, False)
    action = Action(
        "bdev_lvol_create",
        params,
        f"create a {'thin' if thin else 'thick'} lvol of {format_size(real)}",
        learns="uuid",
        **_keys(planned.alias, store, needs_freed),
    )

    def predict(world: Graph) -> None:
        world.lvols[store.name, name] = planned
        world.add_bdev(Bdev(planned.alias, (planned.alias,), None, LVOL_PRODUCT, _BLOCK_SIZE, real, False))
        _take(world, store.name, clusters)

    return Change(
        None,
        _fields(planned),
        [action],
        facts={"uuid": None, "alias": planned.alias},
        predict=predict,
        notes=_rounding(size, real, store),
    )


def _compare(found: Lvol, store: Lvstore, size: int | None, options: dict, graph: Graph) -> Change:
    facts = {"uuid": found.uuid, "alias": found.alias}
    if found.is_snapshot:
        raise Refusal("a snapshot has that name")
    if found.size is None:
        raise Refusal(
            "it is listed without a bdev: half deleted, or degraded because its parent is missing; look at it first"
        )
    if options["thin"] is not None and options["thin"] != found.thin:
        raise Refusal(
            f"it is {'thin' if found.thin else 'thick'}, wanted {'thin' if options['thin'] else 'thick'}; SPDK cannot "
            f"change that in place"
        )
    before = _fields(found)
    if size is None:
        return Change(before, before, facts=facts)
    size_in_mib, real = lvol_size(size, store.cluster_size)
    notes = _rounding(size, real, store)
    if real == found.size:
        return Change(before, before, facts=facts, notes=notes)
    grow = real > found.size
    clusters = 0 if found.thin else (real - found.size) // store.cluster_size
    needs_freed = grow and _needs_freed(store, clusters, graph)
    if not grow:
        _require_shrinkable(found, real, options, graph)
    action = Action(
        "bdev_lvol_resize",
        {"name": found.alias, "size_in_mib": size_in_mib},
        f"{'grow' if grow else 'shrink'} from {format_size(found.size)} to {format_size(real)}",
        risk="safe" if grow else DESTRUCTIVE,
        **_keys(found.alias, store, needs_freed),
    )
    planned = found._replace(size=real)

    def predict(world: Graph) -> None:
        world.lvols[store.name, found.name] = planned
        world.bdevs[found.uuid] = world.bdevs[found.uuid]._replace(size=real)
        _take(world, store.name, clusters)

    return Change(before, _fields(planned), [action], facts=facts, predict=predict, notes=notes)


def _require_shrinkable(lvol: Lvol, real: int, options: dict, graph: Graph) -> None:
    change = f"shrinking from {format_size(lvol.size or 0)} to {format_size(real)} gives up data"
    if not options["allow_shrink"]:
        raise Refusal(f"{change}; it is done only with allow_shrink: true")
    user = graph.user(lvol.uuid or "")
    if user:
        raise Refusal(f"{change}, and it is {user}: SPDK would free the clusters and yet report an error")


def _delete(found: Lvol, store: Lvstore, graph: Graph) -> Change:
    if found.is_snapshot:
        raise Refusal("it is a snapshot; this module deletes lvols only")
    user = graph.user(found.uuid or "")
    if user:
        raise Refusal(f"it is {user}; take that away first")
    action = Action(
        "bdev_lvol_delete",
        {"name": found.alias},
        f"delete the lvol of {format_size(found.size or 0)}",
        holds=(("bdev", found.alias),),
        uses=(("lvstore", store.name),),
        risk=DESTRUCTIVE,
    )

    def predict(world: Graph) -> None:
        del world.lvols[store.name, found.name]
        if found.uuid and found.uuid in world.bdevs:
            world.remove_bdev(found.uuid)
        if not found.thin:
            _take(world, store.name, -((found.size or 0) // store.cluster_size))

    return Change(_fields(found), None, [action], facts={"uuid": found.uuid, "alias": found.alias}, predict=predict)
