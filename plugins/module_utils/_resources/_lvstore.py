# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logical volume stores. Private to the collection."""

from __future__ import annotations

from typing import Any

from .. import _naming, _options
from .._errors import Refusal
from .._graph import Bdev, Graph, Lvstore
from .._plan import DESTRUCTIVE, Action, Change, Missing
from .._sizes import divide_up, format_size, parse_size
from ._named import Named

_DEFAULT_CLUSTER_SIZE = 4 << 20
_DEFAULT_RATIO = 100
_CLUSTERS_PER_EXTENT_PAGE = 512
_METADATA_PAGE = 4096
_MAX_CLUSTER_SIZE = (1 << 32) - _METADATA_PAGE


class LvstoreResource(Named):
    """An lvstore is created on a bdev that holds none; what was chosen at creation is for ever."""

    kind = "lvstore"
    plural = "lvstores"
    rank = 2
    options = _options.LVSTORE

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("lvstore", options["name"])]

    @staticmethod
    def look(client: Any, given: list, graph: Graph) -> None:
        """Look into the local drives whose content decides: those that an lvstore would be created on."""
        bdevs = []
        for options in given:
            bdev = graph.bdev(options["bdev"]) if options["bdev"] and options["state"] == "present" else None
            if bdev and bdev.drive and options["name"] not in graph.lvstores and not bdev.claimed:
                bdevs.append(bdev)
        if bdevs:
            from .._content import read_contents  # rarely needed, and importing costs time in every run

            graph.contents.update(read_contents(client, bdevs, graph))

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.store_name(options["name"], "lvstore name")
        found = graph.lvstores.get(name)
        if options["state"] == "absent":
            return _delete(found, graph) if found else Change(None, None)
        if not options["bdev"]:
            if found:
                return _unchanged(found)
            raise Refusal("the lvstore does not exist; name the bdev to create it on (bdev)")
        cluster_size = parse_size(options["cluster_size"], "cluster_size") if options["cluster_size"] else None
        if options["import_existing"]:
            bdev = graph.bdev(options["bdev"])
            found = (graph.store_on(bdev.name) if bdev else None) or found
        return _compare(found, options, cluster_size, graph) if found else _create(options, cluster_size, graph)


def _fields(store: Lvstore) -> dict:
    return {"name": store.name, "bdev": store.base_bdev, "cluster_size": store.cluster_size}


def _facts(store: Lvstore) -> dict:
    return {
        "name": store.name,
        "uuid": store.uuid,
        "total_clusters": store.total_clusters,
        "free_clusters": store.free_clusters,
    }


def _unchanged(store: Lvstore) -> Change:
    return Change(_fields(store), _fields(store), facts=_facts(store))


def _compare(store: Lvstore, options: dict, cluster_size: int | None, graph: Graph) -> Change:
    wanted = graph.bdev(options["bdev"])
    if store.base_bdev != (wanted.name if wanted else options["bdev"]):
        raise Refusal(
            f"an lvstore of that name is on bdev {store.base_bdev}, not on {options['bdev']}; it is left alone"
        )
    if cluster_size and cluster_size != store.cluster_size:
        raise Refusal(
            f"its clusters are {format_size(store.cluster_size)}, wanted {format_size(cluster_size)}; the size is "
            f"chosen at creation and never again"
        )
    return _unchanged(store)


