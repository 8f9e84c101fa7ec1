#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_health_info
short_description: Read the health of what an SPDK target has
version_added: 0.1.0
description:
  - Reads the NVMe controllers with their paths, the RAIDs and the vhost controllers of a target in one round trip, and
    then the health logs of its local drives, all at once.
  - A local drive is V(critical) when it warns of data at risk, when its spare capacity is below its own threshold, when
    a critical threshold is reached, or when SPDK gave its controller up. It is V(warning) when it warns of its
    temperature or when a warning threshold is reached. It is V(unknown) when its log could not be read, or says neither
    how warm it is nor what is spare.
  - A controller that is attached over a fabric is V(critical) when none of its paths is usable and V(warning) when some
    are not. Its log is not read; the drives behind it are the matter of their own node.
  - A RAID is V(critical) when it has lost members, or none of them can be reached, or it serves nothing. It is
    V(warning) while a member is brought in sync or cannot be reached.
  - A vhost controller is V(critical) when its bdev is gone.
  - Otherwise each is V(ok). What to do then is in C(docs/metrics.md) of the collection.
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
  - plugin: excloud.diskengine.volume_health
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

- name: Fail if a drive is about to be lost or a mirror has one leg
  ansible.builtin.assert:
    that: (health.controllers + health.raids) | selectattr('health', 'eq', 'critical') | length == 0
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
      description: Address on that transport, of the first path.
      type: str
      returned: always
      sample: "0000:01:00.0"
    subnqn:
      description: NQN of the subsystem that is attached over a fabric; empty for a local drive.
      type: str
      returned: always
    bdf:
      description: PCI address of a local drive; empty for others.
      type: str
      returned: always
      sample: "0000:01:00.0"
    state:
      description: State of its first path, in SPDK's word. Only C(enabled) local drives are asked for their health.
      type: str
      returned: always
      sample: enabled
    paths:
      description: The paths to a subsystem that is attached over a fabric; empty for a local drive.
      type: list
      elements: dict
      returned: always
      contains:
        trtype:
          description: Transport.
          type: str
          returned: always
          sample: RDMA
        adrfam:
          description: Address family.
          type: str
          returned: always
          sample: IPv4
        traddr:
          description: Address.
          type: str
          returned: always
          sample: 192.0.2.11
        trsvcid:
          description: Port.
          type: str
          returned: always
          sample: "4420"
        state:
          description:
            - C(enabled) is connected, C(resetting) and C(reconnect_is_delayed) are reconnecting, C(disabled) was
              disabled by a call, C(failed) has no time to come back, C(deleting) is given up or being detached.
          type: str
          returned: always
          sample: reconnect_is_delayed
    usable_paths:
      description: Number of paths that are connected; of a local drive 1 if it is.
      type: int
      returned: always
      sample: 2
    serial:
      description: Serial number of a local drive; empty when the log could not be read.
      type: str
      returned: always
      sample: S5XNNG0R100234
    model:
      description: Model of a local drive; empty when the log could not be read.
      type: str
      returned: always
    firmware:
      description: Revision of the firmware of a local drive; empty when the log could not be read.
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
      description: The health log of a local drive, each value as it counts it; null when it could not be read.
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
raids:
  description: The RAIDs of the target.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the RAID.
      type: str
      returned: always
      sample: raid_17
    level:
      description: RAID level.
      type: str
      returned: always
      sample: raid1
    condition:
      description:
        - V(in_sync), V(rebuilding), or V(degraded) when it has lost members and serves on; V(stalled) when none of its
          members can be reached and all I/O waits; V(configuring) when it waits for members before it serves,
          V(offline) when it has lost too many.
      type: str
      returned: always
      sample: rebuilding
    members:
      description: The members, in their order.
      type: list
      elements: dict
      returned: always
      contains:
        name:
          description: Name of the bdev; empty when it was lost, because SPDK forgets it then.
          type: str
          returned: always
          sample: storage.storage-1.1.33-5793f3bba363e671n1
        uuid:
          description: UUID of the bdev; all zero when it was lost.
          type: str
          returned: always
          sample: d9bbd599-a88f-4ae5-b59a-6856f840e0dd
        present:
          description: Whether it is part of the RAID now.
          type: bool
          returned: always
    rebuilding:
      description: The member that is brought in sync; empty when none is.
      type: str
      returned: always
    percent:
      description: How much of it is done, in percent; null when none is.
      type: int
      returned: always
      sample: 36
    health:
      description: V(ok), V(warning), V(critical), or V(unknown) for a state that this release of SPDK did not have.
      type: str
      returned: always
      sample: warning
    reasons:
      description: Sentences on what made it so; empty when it is V(ok).
      type: list
      elements: str
      returned: always
vhosts:
  description: The vhost controllers of the target.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the vhost controller.
      type: str
      returned: always
      sample: vhost3
    bdevs:
      description: The bdevs that it serves.
      type: list
      elements: str
      returned: always
      sample: [raid_17]
    socket:
      description: Path of its socket.
      type: str
      returned: always
      sample: /var/tmp/vhost3
    sessions:
      description: Names of the sessions of VMs that are connected. None is no fault, because a VM may be switched off.
      type: list
      elements: str
      returned: always
      sample: [vhost3s0]
    health:
      description: V(ok), or V(critical) when its bdev is gone.
      type: str
      returned: always
      sample: ok
    reasons:
      description: Sentences on what made it so; empty when it is V(ok).
      type: list
      elements: str
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, connect
from ansible_collections.excloud.diskengine.plugins.module_utils._drive_health import OPTION
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._health import read_health


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**CONNECTION, **OPTION}, supports_check_mode=True)
    try:
        with connect(module) as client:
            health = read_health(client, module.params["thresholds"])
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **health)


if __name__ == "__main__":
    main()
