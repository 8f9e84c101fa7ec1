# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections of the kernel's initiator to subsystems of other nodes: now by nvme-cli, at boot by units. Private.

What is connected is read from sysfs, and from no device: a device whose paths are all lost hangs who reads it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import shlex
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import NamedTuple, Optional

from .. import _naming
from .._errors import Refusal
from . import _kernel_modules, _nvme_discovery, _pci
from ._guards import reasons_of_open, reasons_of_use
from ._host import Host, HostError, Step, file_steps
from ._nvme_fabrics import MODULES, Path, host_name, names_of, no_name, no_program, path_of, words

_CLASS = "/sys/class/nvme"
_SECRETS = "/etc/nvme"
_UNITS = "/etc/systemd/system"
_ENABLED = f"{_UNITS}/multi-user.target.wants"
_PROGRAM = "/usr/sbin/nvme"
_HEADER = "# Written by excloud.diskengine.nvme_connection.\n"
_SECRET = re.compile(r"DHHC-1:0[0-3]:[A-Za-z0-9+/]+={0,2}:\Z")
_POLL = 0.2


@dataclass(frozen=True)
class Wanted:
    """One connection, checked and in canonical form."""

    nqn: str
    paths: tuple = ()
    hostnqn: str = ""
    hostid: str = ""
    reconnect_delay: int = 1
    ctrl_loss_tmo: int = 10
    nr_io_queues: Optional[int] = None
    dhchap_secret: str = ""
    persistent: bool = True
    state: str = "present"
    purge_paths: bool = False
    offered: bool = False  # not all of its paths need be known

    @property
    def key(self) -> str:
        """What the names of the files for the subsystem have in common."""
        return f"diskengine-nvme-{_short(self.nqn)}"

    def secret_file(self, path: Path) -> str:
        """The file that gives the secret for a path to nvme-cli, because everybody can read arguments."""
        return f"{_SECRETS}/{self.key}-{_short(repr(path))}.json"

    def unit(self, path: Path) -> str:
        """The name of the unit that connects a path at boot."""
        return f"{self.key}-{_short(repr(path))}.service"


@dataclass(frozen=True)
class Discovery:
    """A portal, which of the subsystems that it offers are wanted, and how they are connected."""

    portal: _nvme_discovery.Portal
    nqns: tuple
    how: dict

    def wants(self, nqn: str) -> bool:
        """Return whether a subsystem is wanted, if it is offered."""
        return any(fnmatchcase(nqn, pattern) for pattern in self.nqns)


class Controller(NamedTuple):
    """A path as the kernel has it: one controller."""

    name: str
    nqn: str
    state: str
    path: Path
    hostnqn: str
    blocks: tuple  # names of its block devices; with native multipath all paths show the same

    def serves(self, path: Path, hostnqn: str) -> bool:
        """Return whether it is the path; what is not asked for, or not told by the kernel, may be anything."""
        return self.path.is_like(path) and (not hostnqn or not self.hostnqn or hostnqn == self.hostnqn)


class Facts(NamedTuple):
    """What the host has, for the connections that are wanted."""

    controllers: tuple
    files: dict  # texts of our units and secrets, by path
    links: dict  # where the links that enable units lead, by path
    modules: _kernel_modules.Facts
    hostnqn: bool  # whether the host has a name of its own
    nvme: bool
    systemd: bool
    live: bool
    uses: dict  # why each block device must stay, read only if something is to be disconnected


class Plan(NamedTuple):
    """Steps in the order of the fields, and what is managed before and after them."""

    prepare: list
    connect: list
    disconnect: list
    before: dict
    after: dict
    notes: list

    @property
    def steps(self) -> list:
        """All steps in order."""
        return [*self.prepare, *self.connect, *self.disconnect]


def wanted_of(options: dict) -> Wanted:
    """Return the connection that options ask for. Raises Refusal."""
    nqn = _naming.nqn(options["nqn"])
    if options["state"] == "absent":
        return Wanted(nqn, state="absent")
    if not options["paths"]:
        raise Refusal(f"connection {nqn} names no path; give at least one in paths")
    paths = tuple(dict.fromkeys(path_of({**path, "trtype": options["trtype"]}) for path in options["paths"]))
    return Wanted(nqn, paths, purge_paths=options["purge_paths"], **_how(options, f"connection {nqn}"))


def discovery_of(options: dict) -> Discovery:
    """Return the portal that options name, and what is to become of its offers. Raises Refusal."""
    portal = _nvme_discovery.portal_of(options)
    return Discovery(portal, tuple(options["nqns"]), _how(options, f"discovery at {portal}"))


