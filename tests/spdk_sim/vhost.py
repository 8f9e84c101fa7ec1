# SPDX-License-Identifier: GPL-3.0-or-later
"""vhost-blk and vhost-scsi controllers (contract section 9)."""

from __future__ import annotations

import errno
from typing import Any

from . import bdevs
from .decode import ARGUMENT, BOOL, I32, STR, U32, Params, optional, required
from .errors import INTERNAL_ERROR, INVALID_PARAMS, failure
from .qos import TICK_RATE
from .registry import Wait, bare_method, method

SOCKET_PATH = 107
"""Bytes of a Unix socket address that count; the rest is cut off silently."""
BLK_TRANSPORT = "vhost_user_blk"
SCSI_TARGETS = 8


class Controller(bdevs.Holder):
    """One controller. ``bdev`` of blk, ``targets`` (number to bdev) of scsi; ``sessions`` are connected clients.

    ``started`` are those of them whose virtual machine has set the device up.
    """

    def __init__(self, name: str, socket: str, cpumask: int) -> None:
        self.name = name
        self.socket = socket
        self.cpumask = cpumask
        self.delay_base_us = 0
        self.iops_threshold = 60000
        self.coalescing_set = False
        self.sessions: list[int] = []
        self.started: set[int] = set()
        self.next_session = 0

    def describe(self) -> dict[str, Any]:
        """The element of vhost_get_controllers."""
        return {
            "ctrlr": self.name,
            "cpumask": hex(self.cpumask),
            "delay_base_us": self.delay_base_us,
            "iops_threshold": self.iops_threshold,
            "socket": self.socket,
            "sessions": [
                {
                    "vid": number,
                    "id": number,
                    "name": f"{self.name}s{number}",
                    "started": number in self.started,
                    "max_queues": int(number in self.started),
                    "inflight_task_cnt": 0,
                }
                for number in self.sessions
            ],
            "backend_specific": self.backend(),
        }

    def backend(self) -> dict[str, Any]:
        """The backend_specific object."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of every bdev."""

    def config(self) -> list[dict[str, Any]]:
        """The framework_get_config entries."""
        if not self.coalescing_set:
            return []
        params = {"ctrlr": self.name, "delay_base_us": self.delay_base_us, "iops_threshold": self.iops_threshold}
        return [{"method": "vhost_controller_set_coalescing", "params": params}]

    def opens_channel(self, target: Any) -> bool:
        """A client that has only connected does no I/O."""
        return bool(self.started & set(self.sessions))


class BlkController(Controller):
    """A vhost-blk controller; it opens its bdev without claiming it (contract section 12, 13)."""

    kind = "blk"

    def __init__(self, name: str, socket: str, cpumask: int, bdev: bdevs.Bdev, readonly: bool) -> None:
        super().__init__(name, socket, cpumask)
        self.bdev: bdevs.Bdev | None = bdev
        self.readonly = readonly
        bdevs.hold(bdev, self)

    def backend(self) -> dict[str, Any]:
        bdev = self.bdev.name if self.bdev else None
        return {"block": {"readonly": self.readonly, "bdev": bdev, "transport": BLK_TRANSPORT}}

    def close(self) -> None:
        if self.bdev is not None:
            bdevs.release(self.bdev, self, claimed=False)

    def bdev_removed(self, target: Any, bdev: bdevs.Bdev) -> None:
        """The controller stays, without a bdev."""
        self.bdev = None

    def config(self) -> list[dict[str, Any]]:
        params = {"ctrlr": self.name, "dev_name": self.bdev.name if self.bdev else None}
        params |= {"cpumask": f"{self.cpumask:x}", "readonly": self.readonly, "transport": BLK_TRANSPORT}
        return [{"method": "vhost_create_blk_controller", "params": params}, *super().config()]


