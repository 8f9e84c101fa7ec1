# SPDX-License-Identifier: GPL-3.0-or-later
"""One virtual machine with two NUMA nodes, an IOMMU and a few NVMe drives, reached by SSH on 127.0.0.1.

machine.py start|stop DIRECTORY, where DIRECTORY keeps the drives, the console, and machine.json: port and key for SSH.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from image import image

NODE_MIB = 1024
DRIVE_MIB = 256
DRIVES = {  # NUMA node by serial number
    "FREE0": 0,
    "MOUNTED": 0,
    "LVM": 0,
    "MD": 0,
    "FREE1": 1,
    "SWAP": 1,
    "IDLE": 1,
}
START_SECONDS = 240
STOP_SECONDS = 20
KERNEL_ARGUMENTS = (
    "root=/dev/vda console=ttyS0 quiet panic=5 net.ifnames=0 intel_iommu=on "
    "mitigations=off nowatchdog cryptomgr.notests audit=0 random.trust_cpu=on"
)


def accelerator() -> list[str]:
    """KVM where the processor has what it needs; /dev/kvm alone is no sign of it. Else everything is emulated."""
    flags = Path("/proc/cpuinfo").read_text().split()
    if {"vmx", "svm"} & set(flags) and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["-accel", "kvm", "-cpu", "host", "-machine", "q35,kernel-irqchip=split"]
    # Without erms, memory is copied by words and not by bytes.
    return ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-erms", "-machine", "q35"]


def bus(node: int) -> int:
    """Return the number of the PCI bus of a NUMA node."""
    return 32 * (node + 1)


def command(directory: Path, port: int) -> list[str]:
    files = image()
    disk = directory / "root.qcow2"
    backing = ["-f", "qcow2", "-F", "raw", "-b", str(files / "root.img")]
    subprocess.run(["qemu-img", "create", "-q", *backing, str(disk)], check=True)
    parts = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", *accelerator()]
    parts += ["-smp", "2,sockets=2", "-m", f"{2 * NODE_MIB}"]
    for node in (0, 1):
        parts += ["-object", f"memory-backend-ram,id=memory{node},size={NODE_MIB}M"]
        parts += ["-numa", f"node,nodeid={node},cpus={node},memdev=memory{node}"]
    parts += ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"]
    parts += ["-kernel", str(files / "kernel"), "-initrd", str(files / "initrd"), "-append", KERNEL_ARGUMENTS]
    parts += ["-serial", f"file:{directory / 'console'}", "-device", "virtio-rng-pci"]
    parts += ["-drive", f"if=none,id=root,file={disk},cache=unsafe", "-device", "virtio-blk-pci,drive=root"]
    parts += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    parts += ["-device", "virtio-net-pci,netdev=net,romfile="]
    for node in (0, 1):
        parts += ["-device", f"pxb-pcie,id=bus{node},bus=pcie.0,bus_nr={bus(node)},numa_node={node}"]
    for slot, (serial, node) in enumerate(DRIVES.items(), start=1):
        drive = directory / f"{serial}.raw"
        with drive.open("wb") as file:
            file.truncate(DRIVE_MIB << 20)
        parts += ["-device", f"pcie-root-port,id=slot{slot},bus=bus{node},chassis={slot},slot={slot}"]
        parts += ["-drive", f"if=none,id={serial},file={drive},format=raw,cache=unsafe"]
        parts += ["-device", f"nvme,serial={serial},drive={serial},bus=slot{slot}"]
    return [*parts, "-daemonize", "-pidfile", str(directory / "pid")]


def addresses() -> dict[str, str]:
    """Return PCI addresses by serial number: each drive is alone on the bus of its slot, numbered in order."""
    last = {node: bus(node) for node in (0, 1)}
    places = {}
    for serial, node in DRIVES.items():
        last[node] += 1
        places[serial] = f"0000:{last[node]:02x}:00.0"
    return places


def start(directory: Path) -> None:
    """Start a new machine and return when it lets one in."""
    stop(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.run(command(directory, port), check=True)
    deadline = time.monotonic() + START_SECONDS
    while not answers(port):
        if time.monotonic() > deadline:
            console = (directory / "console").read_text(errors="replace")[-3000:]
            stop(directory)
            sys.exit(f"The machine did not answer within {START_SECONDS} s. Its console:\n{console}")
        time.sleep(0.2)
    key = shutil.copy(image() / "key", directory)
    told = {"port": port, "key": key, "drives": addresses()}
    (directory / "machine.json").write_text(json.dumps(told))


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def stop(directory: Path) -> None:
    """End it, if it runs, as a power cut would."""
    path = directory / "pid"
    try:
        pid = int(path.read_text())
        if str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.05)
    except (FileNotFoundError, ProcessLookupError):
        pass
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    commands = {function.__name__: function for function in (start, stop)}
    commands[sys.argv[1]](Path(sys.argv[2]))
