#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_node
short_description: Bring everything on one SPDK target to the desired state in one plan
version_added: 0.1.0
description:
  - Takes the whole desired state of one target, works out one plan and carries it out over one connection.
  - Because the plan knows what each object relies on, check mode shows exactly the calls that a run would send.
  - One object that fails stops only those that need it.
  - What a drive holds is known only when it is attached. After attaching one, the target is read again and the objects
    that nothing was known about are planned then. Check mode says so of each of them.
  - What one bdev holds can be copied into another (O(copies)), as a new volume is initialised from a snapshot.
  - The results are brief. What the objects were and are is in the diff.
  - The roles of this collection use it. For single objects there are modules of their own, with the same planner.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.everything
seealso:
  - module: excloud.diskengine.spdk_transport
  - module: excloud.diskengine.spdk_key
  - module: excloud.diskengine.spdk_nvme_controller
  - module: excloud.diskengine.spdk_disk
  - module: excloud.diskengine.spdk_lvstore
  - module: excloud.diskengine.spdk_lvol
  - module: excloud.diskengine.spdk_snapshot
  - module: excloud.diskengine.spdk_subsystem
  - module: excloud.diskengine.spdk_raid
  - module: excloud.diskengine.spdk_qos
  - module: excloud.diskengine.spdk_vhost
  - module: excloud.diskengine.spdk_info
"""

EXAMPLES = r"""
---
- name: An lvol and its export
  excloud.diskengine.spdk_node:
    transports:
      - trtype: TCP
    lvols:
      - name: "1234"
        lvstore: lvs-disk-7
        size: 100GiB
    subsystems:
      - nqn: nqn.2024-01.io.excloud:storage.node-1.7.1234
        listeners:
          - traddr: 192.0.2.11
        hosts:
          - nqn.2024-01.io.excloud:compute-1
        namespaces:
          - bdev: lvs-disk-7/1234
"""

RETURN = r"""
results:
  description: One entry for each object, in the order in which they were given.
  returned: always, unless the target could not be reached or the desired state came as a document
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      returned: always
      sample: lvol
    trtype:
      description: Transport type, for a transport.
      type: str
      returned: for transports
      sample: TCP
    name:
      description: Name, for a key, a controller, an lvstore, an lvol, a snapshot, a RAID or a vhost controller.
      type: str
      returned: for keys, controllers, lvstores, lvols, snapshots, RAIDs and vhost controllers
      sample: "1234"
    lvstore:
      description: The lvstore as it was given, for an lvol or a snapshot, and its name, for a disk.
      type: str
      returned: for lvols, snapshots and disks
      sample: lvs-disk-7
    nqn:
      description: NQN, for a subsystem.
      type: str
      returned: for subsystems
      sample: nqn.2024-01.io.excloud:storage.node-1.7.1234
    uuid:
      description: UUID of an lvstore, an lvol, a snapshot or a RAID.
      type: str
      returned: for lvstores, lvols, snapshots and RAIDs that are there
      sample: 8b5a7a5c-62cb-4d3f-9a54-3c1e5fbf5d3a
    serial:
      description: Serial number of a disk's drive.
      type: str
      returned: for disks
    bdf:
      description: PCI address of a disk's drive.
      type: str
      returned: for disks whose lvstore is there
    lvstore_uuid:
      description: UUID of a disk's lvstore; its name is RV(results[].lvstore).
      type: str
      returned: for disks whose lvstore is there
    bdevs:
      description: The bdevs of a controller's namespaces.
      type: list
      elements: str
      returned: for controllers that are there
    bdev:
      description: The bdev as it was named, for rate limits and copies.
      type: str
      returned: for rate limits and copies
    copied_bytes:
      description: How much of a copy is done, whether or not it failed then. All of that was compared after writing.
      type: int
      returned: for copies whose source and bdev are there
    raid_state:
      description: State of a RAID, see M(excloud.diskengine.spdk_raid).
      type: str
      returned: for RAIDs that are there, or would be
    size_bytes:
      description: Size of a RAID, or of what a copy is of, in bytes.
      type: int
      returned: for RAIDs and copies that are there, or would be
    rebuilding:
      description: The leg of a RAID that is brought in sync.
      type: str
      returned: for RAIDs that are there, or would be
    rebuild_percent:
      description: How much of that is done.
      type: int
      returned: for RAIDs that are there, or would be
    in_sync:
      description: The legs of a RAID that hold all data.
      type: list
      elements: str
      returned: for RAIDs that are there, or would be
    socket:
      description: Socket of a vhost controller.
      type: str
      returned: for vhost controllers that are there
    sessions:
      description: Who is connected to a vhost controller.
      type: list
      elements: str
      returned: for vhost controllers that are there
    qemu:
      description: Options of QEMU for a vhost controller, see M(excloud.diskengine.spdk_vhost).
      type: dict
      returned: for vhost controllers that are there
    deferred:
      description: Whether what is needed for it can be known or done only later, as RV(results[].notes) says.
      type: bool
      returned: for objects that wait for something
    alias:
      description: The other name of the bdev of an lvol or a snapshot.
      type: str
      returned: for lvols and snapshots that are there
      sample: lvs-disk-7/1234
    size:
      description: Bytes that an lvol has now, or would have in check mode.
      type: int
      returned: for lvols that are there
      sample: 107374182400
    total_clusters:
      description: Clusters of an lvstore for data.
      type: int
      returned: for lvstores that are there
    free_clusters:
      description: Clusters of an lvstore that are free.
      type: int
      returned: for lvstores that are there
    changed:
      description: Whether something was sent for the object, or would be in check mode.
      type: bool
      returned: always
    failed:
      description: Whether the object is not as wanted.
      type: bool
      returned: always
    actions:
      description: What was done, or would be done in check mode, as sentences.
      type: list
      elements: str
      returned: when the object changed
      sample: [create a thick lvol of 100 GiB]
    notes:
      description: Sentences on what is worth knowing, such as a size that was rounded up or parts left alone.
      type: list
      elements: str
      returned: when there are any
    msg:
      description: Why the object is not as wanted, and what to do.
      type: str
      returned: when the object failed
