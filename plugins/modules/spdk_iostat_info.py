#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_iostat_info
short_description: Read the I/O statistics of the bdevs of an SPDK target
version_added: 0.1.0
description:
  - Reads what each bdev of a target has done since the target was started or its statistics were reset, with the names
    of lvols and with latencies in seconds. It resets nothing.
  - Rates are the difference of two readings, divided by the difference of their RV(clock). Prometheus works them out by
    itself from what M(excloud.diskengine.spdk_metrics) writes.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
options:
  bdevs:
    description: The bdevs to return, an lvol by its UUID or as C(<lvstore>/<lvol>). All of them without it.
    type: list
    elements: str
seealso:
  - module: excloud.diskengine.spdk_metrics
"""

EXAMPLES = r"""
---
- name: Read the statistics of one volume
  excloud.diskengine.spdk_iostat_info:
    socket: /run/spdk/spdk.sock
    bdevs: [lvs-disk-7/1234]
  register: statistics

- name: Show the mean latency of its reads
  ansible.builtin.debug:
    msg: "{{ (reads.seconds / [reads.operations, 1] | max * 1000000) | round }} us"
  vars:
    reads: "{{ statistics.bdevs[0].read }}"
"""

RETURN = r"""
clock:
  description: When the values were read, in seconds by the target's own clock.
  returned: success
  type: float
  sample: 11906.257
bdevs:
  description: The bdevs, in the order of O(bdevs) if that is given.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Own name of the bdev; of an lvol its UUID.
      type: str
      returned: always
      sample: 5b1a3c2e-7a3f-4d8f-9a53-0f6f4f0f8a11
    lvstore:
      description: Name of the lvstore if it is an lvol; empty otherwise.
      type: str
      returned: always
      sample: lvs-disk-7
    lvol:
      description: Name of the lvol; empty otherwise.
      type: str
      returned: always
      sample: "1234"
    alias:
      description: Both names as C(<lvstore>/<lvol>); empty otherwise.
      type: str
      returned: always
      sample: lvs-disk-7/1234
    read:
      description: What was read.
      type: dict
      returned: always
      contains: &operation
        bytes:
          description: Bytes of completed operations.
          type: int
          returned: always
        operations:
          description: Completed operations.
          type: int
          returned: always
        seconds:
          description: Sum of their latencies in seconds.
          type: float
          returned: always
        seconds_min:
          description: The shortest of them.
          type: float
          returned: always
        seconds_max:
          description: The longest of them.
          type: float
          returned: always
    write:
      description: What was written.
      type: dict
      returned: always
      contains: *operation
    unmap:
      description: What was unmapped.
      type: dict
      returned: always
      contains: *operation
    copy:
      description: What was copied.
      type: dict
      returned: always
      contains: *operation
    errors:
      description: Number of operations that failed, by SPDK's word for the failure.
      type: dict
      returned: always
      sample: {nvme_error: 3}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._iostat import IOSTAT, LVOLS, describe, select


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**CONNECTION, "bdevs": {"type": "list", "elements": "str"}},
        supports_check_mode=True,
    )
    try:
        with connect(module) as client:
            client.release.require_started(client.path)
            iostat, lvols = client.read([IOSTAT, LVOLS])
        bdevs = describe(iostat, lvols)
        if module.params["bdevs"] is not None:
            bdevs = select(bdevs, module.params["bdevs"])
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, clock=iostat["ticks"] / iostat["tick_rate"], bdevs=bdevs)


if __name__ == "__main__":
    main()
