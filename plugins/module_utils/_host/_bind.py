# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking drives from the kernel and giving them back: a plan for each, pure, and carrying it out. Private.

The order of the writes is that of SPDK's setup.sh (contract section 15), with a record first: what was there has to be
known even when the run is killed right after the unbind.
"""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Callable, NamedTuple, Optional

from .. import _naming
from .._errors import DiskengineError, Refusal
from ._guards import IN_PREVIEW, Asked, Reason, reasons_against_binding, reasons_of_serial, reasons_of_userspace
from ._host import Host, HostError, Step, file_steps
from ._pci import (
    DEVICES,
    DRIVERS,
    NOIOMMU,
    USERSPACE,
    Device,
    Record,
    RulePaths,
    System,
    observe,
    program_of,
    record_path,
)

_PROBE = "/sys/bus/pci/drivers_probe"
_ATTEMPTS = 10
_PAUSE = 0.5
_GRACE = 5.0  # seconds that a drive may take to show a namespace when nobody knows whether it has one


@dataclass(frozen=True)
class Wanted:
    """The options of one device."""

    bdf: Optional[str] = None
    serial: Optional[str] = None
    state: str = "bound"
    driver: str = "vfio-pci"
    user: Optional[str] = None
    persist: Optional[str] = None
    lift: tuple = ()
    allow_unsafe_noiommu: bool = False

    @property
    def title(self) -> str:
        """How the task names it."""
        return self.bdf or f"serial {self.serial}"


class Planned(NamedTuple):
    """What to do for one device, or why nothing is done."""

    wanted: Wanted
    bdf: str
    serial: str
    steps: list
    before: dict
    after: dict
    reasons: list
    error: str
    notes: list
    driver: str  # the driver that it should have in the end; empty for whichever the kernel takes
    record: Optional[Record]
    nodes: tuple = ()  # the namespaces that the kernel loses


class Outcome(NamedTuple):
    """How it went."""

    planned: Planned
    steps: list
    after: dict
    error: str

    def result(self) -> dict:
        """Return the entry of the module's results."""
        planned = self.planned
        entry = {
            "bdf": planned.bdf,
            "serial": planned.serial,
            "changed": bool(self.steps),
            "failed": bool(self.error),
            "writes": [step.describe() for step in self.steps],
            "before": planned.before,
            "after": self.after,
            "reasons": [reason._asdict() for reason in planned.reasons],
            "notes": planned.notes,
        }
        if self.error:
            entry["msg"] = self.error
        return entry


# --- planning ---


def make_plans(system: System, desired: list) -> list:
    """Return a plan for each device of ``desired``, in its order. Pure."""
    found = [_find(system, wanted) for wanted in desired]
    places = [device.bdf for device, _error in found if device]
    together = {
        device.bdf
        for (device, _error), wanted in zip(found, desired)
        if device and wanted.state == "bound" and wanted.driver == "vfio-pci"
    }
    plans: list = [None] * len(desired)
    while True:
        for index, ((device, error), wanted) in enumerate(zip(found, desired)):
            if plans[index] is not None and plans[index].error:
                continue
            if device is None:
                plans[index] = _refused(wanted, None, {}, error)
                continue
            try:
                if places.count(device.bdf) > 1:
                    raise Refusal(f"it is named {places.count(device.bdf)} times in the task")
                plans[index] = _plan(device, system, wanted, frozenset(together))
            except Refusal as refusal:
                plans[index] = _refused(wanted, device, shown(device, system, wanted), str(refusal))
        refused = {plan.bdf for plan in plans if plan.error} & together
        if not refused:
            return plans
        together -= refused  # who shares a group with one that was refused cannot be driven either


def _find(system: System, wanted: Wanted) -> tuple:
    """Return the device that is meant and no error, or none and the error."""
    if wanted.bdf:
        try:
            bdf = _naming.bdf(wanted.bdf)
        except Refusal as refusal:
            return None, str(refusal)
        return system.devices.get(bdf), f"there is no PCI device {bdf} on this host"
    serial = (wanted.serial or "").strip()
    hits = [device for device in system.devices.values() if serial and device.serial == serial]
    if len(hits) == 1:
        return hits[0], ""
    if hits:
        places = ", ".join(device.bdf for device in hits)
        return None, f"{len(hits)} controllers have serial {serial} ({places}); name it by its address"
    known = ", ".join(sorted(device.serial for device in system.devices.values() if device.serial)) or "none"
    return None, f"no drive of this host has serial {serial!r} (known: {known})"


