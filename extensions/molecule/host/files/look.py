# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the host with what it should be, without the collection's own code. Prints what is wrong.

look.py bound|released: whether FREE0 and FREE1 are to be with SPDK, or all drives with the kernel.
"""

import os
import pwd
import subprocess
import sys
from pathlib import Path

IN_USE = {"MOUNTED", "SWAP", "LVM", "MD", "IDLE"}
FREE = {"FREE0", "FREE1"}
PAGES = {"bound": [288, 224], "released": [0, 0]}


def main(expected: str) -> int:
    pci = Path("/sys/bus/pci/drivers")
    pages = "hugepages/hugepages-2048kB/nr_hugepages"
    bound = sorted(pci.glob("vfio-pci/0000:*"))
    owners = {Path("/dev/vfio", os.path.basename(os.readlink(path / "iommu_group"))).stat().st_uid for path in bound}
    limit = subprocess.run(
        ["su", "spdk", "-s", "/bin/sh", "-c", "ulimit -l"], capture_output=True, text=True, check=False
    )
    left = [*Path("/etc/udev/rules.d").glob("*diskengine*"), *Path("/var/lib/diskengine").glob("pci/*")]
    found = {
        "drives of the kernel": {path.read_text().strip() for path in pci.glob("nvme/0000:*/nvme/nvme*/serial")},
        "device nodes": len(list(Path("/dev").glob("nvme*n1"))),
        "drives of vfio-pci": len(bound),
        "owners of them": owners,
        "pages of the nodes": [
            int(Path(f"/sys/devices/system/node/node{node}/{pages}").read_text()) for node in (0, 1)
        ],
        "locked memory": limit.stdout.strip(),
        "rules and records": bool(left),
        "mounted": Path("/srv/data/file").read_text(),
        "swap": "/dev/nvme" in Path("/proc/swaps").read_text(),
        "logical volume": Path("/dev/data/volume").exists(),
        "md": "raid1 nvme" in Path("/proc/mdstat").read_text(),
        "units that failed": subprocess.run(
            ["systemctl", "list-units", "--failed", "--no-legend"], capture_output=True, text=True, check=False
        ).stdout,
    }
    is_bound = expected == "bound"
    wanted = {
        "drives of the kernel": IN_USE if is_bound else IN_USE | FREE,
        "device nodes": 5 if is_bound else 7,
        "drives of vfio-pci": 2 if is_bound else 0,
        "owners of them": {pwd.getpwnam("spdk").pw_uid} if is_bound else set(),
        "pages of the nodes": PAGES[expected],
        "locked memory": "unlimited" if is_bound else found["locked memory"],
        "rules and records": is_bound,
        "mounted": "not to be lost\n",
        "swap": True,
        "logical volume": True,
        "md": True,
        "units that failed": "",
    }
    wrong = [what for what in wanted if found[what] != wanted[what]]
    for what in wrong:
        print(f"{what}: {found[what]!r}, not {wanted[what]!r}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
