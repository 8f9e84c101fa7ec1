# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names, NQNs and addresses: validation before anything is sent, and one spelling for comparison.

Private to the collection. Limits are those of SPDK's own headers as the contract (sections 5 to 7) records them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from functools import cache
from typing import NamedTuple

from ._errors import Refusal

DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"

_LVOL_NAME = re.compile(r"[A-Za-z0-9_.:+@-]{1,63}\Z")
_CONTROLLER_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,63}\Z")
_VHOST_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}\Z")
_KEY_NAME = re.compile(r"[A-Za-z0-9_.@+-]{1,255}\Z")
_BDF = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])\Z")
_LABEL = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NQN = re.compile(r"nqn\.\d{4}-(0[1-9]|1[0-2])\." + _LABEL + r"(?:\." + _LABEL + r")*:[!-~]+\Z", re.I | re.A)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_NQN_UUID_PREFIX = "nqn.2014-08.org.nvmexpress:uuid:"

_TRTYPES = {"TCP": "TCP", "RDMA": "RDMA"}


def store_name(value: str, what: str) -> str:
    """Return ``value`` if it can name an lvstore or an lvol (1 to 63 characters, no slash, no blank)."""
    if not _LVOL_NAME.match(value or ""):
        raise Refusal(
            f"{what} {value!r} is not usable: 1 to 63 characters of letters, digits and . _ : + @ - "
            f"(a slash would be read as <lvstore>/<lvol>)"
        )
    return value


def controller_name(value: str) -> str:
    """Return ``value`` if it can name an NVMe controller: its bdevs are called ``<name>n<namespace>``."""
    if not _CONTROLLER_NAME.match(value or ""):
        raise Refusal(f"controller name {value!r} is not usable: 1 to 63 characters of letters, digits and . _ : -")
    return value


def raid_name(value: str) -> str:
    """Return ``value`` if it can name a RAID, which is the name of its bdev."""
    if not _CONTROLLER_NAME.match(value or ""):
        raise Refusal(f"RAID name {value!r} is not usable: 1 to 63 characters of letters, digits and . _ : -")
    return value


def vhost_name(value: str) -> str:
    """Return ``value`` if it can name a vhost controller: a file in SPDK's directory, and an ID in QEMU's options."""
    if not _VHOST_NAME.match(value or ""):
        raise Refusal(
            f"vhost controller name {value!r} is not usable: 1 to 63 characters of letters, digits and . _ -, the "
            f"first of them a letter (it names a socket, and a device of QEMU)"
        )
    return value


def cpumask(value: str) -> int:
    """Return a mask of cores, ``value`` in hexadecimal with or without 0x. Raises Refusal."""
    try:
        mask = int(value, 16)
    except ValueError:
        mask = 0
    if mask < 1:
        raise Refusal(f"cpumask {value!r} is not a mask of cores in hexadecimal; write it like 0x3")
    return mask


def key_name(value: str) -> str:
    """Return ``value`` if it can name a key; the keyring reads what is before a colon as the name of a keyring."""
    if not _KEY_NAME.match(value or ""):
        raise Refusal(f"key name {value!r} is not usable: 1 to 255 characters of letters, digits and . _ @ + -")
    return value


def controller_of(subnqn: str) -> str:
    """Return the name of the controller of a subsystem over a network: the end of its NQN to read, its hash to be sure.

    It is the same in every run, and at most 57 characters long.
    """
    tail = re.sub(r"[^A-Za-z0-9_.-]", "_", subnqn.rpartition(":")[2])[-40:]
    return f"{tail}-{hashlib.sha256(subnqn.encode()).hexdigest()[:16]}"


def bdf(value: str) -> str:
    """Return ``value`` as the kernel and SPDK spell PCI addresses: ``0000:01:00.0``. Raises Refusal.

    SPDK takes an empty one for all drives and crashes (contract section 17).
    """
    match = _BDF.match(value.strip().lower())
    if not match:
        raise Refusal(f"{value!r} is not a PCI address; write it like 0000:01:00.0")
    return f"{match.group(1) or '0000'}:{match.group(2)}"


def uuid(value: str, what: str) -> str:
    """Return ``value`` as SPDK spells UUIDs: lower case (an upper-case one never matches, contract section 4)."""
    lowered = (value or "").lower()
    if not _UUID.match(lowered):
        raise Refusal(f"{what} {value!r} is not a UUID")
    return lowered


def is_uuid(value: str) -> bool:
    """Tell whether ``value`` is a UUID in any case."""
    return bool(_UUID.match(value.lower()))


@cache
def copy_nqn(bdev: str) -> str:
    """Return the NQN of the subsystem through which a node copies something into one of its bdevs."""
    return f"nqn.2024-01.io.excloud:copy.{bdev}"


def nqn(value: str, what: str = "NQN") -> str:
    """Return ``value`` if it is an NQN as SPDK accepts it: ``nqn.yyyy-mm.<reverse domain>:<name>``, 12 to 223 bytes."""
    text = value or ""
    if text == DISCOVERY_NQN:
        raise Refusal(f"{what} {value!r} is the discovery subsystem, which this collection does not manage")
    valid = 11 < len(text) <= 223 and bool(_NQN.match(text))
    if valid and text.startswith(_NQN_UUID_PREFIX):
        valid = is_uuid(text[len(_NQN_UUID_PREFIX) :])
    if not valid:
        raise Refusal(f"{what} {value!r} is not an NQN; write it like nqn.2024-01.io.excloud:storage.node.disk.lvol")
    return text


def trtype(value: str) -> str:
    """Return the canonical spelling of a fabrics transport type: ``TCP`` or ``RDMA``."""
    canonical = _TRTYPES.get((value or "").upper())
    if canonical is None:
        raise Refusal(f"transport type {value!r} is not one of {', '.join(_TRTYPES)}")
    return canonical


def ipv4(value: str, what: str) -> str:
    """Return ``value`` if it is an IPv4 address. Raises Refusal."""
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise Refusal(f"{what} {value!r} is not an IPv4 address") from None


class Address(NamedTuple):
    """The address of a listener, or of a path to it, in canonical form; SPDK keeps the spelling it was given."""

    trtype: str
    adrfam: str
    traddr: str
    trsvcid: str

    def __str__(self) -> str:
        host = f"[{self.traddr}]" if self.adrfam == "IPv6" else self.traddr
        return f"{self.trtype} {host}:{self.trsvcid}"


def address(value: dict) -> Address:
    """Return the canonical form of ``{trtype, traddr, trsvcid, adrfam?}``; it takes an IP address and a port."""
    return _address(*(value.get(name) or "" for name in ("trtype", "adrfam", "traddr", "trsvcid")))


@cache
def _address(kind: str, family: str, host: str, service: str) -> Address:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise Refusal(f"listener address {host!r} is not an IP address (SPDK resolves no names)") from None
    if family and family.lower() != f"ipv{ip.version}":
        raise Refusal(f"listener address {host} is IPv{ip.version}, but adrfam says {family}")
    port = str(service)
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise Refusal(f"listener port {service!r} is not a port number from 1 to 65535")
    return Address(trtype(kind), f"IPv{ip.version}", str(ip), str(int(port)))


def canonical_address(value: Address) -> Address:
    """Return an observed address with its IP address spelled canonically; the target keeps what it was given."""
    try:
        return value._replace(traddr=str(ipaddress.ip_address(value.traddr)))
    except ValueError:
        return value


def observed_address(value: dict) -> Address:
    """Return an address as the target reported it, whatever its transport type."""
    return Address(value.get("trtype", ""), value.get("adrfam", ""), value.get("traddr", ""), value.get("trsvcid", ""))
