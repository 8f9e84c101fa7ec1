# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample estate: storage nodes with disks, volumes mirrored on two of them, and a compute node that maps them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

GIB = 1 << 30
MIB = 1 << 20
COMPUTE = "compute-1"


@dataclass
class Estate:
    """What was made: names and ids."""

    nodes: list[str]
    disks: dict[str, int] = field(default_factory=dict)  # by serial
    volumes: list[int] = field(default_factory=list)
    lvols: list[int] = field(default_factory=list)
    mappings: list[int] = field(default_factory=list)


def serial(node, index):
    """The serial of a node's disk, counted from 0."""
    return f"{node}-disk-{index}"


def invented_lvstores(nodes=2, disks_per_node=2):
    """lvstores for tests without SPDK, as make_estate() and set_lvstores() take them."""
    return {
        serial(f"storage-{node}", index): {
            "name": f"lvs-{index}",
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, serial(f"storage-{node}", index))),
            "total_bytes": 1024 * GIB,
            "free_bytes": 1024 * GIB,
        }
        for node in range(1, nodes + 1)
        for index in range(disks_per_node)
    }


def make_estate(
    conn,
    nodes=2,
    disks_per_node=2,
    lvols=40,
    lvol_bytes=100 * MIB,
    thin=True,
    ports=None,
    address="127.0.0.1",
    trtype="TCP",
    hostnqn="nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001",
    lvstores=None,
    replicas=None,
    computes=1,
):
    """Fills an empty schema in one transaction and returns the Estate.

    Nodes are storage-1, storage-2, ... and compute-1, which maps every volume, or as many as computes says, which map
    one each in turn. ports gives a node's listener port (default 4421, 4422, ...). lvstores gives {serial: {name, uuid,
    total_bytes, free_bytes}}, of clusters of 4 MiB unless cluster_size says otherwise; a disk with one is UP, the
    others stay NEW until set_lvstores(). Each volume has a replica on two nodes (on one if there is only one, or as
    replicas says), all of them CREATING; lvols is the number of replicas.
    """
    names = [f"storage-{number}" for number in range(1, nodes + 1)]
    ports = ports or {name: 4420 + number for number, name in enumerate(names, 1)}
    estate = Estate(names)
    with conn.transaction():
        for number, name in enumerate(names, 1):
            conn.execute(
                "INSERT INTO diskengine.node (name, kind, failure_domain) VALUES (%s, 'storage', %s)",
                [name, f"rack-{number}"],
            )
            conn.execute(
                "INSERT INTO diskengine.node_address (node, trtype, address, port) VALUES (%s, %s, %s, %s)",
                [name, trtype, address, ports[name]],
            )
            for index in range(disks_per_node):
                estate.disks[serial(name, index)] = _add_disk(conn, name, index, trtype, address, ports[name])
        mapped = [COMPUTE, *(f"compute-{number}" for number in range(2, computes + 1))]
        for number, name in enumerate(mapped, 1):
            conn.execute(
                "INSERT INTO diskengine.node (name, kind, hostnqn) VALUES (%s, 'compute', %s)",
                [name, hostnqn if name == COMPUTE else f"{hostnqn[:-1]}{number}"],
            )
            conn.execute(
                "INSERT INTO diskengine.node_address (node, trtype, address) VALUES (%s, %s, %s)",
                [name, trtype, address],
            )
        replicas = replicas or min(2, nodes)
        estate.volumes = _ids(
            conn,
            "INSERT INTO diskengine.volume (size_bytes, replicas) "
            "SELECT %s, %s FROM generate_series(1, %s) RETURNING id",
            [lvol_bytes, replicas, lvols // replicas],
        )
        disks = list(estate.disks.values())
        placed = [
            (volume, disks[((place + leg) % nodes) * disks_per_node + (place // nodes) % disks_per_node])
            for place, volume in enumerate(estate.volumes)
            for leg in range(replicas)
        ]
        estate.lvols = _ids(
            conn,
            "INSERT INTO diskengine.lvol (volume_id, disk_id, size_bytes, thin) "
            "SELECT v, d, %s, %s FROM unnest(%s::bigint[], %s::bigint[]) AS p (v, d) RETURNING id",
            [lvol_bytes, thin, [volume for volume, disk in placed], [disk for volume, disk in placed]],
        )
        estate.mappings = _ids(
            conn,
            "INSERT INTO diskengine.mapping (volume_id, node, vm) "
            "SELECT v, n, 'vm-' || v FROM unnest(%s::bigint[], %s::text[]) AS p (v, n) RETURNING id",
            [estate.volumes, [mapped[place % computes] for place in range(len(estate.volumes))]],
        )
        set_lvstores(conn, lvstores or {})
    return estate


def set_lvstores(conn, lvstores):
    """Gives disks, named by serial, their lvstore and makes NEW ones UP."""
    for name, store in lvstores.items():
        conn.execute(
            "UPDATE diskengine.disk SET state = 'UP', lvstore_name = %(name)s, lvstore_uuid = %(uuid)s, "
            "total_bytes = %(total_bytes)s, free_bytes = %(free_bytes)s, cluster_size = %(cluster_size)s "
            "WHERE serial = %(serial)s",
            {"cluster_size": 4 * MIB, **store, "serial": name},
        )


def _add_disk(conn, node, index, trtype, address, port):
    (disk,) = _ids(
        conn,
        "INSERT INTO diskengine.disk (node, bdf, serial, model) VALUES (%s, %s, %s, 'Sample NVMe') RETURNING id",
        [node, f"0000:{0x5E + index:02x}:00.0", serial(node, index)],
    )
    conn.execute(
        "INSERT INTO diskengine.disk_listener (disk_id, trtype, traddr, trsvcid) VALUES (%s, %s, %s, %s)",
        [disk, trtype, address, port],
    )
    return disk


def _ids(conn, query, parameters):
    return [row[0] for row in conn.execute(query, parameters).fetchall()]
