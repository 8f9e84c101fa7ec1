#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_service
short_description: Manage the systemd service that runs an SPDK target
version_added: 0.1.0
description:
  - Writes a systemd unit for C(spdk_tgt), C(nvmf_tgt) or C(vhost), a program that the site provides, starts it, and
    waits until it answers on its socket.
  - The service starts after the hugepages of M(excloud.diskengine.hugepages) are there, waits for its drives, is
    restarted when it fails, and leaves C(/run/diskengine/<name>.started) at each start, which tells recovery that
    what the process knew is gone.
  - Whether a restart is due is read from the running process, by what it was started with (its arguments, user, group
    and environment) and whether its program was replaced since. Other changes of the unit take effect at the next
    start.
  - A target that serves volumes is never ended without O(interrupt). It serves when it has a subsystem with a
    namespace, a vhost controller, an iSCSI target or a kernel block device, and when it cannot be asked.
author:
  - The excloud.diskengine developers (@excloud)
options:
  name:
    description: Name of the service, without C(.service). A unit of that name from somewhere else is left alone.
    type: str
    default: spdk_tgt
  state:
    description:
      - V(started) writes the unit and has the target running with what it says. When that takes a restart which is not
        allowed, the unit is written, the task warns, and RV(restart_pending) is true.
      - V(stopped) stops the target and leaves its unit as it is. V(absent) removes the unit as well. Both fail when
        the target serves volumes and O(interrupt) does not allow it.
    type: str
    choices: [started, stopped, absent]
    default: started
  program:
    description: Path of the target's program. Needed for O(state=started).
    type: path
  core_mask:
    description:
      - The cores of the target, as a mask such as V("0x3") or a list such as V("[0,2-4]"), its C(-m) option.
      - Quote it, because YAML makes something else of both.
    type: str
  memory:
    description: Memory of the target such as V(1GiB), rounded up to MiB, its C(-s) option.
    type: str
  user:
    description:
      - User of the process. It needs the hugepages (O(excloud.diskengine.hugepages#module:mount_user)), the drives
        (O(excloud.diskengine.pci_vfio_bind#module:user)), and a directory in which it can create O(socket). Directories
        below C(/run) are made for it.
      - To notice a drive that is pulled out, it needs C(net.core.rmem_max) to be 524288 or more.
      - Without it the target runs as root.
    type: str
  group:
    description: Group of the process. Its members may use the sockets of the target. Without it that of the user.
    type: str
  wait_for_rpc:
    description: Start the target so that it waits for C(framework_start_init), with C(--wait-for-rpc).
    type: bool
    default: false
  config:
    description:
      - Path of a JSON configuration that the target loads when it starts, its C(-c) option.
      - What is in the file is not compared. It is the next start that reads it.
    type: path
  hugepages_mount:
    description: Mount point of the hugetlbfs to take memory from, its C(--huge-dir) option.
    type: path
  no_hugepages:
    description: Run without hugepages, and so without drives on PCI, with C(--no-huge).
    type: bool
    default: false
  vhost_sockets:
    description:
      - Directory of the vhost sockets, the C(-S) option of C(spdk_tgt) and C(vhost).
      - Below C(/run) it is made when the service starts. Elsewhere it must exist.
    type: path
  arguments:
    description: More arguments for the program. What has an option here is refused.
    type: list
    elements: str
    default: []
  environment:
    description: Environment variables of the process. Everyone on the host can read them in the unit.
    type: dict
    default: {}
  drives:
    description:
      - PCI addresses of drives that the start waits for, up to a minute in all, until each has a driver for userspace.
      - One that does not come is named in the journal, and the target starts without it, because a dead drive must
        not keep the others from being served.
    type: list
    elements: str
    default: []
  enabled:
    description:
      - Whether the service starts at boot.
      - Without it a service that is V(started) is enabled, and for one that is V(stopped) it is left as it is.
    type: bool
  interrupt:
    description: Consent to cut off what the target serves, if it has to be restarted or stopped.
    type: bool
    default: false
  start_wait:
    description: Seconds to wait for an answer on the socket after the start.
    type: float
    default: 60.0
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.host
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
notes:
  - Needs systemd, 240 or newer for all of what the unit says. A container has none, and the task fails there.
  - A program that is a script should C(exec) the target.
seealso:
  - module: excloud.diskengine.hugepages
  - module: excloud.diskengine.pci_vfio_bind
"""

EXAMPLES = r"""
---
- name: Run a target on two cores
  excloud.diskengine.spdk_service:
    program: /usr/bin/spdk_tgt
    core_mask: "0x3"
    memory: 2GiB
    socket: /run/spdk/spdk.sock
    drives:
      - "0000:01:00.0"
      - "0000:02:00.0"

- name: Run a vhost target as a user, and let members of its group use it
  excloud.diskengine.spdk_service:
    name: vhost
    program: /opt/spdk/bin/vhost
    core_mask: "[2-5]"
    socket: /run/vhost/spdk.sock
    vhost_sockets: /run/vhost
    user: spdk
    group: kvm
    wait_for_rpc: true

- name: Restart it with other cores in a maintenance window, whatever it serves
  excloud.diskengine.spdk_service:
    program: /usr/bin/spdk_tgt
    core_mask: "[0-3]"
    socket: /run/spdk/spdk.sock
    interrupt: true

- name: Stop it, if it serves nothing
  excloud.diskengine.spdk_service:
    state: stopped
    enabled: false
"""

RETURN = r"""
writes:
  description: What was done, or would be done in check mode, in order.
  returned: unless the request was refused
  type: list
  elements: dict
  contains:
    kind:
      description: V(file), V(link), V(remove), or V(command).
      type: str
      returned: always
      sample: command
    path:
      description: The file, or the program.
      type: str
      returned: always
      sample: systemctl
    value:
      description: The text of the file, where the link leads, or the arguments of the program.
      type: str
      returned: always
      sample: restart spdk_tgt.service
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
      sample: restart spdk_tgt.service, which runs with other arguments than its unit has now
restart_pending:
  description: Whether a restart is due that was not done, because the target serves volumes.
  returned: unless the request was refused
  type: bool
serves:
  description:
    - What the target that was found serves, and what its end would cut off.
    - When it cannot be asked, there is one entry that begins with C(unknown) and tells why.
  returned: unless the request was refused
  type: list
  elements: str
  sample: ["subsystem nqn.2024-01.io.excloud:storage.node-1.7.42"]
pid:
  description: The main process as it is now, in check mode as it was found; empty when there is none.
  returned: unless the request was refused
  type: int
started:
  description: systemd's ID of this run of the service, which C(/run/diskengine/<name>.started) holds after each start.
  returned: unless the request was refused
  type: str
  sample: 3a7b1d4f5e6c4a0b9d8e7f6a5b4c3d2e
before:
  description: The service as it was.
  returned: unless the request was refused
  type: dict
  contains: &service
    running:
      description: Whether its process runs.
      type: bool
      returned: always
    enabled:
      description: Whether it starts at boot.
      type: bool
      returned: always
    arguments:
      description: Arguments of the running process, the program first.
      type: list
      elements: str
      returned: always
      sample: [/usr/bin/spdk_tgt, -m, "0x3", -r, /run/spdk/spdk.sock]
    unit:
      description: Text of the unit; empty when there is none.
      type: str
      returned: always
after:
  description: The service as it is now, or would be in check mode.
  returned: unless the request was refused
  type: dict
  contains: *service
notes:
  description: Sentences on what is worth knowing.
  returned: unless the request was refused
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, LOCK
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._service import difference, manage
from ansible_collections.excloud.diskengine.plugins.module_utils._host._unit import Wanted


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **LOCK,
            "name": {"type": "str", "default": "spdk_tgt"},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
            "program": {"type": "path"},
            "core_mask": {"type": "str"},
            "memory": {"type": "str"},
            "user": {"type": "str"},
            "group": {"type": "str"},
            "wait_for_rpc": {"type": "bool", "default": False},
            "config": {"type": "path"},
            "hugepages_mount": {"type": "path"},
            "no_hugepages": {"type": "bool", "default": False},
            "vhost_sockets": {"type": "path"},
            "arguments": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict", "default": {}},
            "drives": {"type": "list", "elements": "str", "default": []},
            "enabled": {"type": "bool"},
            "interrupt": {"type": "bool", "default": False},
            "start_wait": {"type": "float", "default": 60.0},
            "root": {"type": "path", "default": "/"},
        },
        required_if=[("state", "started", ["program"])],
        supports_check_mode=True,
    )
    options = {name: value for name, value in module.params.items() if name != "root"}
    options["environment"] = {name: str(value) for name, value in options["environment"].items()}
    try:
        result, failed = manage(Host(module.params["root"]), Wanted(**options), module.check_mode)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    for note in result["notes"]:
        module.warn(note)
    if module._diff:
        result["diff"] = difference(result)
    if failed:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