def _create(options: dict, cluster_size: int | None, graph: Graph) -> Change:
    name = options["name"]
    bdev = graph.bdev(options["bdev"])
    if bdev is None:
        raise Missing(("bdev", graph.canonical(options["bdev"])), f"there is no bdev {options['bdev']} on this target")
    _require_blank(bdev, options["force"], graph)
    clusters_of = cluster_size or _DEFAULT_CLUSTER_SIZE
    if clusters_of % _METADATA_PAGE or clusters_of > _MAX_CLUSTER_SIZE:
        raise Refusal(f"cluster_size {format_size(clusters_of)} is not a multiple of 4 KiB below 4 GiB")
    if bdev.size is not None and clusters_of > bdev.size:
        raise Refusal(
            f"a cluster of {format_size(clusters_of)} is larger than bdev {bdev.name} ({format_size(bdev.size)})"
        )
    params = {"bdev_name": bdev.name, "lvs_name": name}
    if cluster_size:
        params["cluster_sz"] = cluster_size
    if options["clear_method"]:
        params["clear_method"] = options["clear_method"]
    if options["max_lvols"] and bdev.size:
        ratio = metadata_ratio(options["max_lvols"], bdev.size, clusters_of)
        if ratio * (bdev.size // clusters_of) // 100 * _METADATA_PAGE >= bdev.size:
            raise Refusal(f"metadata for {options['max_lvols']} lvols does not fit on bdev {bdev.name}")
        if ratio > _DEFAULT_RATIO:
            params["num_md_pages_per_cluster_ratio"] = ratio
    action = Action(
        "bdev_lvol_create_lvstore",
        params,
        f"create the lvstore on bdev {bdev.name}",
        holds=(("lvstore", name), bdev.key),
        learns="uuid",
    )
    planned = Lvstore(name, None, bdev.name, clusters_of, None, None)

    def predict(world: Graph) -> None:
        world.lvstores[name] = planned
        world.bdevs[bdev.name] = bdev._replace(claimed=True)

    return Change(None, _fields(planned), [action], facts=_facts(planned), predict=predict)


def _require_blank(bdev: Bdev, force: str | None, graph: Graph) -> None:
    store = graph.store_on(bdev.name)
    if store:
        raise Refusal(f"bdev {bdev.name} holds the lvstore {store.name}; it is never overwritten")
    user = graph.user(bdev.name)
    if user:
        raise Refusal(f"bdev {bdev.name} is {user}")
    held = graph.contents.get(bdev.name, "nobody has looked at what is on it") if bdev.drive else None
    if held and force != bdev.serial:
        what = held if isinstance(held, str) else f"the drive at {bdev.drive} holds {' and '.join(held)}"
        raise Refusal(f"{what}; it is overwritten only with force: {bdev.serial}, the serial of that drive")


def metadata_ratio(lvols: int, size: int, cluster_size: int) -> int:
    """Return num_md_pages_per_cluster_ratio (percent) with which a bdev of ``size`` bytes can hold ``lvols`` lvols.

    An lvol of N clusters takes 1 + ceil(N / 512) metadata pages, the store itself one (SPDK's lib/blob, seen on
    v26.09). The lvols' sizes are not known, but together they have no more clusters than the store.
    """
    clusters = max(1, size // cluster_size)
    extent_pages = lvols + clusters // _CLUSTERS_PER_EXTENT_PAGE
    return divide_up((1 + lvols + extent_pages) * 100, clusters)


def _delete(store: Lvstore, graph: Graph) -> Change:
    lvols = sorted(lvol.name for lvol in graph.lvols.values() if lvol.lvstore == store.name)
    if lvols:
        named = ", ".join(lvols[:5]) + (f" and {len(lvols) - 5} more" if len(lvols) > 5 else "")
        raise Refusal(
            f"it holds {len(lvols)} lvol(s): {named}; delete them first, SPDK would delete them without asking"
        )
    action = Action(
        "bdev_lvol_delete_lvstore",
        {"uuid": store.uuid},
        f"delete the empty lvstore on bdev {store.base_bdev}",
        holds=(("lvstore", store.name), graph.key(store.base_bdev)),
        risk=DESTRUCTIVE,
    )

    def predict(world: Graph) -> None:
        del world.lvstores[store.name]
        world.contents[store.base_bdev] = []
        if store.base_bdev in world.bdevs:
            world.bdevs[store.base_bdev] = world.bdevs[store.base_bdev]._replace(claimed=False)

    return Change(_fields(store), None, [action], facts=_facts(store), predict=predict)
