#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: register_disks
short_description: Make rows of the drives that were found on a storage node
version_added: 0.1.0
description:
  - Calls C(register_disks) of the schema C(diskengine) with the drives of one host, all in one call.
  - A serial that the estate does not know becomes a disk that is V(NEW), with a listener on each address of the node.
  - A disk of the node that is at another PCI address now gets that address. A disk that is known is never made V(NEW)
    again, one that is retired neither.
  - A serial that another node has is refused.
  - A disk that the host does not show is reported in RV(unseen), and nothing follows from that.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.controller
  - excloud.diskengine.attributes.actiongroup_database
  - excloud.diskengine.database
attributes:
  check_mode:
    details:
      - The same call is made and rolled back.
options:
  node:
    description: Name of the storage node in the database.
    type: str
    required: true
  disks:
    description: The C(disks) that M(excloud.diskengine.nvme_disk_info) returned for the host.
    type: list
    elements: dict
    required: true
  serials:
    description:
      - Serial numbers of the drives to register, whatever is on them.
      - Without it these are all that could be bound to C(vfio-pci), are bound to it, or belong to SPDK.
    type: list
    elements: str
seealso:
  - module: excloud.diskengine.nvme_disk_info
"""

EXAMPLES = r"""
- name: Find the drives
  excloud.diskengine.nvme_disk_info:
    socket: /var/tmp/spdk.sock
  register: found

- name: Register those that SPDK may have
  excloud.diskengine.register_disks:
    dsn: host=db.example.org dbname=diskengine user=convergence
    password: "{{ vault_convergence_password }}"
    node: "{{ inventory_hostname }}"
    disks: "{{ found.disks }}"

- name: Register one
  excloud.diskengine.register_disks:
    node: "{{ inventory_hostname }}"
    disks: "{{ found.disks }}"
    serials: [S5XNNG0R100234]
"""

RETURN = r"""
results:
  description: One entry for each drive that was to be registered, in the order of O(disks).
  returned: when the database was reached
  type: list
  elements: dict
  contains:
    serial:
      description: Serial number of the drive.
      type: str
      returned: always
      sample: S5XNNG0R100234
    id:
      description: The disk; null when there is no row, and for a new one in check mode.
      type: int
      returned: always
      sample: 7
    outcome:
      description:
        - V(changed) was registered or has moved, V(unchanged) was known.
        - V(refused) breaks a rule of the database.
      type: str
      returned: always
      sample: changed
    state:
      description: The state of the disk after the call; null when there is no row.
      type: str
      returned: always
      sample: NEW
    reason:
      description: Why it was not registered; null otherwise.
      type: str
      returned: always
      sample: it is disk 7 of node storage-2; move that row, or retire it there
left_out:
  description: Drives that are not fit to be registered. Empty with O(serials).
  returned: when the database was reached
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
    reason:
      description: Why not.
      type: str
      returned: always
      sample: nvme0n1p1 is mounted on /
unseen:
  description: Disks of the node, but for retired ones, that the host does not show.
  returned: when the database was reached
  type: list
  elements: dict
  contains:
    id:
      description: The disk.
      type: int
      returned: always
    serial:
      description: Serial number.
      type: str
      returned: always
    bdf:
      description: PCI address as last seen.
      type: str
      returned: always
    state:
      description: Its state, which stays.
      type: str
      returned: always
"""
