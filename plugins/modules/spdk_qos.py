#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_qos
short_description: Limit the I/O of bdevs of an SPDK target
version_added: 0.1.0
description:
  - Sets rate limits of bdevs while they are in use. Limits that are not named stay as they are.
  - SPDK refuses to change the limits of a bdev that has some and that nobody uses. Such a change is put off and the
    result says so. A later run makes it, when the bdev is in use.
  - The limits go away with the bdev.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.qos
seealso:
  - module: excloud.diskengine.spdk_raid
  - module: excloud.diskengine.spdk_vhost
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: Limit a volume
  excloud.diskengine.spdk_qos:
    bdev: raid_42
    rw_ios_per_sec: 20000
    rw_mbytes_per_sec: 250

- name: Lift a limit
  excloud.diskengine.spdk_qos:
    qos:
      - bdev: raid_42
        rw_mbytes_per_sec: 0
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
      sample: qos
    bdev:
      description: The bdev as it was named.
      type: str
      returned: always
      sample: raid_42
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
      sample: ["set the limits rw_ios_per_sec 20000"]
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
      sample: qos raid_42
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: bdev_set_qos_limit
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
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._qos import QosResource


def main() -> None:
    """Run the module."""
    run_resource(QosResource)


if __name__ == "__main__":
    main()
