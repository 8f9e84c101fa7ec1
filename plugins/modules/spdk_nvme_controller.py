#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_nvme_controller
short_description: Attach local NVMe drives and subsystems of other nodes to an SPDK target
version_added: 0.1.0
description:
  - Attaches drives over PCIe that are bound to a driver for user space, see M(excloud.diskengine.pci_vfio_bind).
  - A target that was started with auto-examine off is told to look for an lvstore on the drive, and on nothing else.
  - Attaches subsystems of other nodes over TCP or RDMA by any number of paths. Paths are added and removed one by one;
    those that are as wanted are never touched, and one that is dead keeps none of the others from being added. A path
    that is not connected is reported.
  - A controller is not detached while something on it is used, which is an lvol or the bdev itself that is exported,
    behind a vhost controller, or part of a RAID. The refusal names all of them. An lvstore that nobody uses is closed;
    what is on it is found again when the drive is attached.
  - Before SPDK v26.05 a target may crash when its bdevs are read while a controller over RDMA is not connected. Nothing
    is read or done then, and the message names the controller.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.controller
seealso:
  - module: excloud.diskengine.pci_vfio_bind
  - module: excloud.diskengine.nvme_disk_info
  - module: excloud.diskengine.spdk_subsystem
  - module: excloud.diskengine.spdk_lvstore
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: One drive
  excloud.diskengine.spdk_nvme_controller:
    name: nvme7
    traddr: "0000:07:00.0"

- name: A subsystem by two paths
  excloud.diskengine.spdk_nvme_controller:
    trtype: TCP
    subnqn: nqn.2024-01.io.excloud:storage.node-1.7.1234
    hostnqn: nqn.2024-01.io.excloud:compute-1
    paths:
      - traddr: 192.0.2.11
      - traddr: 198.51.100.11
    multipath_policy: active_active

- name: Over RDMA, from whichever of two addresses is on the same network and up
  excloud.diskengine.spdk_nvme_controller:
    trtype: RDMA
    subnqn: nqn.2024-01.io.excloud:storage.node-1.7.1234
    source_addresses: [192.0.2.5, 198.51.100.5]
    paths:
      - traddr: 192.0.2.11
      - traddr: 198.51.100.11

- name: Detach several
  excloud.diskengine.spdk_nvme_controller:
    controllers:
      - name: nvme7
        state: absent
      - name: nvme8
        state: absent
      - subnqn: nqn.2024-01.io.excloud:storage.node-1.7.1234
        state: absent
"""

RETURN = r"""
results:
  description: One entry for each object, in the order in which they were given.
  returned: always, unless the target could not be reached
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      returned: always
      sample: controller
    name:
      description: Name of the controller.
      type: str
      returned: always
      sample: nvme7
    bdevs:
      description: The bdevs of its namespaces; empty in check mode when it would be attached.
      type: list
      elements: str
      returned: when it is there, or was
      sample: [nvme7n1]
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
      returned: always
      sample: ["attach the drive at 0000:07:00.0"]
    before:
      description: The managed fields as they were; empty if the object was not there.
      type: dict
      returned: always
    after:
      description: The managed fields as they are now, or would be in check mode; empty if the object is not there.
      type: dict
      returned: always
    notes:
      description: Sentences on what is worth knowing, such as a size that was rounded up or parts left alone.
      type: list
      elements: str
      returned: always
    msg:
      description: Why the object is not as wanted, and what to do.
      type: str
      returned: when the object failed
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
      sample: controller nvme7
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: bdev_nvme_attach_controller
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

from ansible_collections.excloud.diskengine.plugins.module_utils._module import run_resource
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._controller import ControllerResource


def main() -> None:
    """Run the module."""
    run_resource(ControllerResource)


if __name__ == "__main__":
    main()
