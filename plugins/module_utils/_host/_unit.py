# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd unit of an SPDK target, as text. Pure. Private to the collection.

What the process gets from it (arguments, user, group and environment) is hashed into an environment variable, so that
a running process tells what it was started with, and a unit that differs in nothing else needs no restart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from .. import _naming
from .._errors import Refusal
from .._sizes import MIB, divide_up, parse_size
from ._pci import DRIVERS, USERSPACE

HEADER = "# Written by excloud.diskengine.spdk_service.\n"
SETTINGS = "DISKENGINE_SETTINGS"
MARKERS = "/run/diskengine"

_DRIVE_SECONDS = 60
_START_SECONDS = 90
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.-]*\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEX_MASK = re.compile(r"0x[0-9a-fA-F]+\Z")
_CORE_LIST = re.compile(r"\[\d+(-\d+)?(,\d+(-\d+)?)*\]\Z")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@+-]+\Z")

# What has an option of its own, which other rules rely on.
_OPTION_OF = {
    "-m": "core_mask",
    "--cpumask": "core_mask",
    "-s": "memory",
    "--mem-size": "memory",
    "-r": "socket",
    "--rpc-socket": "socket",
    "-c": "config",
    "--config": "config",
    "--json": "config",
    "-S": "vhost_sockets",
    "--wait-for-rpc": "wait_for_rpc",
    "--huge-dir": "hugepages_mount",
    "--no-huge": "no_hugepages",
}


@dataclass(frozen=True)
class Wanted:
    """The options of the module."""

    name: str = "spdk_tgt"
    state: str = "started"
    program: Optional[str] = None
    core_mask: Optional[str] = None
    memory: Optional[str] = None
    socket: str = "/var/tmp/spdk.sock"
    user: Optional[str] = None
    group: Optional[str] = None
    wait_for_rpc: bool = False
    config: Optional[str] = None
    hugepages_mount: Optional[str] = None
    no_hugepages: bool = False
    vhost_sockets: Optional[str] = None
    arguments: Sequence = ()
    environment: Mapping = field(default_factory=dict)
    drives: Sequence = ()
    enabled: Optional[bool] = None
    interrupt: bool = False
    timeout: float = 60.0
    start_wait: float = 60.0
    lock_wait: float = 60.0
    lease: Optional[int] = None

    @property
    def unit(self) -> str:
        """The name of the unit, as systemd has it. Raises Refusal."""
        if not _NAME.match(self.name) or self.name.endswith(".service"):
            raise Refusal(f"name {self.name!r} is not the name of a service; write it like spdk_tgt, without .service")
        return f"{self.name}.service"

    @property
    def marker(self) -> str:
        """The file that each start of the service leaves."""
        return f"{MARKERS}/{self.name}.started"


def cores(mask: str) -> set:
    """Return the cores that a mask or a list names. Raises Refusal."""
    if _HEX_MASK.match(mask):
        number = int(mask, 16)
        named = {core for core in range(number.bit_length()) if number >> core & 1}
    elif _CORE_LIST.match(mask):
        named = core_list(mask[1:-1])
    else:
        raise Refusal(f'core_mask {mask!r} is none; write it as "0x3" or as "[0,2-4]", with the quotes for YAML')
    if not named:
        raise Refusal(f"core_mask {mask!r} names no core")
    return named


def core_list(text: str) -> set:
    """Return the numbers of a list such as ``0,2-4``, which is how the kernel shows cores as well."""
    numbers: set = set()
    for part in text.split(","):
        first, _dash, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def arguments(wanted: Wanted) -> list:
    """Return the program with its arguments. Raises Refusal."""
    line = [wanted.program or ""]
    if wanted.core_mask is not None:
        cores(wanted.core_mask)
        line += ["-m", wanted.core_mask]
    if wanted.memory is not None:
        line += ["-s", str(divide_up(parse_size(wanted.memory, "memory"), MIB))]
    line += ["-r", wanted.socket]
    if wanted.no_hugepages:
        line.append("--no-huge")
    if wanted.hugepages_mount is not None:
        line += ["--huge-dir", wanted.hugepages_mount]
    if wanted.vhost_sockets is not None:
        line += ["-S", wanted.vhost_sockets]
    if wanted.wait_for_rpc:
        line.append("--wait-for-rpc")
    if wanted.config is not None:
        line += ["-c", wanted.config]
    for argument in wanted.arguments:
        flag = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
        if flag in _OPTION_OF:
            raise Refusal(f"{argument!r} among the arguments has an option of its own: say {_OPTION_OF[flag]}")
    return line + list(wanted.arguments)


