#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_vfio_bind
short_description: Take NVMe drives from the kernel for SPDK, and give them back
version_added: 0.1.0
description:
  - Binds NVMe controllers to C(vfio-pci) by way of C(driver_override), and back to the driver that was there before.
  - Before anything is touched it looks at every namespace of the controller and at the host, and refuses with all
    reasons at once, each with the way out.
  - Never bound is a drive of which something is mounted in any mount namespace that can be seen (guard C(mounted)),
    that the host runs from (C(boot_disk)), that is swapped on (C(swap)), that LVM, device-mapper, md, multipath or
    bcache hold (C(holders)), that has the mark of a member of LVM, md, ZFS, btrfs, bcache or another pool (C(member)),
    or that the kernel has given to somebody else (C(claimed)).
  - Also not bound is what is not an NVMe controller (C(class)), what has another serial than the one given
    (C(serial)), anything while the IOMMU is off (C(iommu)) or the driver is not there (C(module)), and a device that a
    process drives from user space (C(driven)).
  - Refused unless O(lift) says otherwise is a drive with a partition table, a file system or another signature
    (C(signature)), one that a process has open (C(open_handles)), and one whose IOMMU group has other members with
    drivers of the kernel (C(iommu_group)).
  - The mark of an SPDK lvstore, and partitions of SPDK's own types, are no reason.
  - What the drive was is noted in C(/var/lib/diskengine/pci) before it is taken.
  - With several devices one that fails leaves the others done, and the task fails in the end.
  - The limit of locked memory for an SPDK that does not run as root (C(LimitMEMLOCK) in its unit) is not set here.
author:
  - The excloud.diskengine developers (@excloud)
options:
  bdf:
    description: PCI address of the device, such as V(0000:01:00.0).
    type: str
  serial:
    description:
      - Serial number of the drive. It finds the drive, or, beside O(bdf), must be the one of the drive there.
      - Of a drive that is bound the serial is known if this module bound it.
    type: str
  state:
    description:
      - V(bound) gives the device to O(driver).
      - V(released) gives it back to the driver that was there, removes the udev rules, and waits until C(/dev/nvme*)
        and the namespaces are back.
    type: str
    choices: [bound, released]
    default: bound
  driver:
    description:
      - The driver for SPDK.
      - V(uio_pci_generic) has no protection by an IOMMU. It is never used unless named here.
    type: str
    choices: [vfio-pci, uio_pci_generic]
    default: vfio-pci
  allow_unsafe_noiommu:
    description:
      - Bind to V(vfio-pci) although the IOMMU is off. Who has the device can then write all memory of the host.
    type: bool
    default: false
  lift:
    description:
      - Guards that shall not hold for this device. All others hold always.
      - V(driven) counts only in check mode and for O(state=released), to preview what follows when the process that
        drives the device from user space has let go of it.
    type: list
    elements: str
    choices: [signature, open_handles, iommu_group, driven]
    default: []
  user:
    description:
      - User that may open the IOMMU group of the device in C(/dev/vfio), now and by a udev rule.
      - Without it, the owner is left alone.
    type: str
  persist:
    description:
      - What binds the device at the next boot. Without it, what is there for that is left alone.
      - V(udev) writes a udev rule and a small program that it runs. It goes by O(serial) where that was given, which is
        safe when drives are moved, and else by address and kind of device.
      - At boot, a drive that something of the host uses is left to the kernel, which the kernel's log tells. The other
        guards do not hold then, so do not put anything else on such a drive.
      - V(none) removes the rule.
    type: str
    choices: [none, udev]
  devices:
    description: Devices to manage in one task, each with the options above.
    type: list
    elements: dict
    suboptions:
      bdf:
        description: PCI address of the device.
        type: str
      serial:
        description: Serial number of the drive.
        type: str
      state:
        description: Whether the device is for SPDK or for the kernel.
        type: str
        choices: [bound, released]
        default: bound
      driver:
        description: The driver for SPDK.
        type: str
        choices: [vfio-pci, uio_pci_generic]
        default: vfio-pci
      allow_unsafe_noiommu:
        description: Bind although the IOMMU is off.
        type: bool
        default: false
      lift:
        description: Guards that shall not hold for this device.
        type: list
        elements: str
        choices: [signature, open_handles, iommu_group, driven]
        default: []
      user:
        description: User that may open the IOMMU group of the device.
        type: str
      persist:
        description: What binds the device at the next boot.
        type: str
        choices: [none, udev]
  wait:
    description: Seconds that each device may take until it can be used after it was bound or released.
    type: float
    default: 60.0
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.host
seealso:
  - module: excloud.diskengine.nvme_disk_info
  - module: excloud.diskengine.hugepages
"""

EXAMPLES = r"""
---
- name: One drive, by its address
  excloud.diskengine.pci_vfio_bind:
    bdf: "0000:01:00.0"