def _plan(device: Device, system: System, wanted: Wanted, together: frozenset) -> Planned:
    if wanted.state == "bound":
        return _plan_bound(device, system, wanted, together)
    return _plan_released(device, system, wanted)


def _refused(
    wanted: Wanted, device: Optional[Device], before: dict, error: str, reasons: Optional[list] = None
) -> Planned:
    bdf, serial = (device.bdf, device.serial) if device else ("", wanted.serial or "")
    return Planned(wanted, bdf, serial, [], before, before, reasons or [], error, [], "", None)


def shown(device: Device, system: System, wanted: Wanted) -> dict:
    """Return the managed fields of a device."""
    paths = RulePaths(device.bdf, device.serial)
    fields: dict = {
        "driver": device.driver,
        "at_boot": paths.by_bdf in device.rules or paths.by_serial in device.rules,
    }
    if wanted.user and wanted.state == "bound":
        fields["owner"] = system.node_owners.get(_node(device))
    return fields


def _node(device: Device) -> str:
    return f"/dev/vfio/{device.group}"


def _plan_bound(device: Device, system: System, wanted: Wanted, together: frozenset) -> Planned:
    before = shown(device, system, wanted)
    serial = (wanted.serial or "").strip()
    asked = Asked(wanted.driver, wanted.lift, wanted.allow_unsafe_noiommu, together - {device.bdf})
    bound = device.driver == wanted.driver
    reasons = reasons_of_serial(device, serial, not bound)
    if not bound:
        reasons += reasons_against_binding(device, system, asked)
    reasons += _of_user(device, system, wanted)
    if reasons:
        texts = "; ".join(str(reason) for reason in reasons)
        return _refused(wanted, device, before, f"it is not bound to {wanted.driver}: {texts}", reasons)
    notes = []
    if wanted.driver != "vfio-pci":
        notes.append(f"{wanted.driver} gives the process with the device access to all memory")
    if bound and serial and not device.serial:
        notes.append(f"it was bound by somebody else, so that its serial is {serial} could not be checked")
    record = device.record
    steps: list = []
    if not bound:
        steps += _load(wanted.driver, system)
        if wanted.driver == "vfio-pci" and not (system.iommu and device.group) and not system.noiommu:
            steps.append(Step("write", NOIOMMU, "Y", "allow vfio without an IOMMU, which is unsafe"))
        if device.driver and device.driver not in USERSPACE:
            record = _record_of(device)
            if record != device.record:
                text = json.dumps(record._asdict(), indent=2, sort_keys=True) + "\n"
                steps.append(Step("file", record_path(device.bdf), text, "note what was there"))
        steps += _driver_steps(device, wanted.driver)
    rules = _wanted_rules(device, system, wanted, serial)
    steps += _rule_steps(device, system, rules)
    paths = RulePaths(device.bdf, device.serial)
    after = {
        **before,
        "driver": wanted.driver,
        "at_boot": rules.get(paths.by_bdf) is not None or rules.get(paths.by_serial) is not None,
    }
    if wanted.user:
        owner = system.user_ids[wanted.user]
        after["owner"] = owner
        if before["owner"] != owner:
            steps.append(Step("owner", _node(device), wanted.user, f"let {wanted.user} open the device"))
    return Planned(
        wanted, device.bdf, device.serial, steps, before, after, [], "", notes, wanted.driver, record, _nodes_of(device)
    )


def _nodes_of(device: Device) -> tuple:
    namespaces = device.controller.namespaces if device.controller else ()
    return tuple(f"/dev/{namespace.block.name}" for namespace in namespaces)


def _of_user(device: Device, system: System, wanted: Wanted) -> list:
    if not wanted.user:
        return []
    if wanted.driver != "vfio-pci" or not device.group or not system.iommu:
        return [Reason("user", f"only root can drive a device through {wanted.driver} without an IOMMU", "omit user")]
    if system.user_ids.get(wanted.user) is None:
        return [Reason("user", f"there is no user {wanted.user} on this host", "create it first")]
    return []


