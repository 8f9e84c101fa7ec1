#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvme_connection
short_description: Connect the kernel of a host to NVMe-oF subsystems
version_added: 0.1.0
description:
  - Connects the kernel's own initiator to subsystems that other nodes export over TCP or RDMA, path by path, with
    C(nvme-cli). SPDK is not needed on the host.
  - What is connected is read from C(/sys/class/nvme). A path that is there is left alone, whatever its parameters;
    other paths are only named, unless O(connections[].purge_paths) says otherwise.
  - What O(discovery) controllers offer can be connected as well, so that nobody has to list it.
  - Each path is tried whatever became of the one before. The task then waits until all that are wanted are live and
    show a block device, and fails with the names of those that do not. What it connected stays.
  - A subsystem whose block devices are mounted, swapped on, open or a part of something is not disconnected.
author:
  - The excloud.diskengine developers (@excloud)
options:
  connections:
    description: The subsystems.
    type: list
    elements: dict
    default: []
    suboptions:
      nqn:
        description: NQN of the subsystem.
        type: str
        required: true
      state:
        description:
          - V(present) has its paths connected.
          - V(absent) disconnects all its paths, now and at boot.
        type: str
        choices: [present, absent]
        default: present
      trtype:
        description: The transport of its paths. Its kernel module is loaded if need be.
        type: str
        choices: [tcp, rdma]
        default: tcp
      paths:
        description: The paths. At least one with O(connections[].state=present).
        type: list
        elements: dict
        default: []
        suboptions:
          traddr:
            description: IP address of the target.
            type: str
            required: true
          trsvcid:
            description: Port of the target.
            type: str
            default: "4420"
          host_traddr:
            description: IP address of this host that the path comes from.
            type: str
          host_iface:
            description: Network interface of this host that the path goes through. For V(tcp).
            type: str
      hostnqn:
        description:
          - What this host calls itself. Without it C(nvme-cli) takes C(/etc/nvme/hostnqn), which has to be there.
          - A path that is connected under another name is another path.
        type: str
      hostid:
        description: UUID that goes with O(connections[].hostnqn).
        type: str
      reconnect_delay:
        description: Seconds between two attempts of the kernel to get a lost path back.
        type: int
        default: 1
      ctrl_loss_tmo:
        description:
          - Seconds after which the kernel gives up a lost path and removes it. Until then I/O waits if it is the last.
          - V(-1) never gives up.
          - A path that was given up comes back with the next run of this module, or at the next boot.
        type: int
        default: 10
      nr_io_queues:
        description: Number of I/O queues of each path. The kernel takes one for each processor.
        type: int
      dhchap_secret:
        description:
          - Secret of this host, C(DHHC-1:00:...), for subsystems that ask for DH-HMAC-CHAP.
          - It is kept in a file for each path in C(/etc/nvme) that only root can read, from which C(nvme-cli) 2.x takes
            it, and is on no command line.
        type: str
      persistent:
        description:
          - Connect at the next boot as well, by a systemd unit for each path, which tries until the target answers.
          - The kernel modules at boot are a matter of M(excloud.diskengine.kernel_modules).
        type: bool
        default: true
      purge_paths:
        description:
          - Disconnect paths of the subsystem that are not wanted, after those that are wanted are live.
          - It is refused if the subsystem is in use and no path that is wanted was live before.
        type: bool
        default: false
  discovery:
    description:
      - Discovery controllers whose offers are connected, as if they were in O(connections). Each node that exports
        something over NVMe-oF has one; SPDK shows each host what it may connect to, and no more.
      - A subsystem that O(connections) names as well is connected as it says there, by the paths of both; with
        O(connections[].state=absent) it is not.
      - What is not offered any more stays connected, now and at boot, and is named. To be rid of it, name it with
        O(connections[].state=absent).
      - Each is asked whatever became of the one before. If one cannot be asked, the task fails after it has connected
        what the others offer.
      - Check mode asks them too, but for those that the kernel has no module loaded for yet.
    type: list
    elements: dict
    default: []
    suboptions:
      trtype:
        description:
          - The transport. What is offered over others is left alone.
          - Its kernel module is loaded if need be.
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
        description:
          - IP address of this host that it is asked from, and that the paths come from.
          - With this, or O(discovery[].host_iface), only what is offered at O(discovery[].traddr) is connected, because
            other addresses may be in a network that is not reached from here. Each has an entry of its own then.
        type: str
      host_iface:
        description: Network interface of this host for the same, see O(discovery[].host_traddr). For V(tcp).
        type: str
      nqns:
        description: NQNs of the subsystems that are wanted, or patterns of them with C(*) and C(?).
        type: list
        elements: str
        default: ["*"]
      hostnqn:
        description:
          - What this host calls itself, for asking as for connecting. Without it C(nvme-cli) takes
            C(/etc/nvme/hostnqn), which has to be there.
        type: str
      hostid:
        description: UUID that goes with O(discovery[].hostnqn).
        type: str
      reconnect_delay:
        description: As O(connections[].reconnect_delay).
        type: int
        default: 1
      ctrl_loss_tmo:
        description: As O(connections[].ctrl_loss_tmo).
        type: int
        default: 10
      nr_io_queues:
        description: As O(connections[].nr_io_queues).
        type: int
      dhchap_secret:
        description:
          - As O(connections[].dhchap_secret), for what is offered.
          - The discovery controller itself is asked without it.
        type: str
      persistent:
        description:
          - As O(connections[].persistent). What the host connects at boot is what was offered at the last run; the
            discovery controller is not asked.
        type: bool
        default: true
  live_wait:
    description: Seconds that paths may take to be live and to show a block device.
    type: float
    default: 30.0
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
notes:
  - C(nvme-cli) has to be installed; its own C(nvmf-autoconnect.service) and C(/etc/nvme/config.json) are not touched.
