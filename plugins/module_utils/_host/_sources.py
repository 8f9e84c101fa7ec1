# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether this host can connect from its IPv4 addresses. Private to the collection.

The kernel has no file that tells the IPv4 addresses of interfaces, least of all of those that are down.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from typing import Optional

_SIOCGIFCONF = 0x8912
_ENTRY = struct.Struct("16s4x4s16x")  # struct ifreq with an IPv4 address, on 64-bit hosts
_MOST = 4096
_UP = 0x1
_LINKED = ("up", "unknown")  # drivers that cannot tell say unknown, the loopback among them


def interfaces() -> dict:
    """Return the name of the interface that has each IPv4 address of this host, whether it is up or not."""
    room = array.array("B", bytes(_MOST * _ENTRY.size))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("iP", len(room), room.buffer_info()[0])
        length = struct.unpack("iP", fcntl.ioctl(any_socket, _SIOCGIFCONF, request))[0]
    return {
        socket.inet_ntoa(address): name.partition(b"\0")[0].decode().partition(":")[0]
        for name, address in _ENTRY.iter_unpack(room.tobytes()[:length])
    }


def obstacle(address: str, names: dict, root: str = "/") -> Optional[str]:
    """Return why nothing can connect from ``address``, or None; ``names`` are the interfaces by address."""
    name = names.get(address)
    if name is None:
        return f"no interface of this host has the address {address}"
    about = os.path.join(root, "sys/class/net", name)
    if not int(_read(about, "flags") or "0", 16) & _UP:
        return f"interface {name} with the address {address} is down"
    state = _read(about, "operstate")
    if state not in _LINKED:
        return f"interface {name} with the address {address} has no link (its state is {state or 'not known'})"
    return None


def _read(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
