# SPDX-License-Identifier: GPL-3.0-or-later
"""The block device layer and the malloc, aio and null devices (contract section 4)."""

from __future__ import annotations

import errno
from typing import Any

from .decode import BDEV, BOOL, I32, IOBUF, STR, U32, U64, UUID, Params, optional, required
from .disks import Medium
from .errors import INVALID_PARAMS, RpcFailure, failure
from .registry import Wait, bare_method, method

IO_TYPES = (
    "read write unmap flush reset nvme_admin nvme_io nvme_io_md write_zeroes zcopy get_zone_info zone_management "
    "zone_append compare compare_and_write abort seek_hole seek_data copy nvme_iov_md nvme_nssr write_uncorrectable"
).split()

EXCLUSIVE = "exclusive_write"
MANY_ONE = "read_many_write_one"
MANY_NONE = "read_many_write_none"
MAX_MALLOC = 2**48
EVENT_NAME = 128
"""Bytes of a name in a notification; a longer one runs on into the type of the next notification."""
RATES = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")


def io_types(*supported: str) -> dict[str, bool]:
    """The supported_io_types object with these set."""
    return {name: name in supported for name in IO_TYPES}


class Holder:
    """Somebody who has a bdev open. ``keeps``: does not let go when the device is to be removed."""

    keeps = False

    def bdev_removed(self, target: Any, bdev: Bdev) -> None:
        """The device went away."""
        raise NotImplementedError

    def bdev_resized(self, target: Any, bdev: Bdev) -> None:
        """The device has another size now."""

    def opens_channel(self, target: Any) -> bool:
        """Whether this holder does I/O."""
        raise NotImplementedError


class Bdev:
    """A registered block device. Subclasses name the product and add what is special to them.

    ``claim`` is None or the claim type; ``holders`` have it open (lvol store, namespace, RAID, vhost
    controller, clone).
    """

    product = ""
    module = ""
    io = io_types()

    def __init__(
        self,
        name: str,
        uuid: str,
        block_size: int,
        num_blocks: int,
        medium: Medium | None,
        aliases: list[str] | None = None,
    ) -> None:
        self.name = name
        self.uuid = uuid
        self.aliases = [uuid] if aliases is None else aliases
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.medium = medium
        self.numa_id: int | None = None
        self.claim: str | None = None
        self.holders: list[Holder] = []
        self.rates: dict[str, int] = {}
        self.rate_change_runs = False
        self.preferred = 0
        self.optimal_write_size = 0
        self.io_boundary = 0

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self.block_size * self.num_blocks

    def driver_specific(self, target: Any) -> dict[str, Any]:
        """The driver_specific object of bdev_get_bdevs."""
        return {}

    def metadata(self) -> dict[str, Any]:
        """The md_* members of bdev_get_bdevs, none by default."""
        return {}

    def separate_metadata(self) -> bool:
        """Whether metadata lies apart from the blocks."""
        return False

    def memory_domains(self) -> list[str]:
        """The DMA device types that are shown, none by default."""
        return []

    def inherited_domains(self) -> list[str]:
        """The DMA device types a RAID on top shows."""
        return self.memory_domains()

    def supported_io(self) -> dict[str, bool]:
        """The supported_io_types object."""
        return self.io

    def config(self) -> dict[str, Any] | None:
        """The framework_get_config entry that re-creates this bdev, None when its module writes it or nobody does."""
        return None

    def removed(self, target: Any) -> None:
        """Called after the bdev was unregistered."""

    def used(self) -> None:
        """Called when somebody opens it, which comes with some I/O."""

    def has_channel(self, target: Any) -> bool:
        """Whether somebody does I/O on it."""
        return any(holder.opens_channel(target) for holder in self.holders)

    def describe(self, target: Any) -> dict[str, Any]:
        """The element of bdev_get_bdevs."""
        out: dict[str, Any] = {
            "name": self.name,
            "aliases": self.aliases,
            "product_name": self.product,
            "block_size": self.block_size,
            "num_blocks": self.num_blocks,
            "preferred_write_alignment": self.preferred,
            "preferred_write_granularity": self.preferred,
            "optimal_write_size": self.optimal_write_size,
            "preferred_unmap_alignment": self.preferred,
            "preferred_unmap_granularity": self.preferred,
            "uuid": self.uuid,
        }
        if self.numa_id is not None:
            out["numa_id"] = self.numa_id
        out |= self.metadata()
        out["assigned_rate_limits"] = {rate: self.rates.get(rate, 0) for rate in RATES}
        out["claimed"] = self.claim is not None
        if self.claim is not None:
            out["claim_type"] = self.claim
        out["zoned"] = False
        out["supported_io_types"] = self.supported_io()
        domains = self.memory_domains()
        if domains:
            out["memory_domains"] = [{"dma_device_type": domain} for domain in domains]
        out["driver_specific"] = self.driver_specific(target)
        return out