def _plan_released(device: Device, system: System, wanted: Wanted) -> Planned:
    before = shown(device, system, wanted)
    taken = device.driver in USERSPACE or not device.driver
    reasons = reasons_of_serial(device, (wanted.serial or "").strip(), False)
    if device.driver in USERSPACE and "driven" not in wanted.lift:
        reasons += reasons_of_userspace(device, system)
    driver = _original(device) if taken else device.driver
    if taken and driver and driver not in system.drivers and "modprobe" not in system.programs:
        reasons.append(Reason("module", f"the driver {driver} is not loaded", f"modprobe {driver}"))
    if reasons:
        texts = "; ".join(str(reason) for reason in reasons)
        return _refused(wanted, device, before, f"it is not released: {texts}", reasons)
    # The rules go first, or they would take the drive again.
    steps = _rule_steps(device, system, {path: None for path in reversed(list(device.rules))})
    if taken:
        steps += _load(driver, system) if driver else []
        steps += _driver_steps(device, driver)
    elif device.override in USERSPACE:
        steps.append(_override(device, "", "let the kernel choose the driver again"))
    if device.record is not None:
        steps.append(Step("remove", record_path(device.bdf), "", "forget what was there"))
    after = {**before, "driver": driver, "at_boot": False}
    return Planned(wanted, device.bdf, device.serial, steps, before, after, [], "", [], driver, device.record)


def _original(device: Device) -> str:
    """Return the driver that was there, or the kernel's for the class; empty lets the kernel choose."""
    if device.record and device.record.driver:
        return device.record.driver
    return "nvme" if device.is_nvme else ""


def _record_of(device: Device) -> Record:
    controller = device.controller
    if controller is None:
        return Record(driver=device.driver, vendor=device.vendor, device=device.device)
    return Record(
        driver=device.driver,
        serial=controller.serial,
        model=controller.model,
        size=sum(namespace.block.size for namespace in controller.namespaces),
        namespaces=len(controller.namespaces),
        vendor=device.vendor,
        device=device.device,
    )


def _load(driver: str, system: System) -> list:
    if driver in system.drivers:
        return []
    return [Step("command", "modprobe", driver, f"load the driver {driver}")]


def _override(device: Device, driver: str, summary: str) -> Step:
    return Step("write", f"{DEVICES}/{device.bdf}/driver_override", driver, summary)


def _driver_steps(device: Device, driver: str) -> list:
    steps = []
    if device.driver:
        what = f"take {device.bdf} from the driver {device.driver}"
        steps.append(Step("write", f"{DEVICES}/{device.bdf}/driver/unbind", device.bdf, what))
    if driver or device.override:
        steps.append(_override(device, driver, f"choose the driver {driver or 'that fits'} for {device.bdf}"))
    steps.append(Step("write", _PROBE, device.bdf, f"let the kernel bind {device.bdf}"))
    if driver:
        steps.append(_override(device, "", "make no choice for the time after"))
    return steps


# --- planning: the next boot ---


def _wanted_rules(device: Device, system: System, wanted: Wanted, serial: str) -> dict:
    """Return the text by path that our udev rules should have; None for what should not be there."""
    paths = RulePaths(device.bdf, device.serial)
    rules: dict = {path: device.rules.get(path) for path in paths.all}
    if wanted.persist is not None:
        rules.update({path: None for path in paths.all if path != paths.user})
    if wanted.persist == "udev":
        path = paths.by_serial if serial and device.serial else paths.by_bdf
        run = f"{system.python} -IS {program_of(path)}"
        rules[program_of(path)] = _TAKE
        rules[path] = (
            _rule_by_serial(serial, wanted.driver, run)
            if path == paths.by_serial
            else _rule_by_bdf(device, wanted.driver, run)
        )
    if wanted.user:
        # %n would be empty, since the whole name of the device is a number.
        rules[paths.user] = (
            f"{_WRITTEN}"
            'SUBSYSTEM=="vfio", PROGRAM=="/bin/sh -c \'test -e /sys/kernel/iommu_groups/%k/devices/'
            f'{device.bdf}\'", OWNER="{wanted.user}", MODE="0600"\n'
        )
    return rules


_WRITTEN = "# Written by excloud.diskengine.pci_vfio_bind.\n"

# Run by udev, early at boot. To hold each namespace exclusively is the one check that finds any use of it, and nobody
# else can begin to use it meanwhile.
_TAKE = f'''{_WRITTEN}"""Gives the drive at an address to a driver for SPDK, unless something of this host uses it."""

import errno
import fcntl
import os
import re
import subprocess
import sys

lock = open(__file__)  # udev may run this twice at a time
fcntl.flock(lock, fcntl.LOCK_EX)
address, driver = sys.argv[1:]
device = f"/sys/bus/pci/devices/{{address}}"


def write(path, text):
    with open(path, "w") as file:
        file.write(text + "\\n")


def names(path):
    return os.listdir(path) if os.path.isdir(path) else []


if os.path.exists(f"/sys/bus/pci/drivers/{{driver}}/{{address}}"):
    sys.exit()
subprocess.run(["/sbin/modprobe", driver], check=True)
held = []
for controller in names(f"{{device}}/nvme"):
    for name in names(f"{{device}}/nvme/{{controller}}"):
        if re.fullmatch(r"nvme\\d+(c\\d+)?n\\d+", name):
            node = "/dev/" + re.sub(r"c\\d+n", "n", name)
            try:
                held.append(os.open(node, os.O_RDONLY | os.O_EXCL))
            except OSError as error:
                if error.errno == errno.EBUSY:
                    write("/dev/kmsg", f"diskengine: {{node}} is in use, so {{address}} is left to the kernel")
                    sys.exit(1)
write(f"{{device}}/driver_override", driver)
if os.path.exists(f"{{device}}/driver"):
    write(f"{{device}}/driver/unbind", address)
write("/sys/bus/pci/drivers_probe", address)
if os.path.exists(f"/sys/bus/pci/drivers/{{driver}}/{{address}}"):
    write(f"{{device}}/driver_override", "")
'''


