# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVMe controllers on PCI, their namespaces, and who uses these: read once, judged elsewhere. Private."""

from __future__ import annotations

import json
import os
import re
import sys
from functools import partial
from typing import NamedTuple, Optional

from . import _iommu
from ._host import STATE, Host
from ._iommu import GROUPS
from ._kernel_modules import module_states
from ._signatures import signatures

DEVICES = "/sys/bus/pci/devices"
DRIVERS = "/sys/bus/pci/drivers"
NOIOMMU = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
USERSPACE = ("vfio-pci", "uio_pci_generic", "igb_uio")

NVME_CLASS = "0x0108"
_BRIDGE_CLASS = "0x06"
_BLOCK = "/sys/class/block"
_BOOT_POINTS = {"/", "/boot", "/boot/efi", "/efi", "/usr", "/sysroot"}
_NAMESPACE = re.compile(r"nvme(\d+)(?:c\d+)?n(\d+)\Z")


class Mount(NamedTuple):
    """One mount in one process's view."""

    number: str
    point: str
    filesystem: str
    source: str
    pid: int


class Block(NamedTuple):
    """A block device, and everything that is built on it."""

    name: str
    size: int
    number: str
    above: tuple  # names of all devices on it: partitions, their holders, the holders of these, ...
    partitions: tuple
    holders: tuple  # (the part of it that is held, the holder, what kind that is)


class Namespace(NamedTuple):
    """One namespace of a controller. ``found`` holds what signatures each part has, or why it cannot be read."""

    block: Block
    nsid: int
    block_size: int
    wwid: str
    claimed: bool
    found: tuple  # (device, Signature)
    unreadable: tuple  # (device, why)


class Controller(NamedTuple):
    """A controller as the kernel's driver shows it."""

    name: str
    serial: str
    model: str
    firmware: str
    state: str
    namespaces: tuple
    nodes: tuple  # device nodes that reach it: /dev/nvme0, /dev/nvme0n1, /dev/ng0n1, ...


class Peer(NamedTuple):
    """Another device in the IOMMU group."""

    bdf: str
    pci_class: str
    driver: str

    @property
    def is_bridge(self) -> bool:
        """Bridges may keep their driver."""
        return self.pci_class.startswith(_BRIDGE_CLASS)


class Record(NamedTuple):
    """What was known of a device when it was taken from the kernel."""

    driver: str = ""
    serial: str = ""
    model: str = ""
    size: int = 0
    namespaces: int = 0
    vendor: str = ""
    device: str = ""


class Device(NamedTuple):
    """One PCI function."""

    bdf: str
    pci_class: str
    vendor: str
    device: str
    driver: str
    override: str
    numa_node: int
    group: str
    peers: tuple
    controller: Optional[Controller]
    record: Optional[Record]
    rules: dict  # text of each udev rule that is ours and of what it runs, by path

    @property
    def is_nvme(self) -> bool:
        """Whether it is an NVMe controller, by class."""
        return self.pci_class.startswith(NVME_CLASS)

    @property
    def serial(self) -> str:
        """The serial number, as the kernel sees it or saw it last."""
        return self.controller.serial if self.controller else self.record.serial if self.record else ""


class System(NamedTuple):
    """The host: everything that guards look at."""

    devices: dict  # by BDF
    mounts: tuple
    swaps: tuple  # names of block devices, or paths of files
    opened: dict  # path or number of a device to {process, ...}
    btrfs: tuple  # names of block devices that belong to a mounted btrfs
    iommu: bool
    iommu_advice: str  # what to do to have it on
    noiommu: bool
    drivers: frozenset  # drivers that are loaded
    modules: frozenset  # of the drivers that matter, those that could be loaded
    names: dict  # block device name by number, and by path in /dev
    programs: frozenset
    python: str  # the interpreter
    node_owners: dict  # user ID by /dev/vfio/<group>
    user_ids: dict  # ID by name


def record_path(bdf: str) -> str:
    """Return where what was known of a device is kept."""
    return f"{STATE}/pci/{bdf}.json"


class RulePaths(NamedTuple):
    """The files of our udev rules for a device, and of the programs that they run; each for one purpose."""

    bdf: str
    serial: str

    @property
    def by_bdf(self) -> str:
        """The driver at boot, for what is at the address."""
        return f"/etc/udev/rules.d/60-diskengine-{self.bdf.replace(':', '-')}.rules"

    @property
    def by_serial(self) -> str:
        """The driver at boot, for the drive with the serial wherever it is; empty without a serial."""
        name = re.sub(r"[^A-Za-z0-9._-]", "_", self.serial)
        return f"/etc/udev/rules.d/60-diskengine-serial-{name}.rules" if self.serial else ""

    @property
    def user(self) -> str:
        """Who may open the device."""
        return f"/etc/udev/rules.d/60-diskengine-{self.bdf.replace(':', '-')}-user.rules"

    @property
    def all(self) -> tuple:
        """Every file, in the order in which they are written: what a rule runs comes before it."""
        drivers = [part for path in (self.by_bdf, self.by_serial) if path for part in (program_of(path), path)]
        return (*drivers, self.user)


