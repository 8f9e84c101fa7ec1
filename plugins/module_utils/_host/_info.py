# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host has that SPDK needs: IOMMU, memory, kernel modules. Reads only. Private to the collection."""

from __future__ import annotations

from . import _hugepages, _iommu, _kernel_modules
from ._host import Host
from ._kernel_modules import plain

_FAMILIES = {"debian": "debian", "ubuntu": "debian", "rhel": "rhel", "fedora": "rhel", "centos": "rhel"}


def look(host: Host, modules: tuple) -> dict:
    """Return the host as users read it. Raises Refusal for what cannot be the name of a module."""
    iommu = _iommu.observe(host)
    kernel = _kernel_modules.observe(host, modules)
    return {
        "kernel": {"release": kernel.release, "arguments": list(iommu.arguments)},
        "os": _system(host.read("/etc/os-release") or host.read("/usr/lib/os-release") or ""),
        "cpu_vendor": iommu.vendor,
        "iommu": {
            "enabled": iommu.on,
            "groups": len(iommu.groups),
            "missing_arguments": iommu.missing_arguments,
            "advice": iommu.advice,
        },
        "numa_nodes": _nodes(host),
        "modules": [
            {"name": name, "state": state, "at_boot": plain(name) in map(plain, kernel.at_boot)}
            for name, state in kernel.states.items()
        ],
    }


def _system(text: str) -> dict:
    values = {key: value.strip("\"'") for key, _equals, value in (line.partition("=") for line in text.splitlines())}
    words = [values.get("ID", ""), *values.get("ID_LIKE", "").split()]
    families = [_FAMILIES[word] for word in words if word in _FAMILIES]
    return {
        "id": values.get("ID", ""),
        "version": values.get("VERSION_ID", ""),
        "family": families[0] if families else "other",
    }


def _nodes(host: Host) -> list:
    nodes: dict = {}
    for kib in _hugepages.page_sizes(host):
        facts = _hugepages.observe(host, _hugepages.Wanted(page_size=f"{kib}KiB"))
        for pool in facts.pools:
            node = nodes.setdefault(
                pool.node,
                {
                    "node": pool.node,
                    "memory_total": pool.memory_total,
                    "memory_free": pool.memory_free,
                    "hugepages": [],
                },
            )
            node["hugepages"].append({"page_size": facts.page_size, "total": pool.total, "free": pool.free})
    return [nodes[number] for number in sorted(nodes)]