def _rule_by_serial(serial: str, driver: str, run: str) -> str:
    """The serial is known only after the kernel's driver has asked for it, so this takes the drive back from it.

    Kernels before 5.18 say nothing when they know it, so the first namespace that appears counts as well.
    """
    if not re.fullmatch(r"[A-Za-z0-9 _.:+/-]+", serial):
        raise Refusal(f"serial {serial!r} holds characters that a udev rule cannot hold; name the drive by its address")
    lines = [
        f'ACTION=="add|change", SUBSYSTEM=="nvme", ATTR{{transport}}=="pcie", ATTR{{serial}}=="{serial}"',
        f'ACTION=="add", SUBSYSTEM=="block", ATTRS{{transport}}=="pcie", ATTRS{{serial}}=="{serial}"',
    ]
    return _WRITTEN + "".join(f'{line}, RUN+="{run} $attr{{address}} {driver}"\n' for line in lines)


def _rule_by_bdf(device: Device, driver: str, run: str) -> str:
    """The kind of drive is part of it, so that a board that numbers its slots anew is noticed in most cases."""
    match = (
        f'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{device.bdf}", ATTR{{vendor}}=="{device.vendor}", '
        f'ATTR{{device}}=="{device.device}"'
    )
    # A drive that has no driver yet is kept from the kernel's at once; the kernel may be about to load that.
    return (
        f'{_WRITTEN}{match}, DRIVER!="?*", ATTR{{driver_override}}="{driver}"\n{match}, RUN+="{run} $kernel {driver}"\n'
    )


def _rule_steps(device: Device, system: System, rules: dict) -> list:
    steps = file_steps({path: device.rules.get(path) for path in rules}, rules)
    if steps and "udevadm" in system.programs:
        steps.append(Step("command", "udevadm", "control --reload", "let udev read its rules"))
    return steps


# --- carrying out ---


def carry_out(host: Host, planned: Planned, timeout: float, done: list) -> None:
    """Do the steps of one device, note them in ``done``, and make sure that they worked. Raises HostError.

    When the wanted driver does not take the device, the driver that was there gets it back.
    """
    try:
        for step in planned.steps:
            if step.kind == "owner":
                _await(host, partial(host.exists, step.path), timeout, f"{step.path} did not appear")
            if step.path.endswith("/unbind"):
                _take(host, planned, step)
            else:
                host.do(step)
            done.append(step)
            if step.path == _PROBE:
                _await_driver(host, planned, step)
    except HostError as error:
        unbound = any(step.path.endswith("/unbind") for step in done)
        if planned.wanted.state == "released" or not unbound or _is_bound(host, planned):
            raise
        _give_back(host, planned)
        now = host.linked(f"{DEVICES}/{planned.bdf}/driver") or "no driver"
        raise HostError(f"{error}; the device has {now} again") from None
    if planned.wanted.state == "released" and any(step.path == _PROBE for step in done):
        _await_drive(host, planned, timeout)


def _take(host: Host, planned: Planned, unbind: Step) -> None:
    """Hold the namespaces meanwhile: since they were looked at, somebody may have begun to use them."""
    held = []
    try:
        for node in planned.nodes:
            try:
                held.append(host.claim(node))
            except OSError as error:
                if error.errno == errno.EBUSY:
                    raise HostError(f"{node} came into use after it was looked at, so it was not taken") from None
        host.do(unbind)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _await_driver(host: Host, planned: Planned, probe: Step) -> None:
    for _attempt in range(_ATTEMPTS):
        if _is_bound(host, planned):
            return
        host.sleep(_PAUSE)
        if not host.linked(f"{DEVICES}/{planned.bdf}/driver"):
            host.do(probe)
    if _is_bound(host, planned):
        return
    found = host.linked(f"{DEVICES}/{planned.bdf}/driver") or "no driver"
    wanted = planned.driver or "a driver of the kernel"
    raise HostError(f"{wanted} did not take the device, which has {found}; dmesg tells what the kernel said")


