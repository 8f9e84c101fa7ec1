# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules, kernel arguments and the IOMMU, against a tree like the kernel's, and a kernel that reacts."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._host import (
    _info,
    _iommu,
    _kernel_arguments,
    _kernel_modules,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host, HostError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._kernel_modules import BOOT_FILE, Wanted
from support.sysfs import Kernel, Tree

MODULES = "/lib/modules/6.1.0-18-amd64"
DROP_IN = "/etc/default/grub.d/90-diskengine-arguments.cfg"
MARKER = "/var/lib/diskengine/arguments.kernel_args"


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.put(f"{MODULES}/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz: a.ko\nkernel/a/nvme_tcp.ko:\n")
    made.put(f"{MODULES}/modules.builtin", "kernel/drivers/char/msr.ko\n")
    made.put("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n")
    return made


@pytest.fixture
def kernel(tree):
    return Kernel(tree)


def run(kernel, manage, *wanted):
    """Manage, and hold the run to what the preview said, and the run after it to do nothing."""
    before = kernel.tree.snapshot()
    preview = manage(kernel, *wanted, True)
    assert kernel.tree.snapshot() == before and not kernel.done
    result = manage(kernel, *wanted, False)
    assert all(result[key] == preview[key] for key in ("changed", "writes", "before", "after"))
    told = [[step["path"], *step["value"].split()] if step["kind"] == "command" else step for step in result["writes"]]
    assert [done if isinstance(done, list) else done.describe() for done in kernel.done] == told
    kernel.done.clear()
    again = manage(kernel, *wanted, False)
    assert not again["changed"] and again["before"] == again["after"] == result["after"] and not kernel.done
    return result


class TestModules:
    def run(self, kernel, *names, **options):
        return run(kernel, _kernel_modules.manage, Wanted(names, **options))

    def test_now_and_at_boot(self, kernel, tree):
        result = self.run(kernel, "vfio-pci", "msr")
        assert [step["path"] for step in result["writes"]] == ["modprobe", BOOT_FILE]
        assert result["before"] == {"loaded": ["msr"], "at_boot": []}
        assert result["after"] == {"loaded": ["vfio-pci", "msr"], "at_boot": ["vfio-pci", "msr"]}
        assert result["modules"] == [{"name": "vfio-pci", "state": "loaded"}, {"name": "msr", "state": "builtin"}]
        assert tree.get(BOOT_FILE).splitlines()[1:] == ["vfio-pci", "msr"]

    def test_tasks_add_up(self, kernel, tree):
        self.run(kernel, "vfio-pci")
        self.run(kernel, "nvme-tcp")
        assert tree.get(BOOT_FILE).splitlines()[1:] == ["vfio-pci", "nvme-tcp"]
        self.run(kernel, "vfio_pci", state="absent")
        assert tree.get(BOOT_FILE).splitlines()[1:] == ["nvme-tcp"]
        self.run(kernel, "nvme-tcp", persist=False)
        assert not tree.at(BOOT_FILE).exists()

    def test_now_only(self, kernel, tree):
        assert [step["kind"] for step in self.run(kernel, "vfio-pci", persist=False)["writes"]] == ["command"]
        assert not tree.at(BOOT_FILE).exists()

    def test_absent_unloads_nothing(self, kernel):
        self.run(kernel, "vfio-pci")
        result = self.run(kernel, "vfio-pci", state="absent")
        assert [step["path"] for step in result["writes"]] == [BOOT_FILE]
        assert result["after"] == {"loaded": ["vfio-pci"], "at_boot": []}

    def test_one_spelling_is_as_good_as_the_other(self, kernel, tree):
        self.run(kernel, "vfio_pci", "nvme-tcp")
        assert not _kernel_modules.manage(kernel, Wanted(("vfio-pci", "nvme_tcp")), True)["changed"]

    def test_missing_is_refused_before_anything_is_done(self, kernel, tree):
        before = tree.snapshot()
        with pytest.raises(Refusal, match="the running kernel 6.1.0-18-amd64 has no module uio_pci_generic: install"):
            _kernel_modules.manage(kernel, Wanted(("vfio-pci", "uio_pci_generic")), False)
        assert tree.snapshot() == before and not kernel.done

    def test_a_longer_name_is_another_module(self, kernel):
        with pytest.raises(Refusal, match="has no module pci"):
            _kernel_modules.manage(kernel, Wanted(("pci",)), False)
        with pytest.raises(Refusal, match="has no module vfio"):
            _kernel_modules.manage(kernel, Wanted(("vfio",)), False)

    def test_no_modprobe(self, kernel):
        kernel.programs = set()
        with pytest.raises(Refusal, match="install the package kmod"):
            _kernel_modules.manage(kernel, Wanted(("vfio-pci",)), False)
        self.run(kernel, "msr")

    def test_what_is_no_name(self, kernel):
        for name in ("", "-r", "a b", "../x", "vfio-pci\n"):
            with pytest.raises(Refusal, match="is not the name of a kernel module"):
                _kernel_modules.manage(kernel, Wanted((name,)), False)

    def test_modprobe_fails(self, kernel, tree):
        kernel.broken.add("modprobe vfio-pci")
        with pytest.raises(HostError, match="modprobe vfio-pci failed"):
            _kernel_modules.manage(kernel, Wanted(("vfio-pci",)), False)
        assert not tree.at(BOOT_FILE).exists()

    def test_an_image(self, tree):
        """Below another root nothing is loaded, and nobody knows which kernel it will run."""
        tree.at("/proc/sys/kernel/osrelease").unlink()
        result = _kernel_modules.manage(Host(str(tree.root)), Wanted(("vfio-pci",)), False)
        assert [step["path"] for step in result["writes"]] == [BOOT_FILE]
        assert result["after"] == {"loaded": [], "at_boot": ["vfio-pci"]} and result["notes"]


