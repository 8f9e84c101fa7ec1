#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Write what volumes should be, and choose where their replicas go
version_added: 0.1.0
description:
  - Writes rows of volumes and their replicas; the next run of P(excloud.diskengine.storage_node#role) makes them.
  - Chooses a disk for each replica that a volume lacks, the emptiest first. It has to be V(UP), its health not
    critical, on a node that is not cordoned, with room for all of the replica, thin or not, and on a node and in a
    failure domain that has no other replica of the volume. A node that names no failure domain is one by itself.
  - Room is what neither lvols hold nor rows will still take, and no more of a disk is given away than it has. What
    lvols write after a snapshot was taken of them is not reserved.
  - A replica is 1 MiB larger than its volume, for the superblock of the mirror, and has whole clusters.
  - All volumes of a task are placed beside each other in one transaction, and only one task at a time makes wishes.
  - A volume that is there stays where it is. Replicas that it lacks, because O(replicas) was raised or one of them is
    being deleted, are placed as those of a new one are.
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
  name:
    description: Name of the volume, its identity.
    type: str
  state: &state
    description:
      - V(absent) sets the replicas V(DELETING). The volume goes with the last of them, when the storage nodes were
        converged, so no second V(absent) is needed. It is refused while a mapping is not V(DETACHED).
    type: str
    choices: [present, absent]
    default: present
  size: &size
    description:
      - The size that a VM sees at least, for example V(100GiB), V(512MiB) or a number of bytes. Needed for a new
        volume.
      - A larger one lets a volume that is there grow. A smaller one is refused.
    type: str
  replicas: &replicas
    description:
      - How many replicas there should be. A new volume has 2, and compute nodes serve no others.
      - More than there are are added. Fewer are refused.
    type: int
  thin: &thin
    description:
      - Whether new replicas are thin. Those of a new volume are thick unless this says otherwise, further ones are like
        the first.
      - Thick lvols grow by zeroed clusters, so that no old data shows, on an lvstore without thin ones. Thin ones grow
        only where C(storage_node_growth) of P(excloud.diskengine.storage_node#role) is V(plain).
    type: bool
  clear_method: &clear_method
    description:
      - How the clusters of new replicas are cleared when they are given back. For a new volume V(unmap), further ones
        are like the first.
      - Use V(write_zeroes) on drives that do not return zeroes for what was unmapped.
    type: str
    choices: [default, none, unmap, write_zeroes]
  rw_ios_per_sec: &rw_ios_per_sec
    description: Limit of I/O per second; 0 is none. A new volume has none unless told.
    type: int
  rw_mbytes_per_sec: &rw_mbytes_per_sec
    description: Limit of MiB per second; 0 is none.
    type: int
  r_mbytes_per_sec: &r_mbytes_per_sec
    description: Limit of MiB read per second; 0 is none.
    type: int
  w_mbytes_per_sec: &w_mbytes_per_sec
    description: Limit of MiB written per second; 0 is none.
    type: int
  source_snapshot: &source_snapshot
    description: Id of the snapshot that a new volume is initialised from. It cannot change later.
    type: int
  nodes: &nodes
    description: Names of the storage nodes that new replicas may go to. Without it all.
    type: list
    elements: str
  disks: &disks
    description: Ids of the disks that new replicas may go to. Without it all.
    type: list
    elements: int
  allow_same_domain: &allow_same_domain
    description:
      - Place a replica in a failure domain that has another one of the volume, if no other domain has a disk for it.
      - Two replicas are never on one node.
    type: bool
    default: false
  volumes:
    description: Many volumes in one task, each with the options above.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the volume, its identity.
        type: str
        required: true
      state: *state
      size: *size
      replicas: *replicas
      thin: *thin
      clear_method: *clear_method
      rw_ios_per_sec: *rw_ios_per_sec
      rw_mbytes_per_sec: *rw_mbytes_per_sec
      r_mbytes_per_sec: *r_mbytes_per_sec
      w_mbytes_per_sec: *w_mbytes_per_sec
      source_snapshot: *source_snapshot
      nodes: *nodes
      disks: *disks
      allow_same_domain: *allow_same_domain
seealso:
  - module: excloud.diskengine.volume_mapping
"""

EXAMPLES = r"""
---
- name: A volume of two replicas
  excloud.diskengine.volume:
    dsn: host=db.example.org dbname=diskengine user=operator
    password: "{{ vault_operator_password }}"
    name: db-1
    size: 100GiB
    rw_mbytes_per_sec: 500

- name: It grows
  excloud.diskengine.volume:
    name: db-1
    size: 200GiB

- name: Many in one task, of which one is to go
  excloud.diskengine.volume:
    volumes:
      - name: db-2
        size: 1TiB
        nodes: [storage-1, storage-2, storage-3]
      - name: scratch
        size: 10GiB
        allow_same_domain: true
      - name: db-0
        state: absent
"""

RETURN = r"""
results:
  description: One entry for each volume, in the order in which they were given.
  returned: when the database was reached
  type: list
  elements: dict
  contains:
    name:
      description: Name of the volume.
      type: str
      returned: always
      sample: db-1
    id:
      description: The volume; null when there is no row, and for a new one in check mode.
      type: int
      returned: always
      sample: 17
    outcome:
      description:
        - V(changed) or V(unchanged); V(refused) when it cannot be as wanted, V(stale) when somebody else changed it
          meanwhile.
      type: str
      returned: always
      sample: changed
    reason:
      description: Why it is not as wanted; null otherwise.
      type: str
      returned: always
    state:
      description: State of the volume after the call, V(DELETING) while replicas are left; null when there is no row.
      type: str
      returned: always
      sample: CREATING
    replicas:
      description: The replicas after the call, with their C(lvol), C(node), C(disk), C(state) and C(size_bytes).
      type: list
      elements: dict
      returned: always
      sample: [{lvol: 33, node: storage-1, disk: 3, state: CREATING, size_bytes: 107375230976}]
    placement:
      description: Where the replicas that it lacked go, with the C(node), the C(disk), and C(why).
      type: list
      elements: dict
      returned: always
      sample:
        - node: storage-1
          disk: 3
          why: "the emptiest disk that can take it: 83% of 2 TiB to give away"
    rejected:
      description:
        - What was emptier and was passed over, with the C(node), the C(disk), which is null if it is the node, and
          C(why).
      type: list
      elements: dict
      returned: always
      sample: [{node: storage-4, disk: null, why: failure domain rack-1 has a replica of the volume}]
rejected:
  description: Nodes and disks that can take no replica of any volume, with the C(node), the C(disk), and C(why).
  returned: when the database was reached
  type: list
  elements: dict
  sample: [{node: storage-5, disk: null, why: the node is cordoned}]
"""
