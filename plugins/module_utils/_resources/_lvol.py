# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logical volumes. Private to the collection."""

from __future__ import annotations

from .. import _naming, _options
from .._errors import Refusal
from .._graph import LVOL_PRODUCT, Bdev, Graph, Lvol, Lvstore
from .._plan import DESTRUCTIVE, Action, Change, Missing
from .._sizes import format_size, lvol_size, parse_size

_BLOCK_SIZE = 4096


class InLvstore:
    """What is named within an lvstore: lvols and snapshots."""

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


class LvolResource(InLvstore):
    """An lvol of an lvstore, addressed by name; its bdev is the UUID that SPDK gives it."""

    kind = "lvol"
    plural = "lvols"
    rank = 3
    clone_rank = 5
    tells = ("size",)
    options = _options.LVOL

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.store_name(options["name"], "lvol name")
        size = parse_size(options["size"]) if options["size"] is not None else None
        store = require_store(options["lvstore"], graph)
        found = graph.lvols.get((store.name, name))
        require_uuid(found, options)
        if options["state"] == "absent":
            return _delete(found, store, graph) if found else Change(None, None)
        if found is None and options["clone_of"]:
            change = _clone(name, store, options, graph)
        elif found is None:
            change = _create(name, store, size, options, graph)
        else:
            change = _compare(found, store, size, options, graph)
        return _follow(change, name, store, size, options, graph)


def require_store(reference: str, graph: Graph) -> Lvstore:
    """Return the lvstore. Raises Missing: nothing is known of what it holds while it is not loaded."""
    store = graph.lvstore(reference)
    if store is None:
        loaded = ", ".join(sorted(graph.lvstores)) or "none"
        raise Missing(("lvstore", reference), f"lvstore {reference} is not loaded on this target (loaded: {loaded})")
    return store


def require_uuid(found: Lvol | None, options: dict) -> None:
    """Raise Refusal when another UUID is wanted: something else has taken the name, or it is gone."""
    if not options["uuid"]:
        return
    if found is None and options["state"] == "present":
        raise Refusal(f"it is not there, and a new one would not have the UUID {options['uuid']}; its data is gone")
    if found and found.uuid != _naming.uuid(options["uuid"], "uuid"):
        raise Refusal(f"{found.alias} has UUID {found.uuid}, wanted {options['uuid']}; it is left alone")


def family(lvol: Lvol) -> tuple:
    """Return the key of an lvol's parent, which is changed with it.

    Deleting both at once ends the target, or loses one of them from its lists (docs/spdk-facts.md).
    """
    return (("bdev", f"{lvol.lvstore}/{lvol.parent}"),) if lvol.parent else ()


def _fields(lvol: Lvol) -> dict:
    return {
        "lvstore": lvol.lvstore,
        "name": lvol.name,
        "size": lvol.size,
        "thin": lvol.thin,
        **({"clone_of": lvol.parent} if lvol.parent else {}),
    }


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
    planned = Lvol(store.name, name, None, real, thin, False, allocated=clusters)
    action = Action(
        "bdev_lvol_create",
        params,
        f"create a {'thin' if thin else 'thick'} lvol of {format_size(real)}",
        learns="uuid",
        **_keys(planned.alias, store, needs_freed),
    )

    def predict(world: Graph) -> None:
        _put(world, planned)
        _take(world, store.name, clusters)

    return Change(
        None,
        _fields(planned),
        [action],
        facts={"uuid": None, "alias": planned.alias},
        predict=predict,
        notes=_rounding(size, real, store),
    )


def _require_parent(found: Lvol, options: dict) -> None:
    if (
        options["clone_of"]
        and found.parent != options["clone_of"]
        and not (options["independent"] and not found.parent)
    ):
        what = f"a clone of {found.parent}" if found.parent else "no clone"
        raise Refusal(f"it is {what}, wanted a clone of {options['clone_of']}; it is left alone")


