# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What connecting and discovering by nvme-cli have in common: paths, and the names of this host. Private."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from .. import _naming
from .._errors import Refusal
from ._host import Host

MODULES = {"TCP": "nvme-tcp", "RDMA": "nvme-rdma"}

# Options of modules.
PATH = {
    "traddr": {"type": "str", "required": True},
    "trsvcid": {"type": "str", "default": "4420"},
    "host_traddr": {"type": "str"},
    "host_iface": {"type": "str"},
}
TRTYPE = {"trtype": {"type": "str", "choices": ["tcp", "rdma"], "default": "tcp"}}
NAMES = {"hostnqn": {"type": "str"}, "hostid": {"type": "str"}}

_HOSTNQN = "/etc/nvme/hostnqn"
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")


class Path(NamedTuple):
    """One way to a controller; what is empty may be anything."""

    address: _naming.Address
    host_traddr: str = ""
    host_iface: str = ""

    def __str__(self) -> str:
        return str(self.address) + "".join(f" from {part}" for part in (self.host_traddr, self.host_iface) if part)

    def is_like(self, other: Path) -> bool:
        """Return whether one path may be the other."""
        pairs = zip(self[1:], other[1:])
        return self.address == other.address and all(not one or not two or one == two for one, two in pairs)

    @property
    def arguments(self) -> dict:
        """What nvme-cli calls its parts."""
        return {
            "transport": self.address.trtype.lower(),
            "traddr": self.address.traddr,
            "trsvcid": self.address.trsvcid,
            "host-traddr": self.host_traddr,
            "host-iface": self.host_iface,
        }


def path_of(options: dict) -> Path:
    """Return the path that options name. Raises Refusal."""
    source, interface = options["host_traddr"] or "", options["host_iface"] or ""
    try:
        source = source and str(ipaddress.ip_address(source))
    except ValueError:
        raise Refusal(f"host_traddr {source!r} is not an IP address") from None
    if interface and not _INTERFACE.match(interface):
        raise Refusal(f"host_iface {interface!r} is not the name of a network interface")
    return Path(_naming.address(options), source, interface)


def names_of(options: dict) -> dict:
    """Return what this host is to call itself, if options say so. Raises Refusal."""
    if not options["hostnqn"]:
        return {}
    return {
        "hostnqn": _naming.nqn(options["hostnqn"], "hostnqn"),
        "hostid": _naming.uuid(options["hostid"], "hostid"),
    }


def host_name(host: Host) -> str:
    """Return the NQN that the host has for itself; empty if it has none."""
    return host.read(_HOSTNQN) or ""


def no_name(what: str) -> Refusal:
    """Return the refusal of a host without a name."""
    return Refusal(
        f"{what} and this host has no name in {_HOSTNQN}, so each path would be another host's; "
        f"give hostnqn and hostid, or run nvme gen-hostnqn > {_HOSTNQN}"
    )


def no_program() -> Refusal:
    """Return the refusal of a host without nvme-cli."""
    return Refusal("there is no nvme program on this host; install the package nvme-cli")


def words(command: str, given: dict) -> list:
    """Return the arguments of nvme-cli for a command, without those that are empty."""
    return [command, *(f"--{name}={value}" for name, value in given.items() if value not in ("", None))]
