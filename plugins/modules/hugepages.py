#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hugepages
short_description: Manage the hugepages of a host
version_added: 0.1.0
description:
  - Sets the number of hugepages of one size on each NUMA node, now and after a reboot.
  - Compares the pages of each node without surplus pages, which come and go with what uses them.
  - After each write the number is read back. When it is short, memory is compacted and the write repeated, and when
    that does not help either, all nodes get back what they had and the task fails with what was wanted, what could be
    had, the node, and its free memory.
  - Pages in use, or promised to a process, are never given up.
author:
  - The excloud.diskengine developers (@excloud)
options:
  state:
    description:
      - V(present) sets the number.
      - V(absent) gives up all pages of the size on all nodes, or on those in O(nodes). With O(add) only those are given
        up that this module had added.
    type: str
    choices: [present, absent]
    default: present
  page_size:
    description: The size of a page, such as V(2MiB) or V(1GiB). V(default) is the kernel's own choice.
    type: str
    default: default
  count:
    description:
      - Number of pages, spread evenly over all NUMA nodes with memory; the first nodes take what does not divide.
      - V(0) is refused; say O(state=absent).
    type: int
  size:
    description: Memory instead of a number of pages, such as V(4GiB), rounded up to whole pages and spread like them.
    type: str
  nodes:
    description:
      - NUMA nodes with the pages of each. Other nodes are left alone.
      - With O(state=absent) only the O(nodes[].node) of each is given.
    type: list
    elements: dict
    suboptions:
      node:
        description: Number of the NUMA node.
        type: int
        required: true
      count:
        description: Number of pages on it.
        type: int
      size:
        description: Memory instead of a number of pages.
        type: str
  add:
    description:
      - Add to what others hold on each node, instead of setting the number.
      - What others hold is the number of pages that are there without surplus, less those that this module added
        before. The latter is kept in C(/run/diskengine) and so ends with the boot, like the pages. Who uses which page
        does not matter, so SPDK may be running.
      - When there are fewer pages than this module left, because somebody wrote over the number, others are taken to
        hold what they held then.
    type: bool
    default: false
  persist:
    description:
      - What gives the pages at the next boot. Without it, what is there for that is left alone, except that
        O(state=absent) without O(nodes) takes it away.
      - V(unit) writes a systemd unit for the page size that sets each node early at boot, before services start.
      - V(kernel_args) hands arguments to the boot loader by the distribution's own tool, C(update-grub) with a file
        in C(/etc/default/grub.d) on Debian and Ubuntu, and C(grubby) on the RHEL family. Pages that differ from
        node to node need Linux 5.16 or newer.
      - V(none) takes away what this module wrote.
      - What is written is for the nodes that the task names, so name all of them in one task.
    type: str
    choices: [none, unit, kernel_args]
  mount:
    description:
      - Mount point for a hugetlbfs with pages of this size, mounted now, and by a systemd unit at boot if O(persist) is
        V(unit) or V(kernel_args).
      - With O(state=absent) it is unmounted.
    type: path
  mount_user:
    description: User that owns the root of the mount, for an SPDK that does not run as root.
    type: str
  drop_caches:
    description:
      - Give up the caches of the kernel, before memory is compacted, when the pages are short. Slows the host for a
        while.
    type: bool
    default: false
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
seealso:
  - module: excloud.diskengine.pci_vfio_bind
"""

EXAMPLES = r"""
---
- name: Four gibibytes, evenly on all nodes, also after a reboot
  excloud.diskengine.hugepages:
    size: 4GiB
    persist: unit

- name: Pages of 1 GiB where the drives are
  excloud.diskengine.hugepages:
    page_size: 1GiB
    nodes:
      - node: 0
        count: 4
      - node: 1
        size: 2GiB
    persist: kernel_args

- name: Beside what virtual machines on the host have
  excloud.diskengine.hugepages:
    page_size: 2MiB
    count: 1024
    add: true
    mount: /dev/hugepages-spdk
    mount_user: spdk
    persist: unit

- name: Give up what was added
  excloud.diskengine.hugepages:
    page_size: 2MiB
    add: true
    state: absent
"""

RETURN = r"""
page_size:
  description: Size of a page in bytes.
  returned: unless the request was refused
  type: int
  sample: 2097152
writes:
  description:
    - What was done, or would be done in check mode, in order.
    - When a number of pages could not be had, those after it were not done.
  returned: unless the request was refused
  type: list
  elements: dict
  contains:
    kind:
      description: V(write) to a file of the kernel, V(file), V(link), V(remove), or V(command).
      type: str
      returned: always
      sample: write
    path:
      description: The file, or the program.
      type: str
      returned: always
      sample: /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
    value:
      description: What is written, the text of the file, where the link leads, or the arguments of the program.
      type: str
      returned: always
      sample: "1024"
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
      sample: set the pages of 2 MiB on node 0 from 0 to 1024
tried:
  description: What was written in addition because pages were short at first. Has the fields of RV(writes).
  returned: unless the request was refused
  type: list
  elements: dict
pools:
  description: The pages of the size on each node as they are now; in check mode as they were found.
  returned: unless the request was refused
  type: list
  elements: dict
  contains:
    node:
      description: Number of the NUMA node.
      type: int
      returned: always
    wanted:
      description: The number of pages that should be there, empty for a node that is left alone.
      type: int
      returned: always
    total:
      description: Pages there are, with surplus pages.
      type: int
      returned: always
    free:
      description: Pages that nobody uses.
      type: int
      returned: always
    surplus:
      description: Pages beyond the number that was set, which go when they are no longer used.
      type: int
      returned: always
    memory_total:
      description: Memory of the node in bytes.
      type: int
      returned: always
    memory_free:
      description: Free memory of the node in bytes.
      type: int
      returned: always
before:
  description: Pages by node as they were, without surplus; and C(mount) and C(persist) where these are managed.
  returned: unless the request was refused
  type: dict
  sample: {node0: 0, node1: 0, persist: none}
after:
  description: The same as they are now, or would be in check mode.
  returned: unless the request was refused
  type: dict
  sample: {node0: 1024, node1: 1024, persist: unit}
notes:
  description: Sentences on what is worth knowing.
  returned: unless the request was refused
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._hugepages import Wanted, manage


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "page_size": {"type": "str", "default": "default"},
            "count": {"type": "int"},
            "size": {"type": "str"},
            "nodes": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "node": {"type": "int", "required": True},
                    "count": {"type": "int"},
                    "size": {"type": "str"},
                },
                "mutually_exclusive": [["count", "size"]],
            },
            "add": {"type": "bool", "default": False},
            "persist": {"type": "str", "choices": ["none", "unit", "kernel_args"]},
            "mount": {"type": "path"},
            "mount_user": {"type": "str"},
            "drop_caches": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/"},
        },
        mutually_exclusive=[["count", "size", "nodes"]],
        required_by={"mount_user": ["mount"]},
        supports_check_mode=True,
    )
    wanted = Wanted(**{name: value for name, value in module.params.items() if name != "root"})
    try:
        result, failed = manage(Host(module.params["root"]), wanted, module.check_mode)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    for note in result["notes"]:
        module.warn(note)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    if failed:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
