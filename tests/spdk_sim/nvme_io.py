# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw commands to a controller: reads only, of the little that is known to be on a disk.

Held to the real program in docs/spdk-facts.md.
"""

from __future__ import annotations

import base64
import struct
from typing import Any
from uuid import UUID

from .decode import BDEV, STR, U32, Params, one_of, optional, required
from .disks import Foreign
from .errors import INVALID_PARAMS, RpcFailure, TargetCrash
from .lvol import Lvstore
from .raid import Superblock
from .registry import method

READ, WRITE_ZEROES = 0x02, 0x08
INVALID_FIELD = 0x0002
SUPERBLOCK = struct.Struct("<8s2H3I16s64sQ4IQ")
"""As far as its sequence number."""
COMMAND = struct.Struct("<B3xI32xQI12x")


def setup(target: Any) -> None:
    """This family has no state of its own."""


@method(
    "bdev_nvme_send_cmd",
    BDEV,
    {
        "name": required(STR),
        "cmd_type": required(one_of("admin", "io")),
        "data_direction": required(one_of("h2c", "c2h")),
        "cmdbuf": required(STR),
        "data": optional(STR),
        "metadata": optional(STR),
        "data_len": optional(U32),
        "metadata_len": optional(U32),
        "timeout_ms": optional(U32),
    },
)
def send(target: Any, params: Params) -> Any:
    """An NVM read; anything else is refused, but for the Write Zeroes that ends the target."""
    controller = target.nvme_controllers.get(params.name)
    command = base64.urlsafe_b64decode(params.cmdbuf)
    if controller is None or len(command) != COMMAND.size:
        raise RpcFailure(INVALID_PARAMS, "Invalid argument")
    opcode, nsid, first, blocks = COMMAND.unpack(command)
    if opcode == WRITE_ZEROES and params.data is None and params.data_len is None:
        raise TargetCrash("send_cmd", "SIGSEGV", "Write Zeroes without a buffer")
    if controller.paths and controller.paths[0].state == "reconnect_is_delayed":
        raise TargetCrash("send_cmd", "SIGSEGV", "a command to a controller that is not connected")
    bdev = controller.bdevs.get(nsid)
    if (params.cmd_type, params.data_direction, opcode) != ("io", "c2h", READ) or bdev is None:
        return {"cpl": _completion(INVALID_FIELD)}
    return _answer(bdev, first * bdev.block_size, (blocks + 1) * bdev.block_size, params.data_len or 0)


def _answer(bdev: Any, offset: int, length: int, wanted: int) -> Any:
    yield
    if length != wanted:
        return {"cpl": _completion(INVALID_FIELD)}
    head = _head(bdev.medium.read())
    data = head[offset : offset + length].ljust(length, b"\0")
    return {"cpl": _completion(0), "data": base64.urlsafe_b64encode(data).decode()}


def _head(content: Any) -> bytes:
    if isinstance(content, Foreign):
        return content.data
    if isinstance(content, Superblock):
        own, name = UUID(content.uuid).bytes, content.name.encode()
        return SUPERBLOCK.pack(b"SPDKRAID", 1, 0, 0, 0, 0, own, name, 0, 0, 0, 0, 0, content.sequence)
    return b"SPDKBLOB" if isinstance(content, Lvstore) else b""


def _completion(status: int) -> str:
    return base64.urlsafe_b64encode(struct.pack("<14xH", status << 1)).decode()
