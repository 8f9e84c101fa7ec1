#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_metrics
short_description: Write what an SPDK target measures to a file for Prometheus
version_added: 0.1.0
description:
  - Reads the health of drives, paths, RAIDs and vhost controllers, the capacity of the lvstores and the I/O statistics
    of all bdevs over one connection, and writes them to a file that the textfile collector of the Prometheus
    node_exporter reads.
  - The file is replaced as a whole, so a reader never sees half of it.
  - When the target cannot be read, the task fails and the file says just that, so that no old values live on.
  - All names, types and labels are in C(docs/metrics.md) of the collection.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.health
attributes:
  check_mode:
    support: full
    details:
      - The target is read and the file is not written.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A file of counters is another one in each run, unless nothing happens on the target.
      - It is written in any case, so that its age is that of the values. The task is changed when its content is.
options:
  path:
    description: The file, with the ending C(.prom). Directories that it needs are made.
    type: path
    required: true
  node:
    description: Name of the node, for the label C(node) of all values.
    type: str
    required: true
  drift:
    description: How many objects differ between the database and the target, a number for each class of difference.
    type: dict
    default: {}
seealso:
  - module: excloud.diskengine.spdk_health_info
  - module: excloud.diskengine.spdk_iostat_info
"""

EXAMPLES = r"""
---
- name: Write the metrics of a storage node
  excloud.diskengine.spdk_metrics:
    socket: /run/spdk/spdk.sock
    path: /var/lib/prometheus/node-exporter/diskengine.prom
    node: "{{ inventory_hostname }}"
    drift:
      missing: 2
      extra: 0
"""

RETURN = r"""
samples:
  description: Number of values in the file.
  returned: unless the file could not be written
  type: int
  sample: 12031
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._drive_health import OPTION
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._metrics import Wanted, publish


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **OPTION,
            "path": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "drift": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    wanted = Wanted(*(module.params[name] for name in Wanted._fields))
    try:
        result, failure = publish(lambda: connect(module), wanted, module.check_mode)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    before, after = result.pop("before"), result.pop("after")
    if module._diff:
        headers = {"before_header": wanted.path, "after_header": wanted.path}
        result["diff"] = {"before": before, "after": after, **headers}
    if failure is not None:
        module.fail_json(msg=failure, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