def _how(options: dict, what: str) -> dict:
    for name, least in (("reconnect_delay", 1), ("ctrl_loss_tmo", -1), ("nr_io_queues", 1)):
        if options[name] is not None and options[name] < least:
            raise Refusal(f"{name} of {what} is {options[name]}; the kernel takes {least} or more")
    if options["dhchap_secret"] and not _SECRET.match(options["dhchap_secret"]):
        raise Refusal(f"dhchap_secret of {what} is none; it looks like DHHC-1:00:<base64>:")
    names = ("reconnect_delay", "ctrl_loss_tmo", "nr_io_queues", "persistent")
    return {
        **{name: options[name] for name in names},
        **names_of(options),
        "dhchap_secret": options["dhchap_secret"] or "",
    }


# --- discovering ---


class Offers(NamedTuple):
    """The connections that were named, with what is offered added to them; the steps that asking took, and the rest."""

    wanted: list
    steps: list
    failed: list
    notes: list


def _offers(host: Host, wanted: list, discoveries: list, check: bool) -> Offers:
    """Ask the portals, and add what they offer to the connections that are named, which decide how and whether."""
    named = {entry.nqn: replace(entry, offered=entry.state == "present") for entry in wanted}
    portals = [discovery.portal for discovery in discoveries]
    shown = f"what is offered at {', '.join(map(str, portals))} is not known"
    if not host.live:
        return Offers(_unpurged(named), [], [], [f"{shown}, because this is an image"])
    modules = _nvme_discovery.modules_for(host, portals)
    missing = _nvme_discovery.unloaded(modules)
    steps = _kernel_modules.load_steps(modules, missing)
    if missing and check:
        return Offers(_unpurged(named), steps, [], [f"{shown} before {', '.join(missing)} is loaded"])
    for step in steps:
        host.do(step)
    notes: list = []
    logs, failed = _nvme_discovery.look(host, portals)
    for discovery in discoveries:
        for record in logs.get(discovery.portal, ()):
            if discovery.wants(record.subnqn):
                _add_offer(named, discovery, record, notes)
    known = {record.subnqn for log in logs.values() for record in log} | {*named, _naming.DISCOVERY_NQN}
    notes += _not_offered(host, [entry for entry in discoveries if entry.portal in logs], known)
    return Offers(_unpurged(named) if failed else [*named.values()], steps, failed, notes)


def _unpurged(named: dict) -> list:
    """Return the connections so that none loses a path that may be offered."""
    return [replace(entry, purge_paths=False) for entry in named.values()]


def _add_offer(named: dict, discovery: Discovery, record: _nvme_discovery.Record, notes: list) -> None:
    try:
        path = _nvme_discovery.path_to(discovery.portal, record)
        if path is None:
            return
        entry = named.setdefault(record.subnqn, Wanted(_naming.nqn(record.subnqn), offered=True, **discovery.how))
    except Refusal as refusal:
        notes.append(f"{record.subnqn!r}, offered at {discovery.portal}, is left alone: {refusal}")
        return
    if entry.state == "present" and not any(path.is_like(known) for known in entry.paths):
        named[entry.nqn] = replace(entry, paths=(*entry.paths, path))


def _not_offered(host: Host, discoveries: list, known: set) -> list:
    """Return sentences on connections to the portals' addresses that are wanted and that nobody knows any more."""
    return [
        f"{one.nqn} is connected at {one.path} ({one.name}) and is not offered any more; "
        "name it with state absent to disconnect it"
        for one in controllers(host)
        if one.nqn not in known
        and any(
            entry.wants(one.nqn)
            and one.path.address.traddr == entry.portal.path.address.traddr
            and one.hostnqn == (entry.portal.hostnqn or host_name(host))
            for entry in discoveries
        )
    ]


# --- reading ---


def controllers(host: Host) -> tuple:
    """Return the paths over TCP and RDMA that the kernel has, those that it is leaving aside."""
    found = []
    for name in host.names(_CLASS):
        base = f"{_CLASS}/{name}"
        transport, state = (host.read(f"{base}/{file}") or "" for file in ("transport", "state"))
        if transport.upper() not in MODULES or state.startswith("deleting"):
            continue
        told = dict(part.partition("=")[::2] for part in (host.read(f"{base}/address") or "").split(","))
        target, source = (_plain_ip(told.get(key, "")) for key in ("traddr", "host_traddr"))
        family = "IPv6" if ":" in target else "IPv4"
        address = _naming.Address(transport.upper(), family, target, told.get("trsvcid", ""))
        found.append(
            Controller(
                name=name,
                nqn=host.read(f"{base}/subsysnqn") or "",
                state=state,
                path=Path(address, source, told.get("host_iface", "")),
                hostnqn=host.read(f"{base}/hostnqn") or "",
                blocks=tuple(sorted(_pci.heads_of(host, base))),
            )
        )
    return tuple(found)


