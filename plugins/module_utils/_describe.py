# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph as users read it. Private to the collection."""

from __future__ import annotations

from ._graph import Controller, Graph, Raid, Subsystem
from ._options import SETTINGS, TUNABLE


def describe(graph: Graph) -> dict:
    """Return what the target has: ``desired`` as the modules take it, the rest with what only a reader needs.

    ``desired`` given back to the modules changes nothing.
    """
    return {
        "release": str(graph.release),
        "desired": {
            "transports": [
                {"trtype": transport.trtype, **{k: v for k, v in transport.options.items() if _comparable(k, graph)}}
                for transport in graph.transports.values()
            ],
            "keys": [{"name": key.name, "path": key.path} for key in graph.keys.values() if key.path],
            "controllers": [_controller(controller, graph) for controller in graph.controllers.values()],
            "lvstores": [
                {"name": store.name, "bdev": store.base_bdev, "cluster_size": str(store.cluster_size)}
                for store in graph.lvstores.values()
            ],
            "lvols": [
                {"name": lvol.name, "lvstore": lvol.lvstore, "size": str(lvol.size), "thin": lvol.thin}
                for lvol in graph.lvols.values()
                if lvol.size and not lvol.is_snapshot
            ],
            "snapshots": [
                {"name": lvol.name, "lvstore": lvol.lvstore} for lvol in graph.lvols.values() if lvol.is_snapshot
            ],
            "raids": [_raid(raid, graph) for raid in graph.raids.values() if raid.state == "online"],
            "subsystems": [_subsystem(subsystem, graph) for subsystem in graph.subsystems.values()],
            "qos": [{"bdev": graph.key(bdev)[1], **limits} for bdev, limits in graph.limits.items()],
            "vhosts": [
                {"name": each.name, "bdev": graph.key(each.bdev)[1], "readonly": each.readonly}
                for each in graph.vhosts.values()
                if each.bdev
            ],
        },
        "controllers": [
            {
                **controller._asdict(),
                "paths": [{**path.address._asdict(), "state": path.state} for path in controller.paths],
            }
            for controller in graph.controllers.values()
        ],
        "lvstores": [store._asdict() for store in graph.lvstores.values()],
        "lvols": [
            {**lvol._asdict(), "alias": lvol.alias, "exported_as": _exported_as(graph, lvol.uuid)}
            for lvol in graph.lvols.values()
        ],
        "bdevs": [
            {**bdev._asdict(), "aliases": list(bdev.aliases), "exported_as": _exported_as(graph, bdev.name)}
            for bdev in graph.bdevs.values()
        ],
        "raids": [
            {**raid._asdict(), "members": [member._asdict() for member in raid.members]}
            for raid in graph.raids.values()
        ],
        "vhost": [
            {"controller": each.name, "bdev": bdev, "socket": each.socket, "sessions": list(each.sessions)}
            for each in graph.vhosts.values()
            for bdev in each.bdevs or (None,)
        ],
    }


def capacity(lvstores: list) -> list:
    """Return how much the lvstores hold and have free, and what the size of a cluster is, in bytes."""
    return [
        {
            "uuid": store.uuid,
            "name": store.name,
            "total_bytes": store.total_clusters * store.cluster_size,
            "free_bytes": store.free_clusters * store.cluster_size,
            "cluster_size": store.cluster_size,
        }
        for store in lvstores
    ]


def unmanaged(graph: Graph, desired: list) -> dict:
    """Return what the target has and no object of ``desired`` (a list of Wanted) is about, by kind."""
    subsystems: set[str] = set()
    lvols: set[str] = set()
    named: set[tuple] = set()
    for resource, options in desired:
        if resource.kind == "subsystem":
            subsystems.add(options["nqn"])
            lvols.update(graph.canonical(item["bdev"]) for item in options["namespaces"] or ())
        elif resource.kind in ("lvol", "snapshot"):
            lvols.add(resource.title(options, graph))
        elif resource.kind in ("raid", "vhost"):
            named.add((resource.kind, options["name"]))
    return {
        "lvols": [lvol.alias for lvol in graph.lvols.values() if not lvols & {lvol.alias, lvol.uuid}],
        "subsystems": [nqn for nqn in graph.subsystems if nqn not in subsystems],
        "raids": [name for name in graph.raids if ("raid", name) not in named],
        "vhosts": [name for name in graph.vhosts if ("vhost", name) not in named],
    }


def _controller(controller: Controller, graph: Graph) -> dict:
    if not controller.paths:
        return {"name": controller.name, "traddr": controller.traddr}
    settings = controller.paths[0].settings
    policies = {bdev.multipath for bdev in graph.bdevs_of(controller.name)}
    return {
        **{name: getattr(controller, name) for name in ("name", "trtype", "subnqn", "hostnqn")},
        "paths": [
            {name: getattr(path.address, name) for name in ("traddr", "trsvcid", "adrfam")} for path in controller.paths
        ],
        **{name: settings[name] for name in SETTINGS if name in settings},
        **dict(zip(("multipath_policy", "multipath_selector"), min(policies, default=()))),
    }


def _comparable(option: str, graph: Graph) -> bool:
    return option in TUNABLE and graph.release.has_effect("nvmf_create_transport", option)


def _exported_as(graph: Graph, bdev: str) -> dict | None:
    export = graph.exports.get(bdev)
    return {"nqn": export[0], "nsid": export[1]} if export else None


def _raid(raid: Raid, graph: Graph) -> dict:
    strip = {"strip_size": f"{raid.strip_size_kb}KiB"} if raid.strip_size_kb else {}
    return {
        "name": raid.name,
        "level": raid.level,
        "base_bdevs": [graph.key(leg)[1] for leg in raid.present],
        "superblock": raid.superblock,
        **strip,
    }


def _subsystem(subsystem: Subsystem, graph: Graph) -> dict:
    return {
        "nqn": subsystem.nqn,
        **{name: value for name, value in subsystem.attributes.items() if value is not None},
        "allow_any_host": subsystem.allow_any_host,
        "listeners": [
            {**address._asdict(), "secure_channel": address in subsystem.secure}
            for address in sorted(subsystem.listeners)
        ],
        "hosts": sorted(subsystem.hosts),
        "host_keys": [{"host": host, **keys} for host, keys in sorted(subsystem.host_keys.items())],
        "namespaces": [
            {"bdev": graph.key(namespace.bdev)[1], "nsid": namespace.nsid}
            for namespace in subsystem.namespaces.values()
        ],
    }
