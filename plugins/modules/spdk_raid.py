#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_raid
short_description: Create, repair and delete RAIDs on an SPDK target
version_added: 0.1.0
description:
  - Makes a mirror of the legs of a volume, or another RAID, and keeps it whole. A leg that is missing from it is added
    and brought in sync, one that should not be in it is replaced, one at a time. The last good leg is never touched.
  - SPDK would create a mirror of legs that are not there, that differ, or of which one is stale, and would complete a
    RAID that waits for a leg with one that knows nothing of it. All of that is refused, with the reason.
  - The size of a mirror follows its legs when the last of them has grown. Nothing is to be done for that. A leg that
    replaces another has to have the same size, because SPDK brings nothing beyond that in sync.
  - A RAID is not deleted while it is exported, served to a virtual machine, or holds an lvstore. The superblocks of one
    that is in sync are wiped with it (SPDK v26.05 or newer), so that it does not come back. Of one that is degraded
    they stay, because nothing else tells which leg is stale.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.raid
seealso:
  - module: excloud.diskengine.spdk_nvme_controller
  - module: excloud.diskengine.spdk_qos
  - module: excloud.diskengine.spdk_vhost
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: A mirror of two lvols that two storage nodes export
  excloud.diskengine.spdk_raid:
    name: raid_42
    base_bdevs:
      - node1-42n1
      - node2-42n1

- name: Replace a leg by another
  excloud.diskengine.spdk_raid:
    name: raid_42
    base_bdevs:
      - node1-42n1
      - node3-42n1

- name: Make a mirror of the leg that is left of one, and of a new one
  excloud.diskengine.spdk_raid:
    name: raid_42
    base_bdevs:
      - node1-42n1
      - node3-42n1
    source: node1-42n1

- name: Delete several
  excloud.diskengine.spdk_raid:
    raids:
      - name: raid_42
        state: absent
      - name: raid_43
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
      sample: raid
    name:
      description: Name of the RAID.
      type: str
      returned: always
      sample: raid_42
    uuid:
      description: UUID of the RAID; empty while it is only planned.
      type: str
      returned: when it is there, or was, or would be
    raid_state:
      description: V(online), V(configuring) while it waits for legs, or V(offline) when it lost too many.
      type: str
      returned: when it is there, or was, or would be
      sample: online
    size_bytes:
      description: Size in bytes; empty unless it is online.
      type: int
      returned: when it is there, or was, or would be
    rebuilding:
      description: The leg that is brought in sync; empty when none is.
      type: str
      returned: when it is there, or was, or would be
    rebuild_percent:
      description: How much of that is done.
      type: int
      returned: when it is there, or was, or would be
    in_sync:
      description: The legs that hold all data; null unless it is online.
      type: list
      elements: str
      returned: when it is there, or was, or would be
    deferred:
      description: Whether it is not as wanted yet, and nothing can be done for it now. RV(results[].notes) says why.
      type: bool
      returned: when it is
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
      sample: ["create a raid1 of node1-42n1 and node2-42n1"]
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
      sample: raid raid_42
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: bdev_raid_create
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
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._raid import RaidResource


def main() -> None:
    """Run the module."""
    run_resource(RaidResource)


if __name__ == "__main__":
    main()
