# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees laid out like a kernel's /sys, /proc and /dev, and a kernel that reacts to what is written into them.

The shapes are those of Linux 6.x: devices below a root port in /sys/devices, and links to them with relative targets
everywhere else; driver_override reads "(null)" when it is not set; a namespace with native multipath is a hidden path
nvme0c0n1 below its controller and a head nvme0n1 below the virtual subsystem.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host, HostError

NVME, BRIDGE, NETWORK = "0x010802", "0x060400", "0x020000"
MIB = 1 << 20
BOOT_PROCESS = 1
MODEL = "QEMU NVMe Ctrl"
PORT = "/sys/devices/pci0000:00/0000:00:01.0"


class Tree:
    """Builds below a directory. Names are absolute paths of the host."""

    def __init__(self, root):
        self.root = Path(root)
        self._minor = 0
        self.connected = []  # controllers over fabrics
        self.heads = {}  # number of the block device by NQN
        self.put("/proc/self/mountinfo", "")
        self.put("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n")
        self.put("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        for directory in ("/sys/class/block", "/sys/block", "/sys/class/nvme", "/sys/kernel/iommu_groups", "/dev/vfio"):
            self.at(directory).mkdir(parents=True)
        self.put(f"{PORT}/class", f"{BRIDGE}\n")
        self.link(f"/sys/bus/pci/devices/{os.path.basename(PORT)}", PORT)
        self.add_driver("nvme")
        self.put("/sys/bus/pci/drivers_probe", "")
        self.put("/lib/modules/6.1.0-18-amd64/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko: a.ko\n")
        self.add_process(BOOT_PROCESS, "systemd")
        self.mount("0:21", "/proc", "proc", "proc")

    # --- files ---

    def at(self, name):
        return self.root / name.lstrip("/")

    def put(self, name, text):
        path = self.at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(text, encoding="utf-8")

    def get(self, name):
        return self.at(name).read_text(encoding="utf-8")

    def link(self, name, target):
        """A relative link to another name of the tree, as in sysfs."""
        path = self.at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(self.at(target), path.parent))

    def raw_link(self, name, target):
        """A link that says just this, as in /proc."""
        path = self.at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def snapshot(self):
        """All files with their text, and links with their target, but for data of drives."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file() and not name.startswith("dev/nvme"):
                found[name] = path.read_text(encoding="utf-8", errors="replace")
        return found

    # --- memory ---

    def add_node(self, node, memory_mib=8192, pages=None):
        """A NUMA node. pages: page size in KiB to (total, free, surplus)."""
        base = f"/sys/devices/system/node/node{node}"
        total = memory_mib * 1024
        self.put(
            f"{base}/meminfo",
            f"Node {node} MemTotal:       {total} kB\nNode {node} MemFree:        {total // 2} kB\n"
            f"Node {node} HugePages_Total:     0\n",
        )
        for kib in (2048, 1048576):
            numbers = (pages or {}).get(kib, (0, 0, 0))
            for name, value in zip(("nr_hugepages", "free_hugepages", "surplus_hugepages"), numbers):
                self.put(f"{base}/hugepages/hugepages-{kib}kB/{name}", f"{value}\n")
            self.put(f"/sys/kernel/mm/hugepages/hugepages-{kib}kB/resv_hugepages", "0\n")
        text = f"MemTotal:       {total} kB\nMemFree:        {total // 2} kB\nHugepagesize:       2048 kB\n"
        self.put("/proc/meminfo", text)
        self.put("/proc/sys/vm/compact_memory", "")
        self.put("/proc/sys/vm/drop_caches", "0\n")

    def pages(self, node, kib=2048):
        base = f"/sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB"
        return tuple(int(self.get(f"{base}/{name}_hugepages")) for name in ("nr", "free", "surplus"))

    # --- PCI ---

    def add_driver(self, name):
        for file in ("bind", "unbind", "new_id", "remove_id"):
            self.put(f"/sys/bus/pci/drivers/{name}/{file}", "")

    def add_pci(self, bdf, pci_class=NVME, driver="", group=None, vendor="0x1b36", device="0x0010", numa_node=0):
        base = f"{PORT}/{bdf}"
        for name, value in {
            "class": pci_class,
            "vendor": vendor,
            "device": device,
            "subsystem_vendor": "0x1af4",
            "subsystem_device": "0x1100",
            "numa_node": numa_node,
            "driver_override": "(null)",
            "modalias": f"pci:v0000{vendor[2:].upper()}d0000{device[2:].upper()}sv00001AF4sd00001100bc01sc08i02",
        }.items():
            self.put(f"{base}/{name}", f"{value}\n")
        self.link(f"/sys/bus/pci/devices/{bdf}", base)
        if group is not None:
            self.link(f"/sys/kernel/iommu_groups/{group}/devices/{bdf}", base)
            self.link(f"{base}/iommu_group", f"/sys/kernel/iommu_groups/{group}")
        if driver:
            self.bind(bdf, driver)

    def bind(self, bdf, driver):
        if not self.at(f"/sys/bus/pci/drivers/{driver}").is_dir():
            self.add_driver(driver)
        self.link(f"{PORT}/{bdf}/driver", f"/sys/bus/pci/drivers/{driver}")
        self.link(f"/sys/bus/pci/drivers/{driver}/{bdf}", f"{PORT}/{bdf}")

    def unbind(self, bdf):
        driver = self.at(f"{PORT}/{bdf}/driver")
        name = os.path.basename(os.readlink(driver))
        driver.unlink()
        self.at(f"/sys/bus/pci/drivers/{name}/{bdf}").unlink()
        return name

    # --- NVMe ---

    def add_nvme(self, bdf, number, serial=None, namespaces=(64 * MIB,), multipath=False, model=MODEL, **pci):
        """A drive with the kernel's driver. Its namespaces are empty files of their size in /dev."""
        self.add_pci(bdf, driver="nvme", group=pci.pop("group", 10 + number), **pci)
        self.add_controller(bdf, number, serial or f"SERIAL{number}", namespaces, multipath, model)

    def add_controller(self, bdf, number, serial, namespaces, multipath=False, model=MODEL):
        name = f"nvme{number}"
        base = f"{PORT}/{bdf}/nvme/{name}"
        for file, value in {
            "serial": f"{serial:<20}",
            "model": f"{model:<40}",
            "firmware_rev": "8.2.0   ",
            "transport": "pcie",
            "address": bdf,
            "state": "live",
            "dev": f"240:{number}",
        }.items():
            self.put(f"{base}/{file}", f"{value}\n")
        self.link(f"{base}/device", f"{PORT}/{bdf}")
        self.link(f"/sys/class/nvme/{name}", base)
        self.put(f"/dev/{name}", "")
        for nsid, size in enumerate(namespaces, start=1):
            block = f"{name}n{nsid}"
            home = base
            if multipath:
                home = f"/sys/devices/virtual/nvme-subsystem/nvme-subsys{number}"
                self.put(f"{base}/{name}c{number}n{nsid}/hidden", "1\n")
                self.put(f"{base}/{name}c{number}n{nsid}/nsid", f"{nsid}\n")
            self.put(f"{home}/{block}/nsid", f"{nsid}\n")
            self.put(f"{home}/{block}/wwid", f"nvme.1b36-{serial}-{nsid}\n")
            self.put(f"{home}/{block}/queue/logical_block_size", "512\n")
            self.put(f"{home}/ng{number}n{nsid}/dev", f"241:{nsid}\n")
            self.add_block(block, f"{home}/{block}", size)
            if not self.at(f"/dev/ng{number}n{nsid}").exists():
                self.put(f"/dev/ng{number}n{nsid}", "")

    def remove_controller(self, bdf):
        for path in self.at(f"{PORT}/{bdf}/nvme").iterdir():
            name = path.name
            heads = self.at(f"/sys/devices/virtual/nvme-subsystem/nvme-subsys{name[4:]}")
            shutil.rmtree(path)
            shutil.rmtree(heads, ignore_errors=True)
            for directory in ("/sys/class/nvme", "/sys/class/block", "/sys/block"):
                for entry in self.at(directory).iterdir():
                    if entry.name == name or entry.name.startswith(f"{name}n"):
                        entry.unlink()
            for entry in self.at("/dev").iterdir():
                if entry.name == name or entry.name.startswith((f"{name}n", f"ng{name[4:]}n")):
                    entry.rename(entry.with_name(f".gone-{entry.name}"))
        self.at(f"{PORT}/{bdf}/nvme").rmdir()

    # --- NVMe over fabrics ---

    def connect(self, given, state="live", empty=False):
        """A path that the kernel's initiator has, with native multipath. ``given`` is as nvme connect has it."""
        number = next(n for n in range(100) if f"nvme{n}" not in os.listdir(self.at("/sys/class/nvme")))
        name, base = f"nvme{number}", f"/sys/devices/virtual/nvme-fabrics/ctl/nvme{number}"
        parts = [
            f"{key.replace('-', '_')}={given[key]}"
            for key in ("traddr", "trsvcid", "host-traddr", "host-iface")
            if key in given
        ]
        for file, value in {
            "subsysnqn": given["nqn"],
            "transport": given["transport"],
            "address": ",".join(parts),
            "state": state,
            "hostnqn": given.get("hostnqn") or self.get("/etc/nvme/hostnqn").strip(),
        }.items():
            self.put(f"{base}/{file}", f"{value}\n")
        self.link(f"/sys/class/nvme/{name}", base)
        self.connected.append(name)
        if empty:
            return
        head = self.heads.setdefault(given["nqn"], number)
        self.put(f"{base}/nvme{head}c{number}n1/hidden", "1\n")
        if not self.at(f"/sys/class/block/nvme{head}n1").exists():
            home = f"/sys/devices/virtual/nvme-subsystem/nvme-subsys{head}"
            self.add_block(f"nvme{head}n1", f"{home}/nvme{head}n1", 64 * MIB)

    def disconnect(self, name):
        """The path is gone; the block device stays, as it does while there is another one."""
        self.at(f"/sys/class/nvme/{name}").unlink()
        shutil.rmtree(self.at(f"/sys/devices/virtual/nvme-fabrics/ctl/{name}"))
        self.connected.remove(name)

    # --- block devices ---

    def add_block(self, name, home, size, partition=None):
        self._minor += 1
        self.put(f"{home}/size", f"{size // 512}\n")
        self.put(f"{home}/dev", f"259:{self._minor}\n")
        for directory in ("holders", "slaves"):
            self.at(f"{home}/{directory}").mkdir(parents=True)
        if partition is None:
            self.link(f"/sys/block/{name}", home)
        else:
            self.put(f"{home}/partition", f"{partition}\n")
        self.link(f"/sys/class/block/{name}", home)
        node, gone = self.at(f"/dev/{name}"), self.at(f"/dev/.gone-{name}")
        if gone.exists():
            gone.rename(node)
        else:
            node.parent.mkdir(exist_ok=True)
            with open(node, "wb") as file:
                file.truncate(size)

    def home(self, block):
        return "/" + str(self.at(f"/sys/class/block/{block}").resolve().relative_to(self.root.resolve()))

    def add_partition(self, block, number, size=16 * MIB):
        name = f"{block}p{number}" if block[-1].isdigit() else f"{block}{number}"
        self.add_block(name, f"{self.home(block)}/{name}", size, number)
        return name

    def add_virtual(self, name, *slaves, size=16 * MIB, dm_uuid=None, dm_name=None):
        """A dm, md or bcache device on others."""
        self.add_block(name, f"/sys/devices/virtual/block/{name}", size)
        if dm_uuid is not None:
            self.put(f"{self.home(name)}/dm/uuid", f"{dm_uuid}\n")
            self.put(f"{self.home(name)}/dm/name", f"{dm_name}\n")
        for slave in slaves:
            self.link(f"{self.home(slave)}/holders/{name}", self.home(name))
            self.link(f"{self.home(name)}/slaves/{slave}", self.home(slave))
        return name

    def number(self, block):
        return self.get(f"{self.home(block)}/dev").strip()

    def write(self, block, offset, data):
        """Put data on a device; a negative offset counts from its end."""
        with open(self.at(f"/dev/{block}"), "r+b") as file:
            file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
            file.write(data)

    # --- processes ---

    def add_process(self, pid, command, opened=(), namespace="mnt:[4026531840]"):
        self.put(f"/proc/{pid}/comm", f"{command}\n")
        self.put(f"/proc/{pid}/mountinfo", "")
        self.raw_link(f"/proc/{pid}/ns/mnt", namespace)
        self.at(f"/proc/{pid}/fd").mkdir()
        for number, target in enumerate(("/dev/null", "socket:[77]", *opened)):
            self.raw_link(f"/proc/{pid}/fd/{number}", target)

    def mount(self, number, point, filesystem="ext4", source=None, root="/", pid=BOOT_PROCESS):
        """A mount. number is major:minor, or the name of a block device."""
        if ":" not in number:
            source = source or f"/dev/{number}"
            number = self.number(number)
        path = self.at(f"/proc/{pid}/mountinfo")
        line = f"36 35 {number} {root} {point} rw,noatime shared:1 - {filesystem} {source or 'none'} rw\n"
        path.write_text(path.read_text() + line)

    def swap_on(self, path):
        self.at("/proc/swaps").write_text(f"{self.get('/proc/swaps')}{path}\tpartition\t1048572\t0\t-2\n")


