# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the first and the last sectors of a block device say is on it. Private to the collection.

A table of magic bytes at fixed places, so that nothing depends on a blkid, its version or its cache.
"""

from __future__ import annotations

import struct
import uuid
from typing import Callable, NamedTuple

KIB = 1024
HEAD = 1024 * KIB
TAIL = 1024 * KIB

SPDK_BLOBSTORE = "an SPDK blobstore (lvstore)"
_SPDK_PARTITIONS = {  # contract section 15: partitions of these types are SPDK's own
    uuid.UUID("6527994e-2c5a-4eec-9613-8f5944074e8b"),
    uuid.UUID("7c5222bd-8f5d-4087-9c00-bf9843c7b58c"),
}


class Signature(NamedTuple):
    """One thing found. ``member``: part of something that spans devices, which is never unbound."""

    name: str
    member: bool


class _Magic(NamedTuple):
    name: str
    member: bool
    offset: int
    bytes: bytes


_AT_HEAD = [
    _Magic("an md RAID superblock (1.1)", True, 0, b"\xfc\x4e\x2b\xa9"),
    _Magic("an md RAID superblock (1.2)", True, 4096, b"\xfc\x4e\x2b\xa9"),
    _Magic("a btrfs", True, 65536 + 64, b"_BHRfS_M"),
    _Magic("a bcache superblock", True, 4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
    _Magic("a bcachefs", True, 4096 + 24, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")),
    _Magic("a Stratis pool member", True, 512 + 4, b"!Stra0tis\x86\xff\x02\x41rh"),
    _Magic("a Ceph OSD", True, 0, b"bluestore block device"),
    _Magic("a VDO volume", True, 0, b"dmvdo001"),
    _Magic("an encrypted volume (LUKS)", False, 0, b"LUKS\xba\xbe"),
    _Magic("an ext2, ext3 or ext4 file system", False, 1080, b"\x53\xef"),
    _Magic("an XFS", False, 0, b"XFSB"),
    _Magic("an F2FS", False, 1024, b"\x10\x20\xf5\xf2"),
    _Magic("a FAT file system", False, 82, b"FAT32   "),
    _Magic("a FAT file system", False, 54, b"FAT16   "),
    _Magic("a FAT file system", False, 54, b"FAT12   "),
    _Magic("an exFAT file system", False, 3, b"EXFAT   "),
    _Magic("an NTFS", False, 3, b"NTFS    "),
    _Magic("a GFS2", False, 65536, b"\x01\x16\x19\x70"),
    _Magic("an ISO 9660 file system", False, 32769, b"CD001"),
    _Magic("a squashfs", False, 0, b"hsqs"),
    _Magic("an EROFS", False, 1024, b"\xe2\xe1\xf5\xe0"),
    *(_Magic("an LVM physical volume", True, sector * 512, b"LABELONE") for sector in range(4)),
    *(
        _Magic("a swap area", False, page - 10, magic)
        for page in (4096, 8192, 16384, 32768, 65536)
        for magic in (b"SWAPSPACE2", b"SWAP-SPACE")
    ),
]
# Offsets from the end
_AT_TAIL = [
    _Magic("a RAID of a controller (DDF)", True, 512, b"\xde\x11\xde\x11"),
    _Magic("a RAID of a controller (DDF)", True, 4096, b"\xde\x11\xde\x11"),
    _Magic("a RAID of a controller (Intel)", True, 1024, b"Intel Raid ISM Cfg Sig. "),
    _Magic("a RAID of a controller (Intel)", True, 8192, b"Intel Raid ISM Cfg Sig. "),
]
_MD = b"\xfc\x4e\x2b\xa9"
_ZFS_LABEL = 256 * KIB
_UBERBLOCKS = (b"\x0c\xb1\xba\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\xba\xb1\x0c")

Reader = Callable[[int, int], bytes]


def signatures(read: Reader, size: int) -> list:
    """Return what is on a device of ``size`` bytes; ``read(offset, length)`` gives its bytes. Raises OSError."""
    head = read(0, min(HEAD, size))
    start = max(0, size - TAIL)
    tail = read(start, size - start)
    found = [Signature(m.name, m.member) for m in _AT_HEAD if head[m.offset : m.offset + len(m.bytes)] == m.bytes]
    for magic in _AT_TAIL:
        at = len(tail) - magic.offset
        if at >= 0 and tail[at : at + len(magic.bytes)] == magic.bytes:
            found.append(Signature(magic.name, magic.member))
    found += _md_at_the_end(tail, start, size)
    if _is_zfs(head, tail, size):
        found.append(Signature("a member of a ZFS pool", True))
    if head.startswith(b"SPDKBLOB"):
        found.append(Signature(SPDK_BLOBSTORE, False))
    found += _partition_table(head, tail, read, found)
    return list(dict.fromkeys(found))


def is_foreign(signature: Signature) -> bool:
    """Return whether a signature is of somebody else than SPDK."""
    return signature.name != SPDK_BLOBSTORE


def _md_at_the_end(tail: bytes, start: int, size: int) -> list:
    found = []
    places = {
        "0.90": (size & ~0xFFFF) - 65536,
        "1.0": ((size // 512 - 16) & ~7) * 512,
    }
    for version, offset in places.items():
        at = offset - start
        if at >= 0 and tail[at : at + 4] in (_MD, _MD[::-1]):
            found.append(Signature(f"an md RAID superblock ({version})", True))
    return found


def _is_zfs(head: bytes, tail: bytes, size: int) -> bool:
    """Whether one of the four labels has an uberblock, in either byte order, in its second half."""
    labels = [head[:_ZFS_LABEL], head[_ZFS_LABEL : 2 * _ZFS_LABEL]]
    end = size - size % _ZFS_LABEL - (size - len(tail))
    labels += [tail[end - 2 * _ZFS_LABEL : end - _ZFS_LABEL], tail[end - _ZFS_LABEL : end]] if end > 0 else []
    return any(
        label[offset : offset + 8] in _UBERBLOCKS
        for label in labels
        for offset in range(_ZFS_LABEL // 2, len(label) - 7, KIB)
    )


def _partition_table(head: bytes, tail: bytes, read: Reader, others: list) -> list:
    for sector in (512, 4096):
        if head[sector : sector + 8] == b"EFI PART":
            return (
                []
                if _is_only_spdk(head[sector : sector + 92], sector, read)
                else [Signature("a partition table (GPT)", False)]
            )
    for sector in (512, 4096):
        if len(tail) >= sector and tail[len(tail) - sector :][:8] == b"EFI PART":
            return [Signature("a backup of a partition table (GPT)", False)]
    entries = [head[446 + 16 * number : 462 + 16 * number] for number in range(4)]
    if head[510:512] == b"\x55\xaa" and not others:
        if any(entry[4] and entry[0] in (0, 0x80) for entry in entries):
            return [Signature("a partition table (MBR)", False)]
        return [Signature("a boot sector", False)]
    return []


def _is_only_spdk(header: bytes, sector: int, read: Reader) -> bool:
    first, count, length = struct.unpack_from("<QII", header, 72)
    if not 128 <= length <= 4096 or not 0 < count <= 1024:
        return False
    table = read(first * sector, count * length)
    kinds = {
        uuid.UUID(bytes_le=table[at : at + 16]) for at in range(0, len(table) - 15, length) if any(table[at : at + 16])
    }
    return bool(kinds) and kinds <= _SPDK_PARTITIONS
