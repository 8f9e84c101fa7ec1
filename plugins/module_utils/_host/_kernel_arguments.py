# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kernel arguments that a task names, set for the next boot and compared with those of this one. Private."""

from __future__ import annotations

import re

from .._errors import Refusal
from . import _boot
from ._host import Host
from ._iommu import kernel_arguments

_PURPOSE = "arguments"
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:;=/@+-]*\Z")  # GRUB's settings are read by a shell


def manage(host: Host, names: tuple, state: str, check: bool) -> dict:
    """Bring the arguments where they should be. Returns the result. Raises Refusal and HostError."""
    for name in names:
        if not _SAFE.match(name):
            raise Refusal(f"{name!r} cannot be set as a kernel argument: it holds a blank, a quote or another mark")
    loader = _boot.observe(host, _PURPOSE)
    running = kernel_arguments(host)
    ours = loader.given.split()
    if state == "present":
        # What the kernel runs with and we did not give is set by somebody else already.
        wanted = ours + [name for name in dict.fromkeys(names) if name not in (*ours, *running)]
        reboot = [name for name in names if name not in running]
    else:
        wanted = [name for name in ours if name not in names]
        reboot = [name for name in names if name in running]
    steps = _boot.steps_to(loader, " ".join(wanted), "kernel_arguments", "set them with the tool of its boot loader")
    if not check:
        for step in steps:
            host.do(step)
    notes = []
    if reboot:
        verb = "has not" if state == "present" else "has still"
        notes.append(f"the running kernel {verb} {' '.join(dict.fromkeys(reboot))}; restart the host")
    foreign = [name for name in reboot if state == "absent" and name not in ours]
    if foreign:
        notes.append(f"{' '.join(foreign)} is not for this module to take away if somebody else set it")
    return {
        "changed": bool(steps),
        "reboot_required": bool(reboot),
        "running": list(running),
        "before": {"arguments": ours},
        "after": {"arguments": wanted},
        "writes": [step.describe() for step in steps],
        "notes": notes,
    }
