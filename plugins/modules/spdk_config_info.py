#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_config_info
short_description: Compare an SPDK target with a saved configuration
version_added: 0.1.0
description:
  - Lists every difference between a running target and a file that M(excloud.diskengine.spdk_config) or SPDK's own
    C(save_config) wrote, and changes nothing.
  - A parameter that only one of the two has is compared only if SPDK writes it just when it is set, such as the keys of
    a host. The file may leave the others to SPDK, or come from another release.
author:
  - The excloud.diskengine developers (@excloud)
options:
  path:
    description: The file.
    type: path
    required: true
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
seealso:
  - module: excloud.diskengine.spdk_config
"""

EXAMPLES = r"""
---
- name: What was changed since the configuration was saved
  excloud.diskengine.spdk_config_info:
    path: /var/lib/diskengine/spdk.json
  register: drift
"""

RETURN = r"""
differences:
  description: Every difference, first what the file names, in its order. Empty if there is none.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(missing) on the target, V(extra) on the target, or V(different) in one parameter.
      type: str
      returned: always
      sample: different
    subsystem:
      description: SPDK's subsystem.
      type: str
      returned: always
      sample: nvmf
    method:
      description: The method that makes the object, or sets the value.
      type: str
      returned: always
      sample: nvmf_subsystem_add_ns
    object:
      description: What it is about.
      type: str
      returned: always
      sample: nqn.2024-01.io.excloud:storage.node-1.7.42 1
    parameter:
      description: The parameter that differs. Empty unless RV(differences[].kind) is V(different).
      type: str
      returned: always
      sample: namespace.bdev_name
    file:
      description: Its value in the file, or all parameters of what is missing. Key material is hidden.
      type: raw
      returned: always
      sample: 52e36301-a39b-4ee6-afdc-9040243816b7
    live:
      description: Its value on the target, or all parameters of what is extra. Key material is hidden.
      type: raw
      returned: always
      sample: 0ccd5afe-2c9d-4c2e-a6a5-f5c1a1e5a5ce
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._config import differences, parse
from ansible_collections.excloud.diskengine.plugins.module_utils._config_file import load
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._restore import read_document


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**CONNECTION, "path": {"type": "path", "required": True}}, supports_check_mode=True
    )
    path = module.params["path"]
    try:
        saved = load(path)
        with connect(module) as client:
            live = parse(read_document(client), client.path)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, differences=[item.describe() for item in differences(saved, live)])


if __name__ == "__main__":
    main()