class Bdevs:
    """All registered bdevs in order of registration, found by name or alias."""

    def __init__(self) -> None:
        self.by_name: dict[str, Bdev] = {}
        self.by_alias: dict[str, Bdev] = {}
        self.auto_examine = True
        self.examine_names: list[str] = []
        self.malloc_count = 0
        self.notifications: list[dict[str, Any]] = []

    def __iter__(self):
        return iter(self.by_name.values())

    def find(self, name: str) -> Bdev | None:
        """The bdev of that name or alias."""
        return self.by_name.get(name) or self.by_alias.get(name)

    def get(self, name: str) -> Bdev:
        """The bdev of that name or alias, or -19."""
        found = self.find(name)
        if found is None:
            raise failure(errno.ENODEV)
        return found

    def taken(self, name: str) -> bool:
        """Whether a bdev has this name or alias."""
        return name in self.by_name or name in self.by_alias

    def hide(self, bdev: Bdev) -> bool:
        """Find a bdev no more, though who has it open keeps it; false if it was not there."""
        if self.by_name.get(bdev.name) is not bdev:
            return False
        del self.by_name[bdev.name]
        for alias in bdev.aliases:
            self.by_alias.pop(alias, None)
        return True

    def notify(self, kind: str, name: str) -> None:
        """Record an event for notify_get_notifications."""
        self.notifications.append({"type": kind, "ctx": name[:EVENT_NAME], "id": len(self.notifications)})


def setup(target: Any) -> None:
    """Add this family's state to a target."""
    target.bdevs = Bdevs()


def register(target: Any, bdev: Bdev) -> None:
    """Make a bdev visible and examine it when that is switched on. -17 when a name is taken."""
    registry = target.bdevs
    if any(registry.taken(name) for name in (bdev.name, *bdev.aliases)):
        raise failure(errno.EEXIST)
    registry.by_name[bdev.name] = bdev
    for alias in bdev.aliases:
        registry.by_alias[alias] = bdev
    registry.notify("bdev_register", bdev.name)
    if registry.auto_examine or any(name in registry.examine_names for name in (bdev.name, *bdev.aliases)):
        examine(target, bdev)


def unregister(target: Any, bdev: Bdev) -> None:
    """Remove a bdev; everything on top of it is told (contract section 4: deleting never refuses)."""
    registry = target.bdevs
    if not registry.hide(bdev) and not bdev.holders:
        return
    for holder in list(bdev.holders):
        holder.bdev_removed(target, bdev)
    bdev.holders.clear()
    bdev.claim = None
    registry.notify("bdev_unregister", bdev.name)
    bdev.removed(target)


def replace_alias(target: Any, bdev: Bdev, old: str, new: str) -> None:
    """Rename an alias."""
    target.bdevs.by_alias.pop(old, None)
    bdev.aliases = [new if alias == old else alias for alias in bdev.aliases]
    target.bdevs.by_alias[new] = bdev


