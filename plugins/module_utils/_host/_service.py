# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service that runs an SPDK target: what is there, what to do, and doing it. Private to the collection.

``observe`` reads, ``make_plan`` is pure, ``manage`` carries out. What a running process was started with is read from
the process itself. A process that serves volumes, or cannot be asked, is never ended without consent.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple, Optional

from .._errors import DiskengineError, Refusal
from .._lock import node_lock
from .._rpc import Call, Client
from ._host import Host, HostError, Step, file_steps
from ._unit import HEADER, SETTINGS, Wanted, arguments, core_list, cores, settings, socket_of, unit_text

_UNITS = "/etc/systemd/system"
_ENABLED = f"{_UNITS}/multi-user.target.wants"
_PROPERTIES = (
    "LoadState", "ActiveState", "FragmentPath", "NeedDaemonReload", "MainPID", "InvocationID", "Result",
    "ExecMainStatus",
)  # fmt: skip
_ENDED = (None, "inactive", "failed")
_PAUSE = 0.2
_FIRST_LINES, _LAST_LINES = 3, 7
_NAMED = 3

# What lists that which others may be using, what an entry of it is, and where its name is.
_EXPOSURES = {
    "nvmf_get_subsystems": ("subsystem", "nqn"),
    "vhost_get_controllers": ("vhost controller", "ctrlr"),
    "iscsi_get_target_nodes": ("iSCSI target", "name"),
    "nbd_get_disks": ("block device", "nbd_device"),
    "ublk_get_disks": ("block device", "ublk_device"),
}


class Process(NamedTuple):
    """The main process of the service."""

    pid: int
    arguments: list
    settings: str  # what its unit was made from when it started; empty if another unit started it
    replaced: bool  # whether its program is another file by now
    socket: str


class Facts(NamedTuple):
    """What the host has. ``serves``: what would be cut off if the process ended, as sentences."""

    unit: Optional[str]
    link: str
    marker: bool
    state: dict
    process: Optional[Process]
    serves: list
    online: set
    lacks: list
    systemd: bool
    live: bool

    @property
    def is_running(self) -> bool:
        """Whether systemd runs it, or is about to."""
        return self.state.get("ActiveState") not in _ENDED


class Plan(NamedTuple):
    """Steps in order. ``ends``: whether they end the process. ``pending``: why a restart is due that nobody allowed."""

    steps: list
    before: dict
    after: dict
    ends: bool
    pending: str
    notes: list


# --- reading ---


def observe(host: Host, wanted: Wanted) -> Facts:
    """Read what the host has of the service. Raises Refusal for a name that can be none."""
    systemd = host.exists("/run/systemd/system") and host.program("systemctl")
    state = _state(host, wanted) if host.live and systemd else {}
    process = _process(host, state)
    lacks = []
    if host.live and wanted.state == "started":
        if not host.program(wanted.program or ""):
            lacks.append(f"program: there is no {wanted.program} that can be run")
        if wanted.user is not None and host.user_id(wanted.user) is None:
            lacks.append(f"user: there is no {wanted.user}")
        if wanted.config is not None and not host.exists(wanted.config):
            lacks.append(f"config: there is no {wanted.config}")
    online = host.read("/sys/devices/system/cpu/online")
    return Facts(
        unit=host.content(f"{_UNITS}/{wanted.unit}"),
        link=host.link(f"{_ENABLED}/{wanted.unit}"),
        marker=host.exists(wanted.marker),
        state=state,
        process=process,
        serves=_serves(host, process, state, wanted),
        online=core_list(online) if online else set(),
        lacks=lacks,
        systemd=systemd,
        live=host.live,
    )


def _state(host: Host, wanted: Wanted) -> dict:
    shown = host.run(["systemctl", "show", wanted.unit, f"--property={','.join(_PROPERTIES)}"])
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _process(host: Host, state: dict) -> Optional[Process]:
    pid = int(state.get("MainPID", 0))
    line = (host.content(f"/proc/{pid}/cmdline") or "").split("\0")[:-1]
    if not line:
        return None
    environment = (host.content(f"/proc/{pid}/environ") or "").split("\0")
    return Process(
        pid=pid,
        arguments=line,
        settings=next((pair.partition("=")[2] for pair in environment if pair.startswith(f"{SETTINGS}=")), ""),
        replaced=host.link(f"/proc/{pid}/exe").endswith(" (deleted)"),
        socket=socket_of(line),
    )


def _serves(host: Host, process: Optional[Process], state: dict, wanted: Wanted) -> list:
    """Ask the process itself what it serves."""
    if process is None:
        ended = state.get("ActiveState") in ("activating", *_ENDED)
        return [] if ended else [f"unknown: systemd names no process of {wanted.unit} that could be asked"]
    try:
        with Client(process.socket, wanted.timeout) as client:
            if not _is_of(host, client.peer, process, wanted):
                return [f"unknown: on {process.socket} another process answers ({client.peer}) than {process.pid}"]
            methods = [method for method in _EXPOSURES if method in client.release.methods]
            found = client.read([Call(method) for method in methods])
    except DiskengineError as error:
        return [f"unknown: {error}"]
    return [
        f"{_EXPOSURES[method][0]} {entry.get(_EXPOSURES[method][1])}"
        for method, entries in zip(methods, found)
        for entry in entries
        if method != "nvmf_get_subsystems" or entry.get("namespaces")
    ]


