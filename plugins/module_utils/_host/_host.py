# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host as files below one root: the only place that reads or writes them or starts programs. Private.

Names are absolute paths as the host itself has them. Reading what is not there gives nothing, never an error, because
sysfs changes while it is read. Below another root than ``/`` no program is started.
"""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import time
from typing import NamedTuple, Optional

from .._errors import DiskengineError
from .._files import place

STATE = "/var/lib/diskengine"

_SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAM_DEADLINE = 300.0
_FILE_MODE = 0o644
_SECRET_MODE = 0o600


class HostError(DiskengineError):
    """A write, a file or a program of the host failed."""


class Step(NamedTuple):
    """One change of the host.

    ``kind``: ``write`` (to a file of the kernel), ``file`` (whole content, atomically), ``secret`` (such a file, for
    root alone and never shown), ``link``, ``remove``, ``owner`` (``value`` is a user) or ``command`` (``path`` is the
    program, ``value`` its arguments, quoted as for a shell, though there is none).
    """

    kind: str
    path: str
    value: str
    summary: str

    def describe(self) -> dict:
        """Return it as users see it."""
        return {**self._asdict(), "value": "" if self.kind == "secret" else self.value}


class Host:
    """One host, its files below ``root``."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.abspath(root)
        self.live = self.root == "/"

    def path(self, name: str) -> str:
        """Return where the file ``name`` of the host really is."""
        return os.path.join(self.root, name.lstrip("/"))

    # --- reading ---

    def read(self, name: str) -> Optional[str]:
        """Return the text of a file without blanks around it, or None if it cannot be read."""
        text = self.content(name)
        return None if text is None else text.strip().strip("\0")

    def content(self, name: str) -> Optional[str]:
        """Return the text of a file as it is, or None if it cannot be read."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace", newline="") as file:
                return file.read()
        except OSError:
            return None

    def number(self, name: str, default: int = 0) -> int:
        """Return the number in a file."""
        text = self.read(name)
        try:
            return int(text or "")
        except ValueError:
            return default

    def bytes_at(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a file or device; shorter at its end. Raises OSError."""
        with open(self.path(name), "rb", buffering=0) as file:
            file.seek(offset)
            parts = []
            while length > 0:
                part = file.read(length)
                if not part:
                    break
                parts.append(part)
                length -= len(part)
            return b"".join(parts)

    def names(self, name: str) -> list:
        """Return what is in a directory, sorted."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def exists(self, name: str) -> bool:
        """Return whether there is such a file, or a link to anywhere."""
        return os.path.lexists(self.path(name))

    def link(self, name: str) -> str:
        """Return where a link leads, as it says itself; empty if it is none."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return ""

    def linked(self, name: str) -> str:
        """Return the last part of where a link leads; empty if it is none."""
        return os.path.basename(self.link(name))

    def real_name(self, name: str) -> str:
        """Return the last part of a path after all links in it were followed."""
        return os.path.basename(os.path.realpath(self.path(name)))

    def device_number(self, name: str) -> str:
        """Return ``major:minor`` of a device node, following links; empty if it is none."""
        try:
            status = os.stat(self.path(name))
        except OSError:
            return ""
        if not (stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            return ""
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"

    def is_claimed(self, name: str) -> bool:
        """Return whether the kernel has given a block device exclusively to somebody, mounts we cannot see included."""
        try:
            os.close(self.claim(name))
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    def claim(self, name: str) -> int:
        """Take a block device exclusively, until the descriptor that this returns is closed. Raises OSError."""
        return os.open(self.path(name), os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC)

    def owner(self, name: str) -> Optional[int]:
        """Return the user ID that owns a file, or None if it is not there."""
        try:
            return os.stat(self.path(name)).st_uid
        except OSError:
            return None

    def user_id(self, user: str) -> Optional[int]:
        """Return the ID of a user of the host, or None if there is none of that name."""
        if self.live:
            try:
                return pwd.getpwnam(user).pw_uid
            except KeyError:
                return None
        for line in (self.read("/etc/passwd") or "").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[0] == user and fields[2].isdigit():
                return int(fields[2])
        return None

    def program(self, name: str) -> bool:
        """Return whether a program can be started."""
        return self.live and shutil.which(name, path=_SBIN) is not None

    # --- changing ---

    def do(self, step: Step) -> None:
        """Carry out one step. Raises HostError."""
        try:
            if step.kind == "write":
                self.write(step.path, step.value)
            elif step.kind in ("file", "secret"):
                place(self.path(step.path), step.value.encode(), _FILE_MODE if step.kind == "file" else _SECRET_MODE)
            elif step.kind == "link":
                self._link(step.path, step.value)
            elif step.kind == "remove":
                self._remove(step.path)
            elif step.kind == "owner":
                self._own(step.path, step.value)
            else:
                self.run([step.path, *shlex.split(step.value)])
        except OSError as error:
            what = f"could not {step.summary}: {step.path}: {error.strerror}"
            if error.errno == errno.EROFS:
                what += "; the file system is read-only, as /sys is in a container: run this on the host itself"
            elif error.errno in (errno.EACCES, errno.EPERM):
                what += "; this needs root (become: true)"
            raise HostError(what) from None

    def write(self, name: str, value: str) -> None:
        """Write to a file of the kernel, in one call as sysfs wants it. Raises OSError."""
        descriptor = os.open(self.path(name), os.O_WRONLY | os.O_CLOEXEC | (0 if self.live else os.O_TRUNC))
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)

    def run(self, arguments: list) -> str:
        """Run a program and return what it printed. Raises HostError."""
        line = " ".join(arguments)
        try:
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                text=True,
                errors="replace",
                timeout=_PROGRAM_DEADLINE,
                env={**os.environ, "PATH": _SBIN, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"{line} did not end within {_PROGRAM_DEADLINE:g} s") from None
        except OSError as error:
            raise HostError(f"{line} could not be started: {error.strerror}") from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:300]
            raise HostError(f"{line} failed with {done.returncode}: {said or 'it said nothing'}")
        return done.stdout

    def now(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def _link(self, name: str, target: str) -> None:
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:
            pass

    def _own(self, name: str, user: str) -> None:
        number = self.user_id(user)
        if number is None:
            raise HostError(f"there is no user {user} on this host")
        os.chown(self.path(name), number, -1)


def file_steps(found: dict, wanted: dict) -> list:
    """Return the steps that give each file of ``wanted`` its text (None: not there), from the texts that were found."""
    steps = []
    for path, text in wanted.items():
        if found[path] == text:
            continue
        if text is None:
            steps.append(Step("remove", path, "", f"remove {path}"))
        else:
            steps.append(Step("file", path, text, f"write {path}"))
    return steps
