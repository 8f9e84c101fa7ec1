# SPDX-License-Identifier: GPL-3.0-or-later
"""RAID bdevs and their superblocks (contract section 8)."""

from __future__ import annotations

import errno
from typing import Any

from . import bdevs
from .bdevs import Bdev
from .decode import BDEV, BOOL, RAID, STR, U32, UUID, Params, array, one_of, optional, required
from .disks import Medium
from .errors import STRERROR, RpcFailure, failure
from .registry import BOTH, method

NO_UUID = "00000000-0000-0000-0000-000000000000"
SUPERBLOCK_BYTES = 2**20
MAX_NAME = 63
LEVELS = {"raid0": "raid0", "0": "raid0", "raid1": "raid1", "1": "raid1", "raid5f": "raid5f", "5f": "raid5f"}
LEVELS |= {"concat": "concat"}
MINIMUM = {"raid0": 1, "concat": 1, "raid1": 2, "raid5f": 3}
OPTIONS_SINCE = {"process_max_bandwidth_mb_sec": (24, 9)}
OPTIONS = {"process_window_size_kb": 1024, "process_max_bandwidth_mb_sec": 0}


class Superblock:
    """One member's copy. ``slots``: [uuid of the member, whether it is in use]; a higher ``sequence`` is newer."""

    kind = "raid"
    FIELDS = ("uuid", "name", "level", "strip_size_kb", "block_size", "num_blocks", "sequence", "slots")

    def __init__(self, **values: Any) -> None:
        for field in self.FIELDS:
            setattr(self, field, values[field])

    def header(self) -> dict[str, Any]:
        """What is on disk."""
        return {"kind": self.kind} | {field: getattr(self, field) for field in self.FIELDS}

    def parts(self) -> list[str]:
        """A superblock is written as a whole."""
        return []

    @classmethod
    def from_records(cls, header: dict[str, Any], parts: list[dict[str, Any]]) -> Superblock:
        """The superblock a journal record describes."""
        del parts
        return cls(**{field: header[field] for field in cls.FIELDS})


class Slot:
    """A member's place. ``name`` None: empty; ``bdev`` None: not there (yet)."""

    def __init__(self, name: str | None, uuid: str = NO_UUID) -> None:
        self.name = name
        self.uuid = uuid
        self.bdev: Bdev | None = None
        self.data_offset = 0
        self.data_size = 0

    def describe(self) -> dict[str, Any]:
        """The element of base_bdevs_list."""
        return {
            "name": self.name,
            "uuid": self.uuid,
            "is_configured": self.bdev is not None,
            "data_offset": self.data_offset,
            "data_size": self.data_size,
        }


