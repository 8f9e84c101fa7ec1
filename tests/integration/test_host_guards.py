# SPDX-License-Identifier: GPL-3.0-or-later
"""The guards against the kernel that is there: a loop device stands in for a namespace; and shapes of the real /sys."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._host import _pci
from ansible_collections.excloud.diskengine.plugins.module_utils._host._guards import (
    reasons_of_handles,
    reasons_of_use,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from support.sysfs import Tree

NEEDED = ("losetup", "mkfs.ext4", "mkswap", "unshare")
SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


def run(*command, check=True):
    program = shutil.which(command[0], path=SBIN)
    return subprocess.run([program, *command[1:]], check=check, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def loop(tmp_path):
    """The name of a loop device of 64 MiB."""
    missing = [name for name in NEEDED if shutil.which(name, path=SBIN) is None]
    if os.geteuid() or missing:
        pytest.skip(f"needs root and {', '.join(NEEDED)}")
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    done = subprocess.run(["losetup", "--find", "--show", image], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    yield done.stdout.strip().removeprefix("/dev/")
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=False)


def guards(name):
    """The guards that speak for a controller whose one namespace is the device."""
    host = Host()
    namespace = _pci._namespace(host, name, f"/sys/class/block/{name}")
    controller = _pci.Controller("nvme9", "S", "M", "F", "live", (namespace,), (f"/dev/{name}",))
    system = _pci.observe(host)
    device = _pci.Device("0000:99:00.0", "0x010802", "", "", "nvme", "", 0, "", (), controller, None, {})
    return {reason.guard for reason in reasons_of_use(controller, system) + reasons_of_handles(device, system)}


def test_free(loop):
    assert guards(loop) == set()


def test_signature_then_mounted_then_bind_mounted(loop, tmp_path):
    run("mkfs.ext4", "-q", f"/dev/{loop}")
    assert guards(loop) == {"signature"}
    point, other = tmp_path / "a b", tmp_path / "bind"
    point.mkdir(), other.mkdir()
    run("mount", f"/dev/{loop}", str(point))
    try:
        assert guards(loop) == {"signature", "mounted"}
        run("mount", "--bind", str(point), str(other))
        run("umount", str(point))
        assert guards(loop) == {"signature", "mounted"}
    finally:
        run("umount", str(other), check=False)
        run("umount", str(point), check=False)
    assert guards(loop) == {"signature"}


def test_mounted_where_only_another_process_sees_it(loop, tmp_path):
    run("mkfs.ext4", "-q", f"/dev/{loop}")
    script = f"mount /dev/{loop} {tmp_path} && echo ready && exec sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            assert not os.path.ismount(tmp_path)
            assert guards(loop) == {"signature", "mounted"}
        finally:
            process.kill()
    deadline = time.monotonic() + 10
    while guards(loop) != {"signature"} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert guards(loop) == {"signature"}


def test_swapped_on(loop):
    run("mkswap", f"/dev/{loop}")
    assert guards(loop) == {"signature"}
    if subprocess.run(["swapon", f"/dev/{loop}"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel cannot swap on a loop device")
    try:
        assert guards(loop) == {"signature", "swap"}
    finally:
        run("swapoff", f"/dev/{loop}")


def test_held_by_the_device_mapper(loop):
    name = f"diskengine-test-{loop}"
    if shutil.which("dmsetup", path=SBIN) is None:
        pytest.skip("dmsetup is not installed")
    command = ["dmsetup", "create", name, "--table", f"0 2048 linear /dev/{loop} 0"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no device-mapper here: {done.stderr.strip()[:200]}")
    try:
        assert guards(loop) == {"holders"}
    finally:
        run("dmsetup", "remove", name)


def test_open(loop):
    with subprocess.Popen(["sh", "-c", f"exec sleep 60 < /dev/{loop}"]) as process:
        try:
            deadline = time.monotonic() + 10
            while guards(loop) != {"open_handles"} and time.monotonic() < deadline:
                time.sleep(0.1)
            assert guards(loop) == {"open_handles"}
        finally:
            process.kill()


def test_claimed_by_whom_nobody_sees(loop):
    """O_EXCL is what a mount, a swap or a RAID holds; here a process holds it that we look away from."""
    holder = os.open(f"/dev/{loop}", os.O_RDONLY | os.O_EXCL)
    try:
        assert guards(loop) == {"claimed"}  # of our own process open files are not told
    finally:
        os.close(holder)


def test_shapes_of_pci_devices(tmp_path):
    """What the builder of trees makes is there on a real kernel in the same shape."""
    devices = sorted(Path("/sys/bus/pci/devices").glob("*"))
    bound = [device for device in devices if (device / "driver").is_symlink()]
    if not bound:
        pytest.skip("no PCI device with a driver here")
    tree = Tree(tmp_path)
    tree.add_pci("0000:01:00.0", driver="nvme")
    made, real = tree.at("/sys/bus/pci/devices/0000:01:00.0"), bound[0]
    for device in (made, real):
        assert os.readlink(device).startswith("../../../devices/pci")
        assert os.path.dirname(os.readlink(device / "driver")).endswith("bus/pci/drivers")
        assert (device / "driver" / device.name).resolve() == device.resolve()
        assert (device / "class").read_text().startswith("0x") and len((device / "class").read_text()) == 9
    assert (real / "driver_override").read_text() == "(null)\n" == (made / "driver_override").read_text()
    missing = {path.name for path in made.iterdir()} - {path.name for path in real.iterdir()}
    assert not missing
    assert {path.name for path in (made / "driver").iterdir()} - {made.name} <= {
        path.name for path in (real / "driver").iterdir()
    }


def test_shapes_of_block_devices(tmp_path):
    names = sorted(path.name for path in Path("/sys/class/block").iterdir())
    if not names:
        pytest.skip("no block device here")
    tree = Tree(tmp_path)
    tree.add_virtual("dm-0")
    made, real = tree.at("/sys/class/block/dm-0"), Path("/sys/class/block") / names[0]
    assert {path.name for path in made.iterdir()} <= {path.name for path in real.iterdir()}
    assert not os.path.isabs(os.readlink(real)) and not os.path.isabs(os.readlink(made))
    assert ":" in (real / "dev").read_text() and (real / "size").read_text().strip().isdigit()


def test_the_root_of_this_machine():
    """The device that this machine runs from is known as such, if it runs from one."""
    system = _pci.observe(Host())
    root = [mount for mount in system.mounts if mount.point == "/" and mount.number in system.names]
    if not root:
        pytest.skip("this machine does not run from a block device of its own")
    name = system.names[root[0].number]
    assert guards(name) & {"boot_disk"}
