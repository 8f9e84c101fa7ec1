# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw commands to a controller: reads and writes.

Held to the real program in docs/spdk-facts.md.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

from . import data
from .decode import BDEV, STR, U32, Params, one_of, optional, required
from .errors import INVALID_PARAMS, RpcFailure, TargetCrash
from .registry import method

WRITE, READ, WRITE_ZEROES = 0x01, 0x02, 0x08
INTERNAL_ERROR, INVALID_FIELD = 0x0006, 0x0002
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
    """An NVM read or write; anything else is refused, but for the Write Zeroes that ends the target."""
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
    if params.cmd_type != "io" or bdev is None:
        return {"cpl": _completion(INVALID_FIELD)}
    offset, length = first * bdev.block_size, (blocks + 1) * bdev.block_size
    if (params.data_direction, opcode) == ("c2h", READ):
        return _read(bdev, offset, length, params.data_len or 0)
    if (params.data_direction, opcode) == ("h2c", WRITE):
        return _write(bdev, offset, length, base64.urlsafe_b64decode(params.data or ""))
    return {"cpl": _completion(INVALID_FIELD)}


def _read(bdev: Any, offset: int, length: int, wanted: int) -> Any:
    yield
    if length != wanted:
        return {"cpl": _completion(INVALID_FIELD)}
    try:
        found = data.read(bdev, offset, length)
    except data.IoFailed:
        return {"cpl": _completion(INTERNAL_ERROR)}
    return {"cpl": _completion(0), "data": base64.urlsafe_b64encode(found).decode()}


def _write(bdev: Any, offset: int, length: int, given: bytes) -> Any:
    yield
    if length != len(given):
        return {"cpl": _completion(INVALID_FIELD)}
    try:
        data.write(bdev, offset, given)
    except data.IoFailed:
        return {"cpl": _completion(INTERNAL_ERROR)}
    return {"cpl": _completion(0)}


def _completion(status: int) -> str:
    return base64.urlsafe_b64encode(struct.pack("<14xH", status << 1)).decode()