def program_of(rule: str) -> str:
    """Return the file of the program that a rule for a driver runs."""
    return rule[: -len("rules")] + "py"


def read_record(text: Optional[str]) -> Optional[Record]:
    """Return the record in a text, or None when there is none that can be read."""
    try:
        values = json.loads(text or "")
        return Record(**{name: type(Record._field_defaults[name])(values[name]) for name in Record._fields})
    except (ValueError, KeyError, TypeError):
        return None


# --- reading ---


def observe(host: Host, users: tuple = (), bdfs: tuple = ()) -> System:
    """Read all NVMe controllers of the host, the devices ``bdfs`` as well, and who uses what."""
    # First the names of all block devices, because mounts and holders speak in them.
    blocks = {name: host.read(f"{_BLOCK}/{name}/dev") or "" for name in host.names(_BLOCK)}
    names = {number: name for name, number in blocks.items() if number}
    devices = {}
    for bdf in host.names(DEVICES):
        pci_class = host.read(f"{DEVICES}/{bdf}/class") or ""
        if pci_class.startswith(NVME_CLASS) or bdf in bdfs:
            devices[bdf] = _device(host, bdf, pci_class)
    mounts = tuple(_mounts(host))
    sources = {source for mount in mounts for source in _sources(mount.source)}
    swaps = tuple(_swaps(host))
    for path in sources | set(swaps):
        if path.startswith("/dev/"):
            name = host.real_name(path)
            names[path] = name if name in blocks else names.get(host.device_number(path), name)
    iommu = _iommu.observe(host)
    nodes = [f"/dev/vfio/{prefix}{device.group}" for device in devices.values() for prefix in ("", "noiommu-")]
    drivers = frozenset(host.names(DRIVERS))
    return System(
        devices=devices,
        mounts=mounts,
        swaps=swaps,
        opened=_opened(host),
        btrfs=tuple(
            host.linked(f"/sys/fs/btrfs/{pool}/devices/{name}") or name
            for pool in host.names("/sys/fs/btrfs")
            for name in host.names(f"/sys/fs/btrfs/{pool}/devices")
        ),
        iommu=iommu.on,
        iommu_advice=iommu.advice,
        noiommu=(host.read(NOIOMMU) or "N") in ("Y", "1"),
        drivers=drivers,
        modules=frozenset(
            name for name, state in module_states(host, (*USERSPACE, "nvme")).items() if state != "missing"
        ),
        names=names,
        programs=frozenset(name for name in ("modprobe", "udevadm") if host.program(name)),
        python=sys.executable if host.live else "/usr/bin/python3",
        node_owners={path: host.owner(path) for path in nodes},
        user_ids={user: host.user_id(user) for user in users},
    )


def _device(host: Host, bdf: str, pci_class: str) -> Device:
    base = f"{DEVICES}/{bdf}"
    group = host.linked(f"{base}/iommu_group")
    peers = [
        Peer(peer, host.read(f"{DEVICES}/{peer}/class") or "", host.linked(f"{DEVICES}/{peer}/driver"))
        for peer in (host.names(f"{GROUPS}/{group}/devices") if group else ())
        if peer != bdf
    ]
    override = host.read(f"{base}/driver_override") or ""
    controllers = host.names(f"{base}/nvme")
    device = Device(
        bdf=bdf,
        pci_class=pci_class,
        vendor=host.read(f"{base}/vendor") or "",
        device=host.read(f"{base}/device") or "",
        driver=host.linked(f"{base}/driver"),
        override="" if override == "(null)" else override,
        numa_node=host.number(f"{base}/numa_node", -1),
        group=group,
        peers=tuple(peers),
        controller=_controller(host, f"{base}/nvme/{controllers[0]}", controllers[0]) if controllers else None,
        record=read_record(host.read(record_path(bdf))),
        rules={},
    )
    paths = RulePaths(bdf, device.serial)
    texts = {path: host.content(path) for path in paths.all}
    return device._replace(rules={path: text for path, text in texts.items() if text is not None})


def heads_of(host: Host, base: str) -> dict:
    """Return by block device which namespaces a controller shows, and where each is below it."""
    heads = {}
    for entry in host.names(base):
        match = _NAMESPACE.match(entry)
        if match:  # a hidden path nvme0c1n2 belongs to the head nvme0n2
            heads[f"nvme{match.group(1)}n{match.group(2)}"] = f"{base}/{entry}"
    return heads


def nodes_of(name: str, blocks: list) -> tuple:
    """Return the device nodes that reach a controller and its block devices."""
    nodes = [f"/dev/{name}"]
    for block in blocks:
        nodes.append("/dev/ng" + block.name[len("nvme") :])
        nodes += [f"/dev/{part}" for part in (block.name, *block.partitions)]
    return tuple(nodes)


def _controller(host: Host, base: str, name: str) -> Controller:
    namespaces = [_namespace(host, head, path) for head, path in sorted(heads_of(host, base).items())]
    return Controller(
        name=name,
        serial=host.read(f"{base}/serial") or "",
        model=host.read(f"{base}/model") or "",
        firmware=host.read(f"{base}/firmware_rev") or "",
        state=host.read(f"{base}/state") or "",
        namespaces=tuple(namespaces),
        nodes=nodes_of(name, [namespace.block for namespace in namespaces]),
    )


