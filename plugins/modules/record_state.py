#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: record_state
short_description: Record in the database what convergence made
version_added: 0.1.0
description:
  - Writes the results for all objects of a kind in one call of a function of the schema C(diskengine).
  - Each row is a compare-and-set. It is written only if the object still is in the state that was read, and still
    wanted as it was read, so a run that was overtaken cannot overwrite a newer wish.
  - An object may be named again with the state that it was brought to, for the next step that it has made.
  - Rows of different objects do not depend on each other. When some cannot be recorded the others are, and then the
    task fails with the reasons.
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
      - A row that becomes V(UP) may lack its UUID in check mode, where nothing was made that has one.
options:
  lease:
    description:
      - Token of the run's leases, as M(excloud.diskengine.node_lease) returns it. Recording renews the leases of the
        nodes that the rows name.
      - When a node's lease is another by now, its rows are refused.
      - Without it the rows belong to no run and are only compared.
    type: int
  rows:
    description:
      - What was found or made, one row for each object. Kinds are recorded one after the other, in the order of
        O(rows[].kind), each in a transaction of its own.
      - An empty list does nothing, not even connect.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: The kind of the object.
        type: str
        choices: [disk, lvol, snapshot, mapping]
        required: true
      node:
        description:
          - Name of the node on which the run found this. It need not be the one that the object is on, as a run on a
            compute node records what it found of the legs of its mirrors. Needed with O(lease).
        type: str
      id:
        description: The object.
        type: int
        required: true
      from:
        description: The state that was read. V(READY) stands for V(UP), here and in O(rows[].to).
        type: str
        required: true
      to:
        description:
          - The state it is in now. The same as O(rows[].from) records only the other fields.
          - V(GONE) removes the row of an object that was to be deleted.
        type: str
        required: true
      revision:
        description:
          - The C(revision) of the row that was read. Give it always, as only with it a wish that changed while the
            state stayed the same, such as a still larger size, is noticed.
        type: int
      uuid:
        description: UUID of the lvol or snapshot; needed to become V(UP).
        type: str
      nqn:
        description: NQN under which the lvol is exported. It is compared with the one that is wanted, not written.
        type: str
      zeroed_bytes:
        description: Offset up to which a resized lvol is known to hold old data or zeros.
        type: int
      membership:
        description:
          - What the mirror of the volume has of the lvol. V(JOINING) is a leg that is not in sync yet, or is about to
            become one.
        type: str
        choices: [NONE, CONNECTED, JOINING, IN_SYNC]
      initialised_bytes:
        description: Offset up to which the source snapshot was copied, for a mapping.
        type: int
      bdf:
        description: PCI address at which the disk was found.
        type: str
      model:
        description: Model of the disk.
        type: str
      lvstore_name:
        description: Name of the lvstore on the disk.
        type: str
      lvstore_uuid:
        description: UUID of the lvstore on the disk; needed to become V(UP).
        type: str
      total_bytes:
        description: Capacity of the lvstore.
        type: int
      free_bytes:
        description: Free space of the lvstore.
        type: int
      cluster_size:
        description: Bytes of one cluster of the lvstore.
        type: int
      health:
        description: Health class of the disk, as M(excloud.diskengine.spdk_health_info) returns it.
        type: str
seealso:
  - module: excloud.diskengine.desired_state_info
  - module: excloud.diskengine.node_lease
"""

EXAMPLES = r"""
- name: Record the lvols that are complete
  excloud.diskengine.record_state:
    dsn: host=db.example.org dbname=diskengine user=convergence
    password: "{{ vault_convergence_password }}"
    rows:
      - kind: lvol
        id: 1234
        from: CREATING
        to: UP
        revision: 1
        uuid: 5b1a3c2e-7a3f-4d8f-9a53-0f6f4f0f8a11
        nqn: nqn.2024-01.io.excloud:storage.storage-1.1.1234

- name: Record the free space of a disk
  excloud.diskengine.record_state:
    rows:
      - kind: disk
        id: 1
        from: UP
        to: UP
        free_bytes: 107374182400
"""

RETURN = r"""
results:
  description: One entry for each of O(rows), in the same order.
  returned: when the database was reached
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of the object.
      type: str
      sample: lvol
    id:
      description: The object.
      type: int
      sample: 1234
    outcome:
      description:
        - V(changed) was written and V(unchanged) was recorded before.
        - V(stale) is in another state, or wanted otherwise, than was read.
        - V(refused) breaks a rule of the database.
        - V(missing) has no row.
      type: str
      sample: changed
    state:
      description: The state of the object after the call; null when there is no row.
      type: str
      sample: UP
    reason:
      description: Why it was not recorded.
      type: str
      sample: is DELETING, expected CREATING
failures:
  description: Of the nodes that the rows name, those with rows that were not recorded, each with one sentence on them.
  returned: when the database was reached
  type: dict
  sample: {}
"""