results_document:
  description: The entries of RV(results) as one JSON document.
  returned: instead of RV(results), when the desired state came as a document
  type: str
lvstores:
  description: The lvstores of the target after the run, or as they are in check mode.
  returned: always, unless the target could not be reached
  type: list
  elements: dict
  contains:
    uuid:
      description: UUID.
      type: str
      returned: always
    name:
      description: Name.
      type: str
      returned: always
    total_bytes:
      description: Bytes for data.
      type: int
      returned: always
    free_bytes:
      description: Bytes that are free.
      type: int
      returned: always
    cluster_size:
      description: Bytes of one cluster, of which lvols have whole ones.
      type: int
      returned: always
unmanaged:
  description: What the target has and the desired state does not name. It is left alone.
  returned: always, unless the target could not be reached
  type: dict
  contains:
    lvols:
      description: Lvols and snapshots by alias.
      type: list
      elements: str
      returned: always
    subsystems:
      description: Subsystems by NQN.
      type: list
      elements: str
      returned: always
    raids:
      description: RAIDs by name.
      type: list
      elements: str
      returned: always
    vhosts:
      description: Vhost controllers by name.
      type: list
      elements: str
      returned: always
actions:
  description: The calls that a run would send, in an order in which they can be sent.
  returned: in check mode, unless the target could not be reached
  type: list
  elements: dict
  contains:
    object:
      description: The object that the call is about.
      type: str
      returned: always
      sample: lvol lvs-disk-7/1234
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: bdev_lvol_create
    params:
      description: Its parameters.
      type: dict
      returned: always
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
    risk:
      description: V(safe), V(disruptive) when hosts are interrupted, V(destructive) when data is given up.
      type: str
      returned: always
      sample: safe
"""

from ansible_collections.excloud.diskengine.plugins.module_utils._node import run_node


def main() -> None:
    """Run the module."""
    run_node()


if __name__ == "__main__":
    main()
