# SPDX-License-Identifier: GPL-3.0-or-later
"""Each guard: what trips it, and what stands next to it and does not. Alone, and each with each."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._host._bind import Wanted, make_plans, manage
from ansible_collections.excloud.diskengine.plugins.module_utils._host._guards import LIFTABLE
from ansible_collections.excloud.diskengine.plugins.module_utils._host._pci import observe
from support.sysfs import BRIDGE, MIB, NETWORK, Kernel, Tree

DRIVE, OTHER = "0000:01:00.0", "0000:02:00.0"


@pytest.fixture
def tree(tmp_path):
    """Two drives with two namespaces each; the second one of the first drive has a partition."""
    made = Tree(tmp_path)
    made.add_nvme(DRIVE, 0, namespaces=(64 * MIB, 64 * MIB))
    made.add_nvme(OTHER, 1, namespaces=(64 * MIB, 64 * MIB))
    made.add_partition("nvme0n2", 1)
    made.add_partition("nvme1n2", 1)
    return made


def on(drive):
    """The names of a drive's parts, so that the same thing can be done to the drive and to its neighbour."""
    return f"nvme{drive}n1", f"nvme{drive}n2", f"nvme{drive}n2p1"


def stacked(tree, drive, uuid, name):
    tree.add_virtual("dm-0", on(drive)[2], dm_uuid=uuid, dm_name=name)


def luks_mounted(tree, drive):
    stacked(tree, drive, "CRYPT-LUKS2-1", "secret")
    tree.mount("dm-0", "/secret")


def deep(tree, drive):
    tree.add_virtual("md0", on(drive)[0])
    tree.add_virtual("dm-3", "md0", dm_uuid="LVM-1", dm_name="vg-lv")
    tree.mount("dm-3", "/deep")


def in_a_container(tree, drive):
    tree.add_process(77, "postgres", namespace="mnt:[4026532999]")
    tree.mount(on(drive)[0], "/var/lib/data", pid=77)


def btrfs_second(tree, drive):
    """A btrfs of several devices: mountinfo names but one of them, and no number."""
    tree.mount("0:45", "/pool", "btrfs", "/dev/sda")
    tree.link(f"/sys/fs/btrfs/1234/devices/{on(drive)[1]}", tree.home(on(drive)[1]))


def opened(tree, drive, node, pid=55):
    tree.add_process(pid, "dbms", [node])


def lvm_root(tree, drive):
    stacked(tree, drive, "LVM-9", "vg-root")
    tree.mount("dm-0", "/", source="/dev/mapper/vg-root")


def peer(pci_class, driver):
    def add(tree, drive):
        tree.add_pci("0000:03:00.0", pci_class, driver, group=10 + drive)

    return add


