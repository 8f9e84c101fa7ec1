#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_info
short_description: Read what an SPDK target has
version_added: 0.1.0
description:
  - Reads the whole state of one target in one round trip and changes nothing.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
seealso:
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: See what the target has
  excloud.diskengine.spdk_info:
    socket: /run/spdk/spdk.sock
  register: target

- name: Giving it back as the desired state changes nothing
  excloud.diskengine.spdk_node:
    socket: /run/spdk/spdk.sock
    transports: "{{ target.desired.transports }}"
    controllers: "{{ target.desired.controllers }}"
    lvstores: "{{ target.desired.lvstores }}"
    lvols: "{{ target.desired.lvols }}"
    snapshots: "{{ target.desired.snapshots }}"
    subsystems: "{{ target.desired.subsystems }}"
"""

RETURN = r"""
release:
  description: The SPDK release of the target.
  returned: success
  type: str
  sample: v26.05
desired:
  description: What the target has of each kind of object, as M(excloud.diskengine.spdk_node) takes it.
  returned: success
  type: dict
  contains:
    transports:
      description: Transports with the options that can be compared.
      type: list
      elements: dict
      returned: always
    keys:
      description: Keys of the keyring by name and path.
      type: list
      elements: dict
      returned: always
    controllers:
      description: Controllers of local drives and of subsystems, these with their paths.
      type: list
      elements: dict
      returned: always
    lvstores:
      description: Lvstores.
      type: list
      elements: dict
      returned: always
    lvols:
      description: Lvols without snapshots.
      type: list
      elements: dict
      returned: always
    snapshots:
      description: Snapshots.
      type: list
      elements: dict
      returned: always
    subsystems:
      description: Subsystems without the discovery subsystem.
      type: list
      elements: dict
      returned: always
    raids:
      description: RAIDs that are online.
      type: list
      elements: dict
      returned: always
    qos:
      description: The rate limits of the bdevs that have any.
      type: list
      elements: dict
      returned: always
    vhosts:
      description: Vhost-blk controllers that serve a bdev.
      type: list
      elements: dict
      returned: always
controllers:
  description: NVMe controllers that are attached, with transport type, address and state, and those of each path.
  returned: success
  type: list
  elements: dict
lvstores:
  description: Lvstores with UUID, bdev, cluster size in bytes and cluster counts.
  returned: success
  type: list
  elements: dict
lvols:
  description: Lvols and snapshots with UUID, alias, size in bytes and the namespace that shows them.
  returned: success
  type: list
  elements: dict
bdevs:
  description: All bdevs with their names, size in bytes, whether they are claimed, and the namespace that shows them.
  returned: success
  type: list
  elements: dict
raids:
  description: RAIDs in any state, with their members and what is rebuilt.
  returned: success
  type: list
  elements: dict
vhost:
  description: Vhost controllers, each with the bdev that it serves, its socket and who is connected.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._describe import describe
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import read_graph


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=CONNECTION, supports_check_mode=True)
    try:
        with connect(module) as client:
            result = describe(read_graph(client))
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