seealso:
  - module: excloud.diskengine.nvme_discovery_info
  - module: excloud.diskengine.kernel_modules
  - module: excloud.diskengine.spdk_subsystem
  - module: excloud.diskengine.spdk_nvme_controller
"""

EXAMPLES = r"""
---
- name: Reach an export by two paths
  excloud.diskengine.nvme_connection:
    connections:
      - nqn: nqn.2024-01.io.excloud:node1.disk1.vol1
        paths:
          - {traddr: 10.0.1.11}
          - {traddr: 10.0.2.11}

- name: Reach an export that asks who comes
  excloud.diskengine.nvme_connection:
    connections:
      - nqn: nqn.2024-01.io.excloud:node1.disk1.vol2
        paths:
          - {traddr: 10.0.1.11, trsvcid: "4421", host_iface: eth1}
        hostnqn: nqn.2014-08.org.nvmexpress:uuid:0a6ae1a6-6d3c-4a94-b3a0-1d4cf4c0a001
        hostid: 0a6ae1a6-6d3c-4a94-b3a0-1d4cf4c0a001
        dhchap_secret: "{{ vault_host_secret }}"

- name: Reach what a storage node offers this host, all but one
  excloud.diskengine.nvme_connection:
    discovery:
      - traddr: 10.0.1.11
        nqns: ["nqn.2024-01.io.excloud:node1.*"]
    connections:
      - nqn: nqn.2024-01.io.excloud:node1.disk1.vol3
        state: absent

- name: Leave it
  excloud.diskengine.nvme_connection:
    connections:
      - nqn: nqn.2024-01.io.excloud:node1.disk1.vol1
        state: absent
"""

RETURN = r"""
connections:
  description: The subsystems that were named or offered, as they are now; in check mode as they were found.
  returned: success
  type: list
  elements: dict
  contains:
    nqn:
      description: NQN of the subsystem.
      type: str
      returned: always
      sample: nqn.2024-01.io.excloud:node1.disk1.vol1
    devices:
      description: Its block devices. With native multipath all paths share them.
      type: list
      elements: str
      returned: always
      sample: [/dev/nvme0n1]
    paths:
      description: The paths that the kernel has.
      type: list
      elements: dict
      returned: always
      contains:
        controller:
          description: Name of the kernel's controller.
          type: str
          returned: always
          sample: nvme0
        state:
          description: What the kernel says of it, such as V(live) or V(connecting).
          type: str
          returned: always
          sample: live
        trtype:
          description: The transport.
          type: str
          returned: always
          sample: tcp
        traddr:
          description: IP address of the target.
          type: str
          returned: always
          sample: 10.0.1.11
        trsvcid:
          description: Port of the target.
          type: str
          returned: always
          sample: "4420"
        wanted:
          description: Whether the task names it, or it is offered.
          type: bool
          returned: always
          sample: true
writes:
  description: What was done, or would be done in check mode, in order.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(command), V(file), V(secret) (a file that is not shown), V(link), or V(remove).
      type: str
      returned: always
      sample: command
    path:
      description: The program, or the file.
      type: str
      returned: always
      sample: nvme
    value:
      description: The arguments of the program, or the text of the file.
      type: str
      returned: always
      sample: disconnect --device=nvme0
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
      sample: disconnect nqn.2024-01.io.excloud:node1.disk1.vol1 at TCP 10.0.1.11:4420
before:
  description: By NQN, which C(paths) were connected, and which units connect them C(at_boot).
  returned: success
  type: dict
  sample: {"nqn.2024-01.io.excloud:node1.disk1.vol1": {paths: [], at_boot: []}}
after:
  description: The same as they are now, or would be in check mode.
  returned: success
  type: dict
  sample: {"nqn.2024-01.io.excloud:node1.disk1.vol1": {paths: ["TCP 10.0.1.11:4420"], at_boot: []}}
notes:
  description: Sentences on what is worth knowing, such as paths that nobody asked for.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._nvme_connection import (
    discovery_of,
    manage,
    wanted_of,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._host._nvme_fabrics import NAMES, PATH, TRTYPE

HOW = {
    **NAMES,
    "reconnect_delay": {"type": "int", "default": 1},
    "ctrl_loss_tmo": {"type": "int", "default": 10},
    "nr_io_queues": {"type": "int"},
    "dhchap_secret": {"type": "str", "no_log": True},
    "persistent": {"type": "bool", "default": True},
}
CONNECTION = {
    "nqn": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    **TRTYPE,
    "paths": {"type": "list", "elements": "dict", "default": [], "options": PATH},
    **HOW,
    "purge_paths": {"type": "bool", "default": False},
}
DISCOVERY = {
    **TRTYPE,
    **PATH,
    "nqns": {"type": "list", "elements": "str", "default": ["*"]},
    **HOW,
}
RULES = {
    "required_together": [("hostnqn", "hostid")],
    "required_by": {"dhchap_secret": "hostnqn"},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "connections": {"type": "list", "elements": "dict", "default": [], "options": CONNECTION, **RULES},
            "discovery": {"type": "list", "elements": "dict", "default": [], "options": DISCOVERY, **RULES},
            "live_wait": {"type": "float", "default": 30.0},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        wanted = [wanted_of(options) for options in params["connections"]]
        discoveries = [discovery_of(options) for options in params["discovery"]]
        result = manage(Host(params["root"]), wanted, discoveries, params["live_wait"], module.check_mode)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    for note in result["notes"]:
        module.warn(note)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
