#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_health_info
short_description: Read the health of the NVMe controllers of an SPDK target
version_added: 0.1.0
description:
  - Reads the health log of each NVMe controller that a target has, local drives and remote ones, all at once.
  - A controller is V(critical) when the drive warns of data at risk, when its spare capacity is below its own
    threshold, when a critical threshold is reached, or when SPDK gave the controller up.
  - It is V(warning) when the drive warns of its temperature or when a warning threshold is reached.
  - It is V(unknown) when its log could not be read, or says neither how warm it is nor what is spare. An SPDK target at
    the other end of a fabric says neither.
  - Otherwise it is V(ok).
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.health
seealso:
  - module: excloud.diskengine.spdk_metrics
  - module: excloud.diskengine.nvme_disk_info
  - plugin: excloud.diskengine.storage_health
    plugin_type: filter
"""

EXAMPLES = r"""
---
- name: Read the health of the drives
  excloud.diskengine.spdk_health_info:
    socket: /run/spdk/spdk.sock
    thresholds:
      temperature_warning: 65
      media_errors_critical: 50
  register: health

- name: Fail if a drive is about to be lost
  ansible.builtin.assert:
    that: health.controllers | selectattr('health', 'eq', 'critical') | length == 0
"""

RETURN = r"""
controllers:
  description: The NVMe controllers of the target.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the controller.
      type: str
      returned: always
      sample: nvme7
    trtype:
      description: Transport, C(PCIe) for a local drive.
      type: str
      returned: always
      sample: PCIe
    traddr:
      description: Address on that transport.
      type: str
      returned: always
      sample: "0000:01:00.0"
    bdf:
      description: PCI address of a local drive; empty for others.
      type: str
      returned: always
      sample: "0000:01:00.0"
    state:
      description: State of its first path. Only C(enabled) ones are asked for their health.
      type: str
      returned: always
      sample: enabled
    serial:
      description: Serial number; empty when the log could not be read.
      type: str
      returned: always
      sample: S5XNNG0R100234
    model:
      description: Model; empty when the log could not be read.
      type: str
      returned: always
    firmware:
      description: Revision of the firmware; empty when the log could not be read.
      type: str
      returned: always
    health:
      description: V(ok), V(warning), V(critical) or V(unknown).
      type: str
      returned: always
      sample: ok
    reasons:
      description: Sentences on what made it so, the worst first; empty when it is V(ok).
      type: list
      elements: str
      returned: always
      sample: [the temperature is 71 degrees Celsius, warning from 70 degrees Celsius on]
    log:
      description: The health log, each value as the drive counts it; null when it could not be read.
      type: dict
      returned: always
      contains:
        critical_warning:
          description: The byte of warnings, bit by bit as in the NVM Express specification.
          type: int
          returned: always
        temperature_celsius:
          description: Composite temperature in degrees Celsius; null when the controller does not report it.
          type: int
          returned: always
        available_spare_percentage:
          description: Spare capacity that is left, in percent; null when the controller does not report it.
          type: int
          returned: always
        available_spare_threshold_percentage:
          description: Spare capacity below which the drive warns; null when the controller does not report it.
          type: int
          returned: always
        percentage_used:
          description: Endurance used, as the vendor estimates it. It may be more than 100.
          type: int
          returned: always
        data_units_read:
          description: Data read, in units of 512,000 bytes.
          type: int
          returned: always
        data_units_written:
          description: Data written, in units of 512,000 bytes.
          type: int
          returned: always
        host_read_commands:
          description: Read commands.
          type: int
          returned: always
        host_write_commands:
          description: Write commands.
          type: int
          returned: always
        controller_busy_time:
          description: Minutes with I/O under way.
          type: int
          returned: always
        power_cycles:
          description: Power cycles.
          type: int
          returned: always
        power_on_hours:
          description: Hours powered on.
          type: int
          returned: always
        unsafe_shutdowns:
          description: Losses of power without a shutdown.
          type: int
          returned: always
        media_errors:
          description: Unrecovered data integrity errors.
          type: int
          returned: always
        num_err_log_entries:
          description: Entries that the error log ever had.
          type: int
          returned: always
        warning_temperature_time_minutes:
          description: Minutes above the warning temperature.
          type: int
          returned: always
        critical_composite_temperature_time_minutes:
          description: Minutes above the critical temperature.
          type: int
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._health import CONTROLLERS, OPTION, read_health


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**CONNECTION, **OPTION}, supports_check_mode=True)
    try:
        with connect(module) as client:
            client.release.require_started(client.path)
            controllers = read_health(client, client.read([CONTROLLERS])[0], module.params["thresholds"])
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, controllers=controllers)


if __name__ == "__main__":
    main()
