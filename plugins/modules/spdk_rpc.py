#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_rpc
short_description: Make one raw JSON-RPC call to an SPDK target
version_added: 0.1.0
description:
  - For what no other module of this collection does. Nothing is read before the call and nothing compared.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
attributes:
  check_mode:
    support: full
    details:
      - A call that changes something is not sent, only checked to be one that the target knows.
  diff_mode:
    support: none
    details:
      - What a raw call changes is not known.
  idempotent:
    support: none
    details:
      - A call that changes something is sent each time.
options:
  method:
    description: The method, as the target spells it.
    type: str
    required: true
  params:
    description: Its parameters. Numbers must be numbers, and a port must be a string.
    type: dict
    default: {}
  changes:
    description:
      - Whether the call changes something. It decides what the task reports, and whether check mode sends the call.
      - Without it a call is taken to change something unless its name says that it reads (C(get) as a word of the name,
        or C(framework_wait_init) and C(bdev_wait_for_examine)).
    type: bool
seealso:
  - module: excloud.diskengine.spdk_info
"""

EXAMPLES = r"""
---
- name: Which NVMe controllers are attached
  excloud.diskengine.spdk_rpc:
    method: bdev_nvme_get_controllers
  register: controllers

- name: A RAM disk for a test
  excloud.diskengine.spdk_rpc:
    method: bdev_malloc_create
    params:
      name: ram0
      num_blocks: 262144
      block_size: 4096
"""

RETURN = r"""
result:
  description: What the target answered. Empty in check mode when the call changes something.
  returned: success
  type: raw
code:
  description: The error code that the target answered.
  returned: when the target answered with an error
  type: int
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, LOCK, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError, RpcError
from ansible_collections.excloud.diskengine.plugins.module_utils._lock import lock_unless_check

_READS = re.compile(r"(^|_)get(_|$)|^framework_wait_init$|^bdev_wait_for_examine$")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **LOCK,
            "method": {"type": "str", "required": True},
            "params": {"type": "dict", "default": {}},
            "changes": {"type": "bool"},
        },
        supports_check_mode=True,
    )
    method, params, changes = (module.params[name] for name in ("method", "params", "changes"))
    if changes is None:
        changes = not _READS.search(method)
    try:
        with connect(module) as client:
            client.release.require(method, params)
            if not changes:
                result = client.call(method, params)
            elif module.check_mode:
                result = None
            else:
                with lock_unless_check(module):
                    result = client.call(method, params)
    except RpcError as error:
        module.fail_json(msg=str(error), code=error.code)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changes, result=result)


if __name__ == "__main__":
    main()
