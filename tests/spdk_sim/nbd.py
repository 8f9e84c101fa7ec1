# SPDX-License-Identifier: GPL-3.0-or-later
"""NBD on a machine without the kernel module: nothing ever starts (contract section 10)."""

from __future__ import annotations

import errno
from typing import Any

from .decode import BDEV, STR, Params, optional, required
from .errors import RpcFailure, failure
from .registry import method


def setup(target: Any) -> None:
    """This family has no state."""


@method("nbd_start_disk", BDEV, {"bdev_name": required(STR), "nbd_device": optional(STR)})
def start_disk(target: Any, params: Params) -> Any:
    """Refused for the reason that applies."""
    target.bdevs.get(params.bdev_name)
    if params.nbd_device is None:
        raise RpcFailure(-errno.ENODEV, "nbd device not found")
    if not params.nbd_device.startswith("/dev/nbd"):
        raise RpcFailure(-errno.ENODEV, f"illegal nbd device {params.nbd_device}")
    raise failure(errno.ENOENT)


@method("nbd_stop_disk", BDEV, {"nbd_device": required(STR)})
def stop_disk(target: Any, params: Params) -> Any:
    """There is none to stop."""
    raise failure(errno.ENODEV)


@method("nbd_get_disks", BDEV, {"nbd_device": optional(STR)})
def get_disks(target: Any, params: Params) -> Any:
    """Always empty."""
    if params.nbd_device is not None:
        raise failure(errno.ENODEV)
    return []
