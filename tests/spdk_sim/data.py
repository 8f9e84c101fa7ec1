# SPDX-License-Identifier: GPL-3.0-or-later
"""What was written to bdevs by hosts, as far as somebody may read it again. Unwritten bytes are zero."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

from .disks import Foreign, Written, written
from .lvol import Lvstore
from .nvme import NvmeBdev
from .raid import SUPERBLOCK_BYTES, RaidBdev, Superblock

UNIT = 4096
SUPERBLOCK = struct.Struct("<8s2H3I16s64sQ4IQ")
"""As far as its sequence number."""
MEMBERS, MEMBER = 256, struct.Struct("<16sQQ40x")


class IoFailed(Exception):
    """A bdev cannot be reached, or takes no writes."""


def read(bdev: Any, offset: int, length: int) -> bytes:
    """Bytes of a bdev, both ends at units. Raises IoFailed."""
    if isinstance(bdev, RaidBdev):
        slot = bdev.raid.healthy[0]
        return read(slot.bdev, slot.data_offset * bdev.block_size + offset, length)
    _require_connected(bdev)
    data = bytearray(_head(bdev.medium.read())[offset : offset + length].ljust(length, b"\0"))
    content = written(bdev.medium).read()
    for at in range(0, length, UNIT) if content else ():
        unit = content.units.get(str((offset + at) // UNIT))
        if unit:
            data[at : at + UNIT] = unit
    return bytes(data)


def write(bdev: Any, offset: int, data: bytes) -> None:
    """Write whole units. Raises IoFailed."""
    if isinstance(bdev, RaidBdev):
        for slot in bdev.raid.present:
            write(slot.bdev, slot.data_offset * bdev.block_size + offset, data)
        return
    _require_connected(bdev)
    if not bdev.supported_io()["write"]:
        raise IoFailed
    medium = written(bdev.medium)
    if not medium.read():
        medium.write(Written({}))
    for at in range(0, len(data), UNIT):
        number = str((offset + at) // UNIT)
        medium.read().units[number] = data[at : at + UNIT]
        medium.mark(number)


def _require_connected(bdev: Any) -> None:
    if isinstance(bdev, NvmeBdev) and not any(path.state == "enabled" for path in bdev.controller.paths):
        raise IoFailed


def _head(content: Any) -> bytes:
    """What SPDK or somebody else has written to the start of a disk."""
    if isinstance(content, Foreign):
        return content.data
    if isinstance(content, Superblock):
        own, name = UUID(content.uuid).bytes, content.name.encode()
        mirror, block = int(content.level == "raid1"), content.block_size
        start = SUPERBLOCK.pack(b"SPDKRAID", 1, 0, 0, 0, 0, own, name, 0, block, mirror, 0, 0, content.sequence)
        offset = SUPERBLOCK_BYTES // block
        members = (MEMBER.pack(UUID(each).bytes, offset, content.num_blocks) for each, _used in content.slots)
        return start.ljust(MEMBERS, b"\0") + b"".join(members)
    return b"SPDKBLOB" if isinstance(content, Lvstore) else b""
