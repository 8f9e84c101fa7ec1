# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a device must not be taken from the kernel: pure functions of what was read. Private to the collection.

The module that binds and the one that only looks ask the same function, so they cannot disagree.
"""

from __future__ import annotations

from typing import NamedTuple

from ._pci import USERSPACE, Controller, Device, System, is_boot_point, users_of_mounts
from ._signatures import is_foreign

# Guards that a task may lift by name. All others hold whatever a task says.
LIFTABLE = ("signature", "open_handles", "iommu_group")
IN_PREVIEW = ("driven",)  # and these only in check mode, to see what follows when the process has let go

_FEW = 5


class Reason(NamedTuple):
    """Why not, and what to do about it."""

    guard: str
    text: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.guard}: {self.text} ({self.way_out})"


class Asked(NamedTuple):
    """How a device should be bound."""

    driver: str = "vfio-pci"
    lift: tuple = ()
    allow_unsafe_noiommu: bool = False
    together: frozenset = frozenset()  # devices that the same task binds


def reasons_against_binding(device: Device, system: System, asked: Asked) -> list:
    """Return every reason against binding a device, those lifted left out."""
    reasons = _of_device(device, system, asked)
    if device.controller and device.driver not in USERSPACE:
        reasons += reasons_of_use(device.controller, system)
    reasons += reasons_of_handles(device, system)
    return [reason for reason in reasons if reason.guard not in LIFTABLE or reason.guard not in asked.lift]


def _of_device(device: Device, system: System, asked: Asked) -> list:
    reasons = []
    if not device.is_nvme:
        text = f"its PCI class is {device.pci_class or 'unknown'}"
        reasons.append(Reason("class", text, "only NVMe controllers are bound"))
    reasons += _of_iommu(device, system, asked)
    if asked.driver not in system.drivers and asked.driver not in system.modules:
        text = f"the kernel has no driver {asked.driver}"
        reasons.append(Reason("module", text, "install the package of kernel modules that holds it"))
    elif asked.driver not in system.drivers and "modprobe" not in system.programs:
        reasons.append(Reason("module", f"the driver {asked.driver} is not loaded", f"modprobe {asked.driver}"))
    return reasons


def reasons_of_serial(device: Device, serial: str, must_be_known: bool) -> list:
    """Return why a device is not the drive with a serial, if one was given."""
    if serial and device.serial and device.serial != serial:
        text = f"the drive there has serial {device.serial} and not {serial}"
        return [Reason("serial", text, "drives were moved; find the drive with nvme_disk_info")]
    if serial and must_be_known and not device.serial:
        text = f"the serial of the drive there cannot be read, so it is not known to be {serial}"
        return [Reason("serial", text, "release it first, or name it by its address only")]
    return []


def _of_iommu(device: Device, system: System, asked: Asked) -> list:
    if asked.driver != "vfio-pci":
        return []
    reasons = []
    if (not system.iommu or not device.group) and not asked.allow_unsafe_noiommu:
        text = "the IOMMU is off" if not system.iommu else "the device is in no IOMMU group"
        unsafe = "accept that any process with the device can write all memory and say allow_unsafe_noiommu: true"
        reasons.append(Reason("iommu", text, ", or ".join(filter(None, (system.iommu_advice, unsafe)))))
    for peer in device.peers:
        if peer.is_bridge or peer.driver in ("", "vfio-pci") or peer.bdf in asked.together:
            continue
        text = f"{peer.bdf} is in the same IOMMU group {device.group} and has the driver {peer.driver}"
        way = f"bind {peer.bdf} in the same task, or unbind it, or lift iommu_group and SPDK may fail to open the drive"
        reasons.append(Reason("iommu_group", text, way))
    return reasons


def reasons_of_use(controller: Controller, system: System) -> list:
    """Return how the namespaces of a controller are in use."""
    reasons = []
    for namespace in controller.namespaces:
        block = namespace.block
        own = {block.name, *block.partitions}
        names = own | set(block.above)
        busy = _of_mounts(names, own, system) + _of_swaps(names, own, system)
        for part, holder, kind in block.holders:
            if part in own:
                text = f"{part} is part of {kind}" + (f" ({holder})" if holder not in kind else "")
                busy.append(Reason("holders", text, "take it apart first: vgchange -an, mdadm --stop, dmsetup remove"))
        for part, signature in namespace.found:
            if signature.member:
                text = f"{part} holds {signature.name}"
                way = f"remove it from there with its own tools; if nothing needs it, wipefs -a /dev/{part}"
                busy.append(Reason("member", text, way))
            elif is_foreign(signature):
                way = f"if the data can go, wipefs -a /dev/{part}, or lift signature"
                busy.append(Reason("signature", f"{part} holds {signature.name}", way))
        for part, why in namespace.unreadable:
            text = f"{part} cannot be read ({why}), so nobody knows what is on it"
            busy.append(Reason("signature", text, "look at the drive, or lift signature"))
        if namespace.claimed and not {"mounted", "swap", "boot_disk", "holders"} & {reason.guard for reason in busy}:
            text = f"the kernel has given {block.name} to somebody exclusively, perhaps in a container"
            busy.append(Reason("claimed", text, "find out with lsblk and in each container, and stop it"))
        reasons += busy
    return list(dict.fromkeys(reasons))


def reasons_of_handles(device: Device, system: System) -> list:
    """Return which processes have a node of the device open."""
    if device.driver in USERSPACE:
        return reasons_of_userspace(device, system)
    return reasons_of_open(device.controller, system) if device.controller else []


def reasons_of_open(controller: Controller, system: System) -> list:
    """Return which processes have a node of a controller open."""
    nodes = set(controller.nodes)
    numbers = {namespace.block.number for namespace in controller.namespaces if namespace.block.number}
    who = set()
    for key in nodes | numbers:
        who |= system.opened.get(key, set())
    if not who:
        return []
    text = f"{_some(sorted(who))} has {controller.name} or its namespaces open"
    return [Reason("open_handles", text, "end it, or lift open_handles")]


def reasons_of_userspace(device: Device, system: System) -> list:
    """Return which processes drive the device. Taking it from them hangs or ends them, so this is never lifted."""
    who = set()
    if device.group:
        for prefix in ("", "noiommu-"):
            who |= system.opened.get(f"/dev/vfio/{prefix}{device.group}", set())
    for key, processes in system.opened.items():
        if device.driver != "vfio-pci" and key.startswith("/dev/uio"):
            who |= processes
    if not who:
        return []
    text = f"{_some(sorted(who))} has it open through {device.driver}"
    return [Reason("driven", text, "detach its controller there (bdev_nvme_detach_controller) or stop the process")]


def _of_mounts(names: set, own: set, system: System) -> list:
    reasons, told = [], set()
    for name, mount in users_of_mounts(system, names):
        if (name, mount.point) in told:
            continue
        told.add((name, mount.point))
        on = f"{name} is mounted on {mount.point}" + ("" if name in own else ", and it lies on this drive")
        elsewhere = f" in the mount namespace of process {mount.pid}" if mount.pid != _first(system) else ""
        if is_boot_point(mount.point) and not elsewhere:
            reasons.append(Reason("boot_disk", on, "this host runs from it; leave it to the kernel"))
        else:
            reasons.append(Reason("mounted", on + elsewhere, f"umount {mount.point}"))
    for name in sorted(names & set(system.btrfs)):
        if not any(name == other for other, _point in told):
            reasons.append(Reason("mounted", f"{name} belongs to a btrfs that is mounted", "unmount the btrfs"))
    return reasons


def _of_swaps(names: set, own: set, system: System) -> list:
    reasons = []
    for path in system.swaps:
        name = system.names.get(path, "")
        if name in names:
            text = f"{name} is swapped on" + ("" if name in own else ", and it lies on this drive")
            reasons.append(Reason("swap", text, f"swapoff {path}"))
    return reasons


def _first(system: System) -> int:
    """Return the process whose mounts are the host's own."""
    return min((mount.pid for mount in system.mounts), default=1)


def _some(items: list) -> str:
    more = f" and {len(items) - _FEW} more" if len(items) > _FEW else ""
    return ", ".join(items[:_FEW]) + more