def resize(target: Any, bdev: Bdev, num_blocks: int) -> None:
    """Give a bdev another size and tell about it; -16 when it would shrink while somebody has it open."""
    if num_blocks == bdev.num_blocks:
        return
    if num_blocks < bdev.num_blocks and bdev.holders:
        raise failure(errno.EBUSY, INVALID_PARAMS)
    bdev.num_blocks = num_blocks
    target.bdevs.notify("bdev_resize", bdev.name)
    target.nvmf.version += 1
    for holder in list(bdev.holders):
        holder.bdev_resized(target, bdev)


def hold(bdev: Bdev, holder: Any, claim: str | None = None) -> None:
    """Open a bdev for ``holder``, claiming it with ``claim``."""
    bdev.holders.append(holder)
    bdev.used()
    if claim is not None:
        bdev.claim = claim


def release(bdev: Bdev, holder: Any, *, claimed: bool = True) -> None:
    """Close a bdev for ``holder`` and give its claim back."""
    if holder in bdev.holders:
        bdev.holders.remove(holder)
    if claimed and not (bdev.claim == MANY_NONE and bdev.holders):
        bdev.claim = None


def examine(target: Any, bdev: Bdev) -> None:
    """Look for what lives on a bdev: a RAID it belongs to, a RAID superblock, an lvol store."""
    from . import lvol, raid

    raid.examine(target, bdev)
    if bdev.claim is None:
        lvol.examine(target, bdev)


class MallocBdev(Bdev):
    """RAM disk."""

    product = "Malloc disk"
    module = "malloc"
    io = io_types("read", "write", "unmap", "flush", "reset", "write_zeroes", "zcopy", "compare", "abort", "copy")

    def __init__(self, name: str, uuid: str, params: Params, medium: Medium) -> None:
        extra = params.md_size if params.md_interleave and params.md_size else 0
        super().__init__(name, uuid, params.block_size + extra, params.num_blocks, medium)
        self.params = dict(params.values)
        self.numa_id = params.or_default("numa_id", -1)
        self.io_boundary = params.or_default("optimal_io_boundary", 0)

    def inherited_domains(self) -> list[str]:
        return ["DMA", "ACCEL"]

    def separate_metadata(self) -> bool:
        return bool(self.params.get("md_size")) and not self.params.get("md_interleave")

    def metadata(self) -> dict[str, Any]:
        size = self.params.get("md_size", 0)
        if not size:
            return {}
        kind = self.params.get("dif_type", 0)
        out = {"md_size": size, "md_interleave": self.params.get("md_interleave", False), "dif_type": kind}
        if kind:
            out["dif_is_head_of_md"] = self.params.get("dif_is_head_of_md", False)
            out["enabled_dif_check_types"] = {"reftag": kind != 3, "apptag": False, "guard": True}
            out["dif_pi_format"] = self.params.get("dif_pi_format", 0)
        return out

    def config_entry(self) -> dict[str, Any]:
        """The framework_get_config entry, written by the module before all others."""
        block_size = self.params["block_size"]
        return {
            "method": "bdev_malloc_create",
            "params": {
                "name": self.name,
                "num_blocks": self.num_blocks,
                "block_size": block_size,
                "physical_block_size": self.params.get("physical_block_size") or block_size,
                "uuid": self.uuid,
                "optimal_io_boundary": self.params.get("optimal_io_boundary", 0),
                "md_size": self.params.get("md_size", 0),
                "dif_type": self.params.get("dif_type", 0),
                "dif_is_head_of_md": self.params.get("dif_is_head_of_md", False),
                "dif_pi_format": self.params.get("dif_pi_format", 0),
                "numa_id": self.numa_id,
            },
        }

    def removed(self, target: Any) -> None:
        self.medium.erase()


