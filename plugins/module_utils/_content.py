# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on an NVMe namespace, read through the target that has it. Private to the collection.

No getter tells; what does is a raw NVM read (bdev_nvme_send_cmd). Nothing else is ever sent that way: a command with
a buffer that does not fit ends the target (docs/spdk-facts.md).
"""

from __future__ import annotations

import base64
import struct
from uuid import UUID

from ._errors import Refusal, RpcError
from ._graph import Bdev, Graph, Superblock
from ._host._signatures import signatures
from ._rpc import Call, Client

_READ = 0x02
_PIECE = 64 * 1024
_SUPERBLOCK = struct.Struct("<8s2H3I16s64sQ4IQ")  # SPDK's module/bdev/raid/bdev_raid.h
_MEMBERS = 256
_MEMBER = struct.Struct("<16sQQ")
_MIRROR = 1
_SUPERBLOCK_BYTES = 4096
_ATTEMPTS = 2
_STATUS = 0xFFFE  # of the last 16 bits of a completion; the lowest is the phase tag


def read_contents(client: Client, bdevs: list, graph: Graph) -> dict:
    """Return what is on bdevs of local drives by their own names, or why one cannot be read.

    Raises Unreachable, UnknownOutcome.
    """
    found: dict = {}
    for bdev in bdevs:
        try:
            found[bdev.name] = _read_content(client, bdev, graph)
        except (Refusal, RpcError) as error:
            found[bdev.name] = str(error)
    return found


def _read_content(client: Client, bdev: Bdev, graph: Graph) -> list:
    """Return the names of the signatures on the namespace of a local drive; none means blank.

    Raises Refusal when the drive does not let itself be read, Unreachable, RpcError or UnknownOutcome.
    """
    held_by = graph.controller_at(bdev.drive)
    if held_by is None:
        raise Refusal(f"the drive at {bdev.drive} cannot be read: it has bdev {bdev.name} and no controller")
    controller = held_by.name
    nsid = int(bdev.name[len(controller) + 1 :])
    size = bdev.size or 0

    def read(offset: int, length: int) -> bytes:
        first = offset // bdev.block_size * bdev.block_size
        end = min(size, offset + length)
        pieces = [(at, min(_PIECE, size - at)) for at in range(first, end, _PIECE)]
        answers = client.read([_read_call(controller, nsid, bdev, at, length) for at, length in pieces])
        data = b"".join(_data(answer, bdev, length) for answer, (_at, length) in zip(answers, pieces))
        return data[offset - first : end - first]

    return [signature.name for signature in signatures(read, size)]


def read_superblocks(client: Client, bdevs: list, graph: Graph) -> dict:
    """Return by name the RAID superblock on each of ``bdevs`` that can be read so, None where there is none.

    One that cannot be read, not even the second time, has no entry. Nothing is read through a controller that is not
    connected: that ends the target (docs/spdk-facts.md).
    """
    calls = {}
    for bdev in bdevs:
        controller, _n, nsid = bdev.name.rpartition("n")
        holder = graph.controllers.get(controller)
        if holder and holder.state == "enabled" and nsid.isdigit() and bdev.size:
            calls[bdev.name] = _read_call(controller, int(nsid), bdev, 0, _SUPERBLOCK_BYTES)
    found_on: dict = {}
    for _attempt in range(_ATTEMPTS):
        missing = [name for name in calls if name not in found_on]
        for name, reply in zip(missing, client.ask([calls[name] for name in missing])):
            try:
                data = _data(reply.result, graph.bdevs[name], _SUPERBLOCK_BYTES) if reply.error is None else None
            except Refusal:
                data = None
            if data is not None:
                found_on[name] = _superblock(data)
    return found_on


def _superblock(data: bytes) -> Superblock | None:
    magic, *_versions, uuid, name, _size, block, level, _strip, _state, sequence = _SUPERBLOCK.unpack_from(data)
    if magic != b"SPDKRAID":
        return None
    _uuid, *extent = _MEMBER.unpack_from(data, _MEMBERS) if level == _MIRROR else (b"", 0, 0)
    offset, size = (blocks * block for blocks in extent)
    return Superblock(name.rstrip(b"\0").decode(errors="replace"), str(UUID(bytes=uuid)), sequence, offset, size)


def _read_call(controller: str, nsid: int, bdev: Bdev, offset: int, length: int) -> Call:
    blocks = length // bdev.block_size
    command = struct.pack("<B3xI32xQI12x", _READ, nsid, offset // bdev.block_size, blocks - 1)
    params = {
        "name": controller,
        "cmd_type": "io",
        "data_direction": "c2h",
        "cmdbuf": base64.urlsafe_b64encode(command).decode(),
        "data_len": length,
    }
    return Call("bdev_nvme_send_cmd", params, subject=f"the first and last bytes of bdev {bdev.name}")


def _data(answer: dict, bdev: Bdev, length: int) -> bytes:
    completion = _decode(answer["cpl"])
    status = struct.unpack_from("<H", completion, 14)[0] & _STATUS
    if status:
        raise Refusal(
            f"the drive at {bdev.drive} cannot be read (NVMe status {status >> 1:#x}): nobody knows what is on it"
        )
    data = _decode(answer["data"])
    if len(data) != length:
        raise Refusal(f"the drive at {bdev.drive} returned {len(data)} of {length} bytes")
    return data


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
