# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kernel modules: which there are, loading them now, and naming them for the next boot. Private to the collection."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Optional

from .._errors import Refusal
from ._host import Host, HostError, Step, file_steps

BOOT_FILE = "/etc/modules-load.d/diskengine.conf"
PRESENT = ("loaded", "builtin")

_HEADER = "# Written by excloud.diskengine.kernel_modules.\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


@dataclass(frozen=True)
class Wanted:
    """The options of the module."""

    name: tuple
    state: str = "present"
    persist: bool = True


class Facts(NamedTuple):
    """What the host has. ``states`` of the modules that are wanted."""

    release: str
    states: dict
    boot_text: Optional[str]
    modprobe: bool
    live: bool

    @property
    def at_boot(self) -> list:
        """The modules that our file names."""
        lines = [line.strip() for line in (self.boot_text or "").splitlines()]
        return [line for line in lines if line and not line.startswith(("#", ";"))]


class Plan(NamedTuple):
    """Steps in order, and what is managed before and after them."""

    steps: list
    before: dict
    after: dict
    notes: list


def kernel_release(host: Host) -> str:
    """Return the release of the kernel that runs; empty in an image."""
    return host.read("/proc/sys/kernel/osrelease") or ""


def module_states(host: Host, names: tuple) -> dict:
    """Return by name whether each module is ``loaded``, ``builtin``, ``available`` to be loaded, or ``missing``."""
    release = kernel_release(host)
    listed = {
        file: "".join(host.read(f"{top}/modules/{release}/{file}") or "" for top in ("/lib", "/usr/lib"))
        for file in ("modules.builtin", "modules.dep")
    }
    states = {}
    for name in names:
        spelled = re.compile(rf"/{re.sub('[-_]', '[-_]', name)}\.ko\b")
        if spelled.search(listed["modules.builtin"]):
            states[name] = "builtin"
        elif host.exists(f"/sys/module/{plain(name)}"):
            states[name] = "loaded"
        else:
            states[name] = "available" if spelled.search(listed["modules.dep"]) else "missing"
    return states


def observe(host: Host, names: tuple) -> Facts:
    """Read what the host has of some modules. Raises Refusal for what cannot be a name."""
    for name in names:
        if not _NAME.match(name):
            raise Refusal(f"{name!r} is not the name of a kernel module")
    return Facts(
        release=kernel_release(host),
        states=module_states(host, names),
        boot_text=host.content(BOOT_FILE),
        modprobe=host.program("modprobe"),
        live=host.live,
    )


def make_plan(facts: Facts, wanted: Wanted) -> Plan:
    """Return what to do so that the modules are as wanted. Pure. Raises Refusal."""
    present = wanted.state == "present"
    to_load = [name for name in wanted.name if present and facts.states[name] not in PRESENT]
    steps, notes = [], []
    if facts.live:
        steps = load_steps(facts, to_load)
    elif to_load:
        notes.append(f"{', '.join(to_load)}: not loaded now, because this is an image")
    same = {plain(name) for name in wanted.name}
    at_boot = [name for name in facts.at_boot if plain(name) not in same or (present and wanted.persist)]
    if present and wanted.persist:
        there = {plain(name) for name in at_boot}
        at_boot += [name for name in wanted.name if plain(name) not in there]
    if at_boot != facts.at_boot:
        text = _HEADER + "".join(f"{name}\n" for name in at_boot) if at_boot else None
        steps += file_steps({BOOT_FILE: facts.boot_text}, {BOOT_FILE: text})
    loaded = [name for name in wanted.name if facts.states[name] in PRESENT]
    before = {"loaded": loaded, "at_boot": facts.at_boot}
    after = {
        "loaded": [name for name in wanted.name if name in loaded or (facts.live and name in to_load)],
        "at_boot": at_boot,
    }
    return Plan(steps, before, after, notes)


def load_steps(facts: Facts, names: list) -> list:
    """Return the steps that load modules now. Raises Refusal for those that the kernel does not have."""
    missing = [name for name in names if facts.states[name] == "missing"]
    if missing:
        raise Refusal(
            f"the running kernel {facts.release} has no module {', '.join(missing)}: install the package that holds it "
            f"(Debian: linux-image-{facts.release}, Ubuntu: linux-modules-extra-{facts.release}, RHEL: "
            f"kernel-modules-{facts.release} or kernel-modules-extra), or, if a newer kernel was installed, restart "
            f"the host"
        )
    if names and not facts.modprobe:
        raise Refusal(f"{', '.join(names)} cannot be loaded without modprobe: install the package kmod")
    return [Step("command", "modprobe", name, f"load the kernel module {name}") for name in names]


def plain(name: str) -> str:
    """Return the one spelling of a name; to the kernel both dashes are the same."""
    return name.replace("-", "_")


def manage(host: Host, wanted: Wanted, check: bool) -> dict:
    """Bring the modules where they should be. Returns the result. Raises Refusal and HostError."""
    facts = observe(host, wanted.name)
    plan = make_plan(facts, wanted)
    if not check:
        for step in plan.steps:
            host.do(step)
    states = facts.states if check else module_states(host, wanted.name)
    absent = [name for name in plan.after["loaded"] if states[name] not in PRESENT]
    if absent and not check:
        raise HostError(f"modprobe ended well, and yet the kernel does not show {', '.join(absent)} in /sys/module")
    return {
        "changed": bool(plan.steps),
        "modules": [{"name": name, "state": states[name]} for name in wanted.name],
        "before": plan.before,
        "after": plan.after,
        "writes": [step.describe() for step in plan.steps],
        "notes": plan.notes,
    }
