#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_lvstore
short_description: Manage logical volume stores of an SPDK target
version_added: 0.1.0
description:
  - Creates an lvstore on a bdev that holds nothing yet, and deletes one that holds no lvol.
  - Never creates one over an lvstore that is there, or on a bdev that something else uses.
  - The cluster size and the room for metadata are chosen at creation and never again.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.lvstore
seealso:
  - module: excloud.diskengine.spdk_lvol
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: An lvstore for up to 10,000 lvols
  excloud.diskengine.spdk_lvstore:
    name: lvs-disk-7
    bdev: nvme7n1
    max_lvols: 10000

- name: Several at once
  excloud.diskengine.spdk_lvstore:
    lvstores:
      - name: lvs-disk-7
        bdev: nvme7n1
        cluster_size: 4MiB
      - name: lvs-disk-8
        state: absent
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
      sample: lvstore
    name:
      description: Name of the lvstore.
      type: str
      returned: always
      sample: lvs-disk-7
    uuid:
      description: UUID of the lvstore; empty in check mode when it would be created.
      type: str
      returned: when it is there
      sample: 8b5a7a5c-62cb-4d3f-9a54-3c1e5fbf5d3a
    total_clusters:
      description: Clusters for data; empty when it was just created.
      type: int
      returned: when it is there
    free_clusters:
      description: Clusters that are free; empty when it was just created.
      type: int
      returned: when it is there
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
      sample: [create the lvstore on bdev nvme7n1]
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
      sample: lvstore lvs-disk-7
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: bdev_lvol_create_lvstore
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
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._lvstore import LvstoreResource


def main() -> None:
    """Run the module."""
    run_resource(LvstoreResource)


if __name__ == "__main__":
    main()