def _clone(name: str, store: Lvstore, options: dict, graph: Graph) -> Change:
    snapshot = graph.lvols.get((store.name, options["clone_of"]))
    alias = f"{store.name}/{options['clone_of']}"
    if snapshot is None:
        raise Missing(("bdev", alias), f"there is no snapshot {alias} to clone")
    if not snapshot.is_snapshot:
        raise Refusal(f"{alias} is no snapshot, so it cannot be cloned")
    planned = Lvol(store.name, name, None, snapshot.size, True, False, snapshot.name)
    action = Action(
        "bdev_lvol_clone",
        {"snapshot_name": alias, "clone_name": name},
        f"clone the snapshot {alias}",
        holds=(("bdev", planned.alias), ("bdev", alias)),  # two at a time of one snapshot: the second is refused
        uses=(("lvstore", store.name),),
        learns="uuid",
    )
    return Change(
        None,
        _fields(planned),
        [action],
        facts={"uuid": None, "alias": planned.alias},
        predict=lambda world: _put(world, planned),
    )


def _put(world: Graph, planned: Lvol) -> None:
    world.lvols[planned.lvstore, planned.name] = planned
    world.add_bdev(Bdev(planned.alias, (planned.alias,), None, LVOL_PRODUCT, _BLOCK_SIZE, planned.size, False))


def _follow(change: Change, name: str, store: Lvstore, size: int | None, options: dict, graph: Graph) -> Change:
    """Add what comes after an lvol is there: a clone grows to its size, and becomes independent of its snapshot."""
    if not options["clone_of"] and not options["independent"]:
        return change
    world = graph.copy()
    change.predict(world)
    lvol = world.lvols[store.name, name]
    steps = [change]
    if lvol.uuid is None and options["clone_of"] and size is not None:
        steps.append(_compare(lvol, store, size, options, world))
        steps[-1].predict(world)
    if options["independent"] and (lvol.parent or (lvol.thin and options["independent"] == "inflate")):
        steps.append(_detach(world.lvols[store.name, name], store, options["independent"], world))

    def predict(target: Graph) -> None:
        for step in steps:
            step.predict(target)

    return Change(
        change.before,
        steps[-1].after,
        [action for step in steps for action in step.actions],
        facts=change.facts,
        predict=predict,
        notes=[note for step in steps for note in step.notes],
    )


def _detach(lvol: Lvol, store: Lvstore, how: str, graph: Graph) -> Change:
    """Copy what an lvol has from its snapshots: all clusters of its size, or, one after the other, what each holds."""
    clusters = _clusters(lvol, store) - lvol.allocated if how == "inflate" else 0
    above = _ancestors(lvol, graph)
    keys = _keys(lvol.alias, store, _needs_freed(store, clusters, graph))
    keys["holds"] += tuple(("bdev", f"{store.name}/{snapshot}") for snapshot in above)
    if how == "inflate":
        steps = [("bdev_lvol_inflate", "allocate all of its clusters, so that it depends on no snapshot any more")]
    else:
        steps = [("bdev_lvol_decouple_parent", f"copy what it has from the snapshot {snapshot}") for snapshot in above]
    actions = [Action(method, {"name": lvol.alias}, summary, **keys) for method, summary in steps]
    copied = clusters
    if how == "decouple":  # at most: snapshots may hold the same clusters
        held = sum(graph.lvols[store.name, name].allocated for name in above if (store.name, name) in graph.lvols)
        copied = min(_clusters(lvol, store) - lvol.allocated, held)
    planned = lvol._replace(parent="", thin=how == "decouple", allocated=lvol.allocated + copied)

    def predict(world: Graph) -> None:
        world.lvols[lvol.lvstore, lvol.name] = planned
        _take(world, store.name, copied)

    return Change(_fields(lvol), _fields(planned), actions, predict=predict)


def _ancestors(lvol: Lvol, graph: Graph) -> list:
    found: list[str] = []
    while lvol.parent and lvol.parent not in found:
        found.append(lvol.parent)
        lvol = graph.lvols.get((lvol.lvstore, lvol.parent), lvol._replace(parent=""))
    return found


