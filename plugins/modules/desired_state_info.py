#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: desired_state_info
short_description: Read from the database what should exist
version_added: 0.1.0
description:
  - Reads the desired state of the estate, split by node, from the views of the schema C(diskengine).
  - There is one query for each kind of object, however many nodes there are, and all of them see one snapshot of
    the database. So run it once for a play, with C(run_once), and let every host take its part of RV(nodes).
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.controller
  - excloud.diskengine.attributes.actiongroup_database
  - excloud.diskengine.database
options:
  nodes:
    description:
      - Names of the nodes to read. Without it all nodes are read.
      - A name that the database does not know is an error.
    type: list
    elements: str
  kinds:
    description: The kinds of objects to read.
    type: list
    elements: str
    choices: [disk, lvol, snapshot, volume, mapping]
    default: [disk, lvol, snapshot, volume, mapping]
  documents:
    description:
      - Return each node's rows as one JSON document.
      - Ansible visits each value of its variables several times, but a document once. With thousands of rows that is
        most of the time that a play takes.
    type: bool
    default: false
seealso:
  - module: excloud.diskengine.record_state
"""

EXAMPLES = r"""
- name: Read what should exist on the hosts of this play
  excloud.diskengine.desired_state_info:
    dsn: host=db.example.org dbname=diskengine user=convergence
    password: "{{ vault_convergence_password }}"
    nodes: "{{ ansible_play_hosts }}"
    kinds: [disk, lvol]
  run_once: true
  register: desired

- name: Show how many replicas this host should have
  ansible.builtin.debug:
    msg: "{{ desired.nodes[inventory_hostname].lvols | length }}"
"""

RETURN = r"""
documents:
  description: The entries of RV(nodes), each as a JSON document.
  returned: with O(documents)
  type: dict
  sample:
    storage-1: '{"node": {"name": "storage-1"}, "disks": [], "lvols": []}'
nodes:
  description:
    - What should exist, by the name of the node. All lists are sorted by C(id) and hold the columns of the views as
      they are described in C(docs/database.md).
    - Only the kinds in O(kinds) are there.
  returned: without O(documents)
  type: dict
  sample:
    storage-1:
      node: {name: storage-1, kind: storage, state: active, revision: 1}
      disks: []
      lvols: []
      snapshots: []
      volumes: []
      mappings: []
  contains:
    node:
      description: The node itself, a row of C(v_node).
      type: dict
    disks:
      description: The disks of the node, rows of C(v_disk).
      type: list
      elements: dict
    lvols:
      description: The replicas on the node, rows of C(v_lvol).
      type: list
      elements: dict
    snapshots:
      description: The snapshots on the node, rows of C(v_snapshot).
      type: list
      elements: dict
    volumes:
      description: The volumes that have a replica or a mapping on the node, rows of C(v_volume).
      type: list
      elements: dict
    mappings:
      description: The volumes that VMs on the node use, rows of C(v_mapping).
      type: list
      elements: dict
"""