class ScsiController(Controller):
    """A vhost-scsi controller."""

    kind = "scsi"

    def __init__(self, name: str, socket: str, cpumask: int) -> None:
        super().__init__(name, socket, cpumask)
        self.targets: dict[int, bdevs.Bdev] = {}

    def backend(self) -> dict[str, Any]:
        return {
            "scsi": [
                {
                    "scsi_dev_num": number,
                    "id": 0,
                    "target_name": f"Target {number}",
                    "luns": [{"id": 0, "bdev_name": bdev.name}],
                }
                for number, bdev in sorted(self.targets.items())
            ]
        }

    def close(self) -> None:
        for bdev in self.targets.values():
            bdevs.release(bdev, self, claimed=False)

    def bdev_removed(self, target: Any, bdev: bdevs.Bdev) -> None:
        """The target number becomes free."""
        self.targets = {number: each for number, each in self.targets.items() if each is not bdev}

    def config(self) -> list[dict[str, Any]]:
        params = {"ctrlr": self.name, "cpumask": f"{self.cpumask:x}", "delay": True}
        out = [{"method": "vhost_create_scsi_controller", "params": params}]
        for number, bdev in sorted(self.targets.items()):
            params = {"ctrlr": self.name, "scsi_target_num": number, "bdev_name": bdev.name}
            out.append({"method": "vhost_scsi_controller_add_target", "params": params})
        out.append({"method": "vhost_start_scsi_controller", "params": {"ctrlr": self.name}})
        return out + super().config()


def setup(target: Any) -> None:
    """Add this family's state to a target."""
    target.vhost = {}


def connect(target: Any, name: str, started: bool = False) -> int:
    """A client connects to a controller's socket, and may set the device up; returns the session number."""
    controller = target.vhost[name]
    number = controller.next_session
    controller.next_session += 1
    controller.sessions.append(number)
    if started:
        controller.started.add(number)
    return number


def disconnect(target: Any, name: str, number: int | None = None) -> None:
    """A client goes away (all of them without a number)."""
    controller = target.vhost.get(name)
    if controller is not None:
        controller.sessions = [each for each in controller.sessions if number is not None and each != number]


def _cpumask(target: Any, text: str | None) -> int:
    if text is None:
        return target.cpumask
    try:
        mask = int(text, 16)
    except ValueError:
        raise failure(errno.EINVAL, INVALID_PARAMS) from None
    if not mask or mask & ~target.cpumask:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    return mask


def _socket(target: Any, name: str) -> str:
    """The path of a new controller's socket."""
    path = f"{target.vhost_dir}/{name}"
    if name in target.vhost:
        raise failure(errno.EEXIST, INVALID_PARAMS)
    found = target.files.info(path)
    taken = any(other.socket[:SOCKET_PATH] == path[:SOCKET_PATH] for other in target.vhost.values())
    if not name or taken or not target.files.directory_exists(name if "/" not in name else path):
        raise failure(errno.EIO, INVALID_PARAMS)
    if found is not None and found.kind != "socket":
        raise failure(errno.EIO, INVALID_PARAMS)
    return path


def _start(target: Any, controller: Controller) -> bool:
    target.vhost[controller.name] = controller
    target.files.make_socket(controller.socket)
    return True


CTRLR = {"ctrlr": required(STR)}


@method(
    "vhost_create_blk_controller",
    ARGUMENT,
    CTRLR
    | {
        "dev_name": required(STR),
        "readonly": optional(BOOL),
        "packed_ring": optional(BOOL),
        "packed_ring_recovery": optional(BOOL),
        "cpumask": optional(STR),
        "transport": optional(STR),
    },
    relaxed=True,
)
def create_blk_controller(target: Any, params: Params) -> bool:
    """Offer a bdev to a virtual machine."""
    if params.or_default("transport", BLK_TRANSPORT) != BLK_TRANSPORT:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    bdev = bdevs.find_by_name(target, params.dev_name)
    mask = _cpumask(target, params.cpumask)
    path = _socket(target, params.ctrlr)
    if bdev.claim is not None:
        raise failure(errno.EPERM, INVALID_PARAMS)
    return _start(target, BlkController(params.ctrlr, path, mask, bdev, bool(params.readonly)))


@method(
    "vhost_create_scsi_controller", ARGUMENT, CTRLR | {"cpumask": optional(STR), "delay": optional(BOOL)}, relaxed=True
)
def create_scsi_controller(target: Any, params: Params) -> bool:
    """Create a controller without targets."""
    mask = _cpumask(target, params.cpumask)
    return _start(target, ScsiController(params.ctrlr, _socket(target, params.ctrlr), mask))