def _compare(found: Lvol, store: Lvstore, size: int | None, options: dict, graph: Graph) -> Change:
    facts = {"uuid": found.uuid, "alias": found.alias}
    if found.is_snapshot:
        raise Refusal("a snapshot has that name")
    if found.size is None:
        raise Refusal(
            "it is listed without a bdev: half deleted, or degraded because its parent is missing; look at it first"
        )
    _require_parent(found, options)
    inflated = options["independent"] == "inflate"
    if options["thin"] is not None and options["thin"] != found.thin and not found.parent and not inflated:
        raise Refusal(
            "it is thin, wanted thick, as an lvol is that had snapshots; independent: inflate makes it thick"
            if found.thin
            else "it is thick, wanted thin; SPDK cannot change that in place"
        )
    before = _fields(found)
    from ._growth import Growth, grow_zeroed, helper_of, remove_helper, resize  # importing costs time in every run

    helper = helper_of(found, graph)
    if size is None:
        return Change(before, before, facts=facts)
    real = lvol_size(size, store.cluster_size)[1]
    notes = _rounding(size, real, store)
    if real == found.size and not helper:
        return Change(before, before, facts=facts, notes=notes)
    clusters = (real - found.size) // store.cluster_size
    spare = _clusters(helper, store) if helper else 0
    needs_freed = not found.thin and _needs_freed(store, clusters - spare, graph)
    if real == found.size:
        growth = Growth(real, [], [])
    elif real < found.size:
        _require_shrinkable(found, real, options, graph)
        growth = Growth(real, [resize(found, real, risk=DESTRUCTIVE, **_keys(found.alias, store, False))], [])
    elif options["growth"] == "plain" or _is_half_made(found, options):
        growth = Growth(real, [resize(found, real, **_keys(found.alias, store, needs_freed))], [])
    else:
        growth = grow_zeroed(found, real, store, options, graph)
    taken = 0 if found.thin else (growth.size - found.size) // store.cluster_size
    planned = found._replace(size=growth.size, allocated=found.allocated + taken)

    def predict(world: Graph) -> None:
        world.lvols[store.name, found.name] = planned
        own_name = found.uuid or found.alias
        world.bdevs[own_name] = world.bdevs[own_name]._replace(size=growth.size)
        _remove_helper(world, helper, store)
        _take(world, store.name, taken)

    actions = [*([remove_helper(helper)] if helper else []), *growth.actions]
    return Change(before, _fields(planned), actions, facts=facts, predict=predict, notes=[*notes, *growth.notes])


def _clusters(lvol: Lvol, store: Lvstore) -> int:
    return (lvol.size or 0) // store.cluster_size


def _remove_helper(world: Graph, helper: Lvol | None, store: Lvstore) -> None:
    """Remove from the predicted target what a run that was cut off has left, if it has."""
    if helper:
        world.remove_lvol(helper)
        _take(world, store.name, -_clusters(helper, store))


def _is_half_made(lvol: Lvol, options: dict) -> bool:
    """Tell whether an lvol is a new clone that has not got its size yet: nobody has written to it."""
    return lvol.uuid is None or (bool(options["clone_of"]) and lvol.parent != "" and not lvol.allocated)


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
    from ._growth import helper_of, remove_helper  # importing costs time in every run

    helper = helper_of(found, graph)
    action = Action(
        "bdev_lvol_delete",
        {"name": found.alias},
        f"delete the lvol of {format_size(found.size or 0)}",
        holds=(("bdev", found.alias), *family(found)),
        uses=(("lvstore", store.name),),
        risk=DESTRUCTIVE,
    )

    def predict(world: Graph) -> None:
        world.remove_lvol(found)
        _remove_helper(world, helper, store)
        if not found.thin:
            _take(world, store.name, -_clusters(found, store))

    actions = [*([remove_helper(helper)] if helper else []), action]
    return Change(_fields(found), None, actions, facts={"uuid": found.uuid, "alias": found.alias}, predict=predict)
