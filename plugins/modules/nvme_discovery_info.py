#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvme_discovery_info
short_description: See what NVMe-oF discovery controllers offer a host
version_added: 0.1.0
description:
  - Asks discovery controllers for their logs, with C(nvme-cli). SPDK shows each host what it may connect to, and no
    more, so an export that is missing here is one that this host is not allowed to, or that has no listener.
  - Each is asked whatever became of the one before. If one gives no log the task fails, with the logs of the others.
  - Nothing is connected, apart from the discovery controller while it is asked, and no kernel module is loaded.
  - M(excloud.diskengine.nvme_connection) connects what is offered.
author:
  - The excloud.diskengine developers (@excloud)
options:
  portals:
    description: The discovery controllers.
    type: list
    elements: dict
    required: true
    suboptions:
      trtype:
        description: The transport. Its kernel module has to be loaded.
        type: str
        choices: [tcp, rdma]
        default: tcp
      traddr:
        description: IP address of the discovery controller.
        type: str
        required: true
      trsvcid:
        description: Port of the discovery controller. SPDK answers where it exports; others have it at V(8009).
        type: str
        default: "4420"
      host_traddr:
        description: IP address of this host that it is asked from.
        type: str
      host_iface:
        description: Network interface of this host that it is asked through. For V(tcp).
        type: str
      hostnqn:
        description:
          - What this host calls itself. Without it C(nvme-cli) takes C(/etc/nvme/hostnqn), which has to be there.
        type: str
      hostid:
        description: UUID that goes with O(portals[].hostnqn).
        type: str
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
notes:
  - C(nvme-cli) has to be installed.
seealso:
  - module: excloud.diskengine.nvme_connection
  - module: excloud.diskengine.kernel_modules
"""

EXAMPLES = r"""
---
- name: Ask a storage node at both of its addresses
  excloud.diskengine.nvme_discovery_info:
    portals:
      - traddr: 10.0.1.11
      - traddr: 10.0.2.11
  register: offered

- name: See what it exports to this host
  ansible.builtin.debug:
    msg: "{{ offered.portals[0].records | selectattr('subtype', 'eq', 'nvme subsystem') | map(attribute='subnqn') }}"
"""

RETURN = r"""
portals:
  description: The discovery controllers that gave a log.
  returned: always
  type: list
  elements: dict
  contains:
    trtype:
      description: The transport.
      type: str
      returned: always
      sample: tcp
    traddr:
      description: IP address.
      type: str
      returned: always
      sample: 10.0.1.11
    trsvcid:
      description: Port.
      type: str
      returned: always
      sample: "4420"
    records:
      description: What is in the log.
      type: list
      elements: dict
      returned: always
      contains:
        subtype:
          description:
            - V(nvme subsystem) for what can be connected.
            - Others are discovery controllers, V(current discovery subsystem) the one that was asked.
          type: str
          returned: always
          sample: nvme subsystem
        subnqn:
          description: NQN of the subsystem.
          type: str
          returned: always
          sample: nqn.2024-01.io.excloud:node1.disk1.vol1
        trtype:
          description: The transport.
          type: str
          returned: always
          sample: tcp
        adrfam:
          description: Family of the address.
          type: str
          returned: always
          sample: ipv4
        traddr:
          description: Address.
          type: str
          returned: always
          sample: 10.0.1.11
        trsvcid:
          description: Port.
          type: str
          returned: always
          sample: "4420"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._nvme_discovery import manage, portal_of
from ansible_collections.excloud.diskengine.plugins.module_utils._host._nvme_fabrics import NAMES, PATH, TRTYPE


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "portals": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {**TRTYPE, **PATH, **NAMES},
                "required_together": [("hostnqn", "hostid")],
            },
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    portals, failed = [], []
    try:
        asked = [portal_of(options) for options in module.params["portals"]]
        portals, failed = manage(Host(module.params["root"]), asked)
    except DiskengineError as error:
        failed = [str(error)]
    if failed:
        module.fail_json(msg="; ".join(failed), portals=portals)
    module.exit_json(changed=False, portals=portals)


if __name__ == "__main__":
    main()