class TestArguments:
    def run(self, kernel, *names, state="present"):
        return run(kernel, _kernel_arguments.manage, names, state)

    def test_update_grub(self, kernel, tree):
        result = self.run(kernel, "intel_iommu=on", "iommu=pt")
        assert [step["path"] for step in result["writes"]] == [DROP_IN, "update-grub", MARKER]
        assert 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on iommu=pt"\n' in tree.get(DROP_IN)
        assert result["reboot_required"] and "has not intel_iommu=on iommu=pt; restart" in result["notes"][0]
        tree.put("/proc/cmdline", "quiet intel_iommu=on iommu=pt\n")
        result = self.run(kernel, "intel_iommu=on", "iommu=pt")
        assert not result["changed"] and not result["reboot_required"] and result["notes"] == []

    def test_tasks_add_up(self, kernel, tree):
        self.run(kernel, "intel_iommu=on")
        self.run(kernel, "default_hugepagesz=1G")
        assert self.run(kernel, "iommu=pt", state="absent")["after"]["arguments"] == [
            "intel_iommu=on",
            "default_hugepagesz=1G",
        ]
        self.run(kernel, "intel_iommu=on", "default_hugepagesz=1G", state="absent")
        assert not tree.at(DROP_IN).exists() and not tree.at(MARKER).exists()

    def test_grubby(self, kernel, tree):
        kernel.programs = {"grubby"}
        _kernel_arguments.manage(kernel, ("intel_iommu=on",), "present", False)
        assert kernel.done[0] == ["grubby", "--update-kernel=ALL", "--args=intel_iommu=on"]
        assert not _kernel_arguments.manage(kernel, ("intel_iommu=on",), "present", False)["changed"]

    def test_what_others_set_is_left_to_them(self, kernel, tree):
        assert not self.run(kernel, "quiet")["changed"]
        result = self.run(kernel, "quiet", state="absent")
        assert not result["changed"] and result["reboot_required"]
        assert result["notes"][1] == "quiet is not for this module to take away if somebody else set it"

    def test_killed_before_update_grub_ended(self, kernel, tree):
        self.run(kernel, "intel_iommu=on")
        tree.at(MARKER).unlink()
        assert [step["path"] for step in self.run(kernel, "intel_iommu=on")["writes"]] == ["update-grub", MARKER]

    def test_no_tool(self, kernel):
        kernel.programs = set()
        with pytest.raises(Refusal, match="neither update-grub nor grubby"):
            _kernel_arguments.manage(kernel, ("a=b",), "present", False)
        assert not self.run(kernel, "quiet")["changed"]

    @pytest.mark.parametrize("name", ["", "a b", "a=$(id)", 'a="b', "a='b", "a`b`", "a\\b", "-a"])
    def test_what_a_shell_would_read_is_refused(self, kernel, name):
        with pytest.raises(Refusal, match="cannot be set as a kernel argument"):
            _kernel_arguments.manage(kernel, (name,), "present", False)

    def test_hugepages_keep_their_own(self, kernel, tree):
        tree.put("/etc/default/grub.d/90-diskengine-hugepages-2048kB.cfg", "theirs")
        self.run(kernel, "intel_iommu=on")
        self.run(kernel, "intel_iommu=on", state="absent")
        assert tree.get("/etc/default/grub.d/90-diskengine-hugepages-2048kB.cfg") == "theirs"


