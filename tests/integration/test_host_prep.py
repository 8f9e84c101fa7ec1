# SPDX-License-Identifier: GPL-3.0-or-later
"""The role host_prep on a tree laid out like a bare host. A real kernel is for the virtual machine."""

from __future__ import annotations

import pytest
from support.ansible import play, run_playbook
from support.sysfs import Tree

MODULES = ("host_info", "kernel_modules", "kernel_arguments", "hugepages", "pci_vfio_bind")
FREE, MOUNTED = "0000:01:00.0", "0000:02:00.0"
LIMITS, DRIVES = "Let the user lock memory", "Take the drives from the kernel"


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path / "host")
    made.put("/etc/os-release", "ID=debian\n")
    made.put("/proc/cmdline", "quiet\n")
    made.put("/usr/sbin/update-grub", "")
    made.put("/sys/firmware/acpi/tables/DMAR", "")
    made.add_node(0)
    made.add_node(1)
    made.add_driver("vfio-pci")
    return made


def prepare(tree, check=False, times=1, **variables):
    variables = {"host_prep_packages": [], **variables}
    defaults = {f"excloud.diskengine.{name}": {"root": str(tree.root)} for name in MODULES}
    plays = play(module_defaults=defaults, vars=variables, roles=["excloud.diskengine.host_prep"]) * times
    return run_playbook(plays, check=check, diff=True)


def test_preview_of_a_bare_host(tree):
    """All of it in one run: each write is told, and none is made."""
    tree.add_nvme(FREE, 0)
    tree.put("/etc/passwd", "nobody:x:65534:65534::/:/bin/false\n")
    before = tree.snapshot()
    done = prepare(
        tree,
        check=True,
        host_prep_kernel_arguments=["iommu=pt"],
        host_prep_hugepages=[
            {"page_size": "2MiB", "count": 8, "mount": "/mnt/huge"},
            {"page_size": "1GiB", "state": "absent"},
        ],
        host_prep_user="nobody",
        host_prep_drives=[{"bdf": FREE}],
    )
    assert done.rc == 0, done.output
    writes = [
        [step["path"].rsplit("/", 1)[1] if step["kind"] != "command" else step["path"] for step in result["writes"]]
        for event in done.events
        for result in event["result"].get("results", [event["result"]])
        if "writes" in result
    ]
    assert writes == [
        ["90-diskengine-arguments.cfg", "arguments.kernel_args"],
        ["diskengine.conf"],
        ["nr_hugepages"] * 2 + ["mnt-huge.mount"] * 2 + ["diskengine-hugepages-2048kB.service"] * 2,
        [],
        [step["path"].rsplit("/", 1)[1] for step in done.result(DRIVES)["results"][0]["writes"]],
    ]
    (drive,) = done.result(DRIVES)["results"]
    assert drive["after"] == {"driver": "vfio-pci", "at_boot": True, "owner": 65534}
    assert "uid=65534" in done.result("Set hugepages")["results"][0]["writes"][2]["value"]
    assert done.result(LIMITS)["changed"]
    assert "the running kernel has not iommu=pt; restart the host" in done.output
    assert tree.snapshot() == before


def test_twice(tree):
    tree.add_nvme(FREE, 0)
    done = prepare(tree, times=2, host_prep_hugepages=[{"count": 8}], host_prep_kernel_arguments=["iommu=pt"])
    assert done.rc == 0, done.output
    changed = {event["task"]: [] for event in done.events}
    for event in done.events:
        changed[event["task"]].append(event["result"]["changed"])
    assert [name for name, values in changed.items() if values[0]] == [
        "excloud.diskengine.host_prep : Give the kernel of the next boot its arguments",
        "excloud.diskengine.host_prep : Load kernel modules, now and at boot",
        "excloud.diskengine.host_prep : Set hugepages",
    ]
    assert not [name for name, values in changed.items() if values[1]]
    assert (tree.pages(0)[0], tree.pages(1)[0]) == (4, 4)
    assert tree.get("/etc/modules-load.d/diskengine.conf").splitlines()[1:] == ["vfio-pci"]


def test_without_an_iommu(tree):
    """One sentence with what is missing; nothing was touched but the arguments that would help."""
    tree.put("/proc/cpuinfo", "vendor_id\t: GenuineIntel\n")
    done = prepare(tree, host_prep_hugepages=[{"count": 8}])
    said = done.result("Refuse a host without an IOMMU")["msg"]
    assert said.startswith(
        "The IOMMU of this host is off, so SPDK could not have drives safely: give the kernel the argument "
        "intel_iommu=on, and restart the host. "
    )
    assert done.rc and tree.pages(0)[0] == 0
    done = prepare(tree, host_prep_hugepages=[{"count": 8}], host_prep_iommu_required=False)
    assert done.rc == 0 and tree.pages(0)[0] == 4, done.output


def test_an_unknown_distribution(tree):
    tree.put("/etc/os-release", "ID=sles\n")
    tree.add_nvme(FREE, 0)
    defaults = {"excloud.diskengine.host_info": {"root": str(tree.root)}}
    done = run_playbook(play(module_defaults=defaults, roles=["excloud.diskengine.host_prep"]), check=True)
    assert "The packages for sles are not known; name them in host_prep_packages" in done.output and done.rc


@pytest.mark.parametrize(
    "variables, said",
    [
        ({"host_prep_hugepages": [{"count": 8, "pagesize": "1GiB"}]}, "pagesize"),
        ({"host_prep_drives": [{"bdf": FREE, "lift": ["mounted"]}]}, "value of lift must be one or more of"),
        ({"host_prep_kernel_modules": ["vfio pci"]}, "'vfio pci' is not the name of a kernel module"),
        ({"host_prep_drives": [{"bdf": MOUNTED}]}, f"{MOUNTED} (serial SERIAL1): it is not bound to vfio-pci: mounted"),
    ],
    ids=str,
)
def test_refused(tree, variables, said):
    tree.add_nvme(FREE, 0)
    tree.add_nvme(MOUNTED, 1)
    tree.mount("nvme1n1", "/data")
    done = prepare(tree, check=True, **variables)
    assert done.rc and said in done.output and "Traceback" not in done.output