def _namespace(host: Host, name: str, path: str) -> Namespace:
    block = read_block(host, name)
    found: list = []
    unreadable: list = []
    for part in (name, *block.partitions):
        node, size = f"/dev/{part}", host.number(f"{_BLOCK}/{part}/size") * 512
        if not size:
            continue
        try:
            read = signatures(partial(host.bytes_at, node), size)
            found += [(part, signature) for signature in read]
        except OSError as error:
            unreadable.append((part, error.strerror or "error"))
    return Namespace(
        block=block,
        nsid=host.number(f"{path}/nsid"),
        block_size=host.number(f"{_BLOCK}/{name}/queue/logical_block_size"),
        wwid=host.read(f"{_BLOCK}/{name}/wwid") or "",
        claimed=host.is_claimed(f"/dev/{name}"),
        found=tuple(found),
        unreadable=tuple(unreadable),
    )


def read_block(host: Host, name: str) -> Block:
    """Return a block device with all that is built on it; nothing is read from the device itself."""
    partitions = [part for part in host.names(f"{_BLOCK}/{name}") if host.exists(f"{_BLOCK}/{name}/{part}/partition")]
    above, holders = list(partitions), []
    todo = [name, *partitions]
    while todo:
        part = todo.pop(0)
        for holder in host.names(f"{_BLOCK}/{part}/holders"):
            holders.append((part, holder, _kind(host, holder)))
            if holder not in above:
                above.append(holder)
                todo.append(holder)
                inner = [p for p in host.names(f"{_BLOCK}/{holder}") if host.exists(f"{_BLOCK}/{holder}/{p}/partition")]
                above += inner
                todo += inner
    return Block(
        name=name,
        size=host.number(f"{_BLOCK}/{name}/size") * 512,
        number=host.read(f"{_BLOCK}/{name}/dev") or "",
        above=tuple(above),
        partitions=tuple(partitions),
        holders=tuple(holders),
    )


def _kind(host: Host, name: str) -> str:
    identity = host.read(f"{_BLOCK}/{name}/dm/uuid")
    if identity is not None:
        label = host.read(f"{_BLOCK}/{name}/dm/name") or name
        kinds = {"LVM-": "the logical volume", "CRYPT-": "the encrypted volume", "mpath-": "the multipath device"}
        for prefix, kind in kinds.items():
            if identity.startswith(prefix):
                return f"{kind} {label}"
        return f"the device-mapper device {label}"
    if host.exists(f"{_BLOCK}/{name}/md") or re.match(r"md[\d_]", name):
        return f"the md RAID {name}"
    return f"the bcache {name}" if name.startswith("bcache") else f"the device {name}"


def _mounts(host: Host) -> list:
    found, seen = [], set()
    processes = sorted(int(name) for name in host.names("/proc") if name.isdigit())
    for pid in processes:
        namespace = host.link(f"/proc/{pid}/ns/mnt")
        if namespace and namespace in seen:
            continue
        text = host.read(f"/proc/{pid}/mountinfo")
        if text is None:
            continue
        seen.add(namespace)
        for line in text.splitlines():
            first, _dash, last = line.partition(" - ")
            left, right = first.split(" "), last.split(" ")
            if len(left) > 4 and len(right) > 1:
                found.append(Mount(left[2], _plain(left[4]), right[0], _plain(right[1]), pid))
    return found


def _plain(text: str) -> str:
    """Return a text of the kernel's without its escapes for blanks."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _sources(source: str) -> list:
    """Return the devices in a mount's source; bcachefs names several."""
    return [part for part in source.split(":") if part.startswith("/dev/")] if source.startswith("/dev/") else []


def _swaps(host: Host) -> list:
    lines = (host.read("/proc/swaps") or "").splitlines()[1:]
    return [_plain(line.split()[0]) for line in lines if line.split()]


def _opened(host: Host) -> dict:
    opened: dict = {}
    own = str(os.getpid())
    for pid in host.names("/proc"):
        if not pid.isdigit() or (pid == own and host.live):
            continue
        for number in host.names(f"/proc/{pid}/fd"):
            target = host.link(f"/proc/{pid}/fd/{number}")
            if "/dev/" not in target or target in ("/dev/null", "/dev/zero", "/dev/urandom"):
                continue
            who = f"{host.read(f'/proc/{pid}/comm') or '?'} (process {pid})"
            for key in (target, host.device_number(f"/proc/{pid}/fd/{number}")):
                if key:
                    opened.setdefault(key, set()).add(who)
    return opened


def users_of_mounts(system: System, names: set) -> list:
    """Return the mounts of any of the block devices ``names``, as (name, mount)."""
    found = []
    for mount in system.mounts:
        on = {system.names.get(mount.number)} | {system.names.get(source) for source in _sources(mount.source)}
        found += [(str(name), mount) for name in sorted(str(name) for name in on & names)]
    return found


def is_boot_point(point: str) -> bool:
    """Return whether a host needs what is mounted there to come up."""
    return point in _BOOT_POINTS
