# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for drives through ansible-playbook: on a tree laid out like a host, and on the machine that is there.

A tree of plain files does not react to what is written, so binding itself is shown by the preview here and in full
against the kernel of the unit tests.
"""

from __future__ import annotations

import os

import pytest
from support.ansible import play, run_playbook
from support.sysfs import MIB, Tree
from support.targets import is_real

FREE, MOUNTED, TAKEN = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path / "host")
    made.add_driver("vfio-pci")
    made.add_nvme(FREE, 0)
    made.add_nvme(MOUNTED, 1)
    made.add_pci(TAKEN, driver="vfio-pci", group=30)
    made.mount("nvme1n1", "/data")
    made.write("nvme1n1", 1080, b"\x53\xef")
    return made


def bind(tree, name="Bind", **options):
    options = {"root": str(tree.root), **options}
    return {"name": name, "excloud.diskengine.pci_vfio_bind": options, "ignore_errors": True}


def look(tree, **options):
    return {"name": "Look", "excloud.diskengine.nvme_disk_info": {"root": str(tree.root), **options}}


def test_preview(tree):
    """Each write in the order of the contract, each reason, and nothing touched."""
    before = tree.snapshot()
    devices = [{"bdf": FREE, "persist": "udev"}, {"serial": "SERIAL1"}, {"bdf": TAKEN}]
    done = run_playbook(play(bind(tree, devices=devices), look(tree)), check=True, diff=True)
    result = done.result("Bind")
    free, mounted, taken = result["results"]
    writes = [(step["kind"], step["path"].rsplit("/", 1)[1], step["value"].split("\n")[0]) for step in free["writes"]]
    assert writes == [
        ("file", f"{FREE}.json", "{"),
        ("write", "unbind", FREE),
        ("write", "driver_override", "vfio-pci"),
        ("write", "drivers_probe", FREE),
        ("write", "driver_override", ""),
        ("file", "60-diskengine-0000-01-00.0.py", "# Written by excloud.diskengine.pci_vfio_bind."),
        ("file", "60-diskengine-0000-01-00.0.rules", "# Written by excloud.diskengine.pci_vfio_bind."),
    ]
    assert free["before"] == {"driver": "nvme", "at_boot": False}
    assert free["after"] == {"driver": "vfio-pci", "at_boot": True}
    assert [reason["guard"] for reason in mounted["reasons"]] == ["mounted", "signature"] and mounted["failed"]
    assert not taken["changed"] and not taken["failed"]
    assert result["msg"].startswith(f"1 of 3 devices failed: {MOUNTED} (serial SERIAL1): it is not bound")
    assert result["changed"] and [entry["before_header"] for entry in result["diff"]] == [FREE]
    disks = {disk["bdf"]: disk for disk in done.result("Look")["disks"]}
    assert [disks[bdf]["bindable"] for bdf in (FREE, MOUNTED, TAKEN)] == [True, False, True]
    assert disks[MOUNTED]["reasons"] == mounted["reasons"]
    assert tree.snapshot() == before


def test_a_kernel_that_does_not_take_it(tree):
    """Plain files never bind, so this is what a kernel looks like that does not: an error with what is there."""
    done = run_playbook(play(bind(tree, bdf=FREE)))
    assert "vfio-pci did not take the device, which has nvme" in done.result("Bind")["msg"]


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "one of the following is required: bdf, serial, devices"),
        ({"bdf": FREE, "devices": []}, "mutually exclusive"),
        ({"bdf": FREE, "lift": ["mounted"]}, "value of lift must be one or more of: signature, open_handles"),
        ({"bdf": FREE, "driver": "igb_uio"}, "value of driver must be one of: vfio-pci, uio_pci_generic"),
        ({"devices": [{"state": "bound"}]}, "one of the following is required: bdf, serial"),
        ({"bdf": "nvme0"}, "'nvme0' is not a PCI address; write it like 0000:01:00.0"),
        ({"bdf": "0000:77:00.0"}, "there is no PCI device 0000:77:00.0 on this host"),
    ],
    ids=str,
)
def test_bad_input(tree, options, said):
    done = run_playbook(play(bind(tree, **options)))
    assert said in done.result("Bind")["msg"] and "Traceback" not in done.output


def test_joined_with_spdk(tree, make_target):
    """The serial of a drive that the kernel does not have comes from the target that has it."""
    if is_real():
        pytest.skip("the real program would need the drive")
    target = make_target(["--nvme", f"{TAKEN}=64MiB"])
    target.call("bdev_nvme_attach_controller", {"name": "disk-3", "trtype": "PCIe", "traddr": TAKEN})
    done = run_playbook(play(look(tree, socket=str(target.socket))))
    found = done.result("Look")
    (disk,) = [disk for disk in found["disks"] if disk["bdf"] == TAKEN]
    assert found["spdk"] == {"asked": True, "msg": ""} and not found["changed"]
    assert (disk["owner"], disk["spdk_controller"], disk["size"]) == ("spdk", "disk-3", 64 * MIB)
    assert len(disk["serial"]) == 20 and disk["model"] == "Simulated drive"


def test_this_machine():
    """Whatever it has: the shapes are those that RETURN names, and nothing fails."""
    task = {"name": "Look", "excloud.diskengine.nvme_disk_info": {}}
    found = run_playbook(play(task)).result("Look")
    here = os.listdir("/sys/class/nvme") if os.path.isdir("/sys/class/nvme") else []
    kernels = [disk for disk in found["disks"] if disk["owner"] == "kernel"]
    assert len(kernels) <= len(here) and not found["changed"]
