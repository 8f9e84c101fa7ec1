# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules for a host return is what they document."""

from __future__ import annotations

from support.ansible import play, run_playbook
from support.documented import MODULES, differences, own_keys, returned
from support.sysfs import Tree

FREE, MOUNTED, TAKEN = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
RECORD = '{"driver": "nvme", "serial": "S", "model": "M", "size": 5, "namespaces": 1, "vendor": "", "device": ""}'
NQN = "nqn.2024-01.io.excloud:node1.disk1.vol1"
HOSTID = "0a6ae1a6-6d3c-4a94-b3a0-1d4cf4c0a001"
KEY = "DHHC-1:00:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0AAAAAA==:"
SECRET = {"hostnqn": f"nqn.2014-08.org.nvmexpress:uuid:{HOSTID}", "hostid": HOSTID, "dhchap_secret": KEY}
ELSEWHERE = {"spdk_service"}  # needs a systemd

# Tasks of one play; each name begins with the module. Those that end in "fails" do, and "check" is for a kernel only.
TASKS = {
    "host_info one": {"modules": ["vfio-pci", "msr"]},
    "nvme_disk_info one": {},
    "kernel_modules one": {"name": ["vfio-pci"]},
    "kernel_modules away": {"name": ["vfio-pci"], "state": "absent"},
    "kernel_modules fails": {"name": ["-r"]},
    "kernel_arguments one": {"arguments": ["iommu=pt"]},
    "kernel_arguments away": {"arguments": ["iommu=pt"], "state": "absent"},
    "kernel_arguments fails": {"arguments": ["a b"]},
    "hugepages one": {"count": 8, "persist": "unit", "mount": "/mnt/huge"},
    "hugepages away": {"count": 8, "persist": "none", "mount": "/mnt/huge"},
    "hugepages fails": {"count": 0},
    "nvme_connection one": {"connections": [{"nqn": NQN, "paths": [{"traddr": "10.0.1.11"}], **SECRET}]},
    "nvme_connection away": {"connections": [{"nqn": NQN, "state": "absent"}]},
    "nvme_connection fails": {"connections": [{"nqn": NQN}]},
    "nvme_discovery_info fails": {"portals": [{"traddr": "10.0.1.11"}]},
    "pci_vfio_bind check": {"devices": [{"bdf": FREE, "persist": "udev"}, {"bdf": TAKEN}]},
    "pci_vfio_bind away": {"bdf": FREE, "state": "released"},
    "pci_vfio_bind fails": {"devices": [{"bdf": FREE, "state": "released"}, {"bdf": MOUNTED}, {"serial": "none"}]},
}


def test_results_are_as_documented(tmp_path):
    tree = Tree(tmp_path / "host")
    tree.put("/usr/sbin/update-grub", "")
    tree.add_node(0)
    tree.add_driver("vfio-pci")
    tree.add_nvme(FREE, 0)
    tree.add_nvme(MOUNTED, 1)
    tree.mount("nvme1n1", "/data")
    tree.add_pci(TAKEN, driver="vfio-pci", group=30)
    for bdf in (FREE, "0000:77:00.0"):
        tree.put(f"/var/lib/diskengine/pci/{bdf}.json", RECORD)
    tasks = []
    for name, options in TASKS.items():
        task = {f"excloud.diskengine.{name.split()[0]}": {"root": str(tree.root), **options}, "ignore_errors": True}
        tasks += [{"name": name, "check_mode": True, **task}]
        tasks += [] if name.endswith("check") else [{"name": name, **task}]
    done = run_playbook(play(*tasks))
    assert "Traceback" not in done.output and KEY not in done.output
    wrong, seen = [], set()
    for event in done.events:
        module, failed = event["task"].split()[0], event["event"] == "ignored"
        if failed != event["task"].endswith("fails"):
            wrong.append(f"{event['task']}: {event['result'].get('msg', 'it did not fail')}")
        own = own_keys(module, event["result"])
        wrong += differences(returned(module), own, failed, False, event["task"])
        seen |= {module, *(f"{module}.{key}" for key in own)}
    assert not wrong, "\n".join(wrong)
    ours = {path.stem for path in MODULES.glob("*.py") if "  - excloud.diskengine.host\n" in path.read_text()}
    assert ours - ELSEWHERE == {name for name in seen if "." not in name}
    # Every top-level key that is documented came at least once.
    assert {f"{module}.{key}" for module in ours - ELSEWHERE for key in returned(module)} <= seen