# What is done to drive 0, and the guards that must speak then.
TRIPS = {
    "mounted": (lambda t, d: t.mount(on(d)[0], "/data"), {"mounted"}),
    "partition mounted": (lambda t, d: t.mount(on(d)[2], "/data"), {"mounted"}),
    "bind mount": (lambda t, d: t.mount(on(d)[1], "/srv/bind", root="/sub"), {"mounted"}),
    "blank in the mount point": (lambda t, d: t.mount(on(d)[1], "/srv/a\\040b"), {"mounted"}),
    "mounted by source": (lambda t, d: t.mount("0:44", "/m", "btrfs", f"/dev/{on(d)[1]}"), {"mounted"}),
    "bcachefs of several": (lambda t, d: t.mount("0:44", "/m", "bcachefs", f"/dev/sda:/dev/{on(d)[1]}"), {"mounted"}),
    "mounted in a container": (in_a_container, {"mounted"}),
    "other device of a btrfs": (btrfs_second, {"mounted"}),
    "mounted through LUKS": (luks_mounted, {"mounted", "holders"}),
    "mounted through LVM on md": (deep, {"mounted", "holders"}),
    "swap": (lambda t, d: t.swap_on(f"/dev/{on(d)[0]}"), {"swap"}),
    "swap on a partition": (lambda t, d: t.swap_on(f"/dev/{on(d)[2]}"), {"swap"}),
    "swap through LVM": (lambda t, d: (stacked(t, d, "LVM-8", "vg-swap"), t.swap_on("/dev/dm-0")), {"swap", "holders"}),
    "root": (lambda t, d: t.mount(on(d)[2], "/"), {"boot_disk"}),
    "EFI": (lambda t, d: t.mount(on(d)[2], "/boot/efi", "vfat"), {"boot_disk"}),
    "root on LVM": (lvm_root, {"boot_disk", "holders"}),
    "LVM": (lambda t, d: stacked(t, d, "LVM-1", "vg-data"), {"holders"}),
    "multipath": (lambda t, d: stacked(t, d, "mpath-3", "mpatha"), {"holders"}),
    "md": (lambda t, d: t.add_virtual("md127", on(d)[0]), {"holders"}),
    "bcache": (lambda t, d: t.add_virtual("bcache0", on(d)[1]), {"holders"}),
    "stopped LVM": (lambda t, d: t.write(on(d)[0], 512, b"LABELONE"), {"member"}),
    "stopped md": (lambda t, d: t.write(on(d)[1], 4096, b"\xfc\x4e\x2b\xa9"), {"member"}),
    "ZFS": (lambda t, d: t.write(on(d)[2], 128 * 1024, b"\x0c\xb1\xba\0\0\0\0\0"), {"member"}),
    "btrfs": (lambda t, d: t.write(on(d)[0], 65600, b"_BHRfS_M"), {"member"}),
    "GPT": (lambda t, d: t.write(on(d)[1], 512, b"EFI PART"), {"signature"}),
    "GPT, backup": (lambda t, d: t.write(on(d)[1], -512, b"EFI PART"), {"signature"}),
    "idle ext4": (lambda t, d: t.write(on(d)[0], 1080, b"\x53\xef"), {"signature"}),
    "unreadable": (lambda t, d: t.at(f"/dev/{on(d)[0]}").unlink(), {"signature"}),
    "open": (lambda t, d: opened(t, d, f"/dev/{on(d)[0]}"), {"open_handles"}),
    "partition open": (lambda t, d: opened(t, d, f"/dev/{on(d)[2]}"), {"open_handles"}),
    "controller open": (lambda t, d: opened(t, d, f"/dev/nvme{d}"), {"open_handles"}),
    "generic node open": (lambda t, d: opened(t, d, f"/dev/ng{d}n2"), {"open_handles"}),
    "neighbour in the group": (peer(NETWORK, "e1000e"), {"iommu_group"}),
}

# What stands next to that and must not matter.
PASSES = {
    "nothing": lambda t, d: None,
    "all of it on the neighbour": lambda t, d: [
        TRIPS[name][0](t, 1) for name in ("mounted", "swap", "root", "md", "GPT", "open")
    ],
    "other devices mounted": lambda t, d: t.mount("8:1", "/", source="/dev/sda1"),
    "a name that begins alike": lambda t, d: t.mount("8:2", "/data", source="/dev/nvme0n11"),
    "network file system": lambda t, d: t.mount("0:50", "/nfs", "nfs4", "server:/dev/nvme0n1"),
    "swap file elsewhere": lambda t, d: t.swap_on("/swapfile"),
    "holder of another disk": lambda t, d: t.add_virtual("dm-5", on(1)[0], dm_uuid="LVM-1", dm_name="x"),
    "lvstore": lambda t, d: t.write(on(d)[0], 0, b"SPDKBLOB"),
    "data without a signature": lambda t, d: t.write(on(d)[0], 5000, b"x" * 9000),
    "other node open": lambda t, d: opened(t, d, "/dev/nvme1n1"),
    "file of that name": lambda t, d: opened(t, d, "/home-of/nvme0n1"),
    "bridge in the group": peer(BRIDGE, "pcieport"),
    "vfio in the group": peer(NETWORK, "vfio-pci"),
    "no driver in the group": peer(NETWORK, ""),
    "namespace of size 0": lambda t, d: t.put(f"{t.home(on(d)[0])}/size", "0\n"),
    "a mount of a process that ended": lambda t, d: t.at("/proc/99").mkdir(),
}


def reasons(tree, kernel=None, **options):
    kernel = kernel or Kernel(tree)
    before = tree.snapshot()
    (plan,) = make_plans(observe(kernel, ("spdk",), (DRIVE,)), [Wanted(bdf=DRIVE, **options)])
    assert tree.snapshot() == before and not kernel.done
    assert bool(plan.error) != bool(plan.steps)
    for reason in plan.reasons:
        assert str(reason) in plan.error and reason.way_out, "a refusal says all and the way out"
    return {reason.guard for reason in plan.reasons}


