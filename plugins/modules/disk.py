#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk
short_description: Take a disk out of use, step by step
version_added: 0.1.0
description:
  - Writes wishes for a disk and for the volumes on it, on a drive that is failing or is to be replaced.
  - Drives are found and registered by M(excloud.diskengine.register_disks).
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
      - The same calls are made and rolled back, so the choice is the one that a run would make then.
options:
  id:
    description: Id of the disk.
    type: int
  serial:
    description: Serial number of the disk.
    type: str
  state:
    description:
      - V(drained) places nothing more on the disk, places a replica elsewhere for each that is on it, and sets those
        V(DELETING). The next runs of P(excloud.diskengine.storage_node#role) and
        P(excloud.diskengine.compute_node#role) move the data, and keep each old replica as long as its mirror needs it.
      - V(retired) takes the disk out of use for good, which is refused while there are replicas or snapshots on it.
      - V(absent) removes the row of a disk that is retired, so that the drive can be registered again.
      - V(present) ends V(drained); replicas that were moved do not come back.
    type: str
    choices: [present, drained, retired, absent]
    required: true
  allow_same_domain:
    description: As in M(excloud.diskengine.volume).
    type: bool
    default: false
  allow_unmapped:
    description:
      - Move replicas of volumes that no VM has, too, by V(drained). A new replica gets its data from a mirror, so such
        a volume is on one replica only until it is mapped again.
    type: bool
    default: false
  lost:
    description:
      - State that the drive is gone for good. Replicas and snapshots on it that are V(DELETING) are then gone, too, but
        for those that a mirror still has or that are the last ones in sync.
    type: bool
    default: false
seealso:
  - module: excloud.diskengine.volume
  - module: excloud.diskengine.register_disks
"""

EXAMPLES = r"""
---
- name: Move what is on a disk elsewhere
  excloud.diskengine.disk:
    dsn: host=db.example.org dbname=diskengine user=operator
    password: "{{ vault_operator_password }}"
    serial: S5XNNG0R100234
    state: drained

- name: Retire it when nothing is left on it
  excloud.diskengine.disk:
    serial: S5XNNG0R100234
    state: retired
"""

RETURN = r"""
disk:
  description: The disk after the call, as a row of C(v_disk); null when there is none.
  returned: when the database was reached
  type: dict
  sample: {id: 7, node: storage-1, serial: S5XNNG0R100234, state: UP, draining: true}
moved:
  description: The volumes whose replicas are moved, or cannot be, in this call.
  returned: when the database was reached
  type: list
  elements: dict
  contains:
    volume:
      description: Name of the volume, or its id if it has none.
      type: str
      returned: always
      sample: db-1
    outcome:
      description: V(changed), V(refused), or V(stale) when somebody else changed the volume meanwhile.
      type: str
      returned: always
      sample: changed
    reason:
      description: Why it cannot be moved; null otherwise.
      type: str
      returned: always
      sample: "no other replica is UP and IN_SYNC on a disk that is UP (others: lvol 9 on storage-2 UP, JOINING)"
    placement:
      description: Where the new replica goes, with the C(node), the C(disk), and C(why).
      type: list
      elements: dict
      returned: always
    rejected:
      description: What was passed over, as M(excloud.diskengine.volume) returns it.
      type: list
      elements: dict
      returned: always
left:
  description: The replicas that are still on the disk, and why those that are leaving have to stay for now.
  returned: when the database was reached
  type: list
  elements: dict
  contains:
    id:
      description: The lvol.
      type: int
      returned: always
    volume_id:
      description: Its volume.
      type: int
      returned: always
    state:
      description: State of the lvol.
      type: str
      returned: always
      sample: DELETING
    membership:
      description: What the mirror of the volume has of it.
      type: str
      returned: always
      sample: IN_SYNC
    held:
      description: Why it has to stay for now; null otherwise.
      type: str
      returned: always
      sample: mapping 3 on compute-1 has it as a leg
"""
