#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_arguments
short_description: Give the kernel of the next boot arguments
version_added: 0.1.0
description:
  - Hands arguments to the boot loader by the distribution's own tool, C(update-grub) with a file in
    C(/etc/default/grub.d) on Debian and Ubuntu, and C(grubby) on the RHEL family. Files of others are never edited.
  - Says whether the running kernel has them, or whether the host has to be restarted first. It restarts nothing itself.
author:
  - The excloud.diskengine developers (@excloud)
options:
  arguments:
    description:
      - The arguments, one by one, such as V(intel_iommu=on) or V(iommu=pt).
      - One that the running kernel has, and that this module did not set, is left to whoever set it.
      - Those of earlier tasks stay until they are named with O(state=absent).
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) sets them for the next boot.
      - V(absent) takes those away that this module had set.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
seealso:
  - module: excloud.diskengine.host_info
"""

EXAMPLES = r"""
---
- name: Find out which argument the IOMMU lacks
  excloud.diskengine.host_info:
  register: found

- name: Set it for the next boot
  excloud.diskengine.kernel_arguments:
    arguments: "{{ found.iommu.missing_arguments }}"
"""

RETURN = r"""
reboot_required:
  description: Whether the running kernel is not as wanted, so that the host has to be restarted.
  returned: success
  type: bool
running:
  description: The arguments of the running kernel.
  returned: success
  type: list
  elements: str
  sample: [BOOT_IMAGE=/boot/vmlinuz, root=/dev/sda1, quiet]
writes:
  description: What was done, or would be done in check mode, in order.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(file), V(remove), or V(command).
      type: str
      returned: always
      sample: file
    path:
      description: The file, or the program.
      type: str
      returned: always
      sample: /etc/default/grub.d/90-diskengine-arguments.cfg
    value:
      description: The text of the file, or the arguments of the program.
      type: str
      returned: always
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
before:
  description: The arguments of the next boot that this module set, as they were.
  returned: success
  type: dict
  sample: {arguments: []}
after:
  description: The same as they are now, or would be in check mode.
  returned: success
  type: dict
  sample: {arguments: [intel_iommu=on]}
notes:
  description: Sentences on what is worth knowing.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._kernel_arguments import manage


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "arguments": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        result = manage(Host(options["root"]), tuple(options["arguments"]), options["state"], module.check_mode)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    for note in result["notes"]:
        module.warn(note)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