def _is_bound(host: Host, planned: Planned) -> bool:
    if planned.driver:
        return host.exists(f"{DRIVERS}/{planned.driver}/{planned.bdf}")
    return host.linked(f"{DEVICES}/{planned.bdf}/driver") not in ("", *USERSPACE)


def _give_back(host: Host, planned: Planned) -> None:
    override = f"{DEVICES}/{planned.bdf}/driver_override"
    was = planned.before["driver"]
    steps = [Step("write", override, was, "choose the driver that was there"), Step("write", override, "", "undo")]
    if was:
        steps.insert(1, Step("write", _PROBE, planned.bdf, "give the device back"))
    for step in steps:
        try:
            host.do(step)
        except HostError:
            continue


def _await_drive(host: Host, planned: Planned, timeout: float) -> None:
    """Wait until the drive and what it held before are back in /dev. A namespace comes later than the binding."""
    base = f"{DEVICES}/{planned.bdf}/nvme"
    record = planned.record
    count = record.namespaces if record else None

    def controller() -> str:
        return next(iter(host.names(base)), "")

    def is_back() -> bool:
        name = controller()
        return bool(name) and host.exists(f"/dev/{name}") and host.read(f"{base}/{name}/state") == "live"

    def has_namespaces() -> bool:
        return len(_namespaces(host, base, controller())) >= (1 if count is None else count)

    if planned.driver != "nvme":
        return
    _await(host, is_back, timeout, f"the driver nvme has it, but /dev/nvme* did not come back within {timeout:g} s")
    if count is None:
        try:
            _await(host, has_namespaces, min(timeout, _GRACE), "")
        except HostError:
            pass  # it may have none
    else:
        _await(host, has_namespaces, timeout, f"{controller()} is back, but not its {count} namespaces")
    serial = host.read(f"{base}/{controller()}/serial") or ""
    if record and record.serial and serial != record.serial:
        raise HostError(f"the drive that came back has serial {serial}, and {record.serial} was taken")


def _namespaces(host: Host, base: str, name: str) -> list:
    entries = [entry for entry in host.names(f"{base}/{name}") if re.match(r"nvme\d+(c\d+)?n", entry)]
    heads = [re.sub(r"c\d+n", "n", entry) for entry in entries]
    return [head for head in heads if host.exists(f"/dev/{head}")]


def _await(host: Host, is_there: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = host.now() + seconds
    while not is_there():
        if host.now() >= deadline:
            raise HostError(otherwise)
        host.sleep(_PAUSE / 5)


# --- the whole of it ---


def manage(host: Host, desired: list, check: bool, timeout: float) -> list:
    """Bring each device where it should be; one that fails leaves the others done. Returns Outcomes."""
    if not check:
        kept = [tuple(guard for guard in wanted.lift if guard not in IN_PREVIEW) for wanted in desired]
        desired = [replace(wanted, lift=lift) for wanted, lift in zip(desired, kept)]
    users = tuple(sorted({wanted.user for wanted in desired if wanted.user}))
    bdfs = []
    for wanted in desired:
        try:
            bdfs += [_naming.bdf(wanted.bdf)] if wanted.bdf else []
        except Refusal:
            continue  # said when it is planned
    system = observe(host, users, tuple(bdfs))
    plans = make_plans(system, desired)
    if check:
        return [Outcome(plan, plan.steps, plan.after, _sentence(plan, plan.error)) for plan in plans]
    ran: list = []
    for plan in plans:
        done: list = []
        failure = plan.error
        try:
            carry_out(host, plan, timeout, done)
        except DiskengineError as error:
            failure = str(error)
        ran.append((plan, done, failure))
    now = observe(host, users, tuple(bdfs)) if any(done for _plan, done, _failure in ran) else system
    outcomes = []
    for plan, done, failure in ran:
        device = now.devices.get(plan.bdf)
        after = shown(device, now, plan.wanted) if device else {}
        outcomes.append(Outcome(plan, done, after, _sentence(plan, failure)))
    return outcomes


def _sentence(plan: Planned, error: str) -> str:
    if not error:
        return ""
    name = plan.bdf or plan.wanted.title
    return f"{name}{f' (serial {plan.serial})' if plan.serial and plan.bdf else ''}: {error}"