def _is_of(host: Host, pid: int, process: Process, wanted: Wanted) -> bool:
    return pid == process.pid or f"/{wanted.unit}" in (host.read(f"/proc/{pid}/cgroup") or "")


# --- planning ---


def make_plan(facts: Facts, wanted: Wanted) -> Plan:
    """Return what to do so that the service is as wanted. Pure. Raises Refusal."""
    if facts.live and not facts.systemd:
        raise Refusal(
            "this host does not run systemd, as in a container, so there is no service to manage; run this on the "
            "host itself, or start the target by other means"
        )
    _check_unit(facts, wanted)
    before = _shown(facts)
    if wanted.state == "started":
        return _plan_started(facts, wanted, before)
    steps = []
    if facts.is_running:
        if facts.serves and not wanted.interrupt:
            raise Refusal(
                f"{wanted.unit} was to be {wanted.state} and serves {_some(facts.serves)}; move these away first, or "
                f"say interrupt: true to cut them off"
            )
        steps.append(Step("command", "systemctl", f"stop {wanted.unit}", f"stop {wanted.unit}"))
    ends = facts.process is not None and bool(steps)
    enabled = False if wanted.state == "absent" else wanted.enabled
    files = _link_steps(facts, wanted, enabled)
    if wanted.state == "absent":
        if facts.state.get("ActiveState") == "failed":
            steps.append(_reset(wanted))
        unit = f"{_UNITS}/{wanted.unit}"
        files += file_steps({unit: facts.unit}, {unit: None})
        if facts.marker:
            steps.append(Step("remove", wanted.marker, "", f"remove {wanted.marker}"))
    steps += files + _reload_steps(facts, files)
    after = {**before, "running": False, "arguments": []}
    if enabled is not None:
        after["enabled"] = enabled
    if wanted.state == "absent":
        after["unit"] = None
    return Plan(steps, before, after, ends, "", [])


def _check_unit(facts: Facts, wanted: Wanted) -> None:
    path = facts.state.get("FragmentPath", "")
    if wanted.state == "started" and facts.state.get("LoadState") == "masked":
        raise Refusal(f"{wanted.unit} is masked; somebody does not want it to run (systemctl unmask {wanted.unit})")
    if wanted.state == "stopped":
        return
    if facts.unit is not None and not facts.unit.startswith(HEADER):
        path = f"{_UNITS}/{wanted.unit}"
    elif path == f"{_UNITS}/{wanted.unit}":
        return
    if path:
        raise Refusal(f"{path} was not written by this module and is left alone; choose another name for the service")


def _plan_started(facts: Facts, wanted: Wanted, before: dict) -> Plan:
    unit, text, line = f"{_UNITS}/{wanted.unit}", unit_text(wanted), arguments(wanted)
    missing = cores(wanted.core_mask) - facts.online if wanted.core_mask is not None and facts.online else set()
    if missing:
        named = ", ".join(str(core) for core in sorted(missing)[:_NAMED])
        raise Refusal(f"core_mask {wanted.core_mask} names core {named}, and the host has no such core online")
    files = file_steps({unit: facts.unit}, {unit: text})
    written = bool(files)
    enabled = wanted.enabled is not False
    files += _link_steps(facts, wanted, enabled)
    steps = files + _reload_steps(facts, files)
    after = {**before, "unit": text, "enabled": enabled}
    if not facts.live:
        return Plan(steps, before, after, False, "", [f"{wanted.unit} was not started, because this is an image"])
    reason = _why_restart(facts.process, wanted) if facts.process else ""
    verb, pending = "", ""
    if not facts.is_running or facts.state["ActiveState"] == "deactivating":
        verb = "start"
    elif reason and facts.serves and not wanted.interrupt:
        pending = (
            f"{wanted.unit} {reason}, and is not restarted because it serves {_some(facts.serves)}; move these away "
            f"first, or say interrupt: true to cut them off"
        )
    elif reason or (written and not facts.process):
        verb = "restart"
    if verb:
        if verb == "restart" or facts.state["ActiveState"] == "failed":
            steps.append(_reset(wanted))
        summary = f"{verb} {wanted.unit}" + (f", which {reason}" if reason else "")
        steps.append(Step("command", "systemctl", f"{verb} {wanted.unit}", summary))
        after.update(running=True, arguments=line)
    notes = list(facts.lacks)
    if facts.process and not reason and facts.process.arguments[-len(line) :] != line:
        notes.append(
            f"the process of {wanted.unit} has other arguments than its unit though it was started from it: there is "
            f"a drop-in for it, or the program is a wrapper"
        )
    return Plan(steps, before, after, verb == "restart" and facts.process is not None, pending, notes)


def _why_restart(process: Process, wanted: Wanted) -> str:
    line = arguments(wanted)
    if process.settings != settings(wanted):
        if process.arguments[-len(line) :] != line:
            return "runs with other arguments than its unit has now"
        return "runs as another user or in another environment than its unit has now"
    return "runs a program that was replaced since it started" if process.replaced else ""