INTEL, AMD, ARM = "vendor_id\t: GenuineIntel\n", "vendor_id\t: AuthenticAMD\n", "CPU implementer\t: 0x41\n"
NEEDS_ARGUMENT = "give the kernel the argument intel_iommu=on, and restart the host"
TAKE_OFF = "take iommu=off from the kernel's arguments"
DMESG = "find out with dmesg (DMAR, AMD-Vi, SMMU) why the kernel does not use it"
IN_FIRMWARE = "in the firmware's setup, or give the virtual machine an IOMMU: the firmware describes none"


@pytest.mark.parametrize(
    "cpu, tables, arguments, missing, advice",
    [
        (INTEL, ["DMAR", "FACP"], "quiet", ["intel_iommu=on"], NEEDS_ARGUMENT),
        (INTEL, ["DMAR"], "intel_iommu=on", [], DMESG),
        (INTEL, ["FACP"], "quiet", ["intel_iommu=on"], f"switch on VT-d {IN_FIRMWARE}; {NEEDS_ARGUMENT}"),
        (INTEL, ["FACP"], "intel_iommu=on", [], f"switch on VT-d {IN_FIRMWARE}"),
        (INTEL, [], "quiet", ["intel_iommu=on"], NEEDS_ARGUMENT),
        (AMD, ["IVRS"], "quiet", [], DMESG),
        (AMD, ["FACP"], "quiet", [], f"switch on IOMMU (AMD-Vi), and SVM {IN_FIRMWARE}"),
        (AMD, ["IVRS"], "amd_iommu=off", [], "take amd_iommu=off from the kernel's arguments"),
        (AMD, ["DMAR"], "quiet", ["intel_iommu=on"], NEEDS_ARGUMENT),  # an emulated one
        (INTEL, ["DMAR"], "iommu=off", ["intel_iommu=on"], f"{TAKE_OFF}; {NEEDS_ARGUMENT}"),
        (ARM, ["FACP"], "quiet", [], f"switch on SMMU {IN_FIRMWARE}"),
        (ARM, [], "quiet", [], DMESG),
    ],
)
def test_what_the_iommu_lacks(tree, cpu, tables, arguments, missing, advice):
    tree.put("/proc/cpuinfo", f"processor\t: 0\n{cpu}")
    tree.put("/proc/cmdline", arguments)
    for name in tables:
        tree.put(f"/sys/firmware/acpi/tables/{name}", "")
    found = _iommu.observe(Host(str(tree.root)))
    assert (found.on, found.missing_arguments, found.advice) == (False, missing, advice)
    tree.add_nvme("0000:01:00.0", 0, group=4)
    found = _iommu.observe(Host(str(tree.root)))
    assert (found.on, found.missing_arguments, found.advice) == (True, [], "")


def test_a_kernel_that_knows_no_iommu(tree):
    tree.at("/sys/kernel/iommu_groups").rmdir()
    assert "built with IOMMU support" in _iommu.observe(Host(str(tree.root))).advice


@pytest.mark.parametrize(
    "text, family",
    [
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "debian"),
        ("ID=debian\n", "debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "rhel"),
        ('ID="rhel"\n', "rhel"),
        ('ID="sles"\nID_LIKE="suse"\n', "other"),
        ("", "other"),
    ],
)
def test_families(tree, text, family):
    tree.put("/etc/os-release", text)
    assert _info.look(Host(str(tree.root)), ())["os"]["family"] == family


def test_host_info(tree):
    tree.add_node(0, pages={2048: (8, 6, 0)})
    tree.add_node(1, memory_mib=1024)
    tree.add_node(2, memory_mib=0)
    tree.put(BOOT_FILE, "vfio_pci\n")
    found = _info.look(Host(str(tree.root)), ("vfio-pci", "msr", "uio"))
    assert found["kernel"]["release"] == "6.1.0-18-amd64"
    assert found["kernel"]["arguments"] == ["BOOT_IMAGE=/vmlinuz", "root=/dev/sda1", "quiet"]
    assert [node["node"] for node in found["numa_nodes"]] == [0, 1]
    assert found["numa_nodes"][0]["hugepages"] == [
        {"page_size": 2 << 20, "total": 8, "free": 6},
        {"page_size": 1 << 30, "total": 0, "free": 0},
    ]
    assert found["modules"] == [
        {"name": "vfio-pci", "state": "available", "at_boot": True},
        {"name": "msr", "state": "builtin", "at_boot": False},
        {"name": "uio", "state": "missing", "at_boot": False},
    ]