class AioBdev(Bdev):
    """A file or kernel block device."""

    product = "AIO disk"
    module = "aio"
    io = io_types("read", "write", "flush", "reset", "write_zeroes")

    def __init__(self, name: str, uuid: str, block_size: int, size: int, params: Params, medium: Medium) -> None:
        super().__init__(name, uuid, block_size, size // block_size, medium)
        self.filename = params.filename
        self.override = bool(params.block_size)
        self.flags = {flag: bool(params.values.get(flag)) for flag in ("readonly", "fallocate", "nowait")}

    def driver_specific(self, target: Any) -> dict[str, Any]:
        return {"aio": {"filename": self.filename, "block_size_override": self.override} | self.flags}

    def supported_io(self) -> dict[str, bool]:
        return self.io | {"unmap": True} if self.flags["fallocate"] else self.io

    def config(self) -> dict[str, Any]:
        params = {"name": self.name, "block_size": self.block_size, "filename": self.filename}
        params |= {"readonly": self.flags["readonly"], "fallocate": self.flags["fallocate"]}
        params |= {"uuid": self.uuid, "nowait": self.flags["nowait"]}
        return {"method": "bdev_aio_create", "params": params}


class NullBdev(Bdev):
    """A device that forgets."""

    product = "Null disk"
    module = "null"
    io = io_types("read", "write", "reset", "write_zeroes", "abort")


@method("bdev_get_bdevs", BDEV, {"name": optional(STR), "timeout": optional(U64)})
def get_bdevs(target: Any, params: Params) -> Any:
    """All bdevs at once, or one by name; with a timeout (ms) it waits for the name to appear."""
    if params.name is None:
        return [bdev.describe(target) for bdev in target.bdevs]
    return _get_one(target, params.name, params.or_default("timeout", 0))


def _get_one(target: Any, name: str, timeout: int) -> Any:
    if target.bdevs.find(name) is None:
        if not timeout:
            raise failure(errno.ENODEV)
        yield Wait(target.now + timeout / 1000, lambda: target.bdevs.find(name) is not None)
        if target.bdevs.find(name) is None:
            raise failure(errno.ETIMEDOUT)
    else:
        yield
    return [target.bdevs.get(name).describe(target)]


@method(
    "bdev_malloc_create",
    BDEV,
    {
        "num_blocks": required(U64),
        "block_size": required(U32),
        "name": optional(STR),
        "uuid": optional(UUID),
        "physical_block_size": optional(U32),
        "optimal_io_boundary": optional(U32),
        "md_size": optional(U32),
        "md_interleave": optional(BOOL),
        "dif_type": optional(I32),
        "dif_is_head_of_md": optional(BOOL),
        "dif_pi_format": optional(U32, since=(24, 9)),
        "numa_id": optional(I32, since=(26, 1)),
    },
)
def malloc_create(target: Any, params: Params) -> str:
    """Create a RAM disk; without a name the next free MallocN."""
    if params.num_blocks == 0 or params.block_size % 512 or (params.physical_block_size or 0) % 512:
        raise failure(errno.EINVAL)
    if (params.md_size or 0) not in (0, 8, 16, 32, 64, 128):
        raise failure(errno.EINVAL)
    if params.block_size == 0 or params.num_blocks * params.block_size > MAX_MALLOC:
        raise failure(errno.ENOMEM)
    name = params.name
    if name is None:
        name = f"Malloc{target.bdevs.malloc_count}"
        target.bdevs.malloc_count += 1
    if not name:
        raise failure(errno.EINVAL)
    uuid = params.uuid or target.new_uuid()
    register(target, MallocBdev(name, uuid, params, Medium(target.disks, f"malloc:{name}")))
    return name


def _delete(module: str):
    def handler(target: Any, params: Params) -> Any:
        bdev = target.bdevs.find(params.name)
        if bdev is None or bdev.module != module:
            raise failure(errno.ENODEV)
        return finish(target, bdev)

    def finish(target: Any, bdev: Bdev) -> Any:
        if any(holder.keeps for holder in bdev.holders):
            yield Wait(ready=lambda: not any(holder.keeps for holder in bdev.holders))
        unregister(target, bdev)
        yield
        return True

    return handler


for _module in ("malloc", "aio", "null"):
    method(f"bdev_{_module}_delete", BDEV, {"name": required(STR)})(_delete(_module))


@method(
    "bdev_aio_create",
    BDEV,
    {
        "name": required(STR),
        "filename": required(STR),
        "block_size": optional(U32),
        "readonly": optional(BOOL),
        "fallocate": optional(BOOL),
        "uuid": optional(UUID, since=(24, 9)),
        "nowait": optional(BOOL, since=(26, 1)),
    },
)
def aio_create(target: Any, params: Params) -> Any:
    """Open a file as a bdev; answers after examine."""
    info = target.files.info(params.filename)
    if info is None:
        raise failure(errno.ENOENT)
    if info.kind == "directory":
        raise failure(errno.EISDIR)
    block_size = params.block_size or (512 if info.kind == "block" else 0)
    if block_size < 512 or block_size & (block_size - 1) or info.size % block_size or not info.size:
        raise failure(errno.EINVAL)
    uuid = params.uuid or target.new_uuid()
    medium = Medium(target.disks, f"aio:{params.filename}")
    register(target, AioBdev(params.name, uuid, block_size, info.size, params, medium))
    yield
    return params.name


@method("bdev_aio_rescan", BDEV, {"name": required(STR)})
def aio_rescan(target: Any, params: Params) -> bool:
    """Take over the file's present size."""
    bdev = target.bdevs.find(params.name)
    if not isinstance(bdev, AioBdev):
        raise failure(errno.ENODEV)
    info = target.files.info(bdev.filename)
    if info is None:
        raise failure(errno.ENOENT)
    resize(target, bdev, info.size // bdev.block_size)
    return True


@method(
    "bdev_null_create",
    BDEV,
    {
        "name": required(STR),
        "num_blocks": required(U64),
        "block_size": required(U32),
        "uuid": optional(UUID),
        "physical_block_size": optional(U32),
        "md_size": optional(U32),
        "dif_type": optional(I32),
        "dif_is_head_of_md": optional(BOOL),
        "dif_pi_format": optional(U32, since=(24, 9)),
    },
)
def null_create(target: Any, params: Params) -> str:
    """Create a null disk."""
    if params.block_size == 0 or params.block_size % 512 or params.num_blocks == 0:
        raise failure(errno.EINVAL)
    bdev = NullBdev(params.name, params.uuid or target.new_uuid(), params.block_size, params.num_blocks, None)
    register(target, bdev)
    return params.name


@method("bdev_examine", IOBUF, {"name": required(STR)})
def examine_one(target: Any, params: Params) -> Any:
    """Examine one bdev by name, now or when it appears; only with auto-examine off."""
    if target.bdevs.auto_examine:
        raise failure(errno.EINVAL)
    if params.name in target.bdevs.examine_names:
        raise failure(errno.EEXIST)
    target.bdevs.examine_names.append(params.name)
    bdev = target.bdevs.find(params.name)
    if bdev is not None and bdev.claim is None:
        examine(target, bdev)
    return True


@bare_method("bdev_wait_for_examine", "bdev_wait_for_examine requires no parameters")
def wait_for_examine(target: Any) -> Any:
    """Answers when nothing is being examined any more."""
    yield
    return True


def config(target: Any) -> list[dict[str, Any]]:
    """framework_get_config entries of single bdevs, in their order."""
    out = []
    for bdev in target.bdevs:
        entry = bdev.config()
        if entry:
            out.append(entry)
        rates = {rate: bdev.rates[rate] for rate in RATES if bdev.rates.get(rate)}
        if rates:
            out.append({"method": "bdev_set_qos_limit", "params": {"name": bdev.name} | rates})
    return out


def find_by_name(target: Any, name: str) -> Bdev:
    """The bdev, or -32602 "No such device" as vhost answers it."""
    bdev = target.bdevs.find(name)
    if bdev is None:
        raise RpcFailure(INVALID_PARAMS, "No such device")
    return bdev