@pytest.mark.parametrize("name", TRIPS)
def test_trips(tree, name):
    trip, guards = TRIPS[name]
    trip(tree, 0)
    assert reasons(tree) == guards
    never = guards - set(LIFTABLE)
    assert reasons(tree, lift=LIFTABLE) == never


@pytest.mark.parametrize("name", PASSES)
def test_passes(tree, name):
    PASSES[name](tree, 0)
    assert reasons(tree) == set()


# One or two of each kind, so that the pairs stay few.
KINDS = [
    *("mounted", "partition mounted", "mounted in a container", "other device of a btrfs", "swap", "root", "LVM", "md"),
    *("stopped LVM", "ZFS", "GPT", "idle ext4", "open", "neighbour in the group"),
]


@pytest.mark.parametrize("first, second", list(itertools.combinations(KINDS, 2)))
def test_two_at_once(tmp_path, first, second):
    """The refusal has the reasons of both."""
    tree = Tree(tmp_path)
    tree.add_nvme(DRIVE, 0, namespaces=(MIB, MIB))
    tree.add_partition("nvme0n2", 1, MIB)
    for name in (first, second):
        TRIPS[name][0](tree, 0)
    assert reasons(tree) == TRIPS[first][1] | TRIPS[second][1]


def test_all_reasons_in_one_sentence(tree):
    for name in ("mounted", "swap on a partition", "idle ext4", "open", "neighbour in the group"):
        TRIPS[name][0](tree, 0)
    (plan,) = make_plans(observe(Kernel(tree)), [Wanted(bdf=DRIVE)])
    for text in (
        "nvme0n1 is mounted on /data (umount /data)",
        "nvme0n2p1 is swapped on (swapoff /dev/nvme0n2p1)",
        "nvme0n1 holds an ext2, ext3 or ext4 file system",
        "dbms (process 55) has nvme0 or its namespaces open",
        "0000:03:00.0 is in the same IOMMU group 10 and has the driver e1000e",
    ):
        assert text in plan.error


class TestWhatOnlyTheKernelKnows:
    def test_claimed(self, tree):
        kernel = Kernel(tree)
        kernel.claimed = {"nvme0n2"}
        assert reasons(tree, kernel) == {"claimed"}
        assert reasons(tree, kernel, lift=LIFTABLE) == {"claimed"}

    def test_claimed_by_what_is_known(self, tree):
        kernel = Kernel(tree)
        kernel.claimed = {"nvme0n1"}
        tree.mount("nvme0n1", "/data")
        assert reasons(tree, kernel) == {"mounted"}

    def test_neighbour_claimed(self, tree):
        kernel = Kernel(tree)
        kernel.claimed = {"nvme1n1"}
        assert reasons(tree, kernel) == set()


class TestMultipath:
    """The head of a namespace lies below the virtual subsystem, its controller has a hidden path only."""

    @pytest.mark.parametrize("name", TRIPS)
    def test_trips(self, tmp_path, name):
        tree = Tree(tmp_path)
        tree.add_nvme(DRIVE, 0, namespaces=(64 * MIB, 64 * MIB), multipath=True)
        tree.add_nvme(OTHER, 1, namespaces=(64 * MIB, 64 * MIB), multipath=True)
        tree.add_partition("nvme0n2", 1)
        trip, guards = TRIPS[name]
        trip(tree, 0)
        assert reasons(tree) == guards


class TestOfTheHost:
    def test_iommu_off(self, tmp_path):
        tree = Tree(tmp_path)
        tree.add_nvme(DRIVE, 0, group=None)
        assert reasons(tree) == {"iommu"}
        assert reasons(tree, lift=LIFTABLE) == {"iommu"}
        assert reasons(tree, allow_unsafe_noiommu=True) == set()
        assert reasons(tree, allow_unsafe_noiommu=True, user="spdk") == {"user"}
        assert reasons(tree, driver="uio_pci_generic") == {"module"}

    def test_in_no_group(self, tree):
        tree.at(f"/sys/bus/pci/devices/{DRIVE}/iommu_group").unlink()
        assert reasons(tree) == {"iommu"}

    def test_groups_without_an_iommu(self, tmp_path):
        tree = Tree(tmp_path)
        tree.add_nvme(DRIVE, 0)
        tree.put("/sys/kernel/iommu_groups/10/name", "vfio-noiommu\n")
        assert reasons(tree) == {"iommu"}

    def test_no_module(self, tree):
        tree.at("/lib/modules/6.1.0-18-amd64/modules.dep").unlink()
        assert reasons(tree) == {"module"}
        tree.add_driver("vfio-pci")
        assert reasons(tree) == set()

    def test_built_in(self, tree):
        tree.at("/lib/modules/6.1.0-18-amd64/modules.dep").unlink()
        tree.put("/lib/modules/6.1.0-18-amd64/modules.builtin", "kernel/drivers/vfio/pci/vfio_pci.ko\n")
        assert reasons(tree) == set()

    def test_no_modprobe(self, tree):
        assert reasons(tree, Kernel(tree, programs=())) == {"module"}

    def test_user(self, tree):
        assert reasons(tree, user="nobody2") == {"user"}
        assert reasons(tree, user="spdk") == set()


