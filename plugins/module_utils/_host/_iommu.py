# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the host has an IOMMU that is on, and if not, what is missing. Private to the collection."""

from __future__ import annotations

import re
from typing import NamedTuple

from ._host import Host

GROUPS = "/sys/kernel/iommu_groups"

_TABLES = "/sys/firmware/acpi/tables"
_VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "amd"}
_OFF = ("iommu=off", "intel_iommu=off", "amd_iommu=off")
_IN_FIRMWARE = {
    "intel": "VT-d",
    "amd": "IOMMU (AMD-Vi), and SVM",
    "arm": "SMMU",
    "other": "IOMMU",
}


class Iommu(NamedTuple):
    """What the kernel and the firmware say about it."""

    groups: tuple
    vendor: str  # of the CPU: intel, amd, arm or other
    arguments: tuple  # of the running kernel
    built: bool  # whether the kernel knows IOMMUs
    tables: frozenset  # names of the ACPI tables; empty where there are none to be seen

    @property
    def on(self) -> bool:
        """Whether devices are behind it."""
        return bool(self.groups)

    @property
    def missing_arguments(self) -> list:
        """The kernel arguments without which it stays off."""
        intel = "DMAR" in self.tables or (self.vendor == "intel" and "IVRS" not in self.tables)
        return ["intel_iommu=on"] if not self.on and intel and "intel_iommu=on" not in self.arguments else []

    @property
    def advice(self) -> str:
        """What to do to have it on; empty when it is."""
        if self.on:
            return ""
        if not self.built:
            return "use a kernel that is built with IOMMU support: this one has no " + GROUPS
        ways = []
        if self.tables and not self.tables & {"DMAR", "IVRS", "IORT", "VIOT"}:
            ways.append(
                f"switch on {_IN_FIRMWARE[self.vendor]} in the firmware's setup, or give the virtual machine an IOMMU: "
                f"the firmware describes none"
            )
        off = [argument for argument in self.arguments if argument in _OFF]
        if off:
            ways.append(f"take {' and '.join(off)} from the kernel's arguments")
        if self.missing_arguments:
            ways.append(f"give the kernel the argument {self.missing_arguments[0]}, and restart the host")
        return "; ".join(ways) or "find out with dmesg (DMAR, AMD-Vi, SMMU) why the kernel does not use it"


def observe(host: Host) -> Iommu:
    """Read it. Groups that vfio made up for devices without an IOMMU do not count."""
    names = host.names(GROUPS)
    return Iommu(
        groups=tuple(name for name in names if host.read(f"{GROUPS}/{name}/name") != "vfio-noiommu"),
        vendor=cpu_vendor(host.read("/proc/cpuinfo") or ""),
        arguments=kernel_arguments(host),
        built=host.exists(GROUPS),
        tables=frozenset(host.names(_TABLES)),
    )


def cpu_vendor(cpuinfo: str) -> str:
    """Return ``intel``, ``amd``, ``arm`` or ``other``."""
    match = re.search(r"^vendor_id\s*:\s*(\S+)$", cpuinfo, re.MULTILINE)
    if match:
        return _VENDORS.get(match.group(1), "other")
    return "arm" if re.search(r"^CPU implementer\s*:", cpuinfo, re.MULTILINE) else "other"


def kernel_arguments(host: Host) -> tuple:
    """Return the arguments of the running kernel."""
    return tuple((host.read("/proc/cmdline") or "").split())
