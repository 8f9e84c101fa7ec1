#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Find out whether a host has what SPDK needs
version_added: 0.1.0
description:
  - Reads the IOMMU, memory and hugepages of each NUMA node, and the state of kernel modules.
  - When the IOMMU is off it says why, as far as firmware and kernel tell, and which kernel argument is missing.
author:
  - The excloud.diskengine developers (@excloud)
options:
  modules:
    description: Names of kernel modules to look for.
    type: list
    elements: str
    default: [vfio-pci]
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
seealso:
  - module: excloud.diskengine.nvme_disk_info
  - module: excloud.diskengine.kernel_arguments
  - module: excloud.diskengine.kernel_modules
"""

EXAMPLES = r"""
---
- name: Look at the host
  excloud.diskengine.host_info:
  register: found

- name: Stop where drives could not be given to SPDK safely
  ansible.builtin.assert:
    that: found.iommu.enabled
    fail_msg: "The IOMMU is off: {{ found.iommu.advice }}"
"""

RETURN = r"""
kernel:
  description: The kernel that runs.
  returned: success
  type: dict
  contains:
    release:
      description: Its release.
      type: str
      returned: always
      sample: 6.1.0-18-amd64
    arguments:
      description: Its arguments.
      type: list
      elements: str
      returned: always
      sample: [BOOT_IMAGE=/boot/vmlinuz, root=/dev/sda1, quiet]
os:
  description: The distribution.
  returned: success
  type: dict
  contains:
    id:
      description: Its name for itself.
      type: str
      returned: always
      sample: ubuntu
    version:
      description: Its version.
      type: str
      returned: always
      sample: "24.04"
    family:
      description: V(debian), V(rhel) or V(other).
      type: str
      returned: always
      sample: debian
cpu_vendor:
  description: V(intel), V(amd), V(arm) or V(other).
  returned: success
  type: str
  sample: intel
iommu:
  description: The IOMMU.
  returned: success
  type: dict
  contains:
    enabled:
      description: Whether devices are behind it.
      type: bool
      returned: always
    groups:
      description: Number of IOMMU groups. Those that vfio makes up for devices without an IOMMU do not count.
      type: int
      returned: always
      sample: 42
    missing_arguments:
      description: Kernel arguments without which it stays off.
      type: list
      elements: str
      returned: always
      sample: [intel_iommu=on]
    advice:
      description: What to do to have it on; empty when it is.
      type: str
      returned: always
      sample: give the kernel the argument intel_iommu=on, and restart the host
numa_nodes:
  description: NUMA nodes with memory.
  returned: success
  type: list
  elements: dict
  contains:
    node:
      description: Number of the node.
      type: int
      returned: always
    memory_total:
      description: Memory in bytes.
      type: int
      returned: always
    memory_free:
      description: Free memory in bytes.
      type: int
      returned: always
    hugepages:
      description: Its hugepages, by size.
      type: list
      elements: dict
      returned: always
      contains:
        page_size:
          description: Size of a page in bytes.
          type: int
          returned: always
          sample: 2097152
        total:
          description: Pages there are.
          type: int
          returned: always
        free:
          description: Pages that nobody uses.
          type: int
          returned: always
modules:
  description: The kernel modules of O(modules).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the module.
      type: str
      returned: always
      sample: vfio-pci
    state:
      description:
        - V(loaded), V(builtin) when it is a part of the kernel, V(available) when it can be loaded, or V(missing).
      type: str
      returned: always
      sample: available
    at_boot:
      description: Whether M(excloud.diskengine.kernel_modules) named it for the next boot.
      type: bool
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._info import look


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "str", "default": ["vfio-pci"]},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    try:
        found = look(Host(module.params["root"]), tuple(module.params["modules"]))
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