- name: Several, by serial, also after a reboot, for an SPDK that does not run as root
  excloud.diskengine.pci_vfio_bind:
    devices:
      - serial: S5XNNG0R100234
        user: spdk
        persist: udev
      - serial: S5XNNG0R100235
        user: spdk
        persist: udev
        lift: [signature]

- name: Give a drive back to the kernel
  excloud.diskengine.pci_vfio_bind:
    bdf: "0000:01:00.0"
    state: released
"""

RETURN = r"""
results:
  description: One entry for each device, in the order in which they were given.
  returned: always
  type: list
  elements: dict
  contains:
    bdf:
      description: PCI address of the device; empty if it was not found.
      type: str
      returned: always
      sample: "0000:01:00.0"
    serial:
      description: Serial number of the drive, empty if it is not known.
      type: str
      returned: always
      sample: S5XNNG0R100234
    changed:
      description: Whether something was written for the device, or would be in check mode.
      type: bool
      returned: always
    failed:
      description: Whether the device is not as wanted.
      type: bool
      returned: always
    writes:
      description: What was done, or would be done in check mode, in order.
      type: list
      elements: dict
      returned: always
      contains:
        kind:
          description: V(write) to a file of the kernel, V(file), V(remove), V(owner), or V(command).
          type: str
          returned: always
          sample: write
        path:
          description: The file, or the program.
          type: str
          returned: always
          sample: /sys/bus/pci/devices/0000:01:00.0/driver_override
        value:
          description: What is written, the text of the file, the user, or the arguments of the program.
          type: str
          returned: always
          sample: vfio-pci
        summary:
          description: What it does, as a sentence.
          type: str
          returned: always
          sample: choose the driver vfio-pci for 0000:01:00.0
    before:
      description: The driver, whether a rule binds it at boot, and the owner's ID if that is managed, as they were.
      type: dict
      returned: always
      sample: {driver: nvme, at_boot: false}
    after:
      description: The same as they are now, or would be in check mode.
      type: dict
      returned: always
      sample: {driver: vfio-pci, at_boot: false}
    reasons:
      description: Why the device is left alone.
      type: list
      elements: dict
      returned: always
      contains:
        guard:
          description: Name of the guard.
          type: str
          returned: always
          sample: mounted
        text:
          description: What was found.
          type: str
          returned: always
          sample: nvme0n1p1 is mounted on /data
        way_out:
          description: What to do about it.
          type: str
          returned: always
          sample: umount /data
    notes:
      description: Sentences on what is worth knowing.
      type: list
      elements: str
      returned: always
    msg:
      description: Why the device is not as wanted, and what to do.
      type: str
      returned: when the device failed
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._host._bind import Wanted, manage
from ansible_collections.excloud.diskengine.plugins.module_utils._host._guards import IN_PREVIEW, LIFTABLE
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host

OPTIONS = {
    "bdf": {"type": "str"},
    "serial": {"type": "str"},
    "state": {"type": "str", "choices": ["bound", "released"], "default": "bound"},
    "driver": {"type": "str", "choices": ["vfio-pci", "uio_pci_generic"], "default": "vfio-pci"},
    "allow_unsafe_noiommu": {"type": "bool", "default": False},
    "lift": {"type": "list", "elements": "str", "choices": [*LIFTABLE, *IN_PREVIEW], "default": []},
    "user": {"type": "str"},
    "persist": {"type": "str", "choices": ["none", "udev"]},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **OPTIONS,
            "devices": {
                "type": "list",
                "elements": "dict",
                "options": OPTIONS,
                "required_one_of": [["bdf", "serial"]],
            },
            "wait": {"type": "float", "default": 60.0},
            "root": {"type": "path", "default": "/"},
        },
        required_one_of=[["bdf", "serial", "devices"]],
        mutually_exclusive=[["bdf", "devices"], ["serial", "devices"]],
        supports_check_mode=True,
    )
    many = module.params["devices"]
    chosen = [{name: module.params[name] for name in OPTIONS}] if many is None else many
    desired = [Wanted(**{**options, "lift": tuple(options["lift"])}) for options in chosen]
    outcomes = manage(Host(module.params["root"]), desired, module.check_mode, module.params["wait"])
    results = [outcome.result() for outcome in outcomes]
    result: dict = {"results": results, "changed": any(entry["changed"] for entry in results)}
    for outcome in outcomes:
        for note in outcome.planned.notes:
            module.warn(f"{outcome.planned.bdf}: {note}")
    if module._diff:
        result["diff"] = [
            {
                "before_header": entry["bdf"],
                "after_header": entry["bdf"],
                "before": entry["before"],
                "after": entry["after"],
            }
            for entry in results
            if entry["changed"]
        ]
    errors = [entry["msg"] for entry in results if entry["failed"]]
    if errors:
        head = f"{len(errors)} of {len(results)} devices failed: " if len(results) > 1 else ""
        module.fail_json(msg=head + "; ".join(errors), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
