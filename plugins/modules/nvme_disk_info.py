#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvme_disk_info
short_description: Find the NVMe drives of a host, whoever owns them
version_added: 0.1.0
description:
  - Finds all NVMe controllers on PCI, whether the kernel drives them, C(vfio-pci) has them, or SPDK.
  - A drive that is bound to C(vfio-pci) cannot be asked for its serial by the kernel. It is then described by the SPDK
    target that has it, if O(socket) names one, or else by what was recorded when
    M(excloud.diskengine.pci_vfio_bind) bound it.
  - Says of each drive whether M(excloud.diskengine.pci_vfio_bind) would bind it, and if not, all reasons.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
  - excloud.diskengine.host.target
seealso:
  - module: excloud.diskengine.pci_vfio_bind
"""

EXAMPLES = r"""
---
- name: Find the drives
  excloud.diskengine.nvme_disk_info:
    socket: /var/tmp/spdk.sock
  register: found

- name: See the rows that the disk table would get
  ansible.builtin.debug:
    msg: "{{ item.bdf }} {{ item.serial }} {{ item.model }} {{ item.size }}"
  loop: "{{ found.disks | selectattr('bindable') }}"
"""

RETURN = r"""
disks:
  description: The NVMe controllers, by address.
  returned: success
  type: list
  elements: dict
  contains:
    bdf:
      description: PCI address.
      type: str
      returned: always
      sample: "0000:01:00.0"
    serial:
      description: Serial number; empty when nobody knows it.
      type: str
      returned: always
      sample: S5XNNG0R100234
    model:
      description: Model.
      type: str
      returned: always
    firmware:
      description: Revision of the firmware.
      type: str
      returned: always
    size:
      description: Size of all namespaces in bytes.
      type: int
      returned: always
      sample: 1920383410176
    source:
      description: Who said so, V(kernel), V(spdk), V(record) or V(none).
      type: str
      returned: always
      sample: kernel
    owner:
      description: Who has the drive, V(kernel), V(spdk), V(vfio), V(uio) or V(none).
      type: str
      returned: always
      sample: kernel
    device:
      description: The controller in C(/dev), when the kernel has the drive; empty otherwise.
      type: str
      returned: always
      sample: /dev/nvme0
    state:
      description: State of the controller as the kernel sees it; empty when it does not have the drive.
      type: str
      returned: always
      sample: live
    driver:
      description: Name of the driver, empty without one.
      type: str
      returned: always
      sample: nvme
    spdk_controller:
      description: Name of the controller in the SPDK target that has it; empty otherwise.
      type: str
      returned: always
    numa_node:
      description: NUMA node, V(-1) if there is none.
      type: int
      returned: always
    iommu_group:
      description: IOMMU group, empty if there is none.
      type: str
      returned: always
      sample: "12"
    namespaces:
      description: Its namespaces, as devices of the kernel or bdevs of SPDK.
      type: list
      elements: dict
      returned: always
      contains:
        name:
          description: Name of the device or bdev.
          type: str
          returned: always
          sample: nvme0n1
        nsid:
          description: Namespace ID.
          type: int
          returned: always
        size:
          description: Size in bytes.
          type: int
          returned: always
        block_size:
          description: Size of a logical block in bytes.
          type: int
          returned: always
        wwid:
          description: Identity as the kernel shows it.
          type: str
          returned: always
    in_use_by:
      description: Sentences on what uses the drive, or is on it.
      type: list
      elements: str
      returned: always
      sample: [nvme0n1p1 is mounted on /data]
    bindable:
      description: Whether it could be bound to C(vfio-pci), or is.
      type: bool
      returned: always
    reasons:
      description: Why it would not be bound.
      type: list
      elements: dict
      returned: always
      contains:
        guard:
          description: Name of the guard.
          type: str
          returned: always
          sample: mounted
        text:
          description: What was found.
          type: str
          returned: always
        way_out:
          description: What to do about it.
          type: str
          returned: always
missing:
  description: Drives that were bound and whose address is empty now, with C(now_at) if the serial is at another one.
  returned: success
  type: list
  elements: dict
iommu:
  description: Whether the host has an IOMMU that is on.
  returned: success
  type: bool
spdk:
  description: Whether an SPDK target was asked, and if not, why.
  returned: success
  type: dict
  contains:
    asked:
      description: Whether a target answered.
      type: bool
      returned: always
    msg:
      description: Why none did; empty otherwise.
      type: str
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._host._disks import look
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "socket": {"type": "path"},
            "timeout": {"type": "float", "default": 10.0},
        },
        supports_check_mode=True,
    )
    found = look(Host(module.params["root"]), module.params["socket"], module.params["timeout"])
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