def _link_steps(facts: Facts, wanted: Wanted, enabled: Optional[bool]) -> list:
    path = f"{_ENABLED}/{wanted.unit}"
    if enabled is None or enabled == bool(facts.link):
        return []
    if enabled:
        return [Step("link", path, f"../{wanted.unit}", f"enable {wanted.unit}")]
    return [Step("remove", path, "", f"disable {wanted.unit}")]


def _reload_steps(facts: Facts, files: list) -> list:
    if facts.live and (files or facts.state.get("NeedDaemonReload") == "yes"):
        return [Step("command", "systemctl", "daemon-reload", "let systemd read its units")]
    return []


def _reset(wanted: Wanted) -> Step:
    return Step("command", "systemctl", f"reset-failed {wanted.unit}", "forget how often it was started")


def _shown(facts: Facts) -> dict:
    return {
        "running": facts.process is not None,
        "enabled": bool(facts.link),
        "arguments": facts.process.arguments if facts.process else [],
        "unit": facts.unit,
    }


def _some(things: list) -> str:
    more = f" and {len(things) - _NAMED} more" if len(things) > _NAMED else ""
    return ", ".join(things[:_NAMED]) + more


# --- the whole of it ---


def manage(host: Host, wanted: Wanted, check: bool) -> tuple:
    """Bring the service where it should be. Returns ``(result, whether it failed)``."""
    facts = observe(host, wanted)
    plan = make_plan(facts, wanted)
    done, error = [], ""
    if not check:
        if facts.lacks and host.live:
            raise Refusal(f"{wanted.unit} cannot be started: {'; '.join(facts.lacks)}")
        process = facts.process if plan.ends else None
        with node_lock(process.socket, wanted.lock_wait, wanted.lease) if process else nullcontext():
            if plan.ends:  # another run may have changed what is served while this one waited for it
                facts = observe(host, wanted)
                plan = make_plan(facts, wanted)
            try:
                for step in plan.steps:
                    done.append(step)
                    host.do(step)
            except HostError as failure:
                error = f"{failure}{_last_words(host, _state(host, wanted)) if host.live else ''}"
            else:
                if wanted.state == "started" and host.live and not plan.pending:
                    error = _wait_until_it_answers(host, wanted)
    now = observe(host, wanted) if done else facts
    result = {
        "changed": bool(plan.steps if check else done),
        "before": plan.before,
        "after": plan.after if check else _shown(now),
        "writes": [step.describe() for step in plan.steps],
        "restart_pending": bool(plan.pending),
        "serves": facts.serves,
        "pid": now.process.pid if now.process else None,
        "started": now.state.get("InvocationID", "") if now.process else "",
        "notes": plan.notes + ([plan.pending] if plan.pending else []),
    }
    if error:
        result["msg"] = error
    return result, bool(error)


def _wait_until_it_answers(host: Host, wanted: Wanted) -> str:
    """Return nothing once it does, or else why it does not."""
    deadline = host.now() + wanted.start_wait
    ended: dict = {}
    while True:
        state = _state(host, wanted)
        process = _process(host, state)
        if state["Result"] != "success":
            ended = state  # systemd forgets it when it tries again
        why = "its process ended"
        if process:
            try:
                with Client(process.socket, max(deadline - host.now(), 1.0)) as client:
                    if _is_of(host, client.peer, process, wanted):
                        return ""
                    why = f"another process ({client.peer}) answers on {process.socket}; stop that one"
            except DiskengineError as failure:
                why = str(failure)
        if state["ActiveState"] == "failed" or host.now() >= deadline:
            break
        host.sleep(_PAUSE)
    words = _last_words(host, ended or state)
    return f"{wanted.unit} was to answer within {wanted.start_wait:g} s and does not: {why}{words}"


def _last_words(host: Host, state: dict) -> str:
    """Return how systemd saw it end, and what it said: why it ends is at the beginning or at the end."""
    told = f"; systemd calls it {state['ActiveState']} ({state['Result']}, status {state['ExecMainStatus']})"
    run = f"_SYSTEMD_INVOCATION_ID={state['InvocationID']}"
    try:
        lines = host.run(["journalctl", run, "-n", "200", "--no-pager", "-o", "cat"]).splitlines()
    except HostError:
        return told
    if len(lines) > _FIRST_LINES + _LAST_LINES:
        lines = [*lines[:_FIRST_LINES], "...", *lines[-_LAST_LINES:]]
    return f"{told}; in its journal: {' | '.join(line.strip() for line in lines) or 'nothing'}"


def difference(result: dict) -> list:
    """Return what diff mode shows: the text of the unit, and the rest."""
    shown = []
    if result["before"]["unit"] != result["after"]["unit"]:
        shown.append({key: result[key]["unit"] or "" for key in ("before", "after")})
    rest = {key: {name: value for name, value in result[key].items() if name != "unit"} for key in ("before", "after")}
    return shown + ([rest] if rest["before"] != rest["after"] else [])
