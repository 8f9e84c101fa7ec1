# SPDX-License-Identifier: GPL-3.0-or-later
"""A real systemd in namespaces of its own, beside whatever runs this machine.

It has private /run, /etc/systemd and units, and a control group of its own, so that nothing of the machine is started,
changed or left behind. Programs run in it through ``inside``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

SYSTEMD = "/usr/lib/systemd/systemd"
_START_SECONDS = 20

# Stand-ins for what units depend on by default.
_TARGETS = ("sysinit", "basic", "shutdown", "network-online", "local-fs", "multi-user", "umount", "sockets", "timers")
_JOURNAL = ("systemd-journald.service", "systemd-journald.socket")

_BOOT = """
set -e
mount --make-rprivate /
for unit in {journal}; do grep -v systemd-journald- /usr/lib/systemd/system/$unit > {directory}/$unit; done
for place in /run /etc/systemd /usr/lib/systemd/system /usr/lib/systemd/system-generators; do
    mount -t tmpfs tmpfs $place
done
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mkdir -p /etc/systemd/system /run/log/journal
cp {directory}/*.service {directory}/*.socket {directory}/*.target /usr/lib/systemd/system/
exec env container=test {systemd} --system --unit=test.target
"""


class Systemd:
    """A running one. ``python`` is an interpreter that runs inside, for Ansible."""

    def __init__(self, pid, directory):
        self.pid = pid
        self.enter = ["nsenter", f"--target={pid}", "--mount", "--pid", "--cgroup", "--"]
        self.directory = directory

    def inside(self, *command, check=True):
        """Run a program inside and return what it printed."""
        done = subprocess.run([*self.enter, *command], check=False, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{command} failed with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def show(self, unit, name):
        """A property of a unit."""
        return self.inside("systemctl", "show", unit, "--value", f"--property={name}")

    def interpreter(self, python):
        """A program that is ``python`` run inside, for Ansible."""
        path = self.directory / "python"
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.enter)} {python} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
        return str(path)


def why_not():
    """Why there can be none here; empty if there can."""
    if os.geteuid():
        return "needs root"
    for program in (SYSTEMD, "unshare", "nsenter", "systemctl"):
        if not shutil.which(program):
            return f"needs {program}"
    if not _cgroup2():
        return "needs a cgroup2 hierarchy that can be written"
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        return "needs the right to make namespaces"
    return ""


def _cgroup2():
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _what, where, kind, options, *_rest = line.split()
        if kind == "cgroup2" and "rw" in options.split(",") and os.access(where, os.W_OK):
            return Path(where)
    return None


@contextmanager
def running_systemd():
    """A started one for the length of the block."""
    group = _cgroup2() / f"diskengine-test-{os.getpid()}"
    group.mkdir()
    with tempfile.TemporaryDirectory(prefix="systemd") as name:
        directory = Path(name)
        for target in _TARGETS:
            text = f"[Unit]\nDescription={target}\nDefaultDependencies=no\n"
            (directory / f"{target}.target").write_text(text, encoding="utf-8")
        (directory / "test.target").write_text(
            f"[Unit]\nDescription=test\nWants=multi-user.target {' '.join(_JOURNAL)}\n", encoding="utf-8"
        )
        boot = directory / "boot"
        text = _BOOT.format(journal=" ".join(_JOURNAL), directory=directory, systemd=SYSTEMD)
        boot.write_text(text, encoding="utf-8")
        log = open(directory / "log", "wb")
        outer = subprocess.Popen(
            ["sh", "-c", f"echo $$ > {group}/cgroup.procs && exec unshare --mount --pid --ipc --uts --cgroup --fork "
             f"sh {boot}"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        log.close()
        try:
            yield _wait(outer, directory)
        finally:
            for child in _children(outer):
                os.kill(child, signal.SIGKILL)
            outer.wait()
            _remove(group)


def _wait(outer, directory):
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and outer.poll() is None:
        for child in _children(outer):
            made = Systemd(child, directory)
            if made.inside("systemctl", "is-system-running", check=False) in ("running", "degraded"):
                return made
        time.sleep(0.1)
    raise RuntimeError(f"systemd did not start: {(directory / 'log').read_text(encoding='utf-8', errors='replace')}")


def _children(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in children.split()]


def _remove(group):
    deadline = time.monotonic() + _START_SECONDS
    for path in sorted([group, *(path for path in group.rglob("*") if path.is_dir())], reverse=True):
        while True:
            try:
                path.rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
