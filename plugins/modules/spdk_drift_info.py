#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_drift_info
short_description: Find what an SPDK target has otherwise than it should
version_added: 0.1.0
description:
  - Reads one target and compares it with a desired state, by the same plan that M(excloud.diskengine.spdk_node) would
    carry out. It changes nothing.
  - Each difference comes with its cause, with what would repair it, and with the risk of that.
author:
  - The excloud.diskengine developers (@excloud)
options:
  desired:
    description: What the target should have, a JSON document as O(excloud.diskengine.spdk_node#module:desired).
    type: json
    required: true
  pending:
    description: What is being made or removed, a document of the same form. It is no drift, whether it is there or not.
    type: json
    default: "{}"
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
seealso:
  - module: excloud.diskengine.spdk_node
  - module: excloud.diskengine.spdk_info
"""

EXAMPLES = r"""
---
- name: Compare the target of a node with its rows
  excloud.diskengine.spdk_drift_info:
    desired: "{{ rows | excloud.diskengine.storage_verified('desired') }}"
    pending: "{{ rows | excloud.diskengine.storage_verified('pending') }}"
  vars:
    rows: "{{ estate.nodes['storage-1'] }}"
"""

RETURN = r"""
drift:
  description: The differences.
  returned: success
  type: list
  elements: dict
  contains:
    class:
      description:
        - V(missing) is wanted and not there, V(different) is there in another way or does not work, V(extra) is there
          and nobody wants it, V(stale) is a subsystem that nobody wants and that shows nothing.
      type: str
      returned: always
      sample: missing
    kind:
      description: Kind of the object; a V(path) is one of the addresses at which a controller is attached.
      type: str
      returned: always
      sample: subsystem
    object:
      description: The object.
      type: str
      returned: always
      sample: nqn.2024-01.io.excloud:storage.node-1.7.1234
    cause:
      description: What is wrong, as a sentence; of what nobody wants, which row it would belong to.
      type: str
      returned: always
      sample: it is not there
    found:
      description: What is there.
      type: dict
      returned: always
    wanted:
      description: What should be there.
      type: dict
      returned: always
    risk:
      description:
        - The risk of the repair. V(safe), also when only time is needed, V(disruptive) when hosts are interrupted,
          V(destructive) when data is given up, V(manual) when no plan can repair it.
      type: str
      returned: always
      sample: safe
    repair:
      description: What a run would do about it, as sentences.
      type: list
      elements: str
      returned: always
counts:
  description: Number of differences by class.
  returned: success
  type: dict
  sample: {missing: 1, different: 0, extra: 2, stale: 0}
lvstores:
  description: The lvstores of the target, with C(uuid), C(name), C(total_bytes), C(free_bytes) and C(cluster_size).
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._converge import observe
from ansible_collections.excloud.diskengine.plugins.module_utils._describe import capacity
from ansible_collections.excloud.diskengine.plugins.module_utils._document import parse
from ansible_collections.excloud.diskengine.plugins.module_utils._drift import find_drift
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError

CLASSES = ("missing", "different", "extra", "stale")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            "desired": {"type": "json", "required": True},
            "pending": {"type": "json", "default": "{}"},
        },
        supports_check_mode=True,
    )
    try:
        desired, pending = (parse(module.params[name], name) for name in ("desired", "pending"))
        with connect(module) as client:
            graph = observe(client, desired)
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    drift = find_drift(desired, pending, graph)
    counts = {name: sum(1 for entry in drift if entry["class"] == name) for name in CLASSES}
    module.exit_json(changed=False, drift=drift, counts=counts, lvstores=capacity(list(graph.lvstores.values())))


if __name__ == "__main__":
    main()
