#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_mapping
short_description: Write which VM on which compute node should have a volume
version_added: 0.1.0
description:
  - Writes rows of mappings; the next run of P(excloud.diskengine.compute_node#role), after one of
    P(excloud.diskengine.storage_node#role), makes a vhost-blk disk of each, or takes it away.
  - A volume is mapped on one compute node at a time, for one VM unless O(allow_shared) says otherwise. A mapping on
    another node can be made as soon as the first is V(DETACHING), and waits for it.
  - A node that is cordoned or has no host NQN gets no new mapping.
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
  volume:
    description: Name of the volume.
    type: str
  node:
    description: Name of the compute node.
    type: str
  vm: &vm
    description:
      - Name of the VM, for people. With it only a mapping for this VM is meant, without it the one that is there.
    type: str
  state: &state
    description:
      - V(absent) sets a mapping V(DETACHING), which the compute node makes V(DETACHED) when nothing of it is left
        there. One that is V(DETACHED) is removed; a new mapping of the volume does that as well.
    type: str
    choices: [present, absent]
    default: present
  allow_shared: &allow_shared
    description:
      - Map a volume that is mapped for another VM on the same node. Only a cluster file system can live with that.
    type: bool
    default: false
  mappings:
    description: Many mappings in one task, each with the options above.
    type: list
    elements: dict
    suboptions:
      volume:
        description: Name of the volume.
        type: str
        required: true
      node:
        description: Name of the compute node.
        type: str
        required: true
      vm: *vm
      state: *state
      allow_shared: *allow_shared
seealso:
  - module: excloud.diskengine.volume
"""

EXAMPLES = r"""
---
- name: A disk for a VM
  excloud.diskengine.volume_mapping:
    dsn: host=db.example.org dbname=diskengine user=operator
    password: "{{ vault_operator_password }}"
    volume: db-1
    node: compute-1
    vm: db

- name: Many in one task, of which one is to go
  excloud.diskengine.volume_mapping:
    mappings:
      - volume: db-2
        node: compute-2
        vm: db
      - volume: scratch
        node: compute-2
        state: absent
"""

RETURN = r"""
results:
  description: One entry for each mapping, in the order in which they were given.
  returned: when the database was reached
  type: list
  elements: dict
  contains:
    volume:
      description: Name of the volume.
      type: str
      returned: always
      sample: db-1
    node:
      description: Name of the compute node.
      type: str
      returned: always
      sample: compute-1
    vm:
      description: The VM as it was given; null without one.
      type: str
      returned: always
    id:
      description: The mapping; null when there is no row, and for a new one in check mode.
      type: int
      returned: always
      sample: 9
    outcome:
      description: V(changed), V(unchanged), or V(refused) when it cannot be as wanted.
      type: str
      returned: always
      sample: changed
    state:
      description: The state of the mapping after the call; null when there is no row.
      type: str
      returned: always
      sample: ASSIGNED
    reason:
      description: Why it is not as wanted; null otherwise.
      type: str
      returned: always
      sample: it is mapped on compute-2 for VM db (ATTACHED); detach it there first
"""
