# SPDX-License-Identifier: GPL-3.0-or-later
"""The files a target looks at: AIO disks, key files, vhost sockets. The core uses memory, the server the real ones."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple


class FileInfo(NamedTuple):
    """What the target needs to know of a path. ``kind``: file, directory, block or socket; ``size`` in bytes."""

    kind: str
    size: int = 0
    mode: int = 0o600
    owned: bool = True
    content: str = ""


class MemoryFiles:
    """Files that exist only in a dictionary, for the pure core."""

    def __init__(self, files: dict[str, FileInfo] | None = None) -> None:
        self.files = dict(files or {})

    def info(self, path: str) -> FileInfo | None:
        """What is at ``path``, or None."""
        return self.files.get(path)

    def content(self, path: str) -> str:
        """What is in the file at ``path``."""
        return self.files[path].content

    def directory_exists(self, path: str) -> bool:
        """Whether a socket can be made in ``path``; in memory the vhost directory itself is the only one."""
        return "/" not in path

    def make_socket(self, path: str) -> None:
        """Create a socket file."""
        self.files[path] = FileInfo("socket")

    def remove_socket(self, path: str) -> None:
        """Remove a socket file."""
        self.files.pop(path, None)


class RealFiles:
    """The file system of this machine. Sockets are made by ``bind`` (the server's vhost listener)."""

    def __init__(self, bind=None, unbind=None) -> None:
        self.bind = bind
        self.unbind = unbind

    def info(self, path: str) -> FileInfo | None:
        """What is at ``path``, or None."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "block"))
        kind = next((name for test, name in kinds if test(found.st_mode)), "file")
        return FileInfo(kind, found.st_size, stat.S_IMODE(found.st_mode), found.st_uid == os.geteuid())

    def content(self, path: str) -> str:
        """What is in the file at ``path``."""
        with open(path, encoding="latin-1") as file:
            return file.read()

    def directory_exists(self, path: str) -> bool:
        """Whether a socket can be made in ``path`` below the vhost directory."""
        return "/" not in path or os.path.isdir(os.path.dirname(path))

    def make_socket(self, path: str) -> None:
        """Create a listening socket when the server was told to."""
        if self.bind:
            self.bind(path)

    def remove_socket(self, path: str) -> None:
        """Close and remove a listening socket."""
        if self.unbind:
            self.unbind(path)
