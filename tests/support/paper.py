# SPDX-License-Identifier: GPL-3.0-or-later
"""An estate on paper: rows as the database would give them, of any size, without a database."""

from __future__ import annotations

from itertools import cycle

GIB = 1 << 30
LIMITS = {"rw_ios_per_sec": 20000, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0}


def paper_estate(volumes=4, storage=2, compute=1, disks=2):
    """Rows by node: each volume is mirrored on two storage nodes and mapped, all of it complete."""
    estate = {}
    for number in range(1, storage + 1):
        name = f"storage-{number}"
        estate[name] = _node(name, "storage", failure_domain=f"rack-{number}")
        estate[name]["disks"] = [_disk(name, number * 100 + index) for index in range(disks)]
    for number in range(1, compute + 1):
        name = f"compute-{number}"
        estate[name] = _node(name, "compute", hostnqn=f"nqn.2014-08.org.nvmexpress:uuid:{number:032x}")
    stores = cycle(f"storage-{1 + number % storage}" for number in range(storage))
    mapped = cycle(name for name in estate if name.startswith("compute"))
    for number in range(1, volumes + 1):
        _add_volume(estate, number, [next(stores), next(stores)], next(mapped), disks)
    return estate


def _node(name, kind, **changes):
    row = {"name": name, "kind": kind, "state": "active", "failure_domain": None, "hostnqn": None, **changes}
    return {"node": row, "disks": [], "lvols": [], "snapshots": [], "volumes": [], "mappings": []}


def _disk(node, number):
    return {
        "id": number,
        "node": node,
        "serial": f"S{number:05}",
        "bdf": f"0000:{number % 100:02x}:00.0",
        "model": "Sample NVMe",
        "state": "UP",
        "health": "ok",
        "lvstore_name": f"lvs-{number}",
        "lvstore_uuid": f"00000000-0000-4000-8000-{number:012x}",
        "total_bytes": 4096 * GIB,
        "free_bytes": 1024 * GIB,
    }


def _add_volume(estate, number, stores, compute, disks):
    hostnqn = estate[compute]["node"]["hostnqn"]
    legs = [_lvol(estate, number, 2 * number - 1 + leg, node, hostnqn, disks) for leg, node in enumerate(stores)]
    volume = {
        "id": number,
        "name": f"data-{number}",
        "state": "UP",
        "size_bytes": 10 * GIB,
        "replicas": 2,
        **LIMITS,
        "legs": [{"lvol_id": leg["id"], **{key: leg[key] for key in ("node", *LEG)}} for leg in legs],
        "nodes": sorted({*stores, compute}),
    }
    for node in volume["nodes"]:
        estate[node]["volumes"].append(volume)
    for leg in legs:
        estate[leg["node"]]["lvols"].append(leg)
    mapping = {"id": number, "node": compute, "volume_id": number, "vm": f"vm-{number}", "state": "ATTACHED"}
    estate[compute]["mappings"].append({**mapping, "initialised_bytes": 0, "source_snapshot_id": None})


LEG = ("state", "size_bytes", "uuid", "nqn", "listeners")


def _lvol(estate, volume, number, node, hostnqn, disks):
    disk = estate[node]["disks"][volume % disks]
    address = f"10.0.0.{node.partition('-')[2]}"
    return {
        "id": number,
        "node": node,
        "disk_id": disk["id"],
        "volume_id": volume,
        "state": "UP",
        "size_bytes": 10 * GIB + (1 << 20),
        "thin": True,
        "uuid": f"00000000-0000-4000-9000-{number:012x}",
        "lvstore_name": disk["lvstore_name"],
        "lvstore_uuid": disk["lvstore_uuid"],
        "nqn": f"nqn.2024-01.io.excloud:storage.{node}.{disk['id']}.{number}",
        "listeners": [{"trtype": "TCP", "adrfam": "IPv4", "traddr": address, "trsvcid": "4420"}],
        "hosts": [hostnqn],
        "zeroed_bytes": None,
        "defect": None,
    }
