# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What discovery controllers offer, as nvme-cli reads it. Changes nothing. Private to the collection."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import NamedTuple, Optional

from .. import _naming
from .._errors import Refusal
from . import _kernel_modules
from ._host import Host, HostError
from ._nvme_fabrics import MODULES, Path, host_name, names_of, no_name, no_program, path_of, words

_SUBSYSTEM = "nvme subsystem"
_EMPTY = "No discovery log entries"  # nvme-cli 1.x says so instead of JSON


@dataclass(frozen=True)
class Portal:
    """Where a discovery controller listens, and who asks it."""

    path: Path
    hostnqn: str = ""
    hostid: str = ""

    def __str__(self) -> str:
        return str(self.path)


class Record(NamedTuple):
    """An entry of a discovery log, as it says itself."""

    subtype: str
    subnqn: str
    trtype: str
    adrfam: str
    traddr: str
    trsvcid: str


class Found(NamedTuple):
    """The logs by portal, and why portals gave none."""

    logs: dict
    failed: list


def portal_of(options: dict) -> Portal:
    """Return the portal that options name. Raises Refusal."""
    return Portal(path_of(options), **names_of(options))


def modules_for(host: Host, portals: list) -> _kernel_modules.Facts:
    """Return what the host has of the kernel modules that asking takes. Raises Refusal if the host can ask nobody."""
    if not host.program("nvme"):
        raise no_program()
    if not host_name(host) and not all(portal.hostnqn for portal in portals):
        raise no_name("discovery controllers were to be asked")
    names = sorted({MODULES[portal.path.address.trtype] for portal in portals})
    return _kernel_modules.observe(host, tuple(names))


def unloaded(modules: _kernel_modules.Facts) -> list:
    """Return those that are not there."""
    return [name for name, state in modules.states.items() if state not in _kernel_modules.PRESENT]


def look(host: Host, portals: list) -> Found:
    """Ask each portal, whatever became of the one before."""
    found = Found({}, [])
    for portal in portals:
        try:
            found.logs[portal] = _ask(host, portal)
        except HostError as error:
            found.failed.append(f"could not discover at {portal}: {error}")
    return found


def manage(host: Host, portals: list) -> tuple:
    """Return the logs as users read them, and what failed. Raises Refusal."""
    if not host.live:
        raise Refusal("discovery controllers cannot be asked from an image")
    missing = unloaded(modules_for(host, portals))
    if missing:
        raise Refusal(
            f"{', '.join(missing)} is not loaded, and asking loads nothing; "
            "load it with excloud.diskengine.kernel_modules"
        )
    found = look(host, portals)
    shown = [
        {
            "trtype": portal.path.address.trtype.lower(),
            "traddr": portal.path.address.traddr,
            "trsvcid": portal.path.address.trsvcid,
            "records": [record._asdict() for record in log],
        }
        for portal, log in found.logs.items()
    ]
    return shown, found.failed


def _ask(host: Host, portal: Portal) -> list:
    given = {**portal.path.arguments, "hostnqn": portal.hostnqn, "hostid": portal.hostid, "output-format": "json"}
    told = host.run(["nvme", *words("discover", given)]).strip()
    if told.startswith(_EMPTY):
        return []
    try:
        # Blanks fill up the fields of a log, and nvme-cli 1.x shows them.
        return [
            Record(*(str(entry[field]).strip() for field in Record._fields)) for entry in json.loads(told)["records"]
        ]
    except (ValueError, TypeError, KeyError):
        raise HostError(f"nvme discover answered no discovery log in JSON: {told[:100] or 'nothing'}") from None


def path_to(portal: Portal, record: Record) -> Optional[Path]:
    """Return the path to a subsystem that a portal offers; None if it is none of the portal's kind. Raises Refusal.

    Through an interface or address of this host only the portal's own address is known to be reached.
    """
    own = portal.path.address
    if record.subtype != _SUBSYSTEM or record.trtype.upper() != own.trtype:
        return None
    host = record.traddr
    try:
        host = own.traddr if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        pass
    address = _naming.address({"trtype": record.trtype, "traddr": host, "trsvcid": record.trsvcid})
    if (portal.path.host_traddr or portal.path.host_iface) and address.traddr != own.traddr:
        return None
    return portal.path._replace(address=address)