class Kernel(Host):
    """A host whose kernel reacts to writes. Records what was written and run, in order."""

    def __init__(self, tree, programs=("modprobe", "udevadm", "systemctl", "mount", "mkdir", "umount", "update-grub")):
        super().__init__(str(tree.root))
        self.live = True
        self.tree = tree
        self.programs = set(programs)
        self.done = []
        self.attempts = []
        self.claimed = set()
        self.users = {"spdk": 993}
        self.owners = {}
        self.capacity = {}  # most pages by node
        self.compactable = {}  # pages that a compaction adds to the capacity
        self.refuses = set()  # drivers whose probe fails
        self.slow = 0  # seconds until a namespace is there after a probe
        self.broken = set()  # paths whose write fails
        self._drives = {}
        self._later = []
        self._time = 0.0

    def program(self, name):
        return name in self.programs

    def user_id(self, user):
        return self.users.get(user)

    def owner(self, name):
        return self.owners.get(name, 0) if self.exists(name) else None

    def claim(self, name):
        if os.path.basename(name) in self.claimed:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return super().claim(name)

    def now(self):
        return self._time

    def sleep(self, seconds):
        self._time += seconds
        for due, action in list(self._later):
            if due <= self._time:
                self._later.remove((due, action))
                action()

    def do(self, step):
        if step.kind != "command":
            self.done.append(step)
        super().do(step)

    def run(self, arguments):
        self.done.append(arguments)
        line = " ".join(arguments)
        if line in self.broken:
            raise HostError(f"{line} failed with 1: it said nothing")
        if arguments[0] == "modprobe":
            self.tree.put(f"/sys/module/{arguments[-1].replace('-', '_')}/initstate", "live\n")
        if arguments[0] == "modprobe" and not self.exists(f"/sys/bus/pci/drivers/{arguments[-1]}"):
            self.tree.add_driver(arguments[-1])
            self.tree.put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n")
        if arguments[0] == "mount":
            self.tree.mount("0:50", arguments[-1], "hugetlbfs", pid="self")
            path = self.tree.at("/proc/self/mountinfo")
            path.write_text(path.read_text()[:-3] + f"rw,{arguments[4]}\n")
        if arguments[0] == "umount":
            path = self.tree.at("/proc/self/mountinfo")
            path.write_text("".join(line for line in path.read_text().splitlines(True) if arguments[1] not in line))
        return ""

    def _own(self, name, user):
        if not self.exists(name):
            raise OSError(errno.ENOENT, "No such file or directory")
        self.owners[name] = self.users[user]

    def write(self, name, value):
        if name in self.broken:
            raise OSError(errno.EACCES, "Permission denied")
        file = os.path.basename(name)
        if file == "nr_hugepages":
            self._set_pages(name, int(value))
        elif file == "compact_memory":
            for node, pages in self.compactable.items():
                self.capacity[node] = self.capacity.get(node, 0) + pages
            self.compactable = {}
        elif file == "driver_override":
            self.tree.put(name, f"{value or '(null)'}\n")
        elif file == "unbind":
            self._unbind(value)
        elif file == "drivers_probe":
            self._probe(value)
        else:
            super().write(name, value)

    def _set_pages(self, name, wanted):
        node = int(name.split("/node/node")[1].split("/")[0])
        directory = os.path.dirname(name)
        numbers = [f"{directory}/{part}_hugepages" for part in ("nr", "free", "surplus")]
        total, free, _surplus = (int(self.tree.get(path)) for path in numbers)
        used = total - free
        wanted = min(wanted, max(self.capacity.get(node, 1 << 40), total)) if wanted > total else wanted
        total = max(wanted, used)
        for path, value in zip(numbers, (total, total - used, total - wanted)):
            self.tree.put(path, f"{value}\n")

    def _unbind(self, bdf):
        if self.tree.unbind(bdf) == "nvme":
            base = self.tree.at(f"{PORT}/{bdf}/nvme")
            (controller,) = base.iterdir()
            sizes = [int(path.read_text()) * 512 for path in sorted(controller.glob(f"{controller.name}n*/size"))]
            serial, model = ((controller / name).read_text().strip() for name in ("serial", "model"))
            self._drives[bdf] = (int(controller.name[4:]), serial, sizes, False, model)
            self.tree.remove_controller(bdf)

    def _probe(self, bdf):
        if self.exists(f"/sys/bus/pci/devices/{bdf}/driver"):
            return
        override = self.tree.get(f"/sys/bus/pci/devices/{bdf}/driver_override").strip()
        driver = "nvme" if override == "(null)" else override
        if driver in self.refuses or not self.exists(f"/sys/bus/pci/drivers/{driver}"):
            return  # the kernel says nothing
        self.tree.bind(bdf, driver)
        if driver == "nvme":
            drive = self._drives.get(bdf, (9, "UNKNOWN", [64 * MIB], False, MODEL))
            if self.slow:
                self._later.append((self._time + self.slow, lambda: self.tree.add_controller(bdf, *drive)))
            else:
                self.tree.add_controller(bdf, *drive)
        elif driver == "vfio-pci":
            group = os.path.basename(os.readlink(self.path(f"/sys/bus/pci/devices/{bdf}/iommu_group")))
            self.tree.put(f"/dev/vfio/{group}", "")