class Raid(bdevs.Holder):
    """One RAID: "configuring" until every member is there, then "online", "offline" without redundancy left."""

    def __init__(self, name: str, level: str, strip_size_kb: int, slots: list[Slot], superblock: bool) -> None:
        self.name = name
        self.level = level
        self.strip_size_kb = strip_size_kb
        self.slots = slots
        self.superblock = superblock
        self.uuid = NO_UUID
        self.state = "configuring"
        self.operational = len(slots)
        self.block_size = 0
        self.num_blocks = 0
        self.sequence = 0
        self.on_disk: list[list[Any]] = []
        self.rebuild: dict[str, Any] | None = None

    @property
    def present(self) -> list[Slot]:
        """The slots with a member."""
        return [slot for slot in self.slots if slot.bdev is not None]

    @property
    def healthy(self) -> list[Slot]:
        """The members that hold all data (not the target of a rebuild)."""
        target = self.rebuild["slot"] if self.rebuild else None
        return [slot for slot in self.present if slot is not target]

    @property
    def least(self) -> int:
        """How many members it needs to stay online."""
        return {"raid1": 1, "raid5f": len(self.slots) - 1}.get(self.level, len(self.slots))

    def slot_of(self, bdev: Bdev) -> Slot | None:
        """The slot of a member."""
        return next((slot for slot in self.slots if slot.bdev is bdev), None)

    def describe(self, target: Any) -> dict[str, Any]:
        """The element of bdev_raid_get_bdevs."""
        out: dict[str, Any] = {
            "name": self.name,
            "uuid": self.uuid,
            "strip_size_kb": self.strip_size_kb,
            "state": self.state,
            "raid_level": self.level,
            "superblock": self.superblock,
            "num_base_bdevs": len(self.slots),
            "num_base_bdevs_discovered": len(self.present),
            "num_base_bdevs_operational": self.operational,
        }
        if self.rebuild is not None:
            out["process"] = {
                "type": "rebuild",
                "target": self.rebuild["slot"].name,
                "progress": self._progress(target.now),
            }
        out["base_bdevs_list"] = [slot.describe() for slot in self.slots]
        return out

    def _progress(self, now: float) -> dict[str, int]:
        began, ends = self.rebuild["began"], self.rebuild["ends"]
        blocks = self.rebuild["slot"].data_size
        done = int(blocks * (now - began) / (ends - began)) if ends > began else blocks
        return {"blocks": done, "percent": done * 100 // blocks if blocks else 100}

    def bdev_removed(self, target: Any, bdev: Bdev) -> None:
        """A member's device went away."""
        remove_member(target, self, self.slot_of(bdev))

    def bdev_resized(self, target: Any, bdev: Bdev) -> None:
        """A raid1 follows its smallest member."""
        own = target.bdevs.by_name.get(self.name)
        if self.state != "online" or self.level != "raid1" or own is None:
            return
        size = min(slot.bdev.num_blocks - slot.data_offset for slot in self.present)
        if size == self.num_blocks:
            return
        bdevs.resize(target, own, size)
        self.num_blocks = size
        for slot in self.slots:
            slot.data_size = size
        if self.superblock:
            _write_superblocks(self)

    def opens_channel(self, target: Any) -> bool:
        """Members are in use while the RAID itself is, or while it is rebuilt."""
        own = target.bdevs.by_name.get(self.name)
        return self.rebuild is not None or (own is not None and own.has_channel(target))


class RaidBdev(Bdev):
    """The bdev of an online RAID."""

    product = "Raid Volume"
    module = "raid"

    def __init__(self, raid: Raid, medium: Medium) -> None:
        super().__init__(raid.name, raid.uuid, raid.block_size, raid.num_blocks, medium)
        self.raid = raid

    def supported_io(self) -> dict[str, bool]:
        known = {"read", "write", "reset", "write_zeroes"}
        if self.raid.level != "raid5f":
            for name in ("flush", "unmap"):
                if all(slot.bdev.supported_io()[name] for slot in self.raid.present):
                    known.add(name)
        return bdevs.io_types(*known)

    def memory_domains(self) -> list[str]:
        if self.raid.level == "raid5f":
            return []
        return [domain for slot in self.raid.present for domain in slot.bdev.inherited_domains()]

    def driver_specific(self, target: Any) -> dict[str, Any]:
        described = self.raid.describe(target)
        del described["name"]
        return {"raid": described}

    def config(self) -> dict[str, Any] | None:
        raid = self.raid
        if raid.superblock:
            return None
        params: dict[str, Any] = {"name": raid.name, "uuid": raid.uuid}
        if raid.strip_size_kb:
            params["strip_size_kb"] = raid.strip_size_kb
        names = [slot.name or f"removed_base_bdev_{number}" for number, slot in enumerate(raid.slots)]
        params |= {"raid_level": raid.level, "base_bdevs": names}
        return {"method": "bdev_raid_create", "params": params}


def setup(target: Any) -> None:
    """Add this family's state to a target."""
    target.raids = {}
    target.raid_options = dict(OPTIONS)


def next_event(target: Any) -> float | None:
    """When the next rebuild ends."""
    return min((raid.rebuild["ends"] for raid in target.raids.values() if raid.rebuild), default=None)


def refresh(target: Any) -> None:
    """End the rebuilds whose time has come."""
    for raid in target.raids.values():
        if raid.rebuild is not None and target.now >= raid.rebuild["ends"]:
            slot = raid.rebuild["slot"]
            raid.rebuild = None
            if raid.superblock:
                raid.on_disk[raid.slots.index(slot)] = [slot.uuid, True]
                _write_superblocks(raid)


def _write_superblocks(raid: Raid) -> None:
    raid.sequence += 1
    for slot in raid.healthy:
        content = Superblock(
            uuid=raid.uuid,
            name=raid.name,
            level=raid.level,
            strip_size_kb=raid.strip_size_kb,
            block_size=raid.block_size,
            num_blocks=raid.num_blocks,
            sequence=raid.sequence,
            slots=[list(each) for each in raid.on_disk],
        )
        if slot.bdev.medium:
            slot.bdev.medium.write(content)


def data_offset(raid: Raid, bdev: Bdev) -> int:
    """Blocks before the data: room for the superblock, up to the member's I/O boundary (an lvol's cluster)."""
    if not raid.superblock:
        return 0
    room = SUPERBLOCK_BYTES // bdev.block_size
    boundary = bdev.io_boundary or 1
    return -(-room // boundary) * boundary


def _configure(raid: Raid, slot: Slot, bdev: Bdev) -> None:
    """Put a bdev into a slot."""
    slot.name, slot.uuid, slot.bdev = slot.name or bdev.name, bdev.uuid, bdev
    slot.data_offset = data_offset(raid, bdev)
    slot.data_size = bdev.num_blocks - slot.data_offset
    raid.block_size = bdev.block_size
    bdevs.hold(bdev, raid, bdevs.EXCLUSIVE)


def _size(raid: Raid) -> int:
    """Blocks of the whole RAID; sets the data size of the slots."""
    strip = max(1, raid.strip_size_kb * 1024 // raid.block_size)
    least = min(slot.data_size for slot in raid.present) // strip * strip
    if raid.level == "concat":
        for slot in raid.present:
            slot.data_size = slot.data_size // strip * strip
        return sum(slot.data_size for slot in raid.slots)
    for slot in raid.slots:
        slot.data_size = least
    return least * {"raid1": 1, "raid5f": len(raid.slots) - 1}.get(raid.level, len(raid.slots))


def _go_online(target: Any, raid: Raid) -> None:
    if raid.uuid == NO_UUID:
        raid.uuid = target.new_uuid()
    raid.num_blocks = raid.num_blocks or _size(raid)
    first = raid.present[0].bdev
    if raid.superblock:
        medium = Medium(first.medium.disks, f"raid:{raid.uuid}")
        if not raid.on_disk:
            raid.on_disk = [[slot.uuid, True] for slot in raid.slots]
            _write_superblocks(raid)
    elif raid.level == "raid1" and first.medium is not None:
        medium = first.medium
    else:
        medium = Medium(target.disks, f"raid:{raid.uuid}")
    raid.state = "online"
    bdevs.register(target, RaidBdev(raid, medium))


def _check_online(target: Any, raid: Raid) -> None:
    if raid.state != "configuring" or target.bdevs.taken(raid.name):
        return
    if raid.present and len(raid.present) == raid.operational:
        _go_online(target, raid)


def remove_member(target: Any, raid: Raid, slot: Slot) -> None:
    """Take a member out of its slot, with what that means for the RAID."""
    bdevs.release(slot.bdev, raid)
    rebuilt = raid.rebuild is not None and raid.rebuild["slot"] is slot
    slot.bdev, slot.name = None, None
    if raid.state == "configuring":
        return
    if rebuilt:
        raid.rebuild = None
    slot.uuid, slot.data_offset = NO_UUID, 0
    raid.operational = len(raid.present)
    if raid.superblock and not rebuilt:
        raid.on_disk[raid.slots.index(slot)][1] = False
        _write_superblocks(raid)
    if raid.state == "online" and len(raid.healthy) < raid.least:
        raid.state = "offline"
        if raid.rebuild is not None:
            target_slot = raid.rebuild["slot"]
            raid.rebuild = None
            remove_member(target, raid, target_slot)
        own = target.bdevs.by_name.get(raid.name)
        if own is not None:
            bdevs.unregister(target, own)
    if not raid.present:
        target.raids.pop(raid.name, None)


def _start_rebuild(target: Any, raid: Raid, slot: Slot, bdev: Bdev) -> None:
    size = slot.data_size
    _configure(raid, slot, bdev)
    slot.data_size = size
    raid.operational = len(raid.present)
    rate = target.raid_options["process_max_bandwidth_mb_sec"] * 2**20
    seconds = size * raid.block_size / rate if rate else 0.0
    raid.rebuild = {"slot": slot, "began": target.now, "ends": target.now + seconds}


def examine(target: Any, bdev: Bdev) -> None:
    """A bdev appeared: it may be a member that a RAID waits for, or carry a superblock."""
    found = bdev.medium.read() if bdev.medium else None
    if isinstance(found, Superblock):
        _examine_superblock(target, bdev, found)
        return
    for raid in list(target.raids.values()):
        for slot in raid.slots:
            if raid.state == "configuring" and slot.bdev is None and slot.name in (bdev.name, *bdev.aliases):
                _configure(raid, slot, bdev)
                _check_online(target, raid)
                return


def _examine_superblock(target: Any, bdev: Bdev, found: Superblock) -> None:
    raid = next((raid for raid in target.raids.values() if raid.uuid == found.uuid), None)
    if raid is not None and raid.state == "configuring" and found.sequence > raid.sequence:
        _forget(target, raid)
        raid = None
    if raid is None:
        if found.name in target.raids or [bdev.uuid, True] not in found.slots:
            return
        raid = _from_superblock(found, bdev.block_size)
        target.raids[raid.name] = raid
        for other in list(target.bdevs):
            content = other.medium.read() if other.medium and other.claim is None else None
            if isinstance(content, Superblock) and content.uuid == raid.uuid:
                _join(target, raid, other)
        return
    _join(target, raid, bdev)


def _from_superblock(found: Superblock, block_size: int) -> Raid:
    slots = []
    for uuid, used in found.slots:
        slot = Slot(None, uuid if used else NO_UUID)
        slot.data_offset = SUPERBLOCK_BYTES // block_size
        slots.append(slot)
    raid = Raid(found.name, found.level, found.strip_size_kb, slots, True)
    raid.uuid, raid.num_blocks, raid.sequence = found.uuid, found.num_blocks, found.sequence
    raid.on_disk = [list(each) for each in found.slots]
    raid.operational = sum(used for _uuid, used in found.slots)
    raid.block_size = block_size
    for slot in slots:
        slot.data_size = found.num_blocks // {"raid1": 1, "raid5f": len(slots) - 1}.get(found.level, len(slots))
    return raid


def _join(target: Any, raid: Raid, bdev: Bdev) -> None:
    """A bdev with the superblock of ``raid``: take its place, or be rebuilt."""
    for slot, (uuid, used) in zip(raid.slots, raid.on_disk, strict=True):
        if uuid != bdev.uuid or slot.bdev is not None or bdev.claim is not None:
            continue
        if raid.state == "configuring" and used:
            size = slot.data_size
            _configure(raid, slot, bdev)
            slot.data_size = size
            _check_online(target, raid)
        elif raid.state == "online" and raid.rebuild is None:
            _start_rebuild(target, raid, slot, bdev)
        return


def _forget(target: Any, raid: Raid) -> None:
    for slot in raid.present:
        bdevs.release(slot.bdev, raid)
    del target.raids[raid.name]


def _refuse(number: int, text: str) -> RpcFailure:
    return RpcFailure(-number, f"{text}: {STRERROR[number]}")


@method(
    "bdev_raid_create",
    RAID,
    {
        "name": required(STR),
        "raid_level": required(one_of(*LEVELS)),
        "base_bdevs": required(array(STR, 255)),
        "strip_size_kb": optional(U32),
        "uuid": optional(UUID),
        "superblock": optional(BOOL),
    },
)
def create(target: Any, params: Params) -> Any:
    """Create a RAID; members that do not exist are waited for."""
    failed = f"Failed to create RAID bdev {params.name}"
    level, names = LEVELS[params.raid_level], params.base_bdevs
    if "" in names:
        raise _refuse(errno.EINVAL, "The base bdev name cannot be empty")
    members = [target.bdevs.find(name) for name in names]
    if params.name in target.raids or (None not in members and target.bdevs.taken(params.name)):
        raise _refuse(errno.EEXIST, failed)
    strip = params.strip_size_kb or 0
    strip_fits = strip == 0 if level == "raid1" else strip > 0 and strip & (strip - 1) == 0
    if not 1 <= len(params.name) <= MAX_NAME or len(names) < MINIMUM[level] or not strip_fits:
        raise _refuse(errno.EINVAL, failed)
    present = [member for member in members if member is not None]
    if any(member.claim is not None for member in present) or len({id(each) for each in present}) < len(present):
        raise _refuse(errno.EPERM, failed)
    if len({member.block_size for member in present}) > 1:
        raise _refuse(errno.EINVAL, failed)
    for member in present:
        found = member.medium.read() if member.medium else None
        if isinstance(found, Superblock):
            raise _refuse(errno.EINVAL if found.uuid == params.uuid else errno.EEXIST, failed)
    raid = Raid(params.name, level, strip, [Slot(name) for name in names], bool(params.superblock))
    raid.uuid = params.uuid or (target.new_uuid() if raid.superblock else NO_UUID)
    for slot, member in zip(raid.slots, members, strict=True):
        if member is not None:
            _configure(raid, slot, member)
    target.raids[raid.name] = raid
    yield
    _check_online(target, raid)
    return True


def _find(target: Any, name: str, text: str) -> Raid:
    raid = target.raids.get(name)
    if raid is None:
        raise RpcFailure(-errno.ENODEV, f"raid bdev {name} {text}")
    return raid


@method("bdev_raid_delete", RAID, {"name": required(STR), "clear_sb": optional(BOOL, since=(26, 5))})
def delete(target: Any, params: Params) -> Any:
    """Delete a RAID in any state; superblocks stay on the members unless ``clear_sb``."""
    raid = _find(target, params.name, "not found")
    own = target.bdevs.by_name.get(raid.name)
    if raid.state == "online" and own is not None:
        bdevs.unregister(target, own)
    while any(target.bdevs.find(slot.name) is None for slot in raid.present):  # its controller is being given up
        raid.state = "offline"
        yield
    if params.clear_sb and raid.superblock:
        target.disks.erase(f"raid:{raid.uuid}")
        for slot in raid.present:
            if slot.bdev.medium:
                slot.bdev.medium.erase()
    _forget(target, raid)
    yield
    return True


@method("bdev_raid_get_bdevs", RAID, {"category": required(one_of("all", "online", "configuring", "offline"))})
def get_bdevs(target: Any, params: Params) -> Any:
    """The RAIDs in one state, or all."""
    return [raid.describe(target) for raid in target.raids.values() if params.category in ("all", raid.state)]


@method("bdev_raid_add_base_bdev", BDEV, {"raid_bdev": required(STR), "base_bdev": required(STR)})
def add_base_bdev(target: Any, params: Params) -> Any:
    """Put a bdev into an empty slot; answers when the rebuild has started."""
    raid = _find(target, params.raid_bdev, "is not found in config")
    failed = f"Failed to add base bdev {params.base_bdev} to RAID bdev {raid.name}"
    if raid.rebuild is not None:
        raise _refuse(errno.EPERM, failed)
    bdev = target.bdevs.find(params.base_bdev)
    eligible = (NO_UUID, bdev.uuid if bdev else NO_UUID)
    slot = next((slot for slot in raid.slots if slot.name is None and slot.uuid in eligible), None)
    if slot is None or raid.state == "offline":
        raise _refuse(errno.EINVAL, failed)
    if bdev is None:
        raise _refuse(errno.ENODEV, failed)
    offset = data_offset(raid, bdev)
    if raid.block_size not in (0, bdev.block_size) or bdev.num_blocks - offset < slot.data_size:
        raise _refuse(errno.EINVAL, failed)
    if bdev.claim is not None:
        raise _refuse(errno.EPERM, failed)
    found = bdev.medium.read() if bdev.medium else None
    if isinstance(found, Superblock) and found.uuid != raid.uuid:
        raise _refuse(errno.EEXIST, "Failed to add base bdev to RAID bdev")
    if raid.state == "configuring":
        _configure(raid, slot, bdev)
        _check_online(target, raid)
    else:
        _start_rebuild(target, raid, slot, bdev)
    yield
    return True


@method("bdev_raid_remove_base_bdev", RAID, {"name": required(STR)})
def remove_base_bdev(target: Any, params: Params) -> Any:
    """Take a member out of whatever RAID it is in; without its last member a raid1 disappears."""
    bdev = target.bdevs.find(params.name)
    raid = next((raid for raid in target.raids.values() if bdev and raid.slot_of(bdev)), None)
    if raid is None:
        raise RpcFailure(-errno.ENODEV, "Failed to remove base bdev from raid bdev")
    remove_member(target, raid, raid.slot_of(bdev))
    yield
    return True


def options(target: Any) -> dict[str, int]:
    """The options this release knows."""
    known = target.raid_options.items()
    return {name: value for name, value in known if target.release >= OPTIONS_SINCE.get(name, (0, 0))}


@method("bdev_raid_set_options", RAID, {name: optional(U32, OPTIONS_SINCE.get(name)) for name in OPTIONS}, states=BOTH)
def set_options(target: Any, params: Params) -> bool:
    """Pace of later rebuilds."""
    wanted = target.raid_options | params.values
    if not wanted["process_window_size_kb"]:
        raise failure(errno.EINVAL)
    target.raid_options = wanted
    return True
