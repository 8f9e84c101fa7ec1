# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a small virtual machine, built from Debian packages alone, and kept until what is in here changes.

The kernel starts with an initrd of ours that takes a second where a distribution's takes twenty under emulation, and
with the few modules that the machine has a device for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import ansible

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build/vm"
SUPPORT = ROOT / "tests/support"
QUICKER = [SUPPORT / name for name in ("quicker/sitecustomize.py", "module_server.py", "module_client.py")]
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "cpio": "cpio",
    "ssh": "openssh-client",
}
SUITE = "bookworm"
PACKAGES = """
    busybox-static dbus e2fsprogs kmod linux-image-amd64 lvm2 mdadm nvme-cli openssh-server procps python3 systemd-sysv
    udev
    libaio1 libfuse3-3 libibverbs1 libnuma1 librdmacm1 libssl3 liburing2 libuuid1 openssl
""".split()  # the last line is what SPDK needs
BOOT_MODULES = "virtio_pci virtio_blk virtio_net crc32c_generic ext4".split()
MODULES = """
    nvme nvme-tcp nvmet nvmet-tcp vfio-pci vfio_iommu_type1 uio_pci_generic dm-mod raid1 virtio_rng autofs4 configfs
    efivarfs
""".split()
UNWANTED = """
    apt-daily-upgrade.timer apt-daily.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    getty@tty1.service mdcheck_continue.timer mdcheck_start.timer mdmonitor-oneshot.timer
    proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-networkd.service systemd-timesyncd.service
""".split()
FILES = {
    "etc/fstab": "/dev/vda / ext4 noatime 0 0\n",
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost vm\n",
    "etc/machine-id": "uninitialized\n",
    "etc/resolv.conf": "",  # a name server that does not answer costs ten seconds at each login
    "etc/ssh/sshd_config.d/vm.conf": "UseDNS no\nHostKey /etc/ssh/ssh_host_ed25519_key\n",
    # Imports take a module four seconds, emulated. They are made once, and each module is forked (module_server.py).
    "etc/systemd/system/quicker.socket": "[Socket]\nListenSequentialPacket=/run/quicker\n",
    "etc/systemd/system/quicker.service": """[Unit]
Requires=quicker.socket
[Service]
Environment=PYTHONPATH=/opt/quicker
ExecStart=/bin/sh -c "sleep infinity | exec /usr/bin/python3 -P /opt/quicker/module_server.py 3"
[Install]
WantedBy=multi-user.target
""",
    "usr/local/bin/quicker": '#!/bin/sh\nexec /usr/bin/python3 -IS /opt/quicker/module_client.py /run/quicker "$@"\n',
}
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /modules/$module; done
$b ifconfig lo 127.0.0.1 up
$b ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
while [ ! -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 -o noatime /dev/vda /new
$b umount /proc /sys; $b mount --move /dev /new/dev
exec $b switch_root /new /sbin/init
"""


class Unavailable(Exception):
    """Why there can be no machine here, as a sentence."""


def need_programs() -> None:
    """Make sure that all programs are there; CI installs them. Raises Unavailable."""
    if os.uname().machine != "x86_64":
        raise Unavailable(f"it is made for x86_64, and this is {os.uname().machine}")
    if os.geteuid() != 0:
        raise Unavailable("it needs root, to build the image")
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if not missing:
        return
    if not os.environ.get("CI") or not shutil.which("apt-get"):
        raise Unavailable(f"it needs the packages {' '.join(missing)}, by their names in Debian")
    print(f"Installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", "-qq", *arguments], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise Unavailable(f"apt-get {' '.join(arguments)} failed")


def archive() -> str:
    """Return the Debian archive that this machine installs from. Raises Unavailable."""
    wanted = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}"]
    found = subprocess.run(wanted, stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    if not found:
        raise Unavailable(f"apt knows no archive of Debian {SUITE}")
    return found[0]


def image() -> Path:
    """Return the directory of the image: kernel, initrd, root.img and key. Raises Unavailable."""
    need_programs()
    sources = [Path(__file__), *QUICKER]
    key = hashlib.sha256(ansible.__version__.encode() + b"".join(map(Path.read_bytes, sources))).hexdigest()[:12]
    directory = BUILD / f"image-{key}"
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once: the second waits
        if not directory.exists():
            build(directory)
    return directory


def build(directory: Path) -> None:
    for old in BUILD.glob("image-*"):
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary:
        new, tree = Path(temporary, "image"), Path(temporary, "tree")
        new.mkdir()
        install(tree)
        configure(tree, new)
        boot_files(tree, new)
        run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", tree, new / "root.img", "2G")
        new.rename(directory)


def run(*arguments: object) -> None:
    """Run a program; what it printed is shown when it fails."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace")[-4000:]
        raise SystemExit(f"{arguments[0]} failed with {done.returncode}:\n{said}")


def install(tree: Path) -> None:
    os.environ.update(DEBIAN_FRONTEND="noninteractive", INITRD="No")
    run("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, tree, archive())
    for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/locale/*"):
        for path in tree.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def configure(tree: Path, new: Path) -> None:
    for name, text in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    quicker, own = tree / "opt/quicker", Path(ansible.__file__).parent
    for name in ("_vendor", "module_utils", "modules"):
        shutil.copytree(own / name, quicker / "ansible" / name)
    for name in ("__init__.py", "release.py"):
        shutil.copy(own / name, quicker / "ansible")
    for path in QUICKER:
        shutil.copy(path, quicker)
    (tree / "usr/local/bin/quicker").chmod(0o755)
    run("systemctl", f"--root={tree}", "enable", "quicker.service")
    for unit in UNWANTED:
        path = tree / "etc/systemd/system" / unit
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")
    for path in tree.glob("etc/ssh/ssh_host_*"):
        path.unlink()
    for key in (new / "key", tree / "etc/ssh/ssh_host_ed25519_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f", key)
    home = tree / "root/.ssh"
    home.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(new / "key.pub", home / "authorized_keys")


def boot_files(tree: Path, new: Path) -> None:
    """Take the kernel and its modules out of the tree, leave those in it that are needed, and make the initrd."""
    (home,) = tree.glob("usr/lib/modules/*")
    shutil.move(tree / "boot" / f"vmlinuz-{home.name}", new / "kernel")
    needs = dict(line.split(":") for line in (home / "modules.dep").read_text().splitlines())
    paths = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}

    def with_needs(names: list[str]) -> list[str]:
        """Return the files of modules, each after those that it needs."""
        ordered: dict[str, None] = {}
        for name in names:
            if name.replace("-", "_") in paths:
                path = paths[name.replace("-", "_")]
                ordered.update(dict.fromkeys([*reversed(needs[path].split()), path]))
        return list(ordered)

    boot = with_needs(BOOT_MODULES)
    initrd = new / "initrd.tree"
    for name in ("bin", "dev", "modules", "new", "proc", "sys"):
        (initrd / name).mkdir(parents=True)
    shutil.copy(tree / "bin/busybox", initrd / "bin")
    for path in boot:
        shutil.copy(home / path, initrd / "modules")
    (initrd / "init").write_text(INIT.format(modules=" ".join(Path(path).name for path in boot)))
    (initrd / "init").chmod(0o755)
    run("sh", "-c", f"cd '{initrd}' && find . | cpio --quiet -o -H newc > ../initrd")
    shutil.rmtree(initrd)
    keep = {*boot, *with_needs(MODULES)}
    for path in needs:
        if path not in keep and not path.startswith(("kernel/crypto/", "kernel/lib/")):
            (home / path).unlink()
    run("chroot", tree, "depmod", home.name)
