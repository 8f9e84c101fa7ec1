#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_lvol
short_description: Manage logical volumes of an SPDK target
version_added: 0.1.0
description:
  - Creates, grows, and deletes lvols, also as clones of snapshots.
  - An lvol that a namespace, a vhost controller or a RAID uses is neither deleted nor made smaller.
  - An lvol whose lvstore is not loaded is never taken to be gone.
  - SPDK clears clusters when they are given back, if at all, and not when they are allocated. A new lvol shows what
    its clusters held before, unless whatever gave them back was cleared by O(clear_method=write_zeroes). One that
    grows does not, see O(growth).
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.lvol
seealso:
  - module: excloud.diskengine.spdk_lvstore
  - module: excloud.diskengine.spdk_snapshot
  - module: excloud.diskengine.spdk_subsystem
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: One thick lvol
  excloud.diskengine.spdk_lvol:
    name: "1234"
    lvstore: lvs-disk-7
    size: 100GiB

- name: It grows, at most by 200 GiB in one run; hosts stay connected and read zeroes in what is new
  excloud.diskengine.spdk_lvol:
    name: "1234"
    lvstore: lvs-disk-7
    size: 150GiB
    zero_limit: 200GiB

- name: Many in one task, over one connection
  excloud.diskengine.spdk_lvol:
    lvols:
      - name: "1235"
        lvstore: 8b5a7a5c-62cb-4d3f-9a54-3c1e5fbf5d3a
        size: 1.5TiB
        thin: true
      - name: "1236"
        lvstore: lvs-disk-7
        state: absent

- name: A clone of a snapshot, larger, that needs the snapshot no more
  excloud.diskengine.spdk_lvol:
    name: "1237"
    lvstore: lvs-disk-7
    clone_of: snap_77
    size: 200GiB
    independent: inflate
"""

RETURN = r"""
results:
  description: One entry for each object, in the order in which they were given.
  returned: always, unless the target could not be reached
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      returned: always
      sample: lvol
    lvstore:
      description: The lvstore as it was given.
      type: str
      returned: always
      sample: lvs-disk-7
    name:
      description: Name of the lvol.
      type: str
      returned: always
      sample: "1234"
    uuid:
      description: UUID of the lvol and name of its bdev; empty in check mode when it would be created.
      type: str
      returned: when it is there
      sample: 8b5a7a5c-62cb-4d3f-9a54-3c1e5fbf5d3a
    alias:
      description: The other name of its bdev.
      type: str
      returned: when it is there
      sample: lvs-disk-7/1234
    size:
      description: Its size in bytes as it is now, or would be in check mode.
      type: int
      returned: when it is there
      sample: 107374182400
    changed:
      description: Whether something was sent for the object, or would be in check mode.
      type: bool
      returned: always
    failed:
      description: Whether the object is not as wanted.
      type: bool
      returned: always
    actions:
      description: What was done, or would be done in check mode, as sentences.
      type: list
      elements: str
      returned: always
      sample: [create a thick lvol of 100 GiB]
    before:
      description: The managed fields as they were; empty if the object was not there.
      type: dict
      returned: always
    after:
      description: The managed fields as they are now, or would be in check mode; empty if the object is not there.
      type: dict
      returned: always
    notes:
      description: Sentences on what is worth knowing, such as a size that was rounded up or parts left alone.
      type: list
      elements: str
      returned: always
    msg:
      description: Why the object is not as wanted, and what to do.
      type: str
      returned: when the object failed
actions:
  description: The calls that a run would send, in an order in which they can be sent.
  returned: in check mode, unless the target could not be reached
  type: list
  elements: dict
  contains:
    object:
      description: The object that the call is about.
      type: str
      returned: always
      sample: lvol lvs-disk-7/1234
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: bdev_lvol_create
    params:
      description: Its parameters.
      type: dict
      returned: always
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
    risk:
      description: V(safe), V(disruptive) when hosts are interrupted, V(destructive) when data is given up.
      type: str
      returned: always
      sample: safe
"""

from ansible_collections.excloud.diskengine.plugins.module_utils._module import run_resource
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._lvol import LvolResource


def main() -> None:
    """Run the module."""
    run_resource(LvolResource)


if __name__ == "__main__":
    main()
