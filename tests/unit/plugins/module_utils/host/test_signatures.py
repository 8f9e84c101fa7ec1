# SPDX-License-Identifier: GPL-3.0-or-later
"""What the first and last sectors tell, by what real tools write and by where they write it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import uuid

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._host._signatures import (
    SPDK_BLOBSTORE,
    is_foreign,
    signatures,
)

MIB = 1 << 20
SIZE = 64 * MIB
SPDK_TYPE = uuid.UUID("6527994e-2c5a-4eec-9613-8f5944074e8b")
LINUX_TYPE = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def read_of(path):
    def read(offset, length):
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    return read


def found(path):
    return [(item.name, item.member) for item in signatures(read_of(path), path.stat().st_size)]


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.truncate(SIZE)
    return path


def put(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset, 2 if offset < 0 else 0)
        file.write(data)


def gpt(*types, sector=512):
    """The header with its table behind it."""
    header = b"EFI PART" + bytes(64) + struct.pack("<QII", 2, 128, 128)
    table = b"".join(kind.bytes_le + bytes(112) for kind in types)
    return header.ljust(sector, b"\0") + table


PLACES = {
    "LVM": (512, b"LABELONE", "LVM", True),
    "md 1.0": ((SIZE // 512 - 16) * 512, b"\xfc\x4e\x2b\xa9", "md RAID superblock (1.0)", True),
    "md 1.1": (0, b"\xfc\x4e\x2b\xa9", "md RAID superblock (1.1)", True),
    "md 1.2": (4096, b"\xfc\x4e\x2b\xa9", "md RAID superblock (1.2)", True),
    "md 0.90": (SIZE - 65536, b"\xfc\x4e\x2b\xa9", "md RAID superblock (0.90)", True),
    "md 0.90, other byte order": (SIZE - 65536, b"\xa9\x2b\x4e\xfc", "md RAID superblock (0.90)", True),
    "ZFS, first label": (128 * 1024, b"\x0c\xb1\xba\0\0\0\0\0", "ZFS", True),
    "ZFS, second label": ((256 + 128 + 7) * 1024, b"\0\0\0\0\0\xba\xb1\x0c", "ZFS", True),
    "ZFS, last label": (SIZE - 128 * 1024, b"\x0c\xb1\xba\0\0\0\0\0", "ZFS", True),
    "btrfs": (65600, b"_BHRfS_M", "btrfs", True),
    "bcache": (4120, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"), "bcache", True),
    "DDF": (SIZE - 512, b"\xde\x11\xde\x11", "DDF", True),
    "IMSM": (SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.1", "Intel", True),
    "Ceph": (0, b"bluestore block device\n", "Ceph", True),
    "LUKS": (0, b"LUKS\xba\xbe", "LUKS", False),
    "F2FS": (1024, b"\x10\x20\xf5\xf2", "F2FS", False),
    "swap": (4086, b"SWAPSPACE2", "swap", False),
    "swap of 64 KiB pages": (65526, b"SWAPSPACE2", "swap", False),
    "XFS": (0, b"XFSB", "XFS", False),
    "NTFS": (3, b"NTFS    ", "NTFS", False),
    "GPT": (512, gpt(LINUX_TYPE), "partition table (GPT)", False),
    "GPT of 4 KiB sectors": (4096, gpt(LINUX_TYPE, sector=4096), "partition table (GPT)", False),
    "GPT without entries": (512, gpt(), "partition table (GPT)", False),
    "GPT, backup only": (SIZE - 512, b"EFI PART", "backup of a partition table", False),
    "GPT of SPDK and another": (512, gpt(SPDK_TYPE, LINUX_TYPE), "partition table (GPT)", False),
    "MBR": (446, b"\x80\0\0\0\x83".ljust(64, b"\0") + b"\x55\xaa", "partition table (MBR)", False),
    "boot sector": (510, b"\x55\xaa", "boot sector", False),
}


@pytest.mark.parametrize("name", PLACES)
def test_at_its_place(disk, name):
    offset, data, said, member = PLACES[name]
    put(disk, offset, data)
    ((text, is_member),) = found(disk)
    assert said in text and is_member == member


@pytest.mark.parametrize("name", PLACES)
def test_not_beside_its_place(disk, name):
    offset, data, _said, _member = PLACES[name]
    moved = offset - 264 if offset + len(data) + 264 > SIZE else offset + 264
    put(disk, moved, data)
    assert found(disk) == []


def test_nothing(disk):
    assert found(disk) == []


def test_random_data_is_not_taken_for_something(disk):
    put(disk, 0, bytes(range(1, 250)) * 4000)
    assert found(disk) == []


def test_spdk_is_not_foreign(disk):
    put(disk, 0, b"SPDKBLOB")
    (only,) = signatures(read_of(disk), SIZE)
    assert only.name == SPDK_BLOBSTORE and not is_foreign(only)


def test_partitions_of_spdk_only(disk):
    put(disk, 512, gpt(SPDK_TYPE, SPDK_TYPE))
    put(disk, 510, b"\x55\xaa")
    put(disk, 450, b"\xee")
    put(disk, SIZE - 512, b"EFI PART")
    assert found(disk) == []


@pytest.mark.parametrize("size", [512, 4096, 70000])
def test_small_devices(tmp_path, size):
    path = tmp_path / "small"
    path.write_bytes(bytes(size))
    assert found(path) == []


TOOLS = {
    "mkfs.ext4 -q -F": "ext4",
    "mkfs.xfs -q -f": "XFS",
    "mkfs.btrfs -q -f": "btrfs",
    "mkswap": "swap",
    "mkfs.vfat": "FAT",
    "mkfs.f2fs -q": "F2FS",
    "pvcreate -ffy": "LVM",
}


@pytest.mark.parametrize("command", TOOLS)
def test_what_real_tools_write(tmp_path, command):
    program, *options = command.split()
    path = shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(512 * MIB)
    done = subprocess.run([path, *options, str(disk)], capture_output=True, check=False, text=True)
    if done.returncode:
        pytest.skip(f"{program} failed here: {done.stderr.strip()[:100]}")
    assert any(TOOLS[command] in name for name, _member in found(disk))