def socket_of(line: list) -> str:
    """Return the JSON-RPC socket of a process from its arguments."""
    found = "/var/tmp/spdk.sock"
    for index, argument in enumerate(line[1:], start=1):
        if argument in ("-r", "--rpc-socket") and index + 1 < len(line):
            found = line[index + 1]
        elif argument.startswith("--rpc-socket="):
            found = argument.partition("=")[2]
        elif argument.startswith("-r") and len(argument) > 2:
            found = argument[2:]
    return found


def settings(wanted: Wanted) -> str:
    """Return the hash of all that the process gets."""
    given = [arguments(wanted), wanted.user, wanted.group, sorted(wanted.environment.items())]
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:16]


def unit_text(wanted: Wanted) -> str:
    """Return the unit. Raises Refusal."""
    for path in (wanted.program, wanted.socket, wanted.config, wanted.hugepages_mount, wanted.vhost_sockets):
        if path is not None and not path.startswith("/"):
            raise Refusal(f"{path!r} is not an absolute path, which is all that systemd takes")
    needed = [path for path in (wanted.program, wanted.config, wanted.hugepages_mount) if path]
    return "\n".join(
        [
            HEADER.rstrip(),
            "[Unit]",
            f"Description=SPDK target {wanted.name}",
            "Wants=network-online.target",
            "After=network-online.target",
            f"RequiresMountsFor={' '.join(_quoted(path) for path in needed)}",
            "StartLimitIntervalSec=300",
            "StartLimitBurst=10",
            "",
            "[Service]",
            "Type=exec",
            *_identity(wanted),
            *_environment(wanted),
            *_before_start(wanted),
            f"ExecStart={' '.join(_quoted(word).replace('$', '$$') for word in arguments(wanted))}",
            "Restart=on-failure",
            "RestartSec=5",
            f"TimeoutStartSec={_START_SECONDS + (_DRIVE_SECONDS if wanted.drives else 0)}",
            "TimeoutStopSec=60",
            "LimitMEMLOCK=infinity",
            "LimitNOFILE=1048576",
            "OOMScoreAdjust=-900",
            "NoNewPrivileges=yes",
            "ProtectSystem=full",
            "ProtectHome=read-only",
            "ProtectControlGroups=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelLogs=yes",
            "ProtectHostname=yes",
            "LockPersonality=yes",
            "RestrictSUIDSGID=yes",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def _identity(wanted: Wanted) -> list:
    lines = []
    for key, value in (("User", wanted.user), ("Group", wanted.group)):
        if value is None:
            continue
        if not _ACCOUNT.match(value):
            raise Refusal(f"{key.lower()} {value!r} cannot be the name of a {key.lower()}")
        lines.append(f"{key}={value}")
    lines.append("UMask=0007")
    directories = {_below_run(wanted.socket.rpartition("/")[0]), _below_run(wanted.vhost_sockets or "")} - {""}
    if directories:
        lines.append(f"RuntimeDirectory={' '.join(_quoted(path) for path in sorted(directories))}")
        lines.append("RuntimeDirectoryPreserve=yes")
    return lines


def _below_run(directory: str) -> str:
    """Return a directory relative to /run; empty if it is elsewhere or ours."""
    for top in ("/run/", "/var/run/"):
        if directory.startswith(top) and f"{directory}/" != f"{top}diskengine/":
            return directory[len(top) :].strip("/")
    return ""


def _environment(wanted: Wanted) -> list:
    for name in wanted.environment:
        if not _VARIABLE.match(name) or name == SETTINGS:
            raise Refusal(f"{name!r} cannot be the name of an environment variable of the service")
    pairs = [*sorted(wanted.environment.items()), (SETTINGS, settings(wanted))]
    return [f"Environment={_quoted(f'{name}={value}')}" for name, value in pairs]


def _before_start(wanted: Wanted) -> list:
    lines = []
    if wanted.drives:
        ready = " || ".join(f"[ -e {DRIVERS}/{driver}/$$d ]" for driver in USERSPACE)
        shell = (
            f"n=0; for d in {' '.join(_naming.bdf(drive) for drive in wanted.drives)}; do until {ready}; do "
            f"n=$$((n + 1)); if [ $$n -gt {_DRIVE_SECONDS} ]; then "
            f'echo "drive $$d is on no userspace driver; starting without it" >&2; break; fi; sleep 1; done; done'
        )
        lines.append(f"ExecStartPre=/bin/sh -c '{shell}'")
    new = f"{MARKERS}/.{wanted.name}.started"
    shell = f"umask 022; mkdir -p {MARKERS} && echo $$INVOCATION_ID > {new} && mv {new} {wanted.marker}"
    return [*lines, f"ExecStartPre=+/bin/sh -c '{shell}'"]


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back."""
    if re.search(r"[\x00-\x1f\x7f]", word):
        raise Refusal(f"{word!r} holds a control character, which a unit cannot")
    word = word.replace("%", "%%")
    if _PLAIN.match(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
