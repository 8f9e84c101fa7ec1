#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_disk
short_description: Make local drives serve as disks of a storage node
version_added: 0.1.0
description:
  - Attaches a drive to the target, looks at what is on it, and takes the lvstore that is there or creates one.
  - An lvstore is created only on a blank drive. An lvstore that is there, the mark of another program, a partition
    table or a file system is a refusal that says what was found.
  - A disk whose lvstore was lost does not get a new one, which would hide the loss.
  - What is on a drive is known when it is attached. In check mode the attachment is shown, and that the rest is not
    known.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.disk
seealso:
  - module: excloud.diskengine.pci_vfio_bind
  - module: excloud.diskengine.spdk_nvme_controller
  - module: excloud.diskengine.spdk_lvstore
"""

EXAMPLES = r"""
---
- name: A new disk
  excloud.diskengine.spdk_disk:
    serial: S5XNNG0R100234
    bdf: "0000:07:00.0"
    lvstore: lvs-7
    create: true

- name: Disks that were there before the target was restarted
  excloud.diskengine.spdk_disk:
    disks:
      - serial: S5XNNG0R100234
        bdf: "0000:07:00.0"
        lvstore_uuid: 8b5a7a5c-62cb-4d3f-9a54-3c1e5fbf5d3a
      - serial: S5XNNG0R100235
        bdf: "0000:08:00.0"
        lvstore_uuid: f3c6f2c1-8d0e-4a59-9ac4-54f1f4c4b0c7
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
      sample: disk
    serial:
      description: Serial number of the drive.
      type: str
      returned: always
      sample: S5XNNG0R100234
    bdf:
      description: PCI address of the drive.
      type: str
      returned: when its lvstore is there
      sample: "0000:07:00.0"
    lvstore:
      description: Name of its lvstore.
      type: str
      returned: when its lvstore is there
      sample: lvs-7
    lvstore_uuid:
      description: UUID of its lvstore; empty in check mode when it would be created.
      type: str
      returned: when its lvstore is there
      sample: 8b5a7a5c-62cb-4d3f-9a54-3c1e5fbf5d3a
    deferred:
      description: Whether what is needed for it can be known only after a drive was attached.
      type: bool
      returned: for disks that are not attached yet, when that is only shown
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
      sample: ["attach the drive at 0000:07:00.0"]
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
      sample: "disk S5XNNG0R100234 at 0000:07:00.0"
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: bdev_nvme_attach_controller
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
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._disk import DiskResource


def main() -> None:
    """Run the module."""
    run_resource(DiskResource)


if __name__ == "__main__":
    main()
