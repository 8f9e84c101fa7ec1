# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes as humans write them, and the roundings that SPDK applies. Private to the collection."""

from __future__ import annotations

import re

from ._errors import Refusal

MIB = 1024 * 1024

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _UNITS[_letter] = _UNITS[_letter + "IB"] = 1024**_power
    _UNITS[_letter + "B"] = 1000**_power

_SIZE = re.compile(r"\s*(\d+)(?:\.(\d+))?\s*([A-Za-z]*)\s*\Z", re.ASCII)
_LARGEST = (1 << 63) - 1


def parse_size(value: object, what: str = "size") -> int:
    """Return ``value`` in bytes.

    A bare number is bytes. ``KiB MiB GiB TiB PiB`` and the bare letters ``K M G T P`` are powers of 1024, as lvm and
    qemu-img read them; ``KB MB GB TB PB`` are powers of 1000. Raises Refusal for anything else, for zero, for a
    fraction that is no whole number of bytes, and for what 64 bits cannot hold when it is rounded up.
    """
    match = _SIZE.match(str(value))
    factor = _UNITS.get(match.group(3).upper()) if match else None
    if match is None or factor is None:
        raise Refusal(f"{what} {value!r} is not a size; write it like 100GiB, 512MiB or as a number of bytes")
    whole, fraction = match.group(1), match.group(2) or ""
    scaled, rest = divmod(int(whole + fraction) * factor, 10 ** len(fraction))
    if rest:
        raise Refusal(f"{what} {value!r} is not a whole number of bytes")
    if scaled > _LARGEST:
        raise Refusal(f"{what} {value!r} is more than 8 EiB, which SPDK would take for something smaller")
    if scaled == 0:
        raise Refusal(f"{what} {value!r} is zero; it must be at least one byte")
    return scaled


def format_size(size: int) -> str:
    """Return ``size`` (bytes) in the largest binary unit that divides it, e.g. ``10 GiB``."""
    for letter in "PTGMK":
        unit = _UNITS[letter]
        if size >= unit and size % unit == 0:
            return f"{size // unit} {letter}iB"
    return f"{size} B"


def divide_up(value: int, divisor: int) -> int:
    """Return ``value / divisor`` rounded up."""
    return -(-value // divisor)


def lvol_size(size: int, cluster_size: int) -> tuple[int, int]:
    """Return ``(size_in_mib, real size in bytes)`` of an lvol of at least ``size`` bytes.

    The wire knows MiB only, and SPDK rounds what it gets up to whole clusters (contract section 5).
    """
    size_in_mib = divide_up(size, MIB)
    return size_in_mib, divide_up(size_in_mib * MIB, cluster_size) * cluster_size