class TestWhich:
    def test_serial(self, tree):
        assert reasons(tree, serial="SERIAL0") == set()
        assert reasons(tree, serial="SERIAL1") == {"serial"}
        assert reasons(tree, serial="SERIAL1", lift=LIFTABLE) == {"serial"}

    def test_serial_that_cannot_be_read(self, tree):
        Kernel(tree).write(f"/sys/bus/pci/devices/{DRIVE}/driver/unbind", DRIVE)
        assert reasons(tree) == set()
        assert reasons(tree, serial="SERIAL0") == {"serial"}

    def test_not_an_nvme_controller(self, tree):
        tree.put(f"/sys/bus/pci/devices/{DRIVE}/class", f"{NETWORK}\n")
        assert reasons(tree) == {"class"}

    @pytest.mark.parametrize(
        "options, said",
        [
            ({"bdf": "0000:09:00.0"}, "there is no PCI device 0000:09:00.0"),
            ({"bdf": "nvme0"}, "'nvme0' is not a PCI address"),
            ({"bdf": "0000:01:00.8"}, "is not a PCI address"),
            ({"bdf": ""}, "has serial"),
            ({"serial": "X"}, "no drive of this host has serial 'X' (known: SERIAL0, SERIAL1)"),
            ({"serial": " "}, "no drive of this host has serial ''"),
        ],
    )
    def test_not_found(self, tree, options, said):
        (outcome,) = manage(Kernel(tree), [Wanted(**options)], False, 10)
        assert said in outcome.error and not outcome.steps

    def test_short_address(self, tree):
        (plan,) = make_plans(observe(Kernel(tree)), [Wanted(bdf=" 01:00.0 ")])
        assert plan.bdf == DRIVE and not plan.error

    def test_same_serial_twice(self, tree):
        tree.put(f"/sys/bus/pci/devices/{OTHER}/nvme/nvme1/serial", "SERIAL0\n")
        (plan,) = make_plans(observe(Kernel(tree)), [Wanted(serial="SERIAL0")])
        assert "2 controllers have serial SERIAL0 (0000:01:00.0, 0000:02:00.0)" in plan.error

    def test_named_twice(self, tree):
        plans = make_plans(observe(Kernel(tree)), [Wanted(bdf=DRIVE), Wanted(serial="SERIAL0"), Wanted(bdf=OTHER)])
        assert [bool(plan.error) for plan in plans] == [True, True, False]
        assert "named 2 times" in plans[0].error


class TestGroupInOneTask:
    @pytest.fixture
    def tree(self, tmp_path):
        made = Tree(tmp_path)
        made.add_nvme(DRIVE, 0, group=7)
        made.add_nvme(OTHER, 1, group=7)
        return made

    def test_alone(self, tree):
        assert reasons(tree) == {"iommu_group"}

    def test_together(self, tree):
        plans = make_plans(observe(Kernel(tree)), [Wanted(bdf=DRIVE), Wanted(bdf=OTHER)])
        assert not [plan.error for plan in plans if plan.error]

    def test_one_of_them_refused(self, tree):
        tree.mount("nvme1n1", "/data")
        plans = make_plans(observe(Kernel(tree)), [Wanted(bdf=DRIVE), Wanted(bdf=OTHER)])
        assert [{reason.guard for reason in plan.reasons} for plan in plans] == [{"iommu_group"}, {"mounted"}]

    def test_the_other_is_released(self, tree):
        plans = make_plans(observe(Kernel(tree)), [Wanted(bdf=DRIVE), Wanted(bdf=OTHER, state="released")])
        assert plans[0].reasons and not plans[1].error