def _plain_ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def observe(host: Host, wanted: list) -> Facts:
    """Read what the host has of the connections."""
    found = controllers(host)
    ours = tuple(entry.key for entry in wanted)
    units = [name for name in host.names(_UNITS) if name.startswith(ours)]
    units += [entry.unit(path) for entry in wanted for path in entry.paths]
    files = [f"{_UNITS}/{name}" for name in units]
    files += [f"{_SECRETS}/{name}" for name in host.names(_SECRETS) if name.startswith(ours)]
    files += [entry.secret_file(path) for entry in wanted for path in entry.paths]
    names = {MODULES[path.address.trtype] for entry in wanted for path in entry.paths}
    leaving = {entry.nqn for entry in wanted if entry.state == "absent" or entry.purge_paths}
    return Facts(
        controllers=found,
        files={path: host.content(path) for path in files},
        links={name: host.link(f"{_ENABLED}/{name}") for name in units},
        modules=_kernel_modules.observe(host, tuple(sorted(names))),
        hostnqn=bool(host_name(host)),
        nvme=host.program("nvme"),
        systemd=host.exists("/run/systemd/system") and host.program("systemctl"),
        live=host.live,
        uses=_uses(host, [controller for controller in found if controller.nqn in leaving]),
    )


def _uses(host: Host, leaving: list) -> dict:
    if not leaving:
        return {}
    system, uses = _pci.observe(host), {}
    for controller in leaving:
        for name in controller.blocks:
            block = _pci.read_block(host, name)
            claimed = host.is_claimed(f"/dev/{name}")
            shown = _pci.Controller(
                controller.name, "", "", "", controller.state,
                (_pci.Namespace(block, 0, 0, "", claimed, (), ()),),
                _pci.nodes_of(controller.name, [block]),
            )  # fmt: skip
            uses[name] = [reason.text for reason in reasons_of_use(shown, system) + reasons_of_open(shown, system)]
    return uses


# --- planning ---


def make_plan(facts: Facts, wanted: list) -> Plan:
    """Return what to do so that the connections are as wanted. Pure. Raises Refusal."""
    plan = Plan([], [], [], {}, {}, [])
    for entry in wanted:
        _plan_one(facts, entry, plan)
    if facts.systemd and any(step.path.startswith(_UNITS) for step in plan.prepare):
        plan.prepare.append(Step("command", "systemctl", "daemon-reload", "let systemd read its units"))
    if plan.connect:
        names = [name for name, state in facts.modules.states.items() if state not in _kernel_modules.PRESENT]
        plan.prepare[:0] = _kernel_modules.load_steps(facts.modules, names)
    if (plan.connect or plan.disconnect) and not facts.nvme:
        raise no_program()
    return plan


def _plan_one(facts: Facts, wanted: Wanted, plan: Plan) -> None:
    found = [controller for controller in facts.controllers if controller.nqn == wanted.nqn]
    served = {path: [one for one in found if one.serves(path, wanted.hostnqn)] for path in wanted.paths}
    staying = [one for some in served.values() for one in some]
    others = [one for one in found if one not in staying]
    missing = [path for path, some in served.items() if not some]
    if not facts.live and missing:
        plan.notes.append(f"{wanted.nqn} is not connected now, because this is an image")
        missing = []
    if missing and not (wanted.hostnqn or facts.hostnqn):
        raise no_name(f"connection {wanted.nqn} was to be made")
    kept = others if wanted.state == "present" and not wanted.purge_paths else []
    leaving = [] if kept else others
    if kept:
        shown = ", ".join(f"{one.path} ({one.name})" for one in kept)
        plan.notes.append(f"{wanted.nqn} has other paths as well: {shown}; purge_paths disconnects them")
    _refuse_in_use(facts, wanted, leaving, staying)
    at_boot = _plan_files(facts, wanted, plan)
    plan.connect.extend(
        Step("command", "nvme", shlex.join(arguments(wanted, path)), f"connect {wanted.nqn} at {path}")
        for path in missing
    )
    plan.disconnect.extend(
        Step("command", "nvme", f"disconnect --device={one.name}", f"disconnect {wanted.nqn} at {one.path}")
        for one in leaving
    )
    left = [str(path) for path in wanted.paths if served[path] or path in missing]
    shown_before = [str(path) for path in wanted.paths if served[path]]
    plan.before[wanted.nqn] = {"paths": [*shown_before, *(str(one.path) for one in others)], **at_boot[0]}
    plan.after[wanted.nqn] = {"paths": [*left, *(str(one.path) for one in kept)], **at_boot[1]}


