# SPDX-License-Identifier: GPL-3.0-or-later
"""The drives of a host, whoever owns them."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._host._bind import Wanted, make_plans, manage
from ansible_collections.excloud.diskengine.plugins.module_utils._host._disks import (
    Spdk,
    describe,
    look,
    read_records,
    spdk_drives,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._host._pci import observe
from support.sysfs import MIB, NETWORK, Kernel, Tree

DRIVE, OTHER, THIRD = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"

CONTROLLERS = [
    {"name": "disk-7", "ctrlrs": [{"state": "enabled", "trid": {"trtype": "PCIe", "traddr": DRIVE}, "cntlid": 0}]},
    {"name": "remote", "ctrlrs": [{"trid": {"trtype": "TCP", "traddr": "10.0.0.1"}}]},
]
REMOTE = {"nvme": [{"trid": {"trtype": "TCP"}}]}
BDEVS = [
    {
        "name": "disk-7n1",
        "block_size": 4096,
        "num_blocks": 1000,
        "driver_specific": {
            "nvme": [
                {
                    "pci_address": DRIVE,
                    "trid": {"trtype": "PCIe", "traddr": DRIVE},
                    "ctrlr_data": {
                        "model_number": "Model 9",
                        "serial_number": "FROM-SPDK",
                        "firmware_revision": "1.0",
                    },
                    "ns_data": {"id": 1},
                }
            ]
        },
    },
    {"name": "ram", "block_size": 512, "num_blocks": 10, "driver_specific": {}},
    {"name": "remoten1", "block_size": 512, "num_blocks": 10, "driver_specific": REMOTE},
]


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.add_nvme(DRIVE, 0, namespaces=(64 * MIB, 32 * MIB))
    made.add_nvme(OTHER, 1)
    made.add_pci("0000:09:00.0", NETWORK, "e1000e", group=3)
    return made


@pytest.fixture
def kernel(tree):
    return Kernel(tree)


def disks(kernel, spdk=None):
    found = describe(observe(kernel), spdk or Spdk(False, "", {}), read_records(kernel))
    return {disk["bdf"]: disk for disk in found["disks"]}


def test_of_the_kernel(kernel):
    found = disks(kernel)
    assert set(found) == {DRIVE, OTHER}
    disk = found[DRIVE]
    wwids = [namespace.pop("wwid") for namespace in disk["namespaces"]]
    assert wwids == ["nvme.1b36-SERIAL0-1", "nvme.1b36-SERIAL0-2"]
    assert disk == {
        "bdf": DRIVE,
        "serial": "SERIAL0",
        "model": "QEMU NVMe Ctrl",
        "firmware": "8.2.0",
        "size": 96 * MIB,
        "source": "kernel",
        "owner": "kernel",
        "device": "/dev/nvme0",
        "state": "live",
        "driver": "nvme",
        "spdk_controller": "",
        "numa_node": 0,
        "iommu_group": "10",
        "namespaces": [
            {"name": "nvme0n1", "nsid": 1, "size": 64 * MIB, "block_size": 512},
            {"name": "nvme0n2", "nsid": 2, "size": 32 * MIB, "block_size": 512},
        ],
        "in_use_by": [],
        "bindable": True,
        "reasons": [],
    }


def test_native_multipath(tmp_path):
    tree = Tree(tmp_path)
    tree.add_nvme(DRIVE, 0, namespaces=(64 * MIB,), multipath=True)
    disk = disks(Kernel(tree))[DRIVE]
    assert [namespace["name"] for namespace in disk["namespaces"]] == ["nvme0n1"] and disk["size"] == 64 * MIB


def test_in_use(kernel, tree):
    tree.mount("nvme0n1", "/data")
    tree.swap_on("/dev/nvme0n2")
    disk = disks(kernel)[DRIVE]
    assert disk["in_use_by"] == ["nvme0n1 is mounted on /data", "nvme0n2 is swapped on"] and not disk["bindable"]
    (plan,) = make_plans(observe(kernel), [Wanted(bdf=DRIVE)])
    assert disk["reasons"] == [reason._asdict() for reason in plan.reasons], "the same judgement"


def test_bound_is_not_gone(kernel):
    """What the kernel knew when it was bound stays known."""
    manage(kernel, [Wanted(bdf=DRIVE)], False, 10)
    disk = disks(kernel)[DRIVE]
    assert (disk["serial"], disk["size"], disk["source"], disk["owner"]) == ("SERIAL0", 96 * MIB, "record", "vfio")
    assert disk["bindable"] and disk["namespaces"] == []


def test_bound_by_somebody_else(kernel, tree):
    manage(kernel, [Wanted(bdf=DRIVE)], False, 10)
    tree.at(f"/var/lib/diskengine/pci/{DRIVE}.json").unlink()
    disk = disks(kernel)[DRIVE]
    assert (disk["serial"], disk["source"], disk["owner"]) == ("", "none", "vfio")


def test_another_kind_of_drive_in_the_slot(kernel, tree):
    manage(kernel, [Wanted(bdf=DRIVE)], False, 10)
    tree.put(f"/sys/bus/pci/devices/{DRIVE}/device", "0xffff\n")
    assert disks(kernel)[DRIVE]["serial"] == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"driver": "nvme"}', '{"driver": 1, "size": "x"}'])
def test_record_that_cannot_be_read(kernel, tree, text):
    manage(kernel, [Wanted(bdf=DRIVE)], False, 10)
    tree.put(f"/var/lib/diskengine/pci/{DRIVE}.json", text)
    assert disks(kernel)[DRIVE]["source"] == "none"


def test_of_spdk(kernel, tree):
    manage(kernel, [Wanted(bdf=DRIVE)], False, 10)
    tree.add_process(9, "spdk_tgt", ["/dev/vfio/10"])
    disk = disks(kernel, Spdk(True, "", spdk_drives(CONTROLLERS, BDEVS)))[DRIVE]
    assert (disk["serial"], disk["model"], disk["size"]) == ("FROM-SPDK", "Model 9", 4096000)
    assert (disk["source"], disk["owner"], disk["spdk_controller"]) == ("spdk", "spdk", "disk-7")
    assert disk["namespaces"][0]["name"] == "disk-7n1"
    assert disk["in_use_by"] == ["spdk_tgt (process 9) has it open through vfio-pci", "SPDK has it as disk-7"]


def test_spdk_answers_with_other_shapes():
    assert spdk_drives([], BDEVS) == {}
    assert set(spdk_drives(CONTROLLERS, [])) == {DRIVE}
    assert spdk_drives([{"name": "x"}], [{"name": "y"}]) == {}


def test_no_socket(kernel):
    assert look(kernel, None, 1)["spdk"] == {"asked": False, "msg": "no socket was given, so no SPDK target was asked"}
    told = look(kernel, "/nowhere/spdk.sock", 1)["spdk"]
    assert not told["asked"] and "/nowhere/spdk.sock" in told["msg"]


def test_taken_out_or_moved(kernel, tree):
    manage(kernel, [Wanted(bdf=DRIVE), Wanted(bdf=OTHER)], False, 10)
    for bdf in (DRIVE, OTHER):
        tree.at(f"/sys/bus/pci/devices/{bdf}").unlink()
    tree.add_nvme(THIRD, 2, serial="SERIAL1")
    missing = look(kernel, None, 1)["missing"]
    assert [(item["bdf"], item["serial"], item["now_at"]) for item in missing] == [
        (DRIVE, "SERIAL0", ""),
        (OTHER, "SERIAL1", THIRD),
    ]


def test_no_drives_at_all(tmp_path):
    found = look(Kernel(Tree(tmp_path)), None, 1)
    assert found["disks"] == [] and found["missing"] == [] and found["iommu"] is False
