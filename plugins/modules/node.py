#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: The nodes of the estate, and which of them are cordoned
version_added: 0.1.0
description:
  - Writes the wish for a storage or compute node into the database. Nothing is done on the node itself.
  - Options that are not given stay as they are in the database.
  - Needs the login of an operator, not that of convergence (role P(excloud.diskengine.database#role)).
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
  name:
    description: Name of the node.
    type: str
    required: true
  state:
    description:
      - V(absent) removes the node. It has to be cordoned first, and no disk or mapping may name it.
    type: str
    choices: [present, absent]
    default: present
  kind:
    description: What the node is. Needed for a node that is not there yet, and fixed from then on.
    type: str
    choices: [storage, compute]
  cordoned:
    description:
      - Whether new replicas and mappings keep away from the node. What is there already is served on.
      - A new node is not, unless this is V(true).
    type: bool
  failure_domain:
    description: What the node shares with others that would fail with it, such as a rack. Empty for none.
    type: str
  hostnqn:
    description: The NQN that a compute node connects with. Empty for none.
    type: str
  addresses:
    description:
      - Where a storage node can be reached, or what a compute node connects from, in order of preference.
      - The list replaces the one that is there. Listeners of disks that are known stay as they are.
    type: list
    elements: dict
    suboptions:
      trtype:
        description: The transport.
        type: str
        choices: [RDMA, TCP]
        default: RDMA
      address:
        description: IPv4 or IPv6 address.
        type: str
        required: true
      port:
        description: Port that the exports listen on.
        type: int
        default: 4420
  maintaining:
    description:
      - Name of the maintenance that the node is in. Empty for none.
      - The playbook C(excloud.diskengine.maintenance) sets it, to know what it cordoned itself.
    type: str
  maintained:
    description: Name of the last maintenance that the node went through. Empty for none.
    type: str
"""

EXAMPLES = r"""
- name: Add a storage node
  excloud.diskengine.node:
    dsn: host=db.example.org dbname=diskengine user=operator
    password: "{{ vault_operator_password }}"
    name: storage-7
    kind: storage
    failure_domain: rack-3
    addresses:
      - address: 192.0.2.17
      - address: 198.51.100.17

- name: Add a compute node
  excloud.diskengine.node:
    name: compute-12
    kind: compute
    hostnqn: nqn.2014-08.org.nvmexpress:uuid:5c1f6d1e-4a3a-4b8f-9a35-8a2e0d0f3c55
    addresses:
      - address: 192.0.2.112

- name: Keep new replicas away from a node
  excloud.diskengine.node:
    name: storage-7
    cordoned: true

- name: Remove a node that has no disks any more
  excloud.diskengine.node:
    name: storage-7
    state: absent
"""

RETURN = r"""
before:
  description: What changed, as it was; C(state) is V(GONE) for a node that was not there.
  returned: success
  type: dict
  sample: {state: active}
after:
  description: What changed, as it is now; C(state) is V(GONE) for a node that was removed.
  returned: success
  type: dict
  sample: {state: cordoned}
"""