def _refuse_in_use(facts: Facts, wanted: Wanted, leaving: list, staying: list) -> None:
    safe = {name for one in staying if one.state == "live" for name in one.blocks}
    lost = sorted({name for one in leaving for name in one.blocks} - safe)
    uses = list(dict.fromkeys(text for name in lost for text in facts.uses[name]))
    if uses:
        way = "stop what uses it first"
        if wanted.state == "present":
            way += ", or have a path that is wanted connected before the others are purged"
        raise Refusal(f"{wanted.nqn} was to be disconnected and is in use: {'; '.join(uses)}; {way}")


def _plan_files(facts: Facts, wanted: Wanted, plan: Plan) -> tuple:
    secrets = {wanted.secret_file(path): _secret_text(wanted, path) for path in wanted.paths if wanted.dhchap_secret}
    units = {wanted.unit(path): unit_text(wanted, path) for path in wanted.paths if wanted.persistent}
    found = [name for name in facts.links if name.startswith(wanted.key)]
    staying = [name for name in found if name not in units and _stays(facts, wanted, name)]
    stems = tuple(f"{_SECRETS}/{os.path.splitext(name)[0]}." for name in staying)
    for file in [file for file in facts.files if file.startswith(f"{_SECRETS}/{wanted.key}")]:
        text = secrets.get(file)
        if facts.files[file] != text and not file.startswith(stems):
            what = f"{'keep' if text else 'forget'} the secret for {wanted.nqn}"
            plan.prepare.append(Step("secret" if text else "remove", file, text or "", what))
    for name in dict.fromkeys(found):
        if name in staying:
            continue
        path, link, target = f"{_UNITS}/{name}", f"{_ENABLED}/{name}", f"../{name}" if name in units else ""
        plan.prepare.extend(file_steps(facts.files, {path: units.get(name)}))
        if facts.links[name] != target:
            kind, what = ("link", "connect") if target else ("remove", "do not connect")
            plan.prepare.append(Step(kind, link, target, f"{what} {wanted.nqn} at boot"))
    before = sorted(name for name in found if facts.links[name])
    after = sorted([*units, *(name for name in staying if name in before)])
    return {"at_boot": before}, {"at_boot": after}


def _stays(facts: Facts, wanted: Wanted, name: str) -> bool:
    """Return whether a unit may be for a path that is not offered at the moment."""
    text = facts.files[f"{_UNITS}/{name}"] or ""
    targets = [f'"--traddr={path.address.traddr}" "--trsvcid={path.address.trsvcid}"' for path in wanted.paths]
    return (
        wanted.offered
        and wanted.persistent
        and not wanted.purge_paths
        and not any(target in text for target in targets)
    )


def arguments(wanted: Wanted, path: Path) -> list:
    """Return the arguments of nvme-cli that connect a path."""
    given = {
        **path.arguments,
        "nqn": wanted.nqn,
        "hostnqn": wanted.hostnqn,
        "hostid": wanted.hostid,
        "reconnect-delay": wanted.reconnect_delay,
        "ctrl-loss-tmo": wanted.ctrl_loss_tmo,
        "nr-io-queues": wanted.nr_io_queues,
        "config": wanted.secret_file(path) if wanted.dhchap_secret else "",
    }
    return words("connect", given)


def _secret_text(wanted: Wanted, path: Path) -> str:
    """Return what nvme-cli reads the secret of a path from.

    Up to 2.10 it takes the secret from there and the rest from its arguments; from 2.11 on it connects all that the
    file names, and as the file says. So each path has a file, which says the same as the arguments.
    """
    port = {
        **{name.replace("-", "_"): value for name, value in path.arguments.items()},
        "nr_io_queues": wanted.nr_io_queues,
        "reconnect_delay": wanted.reconnect_delay,
        "ctrl_loss_tmo": wanted.ctrl_loss_tmo,
    }
    entry = {
        "hostnqn": wanted.hostnqn,
        "hostid": wanted.hostid,
        "dhchap_key": wanted.dhchap_secret,
        "subsystems": [
            {
                "nqn": wanted.nqn,
                "ports": [{name: value for name, value in port.items() if value not in ("", None)}],
            }
        ],
    }
    return json.dumps([entry], indent=1) + "\n"


