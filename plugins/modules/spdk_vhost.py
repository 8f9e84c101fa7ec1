#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_vhost
short_description: Serve bdevs of an SPDK target to virtual machines
version_added: 0.1.0
description:
  - Manages vhost-blk controllers. The result holds the path of the socket, and what QEMU needs to connect to it.
  - SPDK does not claim a bdev for vhost. One that is exported, part of a RAID, or behind another controller is refused.
  - A controller to which a client is connected is not deleted, because SPDK waits until the client is gone.
  - The memory of the virtual machine has to be shared, which RV(results[].qemu.object) is for.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.vhost
seealso:
  - module: excloud.diskengine.spdk_raid
  - module: excloud.diskengine.spdk_qos
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: Serve a mirror
  excloud.diskengine.spdk_vhost:
    name: vhost7
    bdev: raid_42
  register: served

- name: Show how to start the virtual machine
  ansible.builtin.debug:
    msg: >-
      -object {{ served.results[0].qemu.object }},size=4G -machine memory-backend=mem-vhost7
      -chardev {{ served.results[0].qemu.chardev }} -device {{ served.results[0].qemu.device }}

- name: Stop serving it
  excloud.diskengine.spdk_vhost:
    name: vhost7
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
      sample: vhost
    name:
      description: Name of the controller.
      type: str
      returned: always
      sample: vhost7
    socket:
      description: Path of the socket that the virtual machine connects to.
      type: str
      returned: when it is there, or was
      sample: /var/tmp/vhost7
    sessions:
      description: The clients that are connected.
      type: list
      elements: str
      returned: when it is there, or was
      sample: [vhost7s0]
    qemu:
      description: Options of QEMU.
      type: dict
      returned: when it is there, or was
      contains:
        object:
          description: For C(-object), to be followed by the size of the memory; one for a virtual machine.
          type: str
          returned: always
          sample: memory-backend-memfd,id=mem-vhost7,share=on
        chardev:
          description: For C(-chardev). QEMU connects again, each second, when the target was started again.
          type: str
          returned: always
          sample: socket,id=char-vhost7,path=/var/tmp/vhost7,reconnect=1
        device:
          description: For C(-device).
          type: str
          returned: always
          sample: vhost-user-blk-pci,id=vhost7,chardev=char-vhost7
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
      sample: ["serve bdev raid_42 to a virtual machine"]
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
      sample: vhost vhost7
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: vhost_create_blk_controller
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
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._vhost import VhostResource


def main() -> None:
    """Run the module."""
    run_resource(VhostResource)


if __name__ == "__main__":
    main()