def _scsi(target: Any, name: str) -> ScsiController:
    controller = target.vhost.get(name)
    if controller is None:
        raise failure(errno.ENODEV, INVALID_PARAMS)
    if not isinstance(controller, ScsiController):
        raise failure(errno.EINVAL, INVALID_PARAMS)
    return controller


@method(
    "vhost_scsi_controller_add_target",
    ARGUMENT,
    CTRLR | {"scsi_target_num": required(I32), "bdev_name": required(STR)},
)
def add_target(target: Any, params: Params) -> int:
    """Put a bdev behind a target number; -1 takes the first free one."""
    controller = _scsi(target, params.ctrlr)
    number = params.scsi_target_num
    if number < 0:
        number = next((n for n in range(SCSI_TARGETS) if n not in controller.targets), SCSI_TARGETS)
    if number >= SCSI_TARGETS:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    if number in controller.targets:
        raise failure(errno.EEXIST, INVALID_PARAMS)
    bdev = target.bdevs.find(params.bdev_name)
    if bdev is None or bdev.claim is not None:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    controller.targets[number] = bdev
    bdevs.hold(bdev, controller)
    return number


@method("vhost_scsi_controller_remove_target", ARGUMENT, CTRLR | {"scsi_target_num": required(U32)})
def remove_target(target: Any, params: Params) -> Any:
    """Take a target number away."""
    controller = _scsi(target, params.ctrlr)
    bdev = controller.targets.pop(params.scsi_target_num, None)
    if bdev is None:
        raise failure(errno.ENODEV, INVALID_PARAMS)
    bdevs.release(bdev, controller, claimed=False)
    return True


@method("vhost_start_scsi_controller", ARGUMENT, CTRLR)
def start_scsi_controller(target: Any, params: Params) -> bool:
    """Start a controller created with delay; one that runs stays as it is."""
    _scsi(target, params.ctrlr)
    return True


@method("vhost_get_controllers", ARGUMENT, {"name": optional(STR)})
def get_controllers(target: Any, params: Params) -> Any:
    """The controllers sorted by name, or one."""
    if params.name is None:
        return [controller.describe() for _name, controller in sorted(target.vhost.items())]
    controller = target.vhost.get(params.name)
    if controller is None:
        raise failure(errno.ENODEV, INTERNAL_ERROR)
    return [controller.describe()]


@method(
    "vhost_controller_set_coalescing",
    ARGUMENT,
    CTRLR | {"delay_base_us": required(U32), "iops_threshold": required(U32)},
)
def set_coalescing(target: Any, params: Params) -> bool:
    """Delay interrupts above a rate."""
    controller = target.vhost.get(params.ctrlr)
    if controller is None:
        raise failure(errno.ENODEV, INVALID_PARAMS)
    if params.iops_threshold == 0 or params.delay_base_us * TICK_RATE // 10**6 >= 2**32:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    controller.delay_base_us = params.delay_base_us
    controller.iops_threshold = params.iops_threshold
    controller.coalescing_set = True
    return True


@method("vhost_delete_controller", ARGUMENT, CTRLR)
def delete_controller(target: Any, params: Params) -> Any:
    """Remove a controller. Waits while a client is connected; before 24.09 that was refused instead."""
    controller = target.vhost.get(params.ctrlr)
    if controller is None:
        raise failure(errno.ENODEV, INVALID_PARAMS)
    if controller.sessions and target.release < (24, 9):
        raise failure(errno.EBUSY, INVALID_PARAMS)
    return _delete(target, controller)


def _delete(target: Any, controller: Controller) -> Any:
    while controller.sessions:
        yield Wait(ready=lambda: not controller.sessions)
    yield
    if target.vhost.get(controller.name) is controller:
        controller.close()
        del target.vhost[controller.name]
        target.files.remove_socket(controller.socket)
    return True


@bare_method("virtio_blk_get_transports", "Invalid parameters")
def get_blk_transports(target: Any) -> Any:
    """The one transport there is."""
    return [{"name": BLK_TRANSPORT}]


def config(target: Any, kind: str) -> list[dict[str, Any]]:
    """The framework_get_config entries of subsystem vhost_blk or vhost_scsi."""
    return [
        entry
        for _name, controller in sorted(target.vhost.items())
        if controller.kind == kind
        for entry in controller.config()
    ]
