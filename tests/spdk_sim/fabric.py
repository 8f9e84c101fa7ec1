# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node can attach to beside itself: local NVMe drives and the subsystems of other nodes.

Both live in one hidden ``Target``, so that there is one initiator code path and every event of the other side (a lost
listener, another ANA state, a namespace that grows) is an ordinary call to it.
"""

from __future__ import annotations

import uuid
from typing import Any

from . import bdevs
from .decode import Params
from .disks import Medium
from .nvmf import Listener, Namespace, Subsystem
from .target import Target

DRIVE_NQN = "nqn.2014-08.org.nvmexpress:uuid:"


def outside(node: Target) -> Target:
    """A hidden target that ``node`` can reach."""
    other = Target(release=".".join(f"{part:02}" for part in node.release), addresses=None, rdma=True)
    other.bdevs.auto_examine = False
    node.peers.append(other)
    return other


def add_drive(other: Target, address: str, size: int, block_size: int, origin: str) -> None:
    """A local drive at a PCI address; ``origin`` makes its serial number and UUID its own, restart after restart."""
    own = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{origin}#{address}"))
    params = Params({"num_blocks": size // block_size, "block_size": block_size}, True)
    bdev = bdevs.MallocBdev(address, own, params, Medium(other.disks, f"drive:{address}"))
    bdevs.register(other, bdev)
    subsystem = Subsystem(DRIVE_NQN + own)
    subsystem.allow_any_host = True
    subsystem.serial_number = own.replace("-", "").upper()[:20]
    subsystem.model_number = "Simulated drive"
    where = {"trtype": "PCIe", "adrfam": "", "traddr": address.lower(), "trsvcid": ""}
    subsystem.health = {"temperature_celsius": 50}
    subsystem.listeners.append(Listener(where, False, "optimized", None))
    subsystem.namespaces[1] = Namespace(subsystem, 1, bdev)
    bdevs.hold(bdev, subsystem.namespaces[1], bdevs.EXCLUSIVE)
    other.nvmf.subsystems[subsystem.nqn] = subsystem
    other.nvmf.version += 1


def set_health(other: Target, address: str, log: dict[str, int]) -> None:
    """Change fields of the health log of the local drive at a PCI address."""
    for subsystem in other.nvmf.subsystems.values():
        if any(listener.address["traddr"] == address.lower() for listener in subsystem.listeners):
            subsystem.health |= log


def add_subsystem(other: Target, table: dict[str, Any]) -> None:
    """A subsystem of another node.

    ``table``: nqn; addresses [{trtype, traddr, trsvcid, adrfam?}]; namespaces [{size (bytes), block_size?, uuid?,
    nsid?}]; hosts [NQN] (absent: any host); ana_reporting, serial_number, model_number as in nvmf_create_subsystem.
    """
    nqn = {"nqn": table["nqn"]}
    extra = {key: table[key] for key in ("ana_reporting", "serial_number", "model_number") if key in table}
    other.call("nvmf_create_subsystem", nqn | extra | {"allow_any_host": "hosts" not in table})
    for host in table.get("hosts", ()):
        other.call("nvmf_subsystem_add_host", nqn | {"host": host})
    for number, namespace in enumerate(table.get("namespaces", ()), 1):
        nsid = namespace.get("nsid", number)
        block_size = namespace.get("block_size", 512)
        own = namespace.get("uuid", str(uuid.uuid5(uuid.NAMESPACE_URL, f"{table['nqn']}#{nsid}")))
        name = f"{table['nqn']}#{nsid}"
        disk = {"name": name, "num_blocks": namespace["size"] // block_size, "block_size": block_size, "uuid": own}
        other.call("bdev_malloc_create", disk)
        other.call("nvmf_subsystem_add_ns", nqn | {"namespace": {"bdev_name": name, "nsid": nsid}})
    for address in table["addresses"]:
        if not any(each["trtype"] == address["trtype"].upper() for each in other.nvmf.transports):
            other.call("nvmf_create_transport", {"trtype": address["trtype"]})
        other.call("nvmf_subsystem_add_listener", nqn | {"listen_address": address})