def unit_text(wanted: Wanted, path: Path) -> str:
    """Return the unit that connects a path at boot, and tries again until its target answers."""
    words = [word.replace("%", "%%").replace("$", "$$") for word in arguments(wanted, path)]
    line = " ".join('"' + re.sub(r'(["\\])', r"\\\1", word) + '"' for word in words)
    return _HEADER + "\n".join(
        [
            "[Unit]",
            f"Description=NVMe path {path} to {wanted.nqn}".replace("%", "%%"),
            "Wants=network-online.target",
            "After=network-online.target systemd-modules-load.service",
            "Before=remote-fs-pre.target",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart={_PROGRAM} {line}",
            "TimeoutStartSec=60",
            "Restart=on-failure",
            "RestartSec=5",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# --- doing ---


def manage(host: Host, wanted: list, discoveries: list, live_wait: float, check: bool) -> dict:
    """Bring the connections where they should be. Returns the result. Raises Refusal and HostError."""
    if len({entry.nqn for entry in wanted}) < len(wanted):
        raise Refusal("connections names a subsystem twice; give all its paths in one entry")
    offers = _offers(host, wanted, discoveries, check) if discoveries else Offers(wanted, [], [], [])
    wanted = offers.wanted
    facts = observe(host, wanted)
    plan = make_plan(facts, wanted)
    found = facts.controllers
    if not check:
        found = _carry_out(host, wanted, plan, offers.failed, live_wait)
    elif offers.failed:
        raise HostError("; ".join(offers.failed))
    steps = list(dict.fromkeys([*offers.steps, *plan.steps]))
    return {
        "changed": bool(steps),
        "connections": [_shown(entry, found) for entry in wanted],
        "before": plan.before,
        "after": plan.after,
        "writes": [step.describe() for step in steps],
        "notes": [*offers.notes, *plan.notes],
    }


def _carry_out(host: Host, wanted: list, plan: Plan, failed: list, live_wait: float) -> tuple:
    for step in plan.prepare:
        host.do(step)
    failed = list(failed)
    secret = any(entry.dhchap_secret for entry in wanted)
    for step in plan.connect:
        try:
            host.do(step)
        except HostError as error:
            # nvme-cli repeats what it hands to the kernel, secrets among it.
            failed.append(f"could not {step.summary}" + ("; the kernel's log says why" if secret else f": {error}"))
    found = controllers(host)
    if host.live:
        found, late = _wait(host, wanted, 0.0 if failed else live_wait)
        failed += [] if failed else late
    if failed:
        raise HostError("; ".join(failed))
    for step in plan.disconnect:
        host.do(step)
    return controllers(host) if plan.disconnect else found


def _wait(host: Host, wanted: list, live_wait: float) -> tuple:
    """Wait until each path is live and has its devices. Returns the paths that there are, and what is not ready."""
    end = host.now() + live_wait
    while True:
        found = controllers(host)
        late = [text for entry in wanted for text in _late(host, entry, found)]
        if not late or host.now() >= end:
            return found, late
        host.sleep(_POLL)


def _late(host: Host, wanted: Wanted, found: tuple) -> list:
    texts = []
    for path in wanted.paths:
        there = [one for one in found if one.nqn == wanted.nqn and one.serves(path, wanted.hostnqn)]
        states = ", ".join(f"{one.name} is {one.state}" for one in there) or "the kernel has no controller for it"
        if not any(one.state == "live" for one in there):
            texts.append(f"{wanted.nqn} at {path} is not live: {states}")
        elif not any(host.exists(f"/dev/{name}") for one in there for name in one.blocks):
            texts.append(f"{wanted.nqn} at {path} is live and shows no block device; look at what its target exports")
    return texts


def _shown(wanted: Wanted, found: tuple) -> dict:
    mine = [one for one in found if one.nqn == wanted.nqn]
    return {
        "nqn": wanted.nqn,
        "devices": [f"/dev/{name}" for name in sorted({name for one in mine for name in one.blocks})],
        "paths": [
            {
                "controller": one.name,
                "state": one.state,
                "trtype": one.path.address.trtype.lower(),
                "traddr": one.path.address.traddr,
                "trsvcid": one.path.address.trsvcid,
                "wanted": any(one.serves(path, wanted.hostnqn) for path in wanted.paths),
            }
            for one in mine
        ],
    }
