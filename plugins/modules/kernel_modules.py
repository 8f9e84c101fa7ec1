#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_modules
short_description: Load kernel modules, now and at boot
version_added: 0.1.0
description:
  - Loads kernel modules that are not loaded yet and are not built into the kernel.
  - Keeps those that tasks named in C(/etc/modules-load.d/diskengine.conf), which systemd reads at boot.
  - A module that the running kernel does not have is refused before anything is done.
  - Never unloads a module, because drives may depend on it.
author:
  - The excloud.diskengine developers (@excloud)
options:
  name:
    description: Names of kernel modules, such as V(vfio-pci). Dashes and underscores mean the same.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) loads the modules.
      - V(absent) only takes them out of the file for the next boot. What is loaded stays so until then.
    type: str
    choices: [present, absent]
    default: present
  persist:
    description:
      - Load them at the next boot as well.
      - V(false) takes them out of the file and loads them now only.
    type: bool
    default: true
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
seealso:
  - module: excloud.diskengine.host_info
  - module: excloud.diskengine.pci_vfio_bind
"""

EXAMPLES = r"""
---
- name: Have the driver that gives drives to SPDK, now and at boot
  excloud.diskengine.kernel_modules:
    name: [vfio-pci]

- name: Do not load it at boot any more
  excloud.diskengine.kernel_modules:
    name: [vfio-pci]
    state: absent
"""

RETURN = r"""
modules:
  description: The modules that were named, as they are now; in check mode as they were found.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the module.
      type: str
      returned: always
      sample: vfio-pci
    state:
      description:
        - V(loaded), V(builtin) when it is a part of the kernel, V(available) when it can be loaded, or V(missing).
      type: str
      returned: always
      sample: loaded
writes:
  description: What was done, or would be done in check mode, in order.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(command), V(file), or V(remove).
      type: str
      returned: always
      sample: command
    path:
      description: The program, or the file.
      type: str
      returned: always
      sample: modprobe
    value:
      description: The arguments of the program, or the text of the file.
      type: str
      returned: always
      sample: vfio-pci
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
      sample: load the kernel module vfio-pci
before:
  description: Which of the modules were C(loaded), or built in, and all that the file names (C(at_boot)).
  returned: success
  type: dict
  sample: {loaded: [], at_boot: []}
after:
  description: The same as they are now, or would be in check mode.
  returned: success
  type: dict
  sample: {loaded: [vfio-pci], at_boot: [vfio-pci]}
notes:
  description: Sentences on what is worth knowing.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._kernel_modules import Wanted, manage


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "persist": {"type": "bool", "default": True},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    wanted = Wanted(tuple(module.params["name"]), module.params["state"], module.params["persist"])
    try:
        result = manage(Host(module.params["root"]), wanted, module.check_mode)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    for note in result["notes"]:
        module.warn(note)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
